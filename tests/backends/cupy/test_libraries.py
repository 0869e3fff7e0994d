"""Libraries are found where CuPy finds them, and with the libraries that they open by name."""

import ctypes
import subprocess
import sys
import types

import pytest

from minigrad.backends.cupy import libraries

from . import host

needs_compiler = pytest.mark.skipif(host.COMPILER is None, reason="g++ is not installed")


def build(target, text):
    subprocess.run([host.COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-x", "c++", "-", "-o",
                    str(target), "-ldl"], input=text, text=True, check=True)


@needs_compiler
def test_builtins_of_a_library_without_runpath_are_loaded_before_it(tmp_path, monkeypatch):
    """NVRTC 13.0's wheel has no RUNPATH: loaded by its path alone, it opens no builtins, and compiles nothing."""
    folder = tmp_path / "cu13" / "lib"
    folder.mkdir(parents=True)
    build(folder / "libsample-builtins.so.13.0", 'extern "C" int answer() { return 42; }')
    build(folder / "libsample.so.13", """
        #include <dlfcn.h>
        extern "C" int compile() {
            void* builtins = dlopen("libsample-builtins.so.13.0", RTLD_NOW);
            return builtins ? ((int (*)())dlsym(builtins, "answer"))() : -1;
        }""")
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: types.SimpleNamespace(
        submodule_search_locations=[str(tmp_path)]))
    assert libraries.find.__wrapped__("sample").compile() == 42


@needs_compiler
def test_the_library_that_cupy_would_load_comes_first(tmp_path, monkeypatch):
    class DynamicLibNotFoundError(Exception):
        pass

    def load(name):
        if name != "known":
            raise DynamicLibNotFoundError(name)
        return types.SimpleNamespace(abs_path=str(tmp_path / "libknown.so.13"))

    build(tmp_path / "libknown.so.13", 'extern "C" int version() { return 13; }')
    pathfinder = types.SimpleNamespace(load_nvidia_dynamic_lib=load, DynamicLibNotFoundError=DynamicLibNotFoundError)
    monkeypatch.setitem(sys.modules, "cuda", types.SimpleNamespace(pathfinder=pathfinder))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    found = libraries.find.__wrapped__("known")
    assert isinstance(found, ctypes.CDLL)
    assert found.version() == 13
    assert libraries.find.__wrapped__("unknown") is None

"""Every kernel of the tests' programs compiles for three generations of GPUs, and the hot ones do not spill."""

import numpy as np
import pytest

import minigrad as mg
from benchmarks.kernels import usage
from minigrad.backends import code_cache
from minigrad.backends.cupy import nvrtc
from minigrad.backends.cupy.program import Program
from minigrad.errors import MinigradError
from minigrad.passes import run

from ...passes.programs import random_graph
from . import programs
from .programs import Nowhere

needs_nvrtc = pytest.mark.skipif(nvrtc.version() is None, reason=nvrtc.MISSING)
ARCHITECTURES = ("sm_80", "sm_90", "sm_120")


def source(graph):
    return Program(graph, device=Nowhere()).source


@pytest.fixture(scope="module")
def everything():
    """Return one source with the kernels of the registry, of random programs and of what the library is used for."""
    graphs = [run(graph)[0] for dtype in ("f8", "f4") for _, graph, _ in programs.samples(dtype)]
    graphs += [run(random_graph(300 + seed, gradient=seed % 2 == 0)[0])[0] for seed in range(16)]
    graphs += [programs.optimized(f, *args)[0] for f, *args in programs.used().values()]
    return programs.kernels([text for g in graphs for text in programs.sources(Program(g, device=Nowhere()))])


@needs_nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles(everything, arch):
    found = nvrtc.compile(everything, arch)
    assert len(usage(found.log)) == everything.count('extern "C"')
    assert len(found.cubin) > 100_000


@needs_nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_hot_kernels_do_not_spill(arch):
    def loss(p, x, y):
        return np.log(1 + np.exp(-y * (p["c"] * np.tanh(p["a"] * x + p["b"]) + p["d"])))

    one = np.float32(1)
    jobs = [(mg.value_and_grad(mg.mean_loss(loss, (None, 0, 0))), dict.fromkeys("abcd", one), np.zeros(99, "f4"),
             np.zeros(99, "f4")),
            programs.used()["training step, float32"], programs.used()["messages, float32"]]
    for f, *args in jobs:
        kernels = usage(nvrtc.compile("typedef int I;\n" + source(programs.optimized(f, *args)[0]), arch).log)
        assert kernels
        assert {name: (registers, spilled) for name, (registers, spilled) in kernels.items()
                if spilled or registers > 128} == {}


@needs_nvrtc
def test_offsets_of_64_bits_compile():
    f, *args = programs.used()["messages"]
    text = source(programs.optimized(f, *args)[0])
    narrow, wide = (usage(nvrtc.compile(f"typedef {t} I;\n{text}", "sm_90").log) for t in ("int", "long long"))
    assert narrow.keys() == wide.keys()


@needs_nvrtc
def test_errors_show_the_log_of_nvrtc():
    with pytest.raises(MinigradError, match="no_such_type"):
        nvrtc.compile('extern "C" __global__ void f(no_such_type* x) {}', "sm_90")


def test_missing_nvrtc_error_names_the_pip_package(monkeypatch):
    monkeypatch.setattr(nvrtc, "find", lambda name: None)
    with pytest.raises(MinigradError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc.compile("// what no other test compiles", "sm_90")


TEXT = 'extern "C" __global__ void f(float* x) { x[0] = 2; }'


@needs_nvrtc
def test_machine_code_is_kept_on_disk(tmp_path, monkeypatch):
    """The source, the architecture, the options and the version of NVRTC: each makes another entry."""
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(code_cache, "_warned", set())
    compiled, compile_now = [], nvrtc._compiled
    monkeypatch.setattr(nvrtc, "_compiled", lambda *args: compiled.append(args[1:]) or compile_now(*args))

    def code(text=TEXT, arch="sm_90"):
        nvrtc.compile.cache_clear()  # as in another process
        binary = nvrtc.compile(text, arch)
        return binary.cubin, usage(binary.log)

    first = code()
    assert first[1]["f"][0] > 0
    assert code() == first
    assert len(compiled) == 1
    assert code(arch="sm_80")[0] != first[0]
    code(TEXT + "// another")
    monkeypatch.setattr(nvrtc, "version", lambda: (99, 0))
    assert code() == first
    options = nvrtc.options
    monkeypatch.setattr(nvrtc, "options", lambda arch: [*options(arch), "--fmad=false"])
    assert code()[1] == first[1]
    assert len(compiled) == len(code_cache.entries(tmp_path)) == 5


@needs_nvrtc
def test_damaged_machine_code_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(code_cache, "_warned", set())
    nvrtc.compile.cache_clear()
    first = nvrtc.compile(TEXT, "sm_90")
    [entry] = code_cache.entries(tmp_path)
    entry.path.write_bytes(entry.path.read_bytes()[:-1])
    nvrtc.compile.cache_clear()
    with pytest.warns(RuntimeWarning, match="is not used, because it is damaged") as caught:
        again = nvrtc.compile(TEXT, "sm_90")
    assert len(caught) == 1
    assert again.cubin == first.cubin
    nvrtc.compile.cache_clear()
    assert nvrtc.compile(TEXT, "sm_90") == again

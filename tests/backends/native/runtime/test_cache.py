"""Object code on disk: found again, never believed when damaged, never in the way."""

import ast
import importlib
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from minigrad.backends import code_cache
from minigrad.backends.native.runtime import cache, jit
from minigrad.primitive import Primitive
from tests.backends.native.machine_code import TARGETS, compile_ir, object_code, verbatim

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))

ROOT = Path(__file__).resolve().parents[4]


def ir(k):
    return f"define i64 @f() {{\n ret i64 {k}\n}}"


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(code_cache, "_warned", set())


@contextmanager
def warns_once(path):
    """Tell that one warning names a file of the cache."""
    with pytest.warns(RuntimeWarning, match=f"{path.name} is not used, because it is ") as caught:
        yield
    assert len(caught) == 1


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled since, rather than found."""
    texts = []

    def compile_all(some, machine=None):
        new = list(some)
        texts.extend(new)
        return jit.compile_all(new, machine)

    monkeypatch.setattr(cache, "compile_all", compile_all)
    return texts


def test_compiled_once(where, compiled):
    code = object_code(ir(1))
    assert code == compile_ir(ir(1))
    assert object_code(ir(1)) == code
    assert compiled == [ir(1)]
    assert len(code_cache.entries(where)) == 1


def test_several_at_once(where, compiled):
    object_code(ir(2))
    del compiled[:]
    found = cache.object_codes([verbatim(ir(k)) for k in (1, 2, 3, 1)])
    assert found == [(None, compile_ir(ir(k))) for k in (1, 2, 3, 1)]
    assert compiled == [ir(1), ir(3)]
    assert cache.object_codes([]) == []


def test_other_work_follows_the_texts_and_comes_before_the_code(where, monkeypatch):
    order = []

    def compile_all(some, machine=None):
        texts = list(some)
        order.append("compiled")
        return jit.compile_all(texts, machine)

    def make():
        order.append("text")
        return ir(1), None

    monkeypatch.setattr(cache, "compile_all", compile_all)
    for _ in range(2):
        cache.object_codes([cache.CodeRequest("one", make)], meanwhile=lambda: order.append("meanwhile"))
    assert order == ["text", "meanwhile", "compiled", "meanwhile", "compiled"]


def test_keys_depend_on_text_target_and_toolchain(where, compiled, monkeypatch):
    """The text, the CPU, its features, the compiler: each makes another entry."""
    host = jit.host()
    others = [(ir(2), host), (ir(1), TARGETS["x86-64"]), (ir(1), TARGETS["aarch64"]),
              (ir(1), jit.Target(host.triple, host.cpu, host.features + ",-fma"))]
    for text, machine in [(ir(1), host), *others]:
        assert object_code(text, machine) == compile_ir(text, machine)
    assert len(compiled) == len(code_cache.entries(where)) == 5
    monkeypatch.setattr(jit, "_PASSES", ())
    object_code(ir(1))
    monkeypatch.setattr("llvmlite.__version__", "99.0")
    object_code(ir(1))
    assert len(compiled) == 7


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path):
    path.write_bytes(b"")


def damage_bit(path):
    entry = bytearray(path.read_bytes())
    entry[-5] ^= 1
    path.write_bytes(entry)


def damage_head(path):
    path.write_bytes(path.read_bytes()[:20])


def damage_version(path):
    path.write_bytes(path.read_bytes().replace(b"minigrad object", b"minigrad abject", 1))


def damage_swap(path):
    """Another text's entry, whole, under this one's name."""
    object_code(ir(77))
    other = next(e.path for e in code_cache.entries(path.parent) if e.path != path)
    path.write_bytes(other.read_bytes())


def damage_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [
    damage_cut, damage_empty, damage_bit, damage_head, damage_version, damage_swap, damage_folder])
def test_damaged_entries_are_made_again(where, compiled, quiet, damage):
    code = object_code(ir(1))
    [entry] = code_cache.entries(where)
    damage(entry.path)
    del compiled[:]
    with warns_once(entry.path):
        assert object_code(ir(1)) == code
    assert compiled == [ir(1)]
    if damage is not damage_folder:
        assert object_code(ir(1)) == code
        assert compiled == [ir(1)]


def test_a_directory_that_cannot_be_made(where, tmp_path, compiled):
    (tmp_path / "deep").write_text("a file stands where the directory should be")
    for _ in range(2):
        assert object_code(ir(1)) == compile_ir(ir(1))
    assert compiled == [ir(1)] * 2
    assert code_cache.unwritable(where)
    assert code_cache.entries(where) == []
    assert code_cache.clear(where) == 0


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(where, compiled):
    where.mkdir(parents=True)
    where.chmod(0o500)
    try:
        assert object_code(ir(1)) == compile_ir(ir(1))
        assert "denied" in code_cache.unwritable(where).lower()
    finally:
        where.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk(where, monkeypatch):
    monkeypatch.setattr(tempfile, "mkstemp", lambda *args, **more: (os.open("/dev/full", os.O_WRONLY),
                                                                          str(where / "x.part")))
    (where / "x.part").parent.mkdir(parents=True)
    (where / "x.part").touch()
    assert object_code(ir(1)) == compile_ir(ir(1))
    assert list(where.iterdir()) == [], "what could not be finished is taken away"


def test_others_cannot_write_there(where):
    object_code(ir(1))
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert code_cache.unwritable(where) is None


def test_switched_off(monkeypatch, compiled):
    for off in ("", " "):
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", off)
        assert code_cache.directory() is None
        assert object_code(ir(1)) == compile_ir(ir(1))
    assert len(compiled) == 2


def test_several_processes_share_a_directory(where):
    script = """
from minigrad.backends.native.runtime import jit
from tests.backends.native.machine_code import object_code
for k in range(30):
    text = f"define i64 @f() {{\\n ret i64 {k}\\n}}"
    assert object_code(text) == jit.compile_all([text])[0]
"""
    some = [subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
            for _ in range(3)]
    assert [process.wait(120) for process in some] == [0, 0, 0]
    assert len(code_cache.entries(where)) == 30
    assert len(list(where.iterdir())) == 30


def test_generated_code_is_written_once(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    written = []

    def write():
        written.append(1)
        return ir(1), {"a": [1, "b"]}

    def make(*whats):
        return cache.object_codes([cache.generated(what, write) for what in whats])

    first, again, other = (make(what) for what in ("one", "one", "another"))
    assert first == again == other == [({"a": [1, "b"]}, compile_ir(ir(1)))]
    assert len(written) == 2
    monkeypatch.setattr(cache, "sources", lambda: "of another version")
    make("one")
    assert len(written) == 3


# -- what others could have written --------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no POSIX owners")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone can give files away")


def is_ignored(where, compiled, words):
    """Tell that the cache is neither read nor written, after one warning."""
    before = sorted(where.iterdir()), [p.read_bytes() for p in sorted(where.iterdir())]
    del compiled[:]
    with pytest.warns(RuntimeWarning, match=words) as caught:
        codes = [object_code(ir(1)) for _ in range(3)]
    assert codes == [compile_ir(ir(1))] * 3
    assert len(caught) == 1
    assert str(caught[0].message).startswith("the cache of machine code in ")  # no line, as another thread may ask
    assert compiled == [ir(1)] * 3
    assert (sorted(where.iterdir()), [p.read_bytes() for p in sorted(where.iterdir())]) == before
    assert words in code_cache.unwritable(where)
    return True


@posix
@pytest.mark.parametrize("mode", [0o777, 0o703, 0o1777])
def test_a_directory_that_others_may_write_is_ignored(where, compiled, quiet, mode):
    object_code(ir(1))
    where.chmod(mode)
    assert is_ignored(where, compiled, f"others may write to {where}")


@posix
def test_a_directory_below_one_that_others_may_write_is_ignored(where, compiled, quiet):
    object_code(ir(1))
    where.parent.chmod(0o777)
    assert is_ignored(where, compiled, f"others may write to {where.parent}")
    where.parent.chmod(0o1777)  # as /tmp
    assert code_cache.unwritable(where) is None


@posix
def test_a_link_below_a_directory_that_others_may_write_is_ignored(where, compiled, quiet, tmp_path, monkeypatch):
    object_code(ir(1))
    (tmp_path / "open").mkdir()
    link = tmp_path / "open" / "cache"
    link.symlink_to(where)
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(link))
    assert code_cache.unwritable(link) is None
    assert object_code(ir(1)) == compile_ir(ir(1))
    assert compiled == [ir(1)]
    (tmp_path / "open").chmod(0o777)
    assert is_ignored(link, compiled, f"others may write to {tmp_path / 'open'}")


@root
@pytest.mark.parametrize("part", ["where", "parent", "link"])
def test_a_directory_of_another_user_is_ignored(where, compiled, quiet, part, tmp_path, monkeypatch):
    object_code(ir(1))
    path = where if part == "where" else where.parent
    if part == "link":
        path = tmp_path / "link"
        path.symlink_to(where)
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(path))
    os.chown(path, 12345, 12345, follow_symlinks=False)
    assert is_ignored(path if part == "link" else where, compiled, f"{path} belongs to another user")


def foreign_link(path):
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)


def foreign_fifo(path):
    path.unlink()
    os.mkfifo(path)


def foreign_mode(path):
    path.chmod(0o666)


def foreign_size(path):
    with path.open("r+b") as file:
        file.truncate(code_cache._LARGEST + 1)


def foreign_owner(path):
    os.chown(path, 12345, 12345)


@posix
@pytest.mark.parametrize("damage", [foreign_link, foreign_fifo, foreign_mode, foreign_size,
                                    pytest.param(foreign_owner, marks=root)])
def test_files_that_are_not_the_users_own_are_made_again(where, compiled, quiet, damage):
    code = object_code(ir(1))
    [entry] = code_cache.entries(where)
    damage(entry.path)
    del compiled[:]
    with warns_once(entry.path):
        assert object_code(ir(1)) == code
    assert compiled == [ir(1)]
    assert object_code(ir(1)) == code
    assert compiled == [ir(1)]
    assert stat.S_ISREG(entry.path.lstat().st_mode)
    assert stat.S_IMODE(entry.path.lstat().st_mode) == 0o600


@posix
def test_directories_are_made_for_the_user_alone(where):
    before = os.umask(0)
    try:
        object_code(ir(1))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (where, where.parent)] == [0o700] * 2
    assert code_cache.unwritable(where) is None


def test_keys_cover_all_sources_of_generated_code():
    package = Path(cache.__file__).parents[1]
    missing = set()
    for path in [*package.glob("codegen/**/*.py"), *package.glob("kernels/*.py")]:
        level = len(path.relative_to(ROOT / "minigrad").parts)
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.ImportFrom) and statement.level == level and statement.module is not None:
                module = importlib.import_module(f"minigrad.{statement.module}")
                names = [a.name for a in statement.names
                         if not isinstance(getattr(module, a.name), Primitive | ModuleType)]
                file = f"{statement.module.replace('.', '/')}.py"
                if names and file not in cache._BENEATH:
                    missing.add((file, *names))
    assert not missing, "constants and functions of these files end up in generated code"


def test_package_in_an_archive_has_the_digest_of_the_archive(tmp_path):
    path = tmp_path / "minigrad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (ROOT / "minigrad").rglob("*.py"):
            archive.write(file, file.relative_to(ROOT))
    script = ("import numpy as np, minigrad as mg\n"
              "from minigrad.backends.native.runtime.cache import sources\n"
              "assert mg.compile(lambda x: np.sum(x * x), backend='native')(np.ones(3)) == 3\n"
              "print(sources())")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "PYTHONPATH": str(path), "MINIGRAD_CACHE_DIR": ""}, cwd=tmp_path)
    assert done.stdout.strip() == code_cache.digest(path.read_bytes())

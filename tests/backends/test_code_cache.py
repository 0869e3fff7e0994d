"""The cache of code: entries by key, checksums, the bound, and the directory."""

import os
import time

import pytest

from minigrad.backends import code_cache

CODE = b"code" * 100


def key(k):
    return code_cache.digest("test", str(k))


@pytest.fixture
def where(tmp_path):
    return tmp_path / "deep" / "cache"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(code_cache, "_warned", set())


def test_an_entry_is_found_by_its_key(where):
    assert code_cache.find(where, key(1)) is None
    code_cache.keep(where, key(1), {"name": "f", "sizes": [1, 2]}, CODE)
    assert code_cache.find(where, key(1)) == ({"name": "f", "sizes": [1, 2]}, CODE)
    assert code_cache.find(where, key(2)) is None
    code_cache.keep(where, key(1), None, b"")
    assert code_cache.find(where, key(1)) == (None, b"")


def test_keys_depend_on_each_text_and_its_place():
    keys = [code_cache.digest(*parts) for parts in (("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""))]
    assert len(set(keys)) == 4
    assert code_cache.digest("a", "b") == keys[0]


def test_without_a_directory_nothing_is_kept():
    code_cache.keep(None, key(1), None, CODE)
    assert code_cache.find(None, key(1)) is None


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_damaged_entry_is_absent_with_one_warning(where, position):
    code_cache.keep(where, key(1), None, CODE)
    path = where / f"{key(1)}.o"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match="it is damaged") as caught:
        assert [code_cache.find(where, key(1)) for _ in range(2)] == [None, None]
    assert len(caught) == 1


def test_directory_follows_the_environment_and_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(code_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert code_cache.directory() == tmp_path / "xdg" / "minigrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert code_cache.directory() == tmp_path / ".cache" / "minigrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert code_cache.directory() == tmp_path / ".cache" / "minigrad"
    monkeypatch.setattr(code_cache.sys, "platform", "darwin")
    assert code_cache.directory() == tmp_path / "Library" / "Caches" / "minigrad"
    monkeypatch.setattr(code_cache.os.path, "expanduser", lambda path: path)
    assert code_cache.directory() is None


@pytest.mark.skipif(os.name != "posix", reason="a working directory cannot be deleted here")
def test_a_deleted_working_directory_has_no_cache(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "cache")
    monkeypatch.setattr(code_cache, "_warned", set())
    with pytest.warns(RuntimeWarning, match="MINIGRAD_CACHE_DIR=cache is relative"):
        assert code_cache.directory() is None


def test_the_least_recently_used_entries_go(where):
    for k in range(6):
        code_cache.keep(where, key(k), None, CODE)
    paths = {k: where / f"{key(k)}.o" for k in range(6)}
    for k, path in paths.items():
        os.utime(path, (1000 + k, 1000 + k))
    code_cache.find(where, key(0))  # used now
    size = code_cache.entries(where)[0].size
    (where / "not-ours.txt").write_text("stays")
    code_cache.prune(where, bound=3 * size)
    assert {k for k, path in paths.items() if path.exists()} == {0, 4, 5}
    assert (where / "not-ours.txt").exists()


def test_writes_keep_the_bound(where, monkeypatch):
    monkeypatch.setattr(code_cache, "_PRUNE", "")
    monkeypatch.setattr(code_cache.prune, "__defaults__", (2000,))
    for k in range(12):
        code_cache.keep(where, key(k), None, CODE)
    assert 0 < sum(e.size for e in code_cache.entries(where)) <= 2000


def test_stale_temporary_files_go(where):
    code_cache.keep(where, key(1), None, CODE)
    old, new = where / "old.part", where / "new.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    code_cache.prune(where)
    assert (old.exists(), new.exists()) == (False, True)
    assert code_cache.clear(where) == 1
    assert list(where.iterdir()) == []

"""Object code on disk, so that a program that was compiled once starts at once the next time.

An entry is found by what it is made of: the IR's text, or what that is written from (a group's signature) and the
sources that write it; the CPU and its features, the version of LLVM and what it is told to do. So a new minigrad never
runs what an old one has made, where it would make it in another way. An entry carries a checksum: a file that is cut
short, damaged or not ours is as good as absent. Whatever fails here (a directory that cannot be written, a full disk)
costs a compilation and nothing else.

The code is run, so it must be the user's own: a directory that is not, or that others may write to, is left alone, with
one warning; so is a file that is not a plain one of the user's.

Several processes may share a directory: an entry is written beside its place and then moved there, in one step.
"""

import contextlib
import functools
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import trusted_files
from .target import Target, compile_all, host, recipe

_FORMAT = b"minigrad object 2\n"
# What code is made by, beside this package.
_BENEATH = ("dims.py", "graph.py", "ops/random.py", "ops/scatter.py", "passes/fuse.py", "passes/schedule.py")
_SUFFIX, _TEMPORARY = ".o", ".part"
BOUND = 256 * 2**20  # bytes of all entries; beyond it, those unused for longest go
_PRUNE = "00"  # what the key of one write in 256 starts with: after it, the size is looked at
_LARGEST = 2**26  # bytes of an entry
_STALE = 3600  # seconds after which what a writer left half-written is nobody's


def directory() -> Path | None:
    """Return where entries lie, or None if the cache is switched off.

    ``MINIGRAD_CACHE_DIR`` says where; set and empty, it switches the cache off. Unset, it is the user's cache
    directory: ``$XDG_CACHE_HOME/minigrad``, ``~/.cache/minigrad``, on macOS ``~/Library/Caches/minigrad``.
    """
    chosen = os.environ.get("MINIGRAD_CACHE_DIR")
    if chosen is not None:
        return Path(os.path.abspath(chosen)) if chosen.strip() else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the specification has relative ones ignored
        return Path(base) / "minigrad"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):  # nobody's home is known
        return None
    return Path(home, *(("Library", "Caches") if sys.platform == "darwin" else (".cache",)), "minigrad")


def object_code(text: str, target: Target | None = None) -> bytes:
    """Return what ``compile_ir(text, target)`` returns, from disk if it is there."""
    return made([plain(text)], target)[0][1]


@dataclass(frozen=True)
class Want:
    """Code that is wanted.

    Attributes
    ----------
    what : str
        What it is made of, beside the target.
    make : callable
        Returns the module's text, and a note of what else is to be known of it, which JSON can hold.
    """

    what: str
    make: Callable[[], tuple[str, Any]]


def plain(text: str) -> Want:
    """Return the wish for a module's code."""
    return Want(text, lambda: (text, None))


def written_of(what: str, make: Callable[[], tuple[str, Any]]) -> Want:
    """Return the wish for the code of a module that this package's source writes, of `what`."""
    return Want(f"{what}\0{_sources()}", make)


def made(wants: Sequence[Want], target: Target | None = None) -> list[tuple[Any, bytes]]:
    """Return notes and object codes, each from disk if it is there; the others' texts are written and compiled."""
    target, where = target or host(), _trusted(directory())
    keys = [_key(want.what, target) for want in wants]
    found = {key: _noted(_read(where, key)) if where else None for key in keys}
    missing = {key: want for key, want in zip(keys, wants, strict=True) if found[key] is None}
    texts = [want.make() for want in missing.values()]
    codes = compile_all([text for text, _ in texts], target)
    for key, (_, note), code in zip(missing, texts, codes, strict=True):
        found[key] = note, code
        if where:
            _write(where, key, json.dumps(note).encode() + b"\n" + code)
    return [found[key] for key in keys]


_warned: set[Path] = set()


def _trusted(where: Path | None) -> Path | None:
    """Return the cache's directory, or None, with a warning for the first time, if what is in it may not be run."""
    if where is None or (reason := trusted_files.distrust(where)) is None:
        return where
    if where not in _warned:
        _warned.add(where)
        warnings.warn(f"the cache of machine code in {where} is not used, because {reason}. Give MINIGRAD_CACHE_DIR a "
                      "directory of your own, or set it empty to keep no code", RuntimeWarning, stacklevel=2)
    return None


def _noted(entry: bytes | None) -> tuple[Any, bytes] | None:
    if entry is None:
        return None
    note, _, code = entry.partition(b"\n")
    return json.loads(note), code


@functools.cache
def _sources() -> str:
    """Return a digest of the files that say how modules are made."""
    here = Path(__file__).parent
    files = [*sorted(here.rglob("*.py")), *(here.parents[1] / name for name in _BENEATH)]
    return _digest(b"\0".join(path.read_bytes() for path in files)).hex()


def _key(text: str, target: Target) -> str:
    return _digest("\0".join((recipe(), repr(target), text)).encode()).hex()


def _checksum(key: str, code: bytes) -> bytes:
    return _digest(key.encode() + code)


def _digest(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data).digest()


def _read(where: Path, key: str) -> bytes | None:
    path = where / (key + _SUFFIX)
    try:
        entry = trusted_files.read(path, _LARGEST)
    except OSError:
        return None
    if entry is None:
        return None
    code = entry[len(_FORMAT) + 32:]
    if entry[:len(entry) - len(code)] != _FORMAT + _checksum(key, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # when it was last used
    return code


def _write(where: Path, key: str, code: bytes) -> None:
    """Write an entry, if that can be done."""
    path = where / (key + _SUFFIX)
    with contextlib.suppress(OSError):
        trusted_files.make_directory(where)
        handle, beside = tempfile.mkstemp(_TEMPORARY, dir=where)
        try:
            with open(handle, "wb") as file:
                file.write(_FORMAT + _checksum(key, code) + code)
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
        if key.startswith(_PRUNE):
            prune(where)


# -- what there is -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A file of the cache: where, how many bytes, when it was last used (seconds since 1970)."""

    path: Path
    size: int
    used: float


def entries(where: Path) -> list[Entry]:
    """Return the cache's files in a directory, those unused for longest first; other files are not looked at."""
    return sorted((e for e in _files(where) if e.path.suffix == _SUFFIX), key=lambda e: e.used)


def _files(where: Path) -> Iterator[Entry]:
    with contextlib.suppress(OSError), os.scandir(where) as found:
        for file in found:
            if file.name.endswith((_SUFFIX, _TEMPORARY)):
                with contextlib.suppress(OSError):  # another process has just removed it
                    status = file.stat(follow_symlinks=False)
                    yield Entry(Path(file.path), status.st_size, status.st_mtime)


def prune(where: Path, bound: int = BOUND) -> None:
    """Remove the entries unused for longest until the rest has `bound` bytes at most, and what writers left behind."""
    for file in _files(where):
        if file.path.suffix == _TEMPORARY and file.used < time.time() - _STALE:
            _remove(file)
    found = entries(where)
    size = sum(e.size for e in found)
    for entry in found:
        if size <= bound:
            break
        size -= entry.size
        _remove(entry)


def clear(where: Path) -> int:
    """Remove all entries and return how many they were; files that are not the cache's stay."""
    count = 0
    for file in list(_files(where)):
        count += _remove(file) and file.path.suffix == _SUFFIX
    return count


def _remove(file: Entry) -> bool:
    try:
        file.path.unlink()
    except OSError:
        return False
    return True


def unwritable(where: Path) -> str | None:
    """Return why nothing is written to a directory, in words, or None if entries are."""
    if reason := trusted_files.distrust(where):
        return reason
    try:
        trusted_files.make_directory(where)
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"\0")
    except OSError as error:
        return error.strerror or str(error)
    return None

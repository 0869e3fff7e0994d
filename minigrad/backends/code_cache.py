"""The cache of machine code on disk, for all backends.

The key of an entry is the digest of all that the code depends on. An entry has a checksum: a truncated or damaged file
counts as absent, with one warning. Failures (a read-only directory, a full disk) cost a compilation and nothing else.

The code runs, so it must be the user's own: directories that others own or may write to, and files that are not regular
files of the user, are left alone, with one warning.

Several processes may share a directory: an entry is written to a temporary file, which then replaces it in one step.
"""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..immutable import Record
from ..locks import importing
from . import trusted_files

T = TypeVar("T")

_FORMAT = b"minigrad object 2\n"
_DIGEST = 32  # bytes
_SUFFIX, _TEMPORARY, _RECORD = ".o", ".part", ".json"
BOUND = 256 * 2**20  # the most bytes of all entries; beyond it, the least recently used go
_PRUNE = "00"  # the first digits of the keys after whose write the bound is checked: one in 256
_LARGEST, _LARGEST_RECORD = 2**26, 2**16  # the most bytes of an entry, and of a record
_DAMAGED = "it is damaged"
_STALE = 3600  # age in seconds at which a temporary file is stale


def directory() -> Path | None:
    """Return the directory of the cache, or None if the cache is off.

    The environment variable ``MINIGRAD_CACHE_DIR`` names it; set and empty, it switches the cache off. Unset, the cache
    is in the user's cache directory: ``$XDG_CACHE_HOME/minigrad``, ``~/.cache/minigrad``, or, on macOS,
    ``~/Library/Caches/minigrad``.
    """
    chosen = os.environ.get("MINIGRAD_CACHE_DIR")
    if chosen is not None:
        try:
            return Path(os.path.abspath(chosen)) if chosen.strip() else None
        except FileNotFoundError:
            _warn(chosen, f"no machine code is kept: MINIGRAD_CACHE_DIR={chosen} is relative to the working directory, "
                          "which was deleted")
            return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the specification says to ignore relative paths
        return Path(base) / "minigrad"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):  # the home is not known
        return None
    return Path(home, *(("Library", "Caches") if sys.platform == "darwin" else (".cache",)), "minigrad")


_warned: set[object] = set()


def _warn(once_for: object, text: str) -> None:
    if once_for not in _warned:
        _warned.add(once_for)
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def trusted() -> Path | None:
    """Return the directory of the cache if its code may run, else None.

    The latter warns once.
    """
    where = directory()
    if where is None or (reason := trusted_files.distrust(where)) is None:
        return where
    _warn(where, f"the cache of machine code in {where} is not used, because {reason}. Give MINIGRAD_CACHE_DIR a "
          "directory of your own, or set it empty to keep no code")
    return None


def digest(*parts: str | bytes) -> str:
    """Return the key of code that depends on these texts, or on their bytes."""
    texts = [part if isinstance(part, bytes) else part.encode() for part in (repr(_FORMAT), *parts)]
    return _digest(b"\0".join(texts)).hex()


def find(where: Path | None, key: str) -> tuple[Any, bytes] | None:
    """Return the note and the code of an entry, or None without a valid one."""
    if where is None:
        return None
    path = where / (key + _SUFFIX)
    refuse = partial(_refuse, path, (where, "files"), "Its code is compiled again")
    if (file := _read(path, _LARGEST, refuse)) is None:
        return None
    entry = file[len(_FORMAT) + _DIGEST:]
    if file[:len(file) - len(entry)] != _FORMAT + _checksum(key, entry):
        refuse(_DAMAGED)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the time of the last use
    note, _, code = entry.partition(b"\n")
    return json.loads(note), code


def _read(path: Path, most: int, refuse: Callable[[str], None]) -> bytes | None:
    """Return the bytes of a file of the user's own, or None without one."""
    try:
        data = trusted_files.read(path, most)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        data = None
    if data is None:
        refuse("it is not a plain file of the user's own")
    return data


def _refuse(path: Path, once: tuple[Path, str], remedy: str, why: str) -> None:
    _warn(once, f"the cache of machine code in {path.parent}: {path.name} is not used, because {why}. {remedy}")


def keep(where: Path | None, key: str, note: object, code: bytes) -> None:
    """Write an entry, if the directory allows it; `note` is any JSON value."""
    if where is None:
        return
    entry = json.dumps(note).encode() + b"\n" + code
    if _write(where, key + _SUFFIX, _FORMAT + _checksum(key, entry) + entry) and key.startswith(_PRUNE):
        prune(where)


def _write(where: Path, name: str, data: bytes) -> bool:
    """Return whether a file could be written, in one step."""
    with importing:
        import tempfile

    with contextlib.suppress(OSError):
        trusted_files.make_directory(where)
        handle, beside = tempfile.mkstemp(_TEMPORARY, dir=where)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.replace(beside, where / name)
        except BaseException:
            os.unlink(beside)
            raise
        return True
    return False


def _checksum(key: str, entry: bytes) -> bytes:
    return _digest(key.encode() + entry)


def _digest(data: bytes) -> bytes:
    with importing:
        import hashlib

    return hashlib.sha256(data).digest()


# -- records: readable files beside the code ------------------------------------------------------------------


def find_record(where: Path | None, name: str, parse: Callable[[str], T]) -> T | None:
    """Return what `parse` reads in a record, or None without one; `parse` raises a ValueError for other texts."""
    if where is None:
        return None
    path = where / name
    refuse = partial(_refuse, path, (where, name), "Remove it")
    if (data := _read(path, _LARGEST_RECORD, refuse)) is None:
        return None
    try:
        return parse(data.decode())
    except ValueError:
        refuse(_DAMAGED)
        return None


def keep_record(where: Path, name: str, text: str) -> None:
    """Write a record, if the directory allows it."""
    _write(where, name, text.encode())


# -- entries -----------------------------------------------------------------------------------------------


class Entry(Record):
    """A file of the cache, its bytes, and the time of its last use."""

    path: Path
    size: int
    used: float


def entries(where: Path) -> list[Entry]:
    """Return the entries in a directory, the least recently used first."""
    return sorted((e for e in _files(where) if e.path.suffix == _SUFFIX), key=lambda e: e.used)


def _files(where: Path) -> Iterator[Entry]:
    with contextlib.suppress(OSError), os.scandir(where) as files:
        for file in files:
            if file.name.endswith((_SUFFIX, _TEMPORARY, _RECORD)):
                with contextlib.suppress(OSError):  # another process may have removed it
                    status = file.stat(follow_symlinks=False)
                    yield Entry(Path(file.path), status.st_size, status.st_mtime)


def prune(where: Path, bound: int = BOUND) -> None:
    """Remove stale temporary files, and old entries beyond `bound` bytes."""
    for file in _files(where):
        if file.path.suffix == _TEMPORARY and file.used < time.time() - _STALE:
            _remove(file)
    kept = entries(where)
    size = sum(e.size for e in kept)
    for entry in kept:
        if size <= bound:
            break
        size -= entry.size
        _remove(entry)


def clear(where: Path) -> int:
    """Remove all entries, and return their number. Other files stay."""
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
    """Return the reason why entries cannot be written to a directory, or None."""
    if reason := trusted_files.distrust(where):
        return reason
    with importing:
        import tempfile

    try:
        trusted_files.make_directory(where)
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"\0")
    except OSError as error:
        return error.strerror or str(error)
    return None

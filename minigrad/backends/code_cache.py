"""Machine code on disk, for all backends: a program that was compiled once starts at once the next time.

An entry is found by its key, the digest of all that it is made of. It carries a checksum: a file that is cut short or
damaged is as good as absent, and said once. Whatever fails here (a directory that cannot be written, a full disk) costs
a compilation and nothing else.

The code is run, so it must be the user's own: a directory that is not, or that others may write to, is left alone, with
one warning; so is a file that is not a plain one of the user's.

Several processes may share a directory: an entry is written beside its place and then moved there, in one step.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..locks import importing
from . import trusted_files

_FORMAT = b"minigrad object 2\n"
_DIGEST = 32  # bytes
_SUFFIX, _TEMPORARY = ".o", ".part"
BOUND = 256 * 2**20  # bytes of all entries; beyond it, those unused for longest go
_PRUNE = "00"  # what the key of one write in 256 starts with: after it, the size is looked at
_LARGEST = 2**26  # bytes of an entry
_STALE = 3600  # age in seconds at which a temporary file is stale


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


_warned: set[Any] = set()


def _warn(once_for: Any, text: str) -> None:
    if once_for not in _warned:
        _warned.add(once_for)
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def trusted() -> Path | None:
    """Return the directory that entries are read from and written to.

    None if the cache is switched off, or, with a warning for the first time, if the code there may not be run.
    """
    where = directory()
    if where is None or (reason := trusted_files.distrust(where)) is None:
        return where
    _warn(where, f"the cache of machine code in {where} is not used, because {reason}. Give MINIGRAD_CACHE_DIR a "
          "directory of your own, or set it empty to keep no code")
    return None


def digest(*parts: str) -> str:
    """Return the key of what is made of these texts."""
    return _digest("\0".join((repr(_FORMAT), *parts)).encode()).hex()


def find(where: Path | None, key: str) -> tuple[Any, bytes] | None:
    """Return an entry's note and code, or None where there is none that may be used."""
    if where is None:
        return None
    path = where / (key + _SUFFIX)
    try:
        file = trusted_files.read(path, _LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        file = None
    entry = file[len(_FORMAT) + _DIGEST:] if file is not None else b""
    if file is None or file[:len(file) - len(entry)] != _FORMAT + _checksum(key, entry):
        why = "it is damaged" if file is not None else "it is not a plain file of the user's own"
        _warn((where, "files"), f"the cache of machine code in {where}: {path.name} is not used, because {why}. Its "
              "code is compiled again")
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # when it was last used
    note, _, code = entry.partition(b"\n")
    return json.loads(note), code


def keep(where: Path | None, key: str, note: Any, code: bytes) -> None:
    """Write an entry, if that can be done; `note` is anything that JSON can hold."""
    if where is None:
        return
    entry = json.dumps(note).encode() + b"\n" + code
    with contextlib.suppress(OSError):
        trusted_files.make_directory(where)
        handle, beside = tempfile.mkstemp(_TEMPORARY, dir=where)
        try:
            with open(handle, "wb") as file:
                file.write(_FORMAT + _checksum(key, entry) + entry)
            os.replace(beside, where / (key + _SUFFIX))
        except BaseException:
            os.unlink(beside)
            raise
        if key.startswith(_PRUNE):
            prune(where)


def _checksum(key: str, entry: bytes) -> bytes:
    return _digest(key.encode() + entry)


def _digest(data: bytes) -> bytes:
    with importing:
        import hashlib

    return hashlib.sha256(data).digest()


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

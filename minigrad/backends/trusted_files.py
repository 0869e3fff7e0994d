"""Files that only the user can have written, so that machine code in them may run.

A directory is trusted if it belongs to the user, others cannot write to it, and none of its parents lets others replace
it. On systems without POSIX owners (Windows), every directory is trusted.
"""

import os
import stat
from pathlib import Path

_POSIX = hasattr(os, "geteuid")
# Links are not followed, and opening a FIFO does not wait for its writer.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def distrust(directory: Path) -> str | None:
    """Return the reason why others may have written files in a directory, or None.

    A missing directory is trusted.
    """
    if not _POSIX:
        return None
    directory = Path(os.path.abspath(directory))
    actual = Path(os.path.realpath(directory))
    for path in dict.fromkeys((*reversed((directory, *directory.parents)), *reversed((actual, *actual.parents)))):
        try:
            status = os.lstat(path)
        except OSError:
            continue
        own = status.st_uid == os.geteuid()
        if not own and (status.st_uid != 0 or path == actual):
            return f"{path} belongs to another user"
        shields = status.st_mode & stat.S_ISVTX and path != actual  # sticky: others cannot rename its files
        if stat.S_ISDIR(status.st_mode) and _others_may_write(status) and not shields:
            return f"others may write to {path}"
    return None


def _others_may_write(status: os.stat_result) -> bool:
    """Return whether a file's mode lets others write.

    A group with the owner's number is the owner alone.
    """
    group = status.st_gid != status.st_uid
    return bool(status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if group else 0)))


def read(path: Path, limit: int) -> bytes | None:
    """Return the contents of a regular file of the user.

    None for other files, and for more bytes than `limit`.

    Raises
    ------
    OSError
        If the file is a link or cannot be read.
    """
    with open(os.open(path, _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        if _POSIX and (status.st_uid != os.geteuid() or _others_may_write(status)):
            return None
        return file.read(status.st_size)  # not `limit`, which Python would allocate


def make_directory(path: Path) -> None:
    """Make a directory, and missing parents, for the user alone."""
    for part in reversed((path, *path.parents)):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)

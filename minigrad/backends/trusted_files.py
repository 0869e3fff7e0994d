"""Files that nobody but the user can have written, so that machine code in them may run.

A directory is trusted where it belongs to the user, others cannot write to it, and none of the directories above lets
others put another in its place. On systems without POSIX owners (Windows) all are.
"""

import os
import stat
from pathlib import Path

_POSIX = hasattr(os, "geteuid")
# A link is not followed, and opening a FIFO does not wait for its writer.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def distrust(directory: Path) -> str | None:
    """Return why the files in a directory may be another's, in words, or None if they are the user's own.

    What does not exist yet is no reason.
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
        shields = status.st_mode & stat.S_ISVTX and path != actual  # sticky: others cannot rename what is in it
        if stat.S_ISDIR(status.st_mode) and _others_may_write(status) and not shields:
            return f"others may write to {path}"
    return None


def _others_may_write(status: os.stat_result) -> bool:
    """Tell whether a file's mode lets others write; a group whose number is the owner's is the owner alone."""
    group = status.st_gid != status.st_uid
    return bool(status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if group else 0)))


def read(path: Path, limit: int) -> bytes | None:
    """Return what is in a regular file of the user's own, or None: for a link, a FIFO, and more bytes than `limit`.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(os.open(path, _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        if _POSIX and (status.st_uid != os.geteuid() or _others_may_write(status)):
            return None
        return file.read(limit)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, where they are missing, for the user alone."""
    for part in reversed((path, *path.parents)):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)

"""Object code on disk, so that a program that was compiled once starts at once the next time.

An entry is found by what it is made of: the IR's text, the CPU and its features, the versions of LLVM and of minigrad.
It carries a checksum: a file that is cut short, damaged or not ours is as good as absent. Whatever fails here (a
directory that cannot be written, a full disk) costs a compilation and nothing else.
"""

from pathlib import Path

from .target import Target


def directory() -> Path | None:
    """Return where entries lie, or None if the cache is switched off.

    ``MINIGRAD_CACHE_DIR`` says where; set and empty, it switches the cache off. Unset, it is the user's cache
    directory: ``$XDG_CACHE_HOME/minigrad``, ``~/.cache/minigrad``, on macOS ``~/Library/Caches/minigrad``.
    """
    raise NotImplementedError


def object_code(text: str, target: Target | None = None) -> bytes:
    """Return what ``compile_ir(text, target)`` returns, from disk if it is there."""
    raise NotImplementedError

"""The cyclic garbage collector, and pauses of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .locks import Lock


class _Pause:
    """The number of threads that import or compile; the cyclic GC is paused until the last of them ends."""

    def __init__(self) -> None:
        self._lock, self._count, self._enabled = Lock(), 0, False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._alone)

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._enabled = gc.isenabled()
                gc.disable()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count = max(self._count - 1, 0)
            if not self._count and self._enabled:
                gc.enable()

    def _alone(self) -> None:
        """Reset in a forked child, which has none of the other threads."""
        if self._count and self._enabled:
            gc.enable()
        self._count = 0


_pause = _Pause()


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the cyclic GC: modules and graphs outlive their making, and collection costs a fifth of an import and a
    third of a compilation.
    """
    _pause.begin()
    try:
        yield
    finally:
        _pause.end()

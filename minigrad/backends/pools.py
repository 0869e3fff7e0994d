"""Dicts of bounded length, and the pools of free workspaces of a program."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from ..locks import Lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A dict of at most `size` entries: the oldest one makes room for a new one."""

    def __init__(self, size: int):
        super().__init__()
        self._size = size
        self._lock = Lock()

    def keep(self, key: K, value: V) -> V:
        """Return the value of `key`: the present one, or `value`, which is added."""
        with self._lock:
            while key not in self and len(self) >= self._size:
                self._drop(self.pop(next(iter(self))))
            return self.setdefault(key, value)

    def _drop(self, value: V) -> None:
        """End the use of a value that made room for another one."""

    def clear(self) -> None:
        with self._lock:
            super().clear()


def drained(pool: deque[V]) -> Iterator[V]:
    """Yield and remove the elements of a pool that other threads take from, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield pool.pop()


class Pools(Bounded[K, deque[V]]):
    """The free workspaces by sizes: a run takes or makes one, and gives it back.

    Those of sizes that make room for others are released at once, if they can be: the collector would find them late.
    """

    def __init__(self, size: int, release: Callable[[V], None] | None = None):
        super().__init__(size)
        self._release = release

    def _drop(self, value: deque[V]) -> None:
        if self._release is not None:
            for free in drained(value):
                self._release(free)

    def __missing__(self, key: K) -> deque[V]:
        return self.keep(key, deque())

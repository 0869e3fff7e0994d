"""Dicts of bounded length, and the pools of free workspaces of a program."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
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
                del self[next(iter(self))]
            return self.setdefault(key, value)

    def clear(self) -> None:
        with self._lock:
            super().clear()


class Pools(Bounded[K, deque[V]]):
    """The free workspaces by sizes: a run takes or makes one, and gives it back."""

    def __missing__(self, key: K) -> deque[V]:
        return self.keep(key, deque())

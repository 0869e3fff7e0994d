"""Locks and forks: a child has none of the threads that held a lock, or were importing a module."""

from __future__ import annotations

import os
import threading
import weakref

importing = threading.RLock()
"""Held while a function imports a module: a fork waits for it, as its child would wait for the module for ever."""


class Lock:
    """A reentrant lock, for ``with``, that forked children find open.

    It guards state that is whole between any two steps of its holder.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _open() -> None:
    """Replace the locks that another thread held when it forked."""
    for lock in list(_locks):
        if lock._lock.acquire(blocking=False):  # free, or held by the thread that lives on
            lock._lock.release()
        else:
            lock._lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_open)
    os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)

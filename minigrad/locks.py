"""Locks and forks: a child has none of the threads that held a lock, or were importing a module."""

from __future__ import annotations

import _thread
import logging  # noqa: F401  # registered for forks before this module is, so that a fork takes its lock after ours
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

importing = threading.RLock()
"""Held while a function imports a module: a fork waits for it, as its child would wait for the module for ever."""


class Lock(_thread.RLock):  # type: ignore[misc]  # final for type checkers alone
    """A reentrant lock, for ``with``, that forked children find open.

    It guards state that is whole between any two steps of its holder. No interrupt comes between its steps, as it has
    none in Python.
    """

    def __init__(self) -> None:
        _locks.add(self)


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Setting:
    """A setting of the whole process that is changed while any thread is inside.

    Parameters
    ----------
    change : callable
        Changes the setting.
    restore : callable
        Called before, it returns the function that undoes the change.
    """

    def __init__(self, change: Callable[[], object], restore: Callable[[], Callable[[], object]]):
        self._change, self._restore, self._lock, self._inside = change, restore, Lock(), 0
        self._undo: Callable[[], object] = int  # does nothing
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._alone)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Change the setting meanwhile; a context that an interrupt drops ends, too."""
        inside = False
        try:
            with self._lock:
                if not self._inside:
                    self._undo = self._restore()
                    self._change()
                self._inside += 1
                inside = True
            yield
        finally:  # no step of this runs Python, where an interrupt could come
            with self._lock:
                if inside and self._inside:
                    self._inside -= 1
                if not self._inside:
                    undo, self._undo = self._undo, int
                    undo()

    def _alone(self) -> None:
        """Reset in a forked child, which has none of the other threads."""
        self._inside = 0
        undo, self._undo = self._undo, int
        undo()


_guards: list[Callable[[], AbstractContextManager[object]]] = [lambda: importing]
_held = ExitStack()  # what guards hold while a fork is under way
_INTERRUPTS = 100  # of one fork's wait; errors that do not pass, as a full stack, end it


def hold_at_forks(guard: Callable[[], AbstractContextManager[object]], after_imports: bool = False) -> None:
    """Enter a guard before each fork, the latest guard first, and leave it in parent and child.

    `after_imports`: threads that hold `importing` may wait for it, so that a fork enters it later.
    """
    _guards.insert(0 if after_imports else len(_guards), guard)


def _before_fork() -> None:
    """Enter all guards, those of a module too that another thread imported meanwhile: they come before `importing`.

    Python forks after any error here, such as that of Ctrl-C: the wait begins again, and the error is raised after it.
    """
    global _held
    interrupts: list[BaseException] = []
    while len(interrupts) < _INTERRUPTS:
        try:
            with ExitStack() as held:
                guards = _guards[::-1]
                for guard in guards:
                    held.enter_context(guard())
                if len(guards) == len(_guards):
                    _held = held.pop_all()
                    break
        except BaseException as error:
            interrupts.append(error)
    if interrupts:
        raise interrupts[-1]


def _after_fork() -> None:
    _held.close()


def _open() -> None:
    """Replace the locks that another thread held when it forked."""
    for lock in list(_locks):
        if lock.acquire(blocking=False):  # free, or held by the thread that lives on
            lock.release()
        else:
            lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_open)
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)

"""One thread that builds programs, one after the other, while other programs answer.

The thread is a daemon: the end of the interpreter waits for one module of LLVM at most (`jit`), and for no program. A
fork waits for the program that is being built, so that the child inherits no lock that the builder holds. The child,
which has no builder, starts one if programs are left.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ....locks import Lock
from .jit import building, turn


class Builder:
    """A queue of jobs, and the thread that does them."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the queue and the thread
        self._jobs: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None

    def add(self, job: Callable[[], None]) -> None:
        """Enter a job, which raises nothing."""
        with self._lock:
            self._jobs.append(job)
        self.go_on()

    def go_on(self) -> None:
        """Start the thread if there are jobs and it does not run."""
        if self._runs():
            return
        with self._lock:
            if self._jobs and not self._runs():
                thread = threading.Thread(target=self._work, name="minigrad-build", daemon=True)
                with contextlib.suppress(RuntimeError):  # no thread can start now: a later call tries again
                    thread.start()
                    self._thread = thread

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with turn:
                building.acquire()
            try:
                with self._lock:
                    if not self._jobs:
                        self._thread = None
                        return
                    job = self._jobs.popleft()
                job()
            finally:
                building.release()


class Unfinished(Protocol):
    """A program whose `finish` a job calls, which raises nothing."""

    def finish(self) -> None:
        """Build it."""


class Job:
    """The build of a program; a program that was dropped is not built."""

    def __init__(self, program: Unfinished):
        self._program = weakref.ref(program)

    def __call__(self) -> None:
        if (program := self._program()) is not None:
            program.finish()


BUILDER = Builder()

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=BUILDER.go_on)

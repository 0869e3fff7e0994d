"""What every native program stands on: LLVM, the pool, the runner; made while Python traces the first program."""

import contextlib
import functools
import threading

from . import runner, threads


@functools.cache
def start() -> None:
    """Begin, in a thread of its own; the second time there is nothing to do."""
    with contextlib.suppress(RuntimeError):  # no thread can be had: all is made when it is needed
        threading.Thread(target=_make, name="minigrad-start").start()


def _make() -> None:
    with contextlib.suppress(Exception):  # whoever needs what could not be made is told why
        threads.symbols()
        runner.runner()

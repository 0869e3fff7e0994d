"""Warm-up: LLVM loads, and compiles a first function, in a thread while Python traces the first program."""

import contextlib
import functools
import threading

from . import jit
from .cache import sources


@functools.cache
def start() -> None:
    """Start the warm-up, once."""
    sources()  # many small files: each, read beside a thread that runs Python, would wait for Python's lock
    with contextlib.suppress(RuntimeError):  # no thread can start: the first program loads LLVM
        threading.Thread(target=_load, name="minigrad-start").start()


def _load() -> None:
    with contextlib.suppress(Exception):  # the first program raises the error
        jit.warm_up()

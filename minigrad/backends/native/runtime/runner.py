"""The runner: one call from Python runs a table of steps.

Python hands over the arrays themselves; the code reads their addresses from NumPy's and Python's objects. A trial
checks the offsets of the fields before the first run.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np

from ..llvm.builder import STEP, Builder, at
from ..llvm.values import I64, PTR
from .cache import CodeRequest, generated, object_code
from .jit import Library, load, lock

_DATA = object.__basicsize__  # offset in an array object of its elements' address: behind the head of all objects
_ITEMS = tuple.__basicsize__  # offset in a tuple of its items
_loaded: list[Library] = []  # the runner, once it is loaded


def _text() -> str:
    w = Builder("runner", once=True)
    with w.function("mg_steps", [PTR, I64, PTR], "") as steps:
        table, n, bases = steps.args
        with w.counting(I64(0), n) as i:
            step = w.element(table, i, 16)
            w.b.call(w.b.load(step, typ=STEP.as_pointer()), [w.b.load(at(w.b, step, 8), typ=PTR), bases])
    with w.function("mg_run", [PTR, I64, PTR, PTR, I64, I64], "") as run:
        table, n, bases, arrays, first, count = run.args
        items, start = at(w.e, arrays, _ITEMS), w.element(bases, first, 8)
        with w.counting(I64(0), count) as i:
            array = w.b.load(w.element(items, i, 8), typ=PTR)
            w.b.store(w.b.load(at(w.b, array, _DATA), typ=PTR), w.element(start, i, 8))
        w.b.call(steps, [table, n, bases])
    return str(w.module)


def code_request() -> CodeRequest:
    """Return the request for the runner's code."""
    return generated("runner", lambda: (_text(), None))


def loaded() -> bool:
    return bool(_loaded)


def add(code: bytes) -> None:
    """Load the runner's code, unless another thread has done so."""
    with lock:
        if not _loaded:
            _loaded.append(load([code], keep=True))


def _library() -> Library:
    if not _loaded:
        add(object_code(code_request()))
    return _loaded[0]


def symbols() -> dict[str, int]:
    """Return the address of ``mg_steps(table, n, bases)``, which calls the `n` functions of a table, for `jit.load`."""
    return {"mg_steps": _library().address("mg_steps")}


@functools.cache
def runner() -> Callable[[int | None, int, int, tuple[np.ndarray, ...], int, int], None]:
    """Return ``run(steps, n, bases, arrays, first, count)``.

    It puts the addresses of `count` arrays, a tuple's, into the table `bases` from `first` on, and calls the `n`
    functions of the table `steps`, each with its arguments.
    """
    size, address = ctypes.c_int64, ctypes.c_void_p
    run = ctypes.CFUNCTYPE(None, address, size, address, ctypes.py_object, size, size)(_library().address("mg_run"))
    arrays = (np.zeros(3), np.zeros((2, 2), np.float32)[1:])
    addresses = np.zeros(3, np.int64)
    run(None, 0, addresses.ctypes.data, arrays, 1, 2)
    if addresses.tolist() != [0, *(a.ctypes.data for a in arrays)]:
        raise RuntimeError("the addresses of arrays are not where NumPy is known to keep them")
    return run

"""The runner: one call from Python runs a table of steps.

Python hands over the arrays themselves; the code reads their addresses from NumPy's and Python's objects. A trial
checks the offsets of the fields before the first run.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np

from .cache import object_code
from .jit import Library, load

_DATA = object.__basicsize__  # offset in an array object of its elements' address: behind the head of all objects
_ITEMS = tuple.__basicsize__  # offset in a tuple of its items

_TEXT = f"""
define void @mg_steps(ptr %table, i64 %n, ptr %bases) {{
entry:
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %two = mul i64 %i, 2
  %step = getelementptr ptr, ptr %table, i64 %two
  %function = load ptr, ptr %step
  %field = getelementptr ptr, ptr %step, i64 1
  %args = load ptr, ptr %field
  call void %function(ptr %args, ptr %bases)
  %next = add i64 %i, 1
  br label %test
end:
  ret void
}}

define void @mg_run(ptr %steps, i64 %n, ptr %bases, ptr %arrays, i64 %first, i64 %count) {{
entry:
  %start = getelementptr ptr, ptr %bases, i64 %first
  %items = getelementptr i8, ptr %arrays, i64 {_ITEMS}
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %end
body:
  %item = getelementptr ptr, ptr %items, i64 %i
  %array = load ptr, ptr %item
  %field = getelementptr i8, ptr %array, i64 {_DATA}
  %data = load ptr, ptr %field
  %slot = getelementptr ptr, ptr %start, i64 %i
  store ptr %data, ptr %slot
  %next = add i64 %i, 1
  br label %test
end:
  call void @mg_steps(ptr %steps, i64 %n, ptr %bases)
  ret void
}}
"""


@functools.cache
def _library() -> Library:
    return load([object_code(_TEXT)], keep=True)


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

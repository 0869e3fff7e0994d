"""False sharing: two threads that add to numbers of their own, which may lie on one cache line."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.backends.native.llvm.builder import BLOCK, Builder, at
from minigrad.backends.native.llvm.values import I64, PTR, VOID
from minigrad.backends.native.runtime import threads
from minigrad.backends.native.runtime.jit import compile_all, load

ADDITIONS = 100_000
_WAIT = 1 << 26  # turns for which a thread waits for the other one, at most


@functools.cache
def _code() -> Callable[[int, int], None]:
    """Return a function of an address and a distance: two items add in memory, each `distance` bytes further."""
    w = Builder("sharing")
    with w.function("item", BLOCK.args) as item:
        b, (context, k, _) = w.b, item.args
        first, distance = b.load(context, typ=PTR), b.load(at(b, context, 8), typ=I64)
        started, turns = at(b, context, 16), w.variable(I64(0))
        own = at(b, first, b.mul(k, distance))
        b.atomic_rmw("add", started, I64(1), "seq_cst")

        def waits() -> Any:
            b.store(b.add(w.get(turns), I64(1)), turns)
            return b.and_(b.icmp_signed("<", b.load_atomic(started, "acquire", 8, typ=I64), I64(2)),
                          b.icmp_signed("<", w.get(turns), I64(_WAIT)))

        with w.repeated(waits):
            pass
        with w.counting(I64(0), I64(ADDITIONS)):
            b.atomic_rmw("add", own, I64(1), "monotonic")
    with w.function("add", [PTR, I64], "") as add:
        pool = w.intrinsic("mg_parallel", VOID, [PTR, PTR, I64, I64])
        words = w.room(I64, 3)
        w.b.store(w.b.ptrtoint(add.args[0], I64), words)
        w.b.store(add.args[1], at(w.b, words, 8))
        w.b.store(I64(0), at(w.b, words, 16))
        w.b.call(pool, [item, words, I64(2), I64(2)])
    library = load(compile_all([str(w.module)]), threads.symbols(), keep=True)
    call: Callable[[int, int], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address("add"))
    return call


def additions(distance: int) -> float:
    """Return the nanoseconds of one addition, on two threads whose numbers are some bytes apart."""
    room = np.zeros(2 * distance + 4096, np.uint8)
    start = room.ctypes.data + -room.ctypes.data % 4096
    begin = time.perf_counter()
    _code()(start, distance)
    return (time.perf_counter() - begin) / ADDITIONS * 1e9

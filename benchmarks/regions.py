"""The parallel regions of a native program, with the processor's time stamp of each item.

Machine code stands between the program's steps and the pool of threads. Off, it hands a region on to the pool. `alone`
runs the items of each region on the caller's thread, whatever the number of threads: the program is the one for that
number, and each item has the time that it takes on an idle core. `together` lets the pool work, and records who did
which item. A region inside an item, as a packed scan has them, belongs to that item.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.backends.native.llvm import ir
from minigrad.backends.native.llvm.builder import BLOCK, Builder, at
from minigrad.backends.native.llvm.values import I64, PTR
from minigrad.backends.native.runtime import threads
from minigrad.backends.native.runtime.jit import Library, compile_all, load

ROOM = 1 << 22  # numbers of the log
_HEAD = 3  # numbers of a region's head in the log: items, threads that may share them, time stamps in all
_OFF, _ALONE, _TOGETHER = range(3)
_STATE = ("mode", "log", "used", "inside")


@dataclass(frozen=True)
class Region:
    """One parallel region: seconds of all of it, seconds of each item, and the thread that did the item."""

    threads: int
    seconds: float
    items: np.ndarray
    worker: np.ndarray


class _Writer(Builder):
    """Writes ``mg_recorded``, which takes the place of ``mg_parallel``."""

    def __init__(self) -> None:
        super().__init__("regions")
        for name in _STATE:
            ir.GlobalVariable(self.module, I64, name, I64(0))

    def state(self, name: str) -> ir.Value:
        return self.b.load(self.module.variables[name], typ=I64)

    def put(self, name: str, x: ir.Value) -> None:
        self.b.store(x, self.module.variables[name])

    def now(self) -> ir.Value:
        return self.b.call(self.intrinsic("llvm.readcyclecounter", I64, []), [])

    def item(self) -> ir.Function:
        """Write the function that records one item: its context has the block, its context, and a place in the log."""
        with self.function("item", BLOCK.args) as f:
            b, (context, item, thread) = self.b, f.args
            block, own = b.load(context, typ=BLOCK.as_pointer()), b.load(at(b, context, 8), typ=PTR)
            log = b.load(at(b, context, 16), typ=I64)
            start = self.now()
            b.call(block, [own, item, thread])
            entry = b.or_(b.shl(b.sub(self.now(), start), I64(16)), thread)
            b.store(entry, b.inttoptr(b.add(log, b.shl(item, I64(3))), PTR))
        return f

    def text(self) -> str:
        item = self.item()
        pool = self.intrinsic("mg_pool", ir.VoidType(), [BLOCK.as_pointer(), PTR, I64, I64])
        with self.function("mg_recorded", [BLOCK.as_pointer(), PTR, I64, I64], "") as f:
            b, (block, context, items, most) = self.b, f.args
            place = self.state("used")
            end = b.add(b.add(place, items), I64(_HEAD))
            off = b.or_(b.icmp_signed("==", self.state("mode"), I64(_OFF)), b.icmp_signed(">", end, I64(ROOM)))
            with b.if_else(b.or_(off, b.icmp_signed("!=", self.state("inside"), I64(0)))) as (plain, recorded):
                with plain, b.if_else(off) as (shared, nested):
                    with shared:
                        b.call(pool, [block, context, items, most])
                    with nested, self.counting(I64(0), items) as i:
                        b.call(block, [context, i, I64(0)])
                with recorded:
                    head = b.add(self.state("log"), b.shl(place, I64(3)))
                    words = self.room(I64, 3)
                    for k, x in enumerate((b.ptrtoint(block, I64), b.ptrtoint(context, I64),
                                           b.add(head, I64(8 * _HEAD)))):
                        b.store(x, at(b, words, 8 * k))
                    self.put("used", end)
                    self.put("inside", I64(1))
                    start = self.now()
                    with b.if_else(b.icmp_signed("==", self.state("mode"), I64(_ALONE))) as (alone, together):
                        with alone, self.counting(I64(0), items) as i:
                            b.call(item, [words, i, I64(0)])
                        with together:
                            b.call(pool, [item, words, items, most])
                    for k, x in enumerate((items, most, b.sub(self.now(), start))):
                        b.store(x, b.inttoptr(b.add(head, I64(8 * k)), PTR))
                    self.put("inside", I64(0))
        with self.function("mg_regions_set", [I64, I64], "") as f:
            for name, x in zip(_STATE, (*f.args, I64(0), I64(0)), strict=True):
                self.put(name, x)
        with self.function("mg_regions_used", [PTR], "") as f:
            self.b.store(self.state("used"), f.args[0])
        return str(self.module)


class Recorder:
    """Records the regions of programs that are compiled after it is made; one in a process, before any program."""

    def __init__(self) -> None:
        self._log = np.zeros(ROOM, np.int64)
        (code,) = compile_all([_Writer().text()])
        self._library: Library = load([code], {"mg_pool": threads.symbols()["mg_parallel"]}, keep=True)
        address = self._library.address("mg_recorded")
        threads.symbols = lambda: {"mg_parallel": address}
        self._set = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self._library.address("mg_regions_set"))
        self._used = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._library.address("mg_regions_used"))
        self._set(_OFF, 0)

    def alone(self, call: Callable[[], Any]) -> tuple[float, list[Region]]:
        """Return the seconds of a call, and its regions with all items on the caller's thread."""
        return self._recorded(call, _ALONE)

    def together(self, call: Callable[[], Any]) -> tuple[float, list[Region]]:
        """Return the seconds of a call, and its regions with the items shared by the pool's threads."""
        return self._recorded(call, _TOGETHER)

    def _recorded(self, call: Callable[[], Any], mode: int) -> tuple[float, list[Region]]:
        self._set(mode, self._log.ctypes.data)
        start = time.perf_counter()
        try:
            call()
        finally:
            seconds = time.perf_counter() - start
            used = np.zeros(1, np.int64)
            self._used(used.ctypes.data)
            self._set(_OFF, 0)
        log, tick, found, k = self._log[:used[0]], seconds_of_a_tick(), [], 0
        while k < len(log):
            items, most, stamps = log[k:k + _HEAD].tolist()
            entries = log[k + _HEAD:k + _HEAD + items]
            found.append(Region(most, stamps * tick, (entries >> 16) * tick, entries & 0xFFFF))
            k += _HEAD + items
        return seconds, found


_tick: list[float] = []


def seconds_of_a_tick() -> float:
    """Return the seconds between two time stamps of the processor, measured once."""
    if not _tick:
        writer = _Writer()
        with writer.function("stamp", [PTR], "") as f:
            writer.b.store(writer.now(), f.args[0])
        library = load(compile_all([str(writer.module)]))
        stamp = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address("stamp"))
        words = np.zeros(2, np.int64)
        start = time.perf_counter()
        stamp(words.ctypes.data)
        time.sleep(0.05)
        stamp(words.ctypes.data + 8)
        _tick.append((time.perf_counter() - start) / float(words[1] - words[0]))
    return _tick[0]

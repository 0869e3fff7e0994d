"""A scan whose body is native throughout, as a step: a loop over the table of the body's steps, without Python."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from ..codegen.emit import Emitter
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I64, PTR, VOID, declared
from ..runtime import runner
from ..runtime.cache import CodeRequest, generated, object_code
from ..runtime.jit import load

# At the head of an argument block: turns, whether the last is the first, the length and the address of the table of the
# body's steps, the address of the body's bases, and how many values of each kind follow.
_LENGTH, _REVERSE, _STEPS, _TABLE, _BASES, _COUNTS, _HEAD = 0, 1, 2, 3, 4, 5, 8
_FIXED, _SLICED, _CARRIED = 3, 4, 10  # numbers of each value of a kind

Place = tuple[int, int]  # a base, and bytes from there


def code_request() -> CodeRequest:
    """Return the request for the code of `step`."""
    return generated("scan", lambda: (_Scan("scan").write(), None))


@functools.cache
def step() -> int:
    """Return the address of the step that runs a scan."""
    return load([object_code(code_request())], runner.symbols(), keep=True).address("mg_scan")


class _Scan(Emitter):
    def write(self) -> str:
        """Return the module's text."""
        with self.step("mg_scan"):
            b = self.b
            length, table, own = self.number(_LENGTH), self._pointer(_TABLE), self._pointer(_BASES)
            fixed, sliced, carried = (self.number(_COUNTS + i) for i in range(3))
            first_sliced = b.add(I64(_HEAD), b.mul(fixed, I64(_FIXED)))
            first_carried = b.add(first_sliced, b.mul(sliced, I64(_SLICED)))
            last = b.sub(length, I64(1))
            for value in self._values(I64(_HEAD), fixed, _FIXED):
                self._put(own, self._field(value, 0), self._place(value, I64(1)))
            with self.counting(I64(0), length) as turn:
                position = b.select(b.icmp_signed("!=", self.number(_REVERSE), I64(0)), b.sub(last, turn), turn)
                for value in self._values(first_sliced, sliced, _SLICED):
                    offset = b.mul(position, self._field(value, 3))
                    self._put(own, self._field(value, 0), at(b, self._place(value, I64(1)), offset))
                starts, ends = b.icmp_signed("==", turn, I64(0)), b.icmp_signed("==", turn, last)
                room = b.mul(b.and_(turn, I64(1)), I64(2))  # of the two that take turns, the one that is written
                other = b.sub(I64(2), room)
                for value in self._values(first_carried, carried, _CARRIED):
                    source = b.select(starts, I64(2), b.add(I64(6), other))
                    target = b.select(ends, I64(4), b.add(I64(6), room))
                    self._put(own, self._field(value, 0), self._place(value, source))
                    self._put(own, self._field(value, 1), self._place(value, target))
                run = declared(self.module, "mg_steps", VOID, [PTR, I64, PTR])
                b.call(run, [table, self.number(_STEPS), own])
        return str(self.module)

    def _pointer(self, i: int) -> ir.Value:
        return self.e.inttoptr(self.number(i), PTR)

    def _values(self, first: ir.Value, count: ir.Value, size: int) -> Iterator[ir.Value]:
        """Write a loop over the values of a kind: yield the address of the numbers of each."""
        with self.counting(I64(0), count) as i:
            yield self.element(self.args, self.b.add(first, self.b.mul(i, I64(size))), 8)

    def _field(self, value: ir.Value, i: int) -> ir.Value:
        return self.b.load(at(self.b, value, 8 * i), typ=I64)

    def _place(self, value: ir.Value, i: ir.Value) -> ir.Value:
        """Return the address for which two numbers stand: a base, and bytes from there."""
        b, place = self.b, self.element(value, i, 8)
        base = b.load(self.element(self.bases, b.load(place, typ=I64), 8), typ=PTR)
        return at(b, base, self._field(place, 1))

    def _put(self, own: ir.Value, slot: ir.Value, address: ir.Value) -> None:
        self.b.store(address, self.element(own, slot, 8))


def arguments(length: int, reverse: bool, table: tuple[int, int], own: int, fixed: Sequence[tuple[int, Place]],
              sliced: Sequence[tuple[int, Place, int]],
              carried: Sequence[tuple[int, int, Place, Place, Sequence[Place]]]) -> list[int]:
    """Return the argument block of a scan.

    Parameters
    ----------
    table : (int, int)
        Address and length of the table of the body's steps.
    own : int
        Address of the body's bases.
    fixed : sequence of (slot, place)
        Values that are the same in each turn.
    sliced : sequence of (slot, place, stride)
        Values with one part for each turn, read or written.
    carried : sequence of (slot read, slot written, start, end, rooms)
        Values that one turn hands to the next, in two rooms that take turns.
    """
    block = [length, reverse, table[1], table[0], own, len(fixed), len(sliced), len(carried)]
    for slot, place in fixed:
        block += [slot, *place]
    for slot, place, stride in sliced:
        block += [slot, *place, stride]
    for read, written, start, end, (room, other) in carried:
        block += [read, written, *start, *end, *room, *other]
    return block

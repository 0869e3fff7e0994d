"""A loop whose turns are known before it runs, as a step: the body of each turn, without Python in between.

Each turn has a body that is bound to its sizes. Before a body runs, the rows that it reads are copied side by side, and
afterwards the rows of its results go to their places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from ..codegen.emit import Emitter
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I1, I64, PTR, VOID, declared
from ..runtime import runner
from ..runtime.cache import CodeRequest, generated, object_code
from ..runtime.jit import load

# At the head of an argument block: the number of turns, the address of their table, and how many values of each kind
# follow. A turn has the table of the body's steps, its length, the body's bases, and the number of the step.
_TURNS, _TABLE, _COUNTS, _HEAD, _TURN = 0, 1, 2, 6, 4
_FIXED, _READ, _WRITTEN, _SUM = 2, 6, 6, 5  # numbers of each value of a kind
_KINDS = (_FIXED, _READ, _WRITTEN, _SUM)


def code_request() -> CodeRequest:
    """Return the request for the code of `step`."""
    return generated("turns", lambda: (_Turns("turns").write(), None))


@functools.cache
def step() -> int:
    """Return the address of the step that runs the turns."""
    return load([object_code(code_request())], runner.symbols(), keep=True).address("mg_turns")


class _Turns(Emitter):
    def write(self) -> str:
        """Return the module's text."""
        with self.step("mg_turns"):
            b = self.b
            first: ir.Value = I64(_HEAD)
            starts: list[tuple[ir.Value, ir.Value]] = []
            for i, size in enumerate(_KINDS):
                starts.append((first, self.number(_COUNTS + i)))
                first = b.add(first, b.mul(starts[-1][1], I64(size)))
            fixed, read, written, sums = starts
            run = declared(self.module, "mg_steps", VOID, [PTR, I64, PTR])
            with self.counting(I64(0), self.number(_TURNS)) as turn:
                entry = self.element(self.e.inttoptr(self.number(_TABLE), PTR), b.mul(turn, I64(_TURN)), 8)
                table, own = self._pointer(entry, 0), self._pointer(entry, 2)
                number = self._field(entry, 3)
                for value in self._values(*fixed, _FIXED):
                    self._put(own, value, 0, self._pointer(value, 1))
                for value in self._values(*read, _READ):
                    self._put(own, value, 0, self._pointer(value, 2))
                    self._rows(value, number, lambda row, near: (near, row))
                for value in self._values(*written, _WRITTEN):
                    self._put(own, value, 0, self._pointer(value, 2))
                for value in self._values(*sums, _SUM):
                    self._put(own, value, 0, self._pointer(value, 1))
                b.call(run, [table, self._field(entry, 1), own])
                for value in self._values(*written, _WRITTEN):
                    self._rows(value, number, lambda row, near: (row, near))
                for value in self._values(*sums, _SUM):
                    self._add(value)
        return str(self.module)

    def _values(self, first: ir.Value, count: ir.Value, size: int) -> Iterator[ir.Value]:
        """Write a loop over the values of a kind: yield the address of the numbers of each."""
        with self.counting(I64(0), count) as i:
            yield self.element(self.args, self.b.add(first, self.b.mul(i, I64(size))), 8)

    def _field(self, value: ir.Value, i: int) -> ir.Value:
        return self.b.load(at(self.b, value, 8 * i), typ=I64)

    def _pointer(self, value: ir.Value, i: int) -> ir.Value:
        return self.b.inttoptr(self._field(value, i), PTR)

    def _put(self, own: ir.Value, value: ir.Value, i: int, address: ir.Value) -> None:
        """Enter an address into the body's bases, at the place that a number of the value names."""
        self.b.store(address, self.element(own, self._field(value, i), 8))

    def _rows(self, value: ir.Value, number: ir.Value, ends: Callable[[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]
              ) -> None:
        """Copy the rows of a step between their places and the memory of the body."""
        b = self.b
        memory, near, width = self._pointer(value, 1), self._pointer(value, 2), self._field(value, 3)
        index, firsts = self._pointer(value, 4), self.element(self._pointer(value, 5), number, 8)
        start = b.load(firsts, typ=I64)
        count = b.sub(b.load(at(b, firsts, 8), typ=I64), start)
        memcpy = self.intrinsic("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, I1])
        with self.counting(I64(0), count) as i:
            row = b.load(self.element(index, b.add(start, i), 8), typ=I64)
            pair = at(b, memory, b.mul(row, width)), at(b, near, b.mul(i, width))
            b.call(memcpy, [*ends(*pair), width, I1(0)])

    def _add(self, value: ir.Value) -> None:
        """Add the result of a step to a sum."""
        b = self.b
        x, total, count = self._pointer(value, 1), self._pointer(value, 2), self._field(value, 3)
        wide = b.icmp_signed("==", self._field(value, 4), I64(8))
        with b.if_else(wide) as branches:
            for branch, (kind, size) in zip(branches, ((ir.DoubleType(), 8), (ir.FloatType(), 4)), strict=True):
                with branch, self.counting(I64(0), count) as i:
                    place = self.element(total, i, size)
                    b.store(b.fadd(b.load(place, typ=kind), b.load(self.element(x, i, size), typ=kind)), place)


def arguments(turns: int, table: int, fixed: Sequence[tuple[int, int]], read: Sequence[Sequence[int]],
              written: Sequence[Sequence[int]], sums: Sequence[tuple[int, int, int, int, int]]) -> list[int]:
    """Return the argument block of the turns.

    Parameters
    ----------
    turns, table : int
        The number of turns, and the address of their table.
    fixed : sequence of (slot, address)
        Values that are the same in each turn.
    read, written : sequence of (slot, address, address of the body's memory, bytes of a row, index, firsts)
        Values with rows for each step: the addresses of the rows' numbers, step by step, and of the first of each step.
    sums : sequence of (slot, address of the body's memory, address of the sum, elements, bytes of one)
        Results that are summed.
    """
    kinds = (fixed, read, written, sums)
    return [turns, table, *map(len, kinds), *(number for kind in kinds for value in kind for number in value)]

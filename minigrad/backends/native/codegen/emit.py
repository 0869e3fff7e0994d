"""Writers of steps: their arguments, the parallel-for, and checked indices.

A step is ``void step(i64 *args, ptr *bases)``: numbers of its own, and the addresses that a call brings. It cuts its
work into items, and hands them to the threads' pool, or works on them itself: ``void block(ptr context, i64 item,
i64 thread)`` works on one; the context is the pair of the step's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ....ops.strict_index import PLACES
from ..llvm import ir
from ..llvm.builder import BLOCK, ONE, STEP, Builder, at
from ..llvm.values import I32, I64, PTR, VOID, any_lane, constant, declared, lane_numbers
from . import expressions as ex


class Emitter(Builder):
    """Writes steps, and the functions of their items.

    Attributes
    ----------
    args, bases : ir.Value
        The argument block of the current step, and its table of addresses.
    """

    args: ir.Value
    bases: ir.Value

    def __init__(self, name: str):
        super().__init__(name)

    # -- functions ---------------------------------------------------------------------------------------

    @contextmanager
    def step(self, name: str) -> Iterator[ir.Function]:
        """Write a step: the ``with`` block emits its body."""
        with self.function(name, STEP.args, "") as f:
            self.args, self.bases = f.args
            yield f

    @contextmanager
    def block(self, name: str, linkage: str = "internal") -> Iterator[ir.Function]:
        """Write the function of one item of a step: the ``with`` block emits its body."""
        with self.function(name, BLOCK.args, linkage) as f:
            context = f.args[0]
            self.args = self.e.load(context, typ=PTR)
            self.bases = self.e.load(at(self.e, context, 8), typ=PTR)
            yield f

    def parallel_for(self, block: ir.Function, items: ir.Value, threads: ir.Value) -> None:
        """Call `block` for each item: in the pool if more than one thread may share them, otherwise in a loop."""
        context, b = self.context(self.args), self.b
        with b.if_else(b.icmp_signed(">", threads, ONE)) as (together, alone):
            with together:
                pool = declared(self.module, "mg_parallel", VOID, [PTR, PTR, I64, I64])
                b.call(pool, [block, context, items, threads])
            with alone, self.counting(I64(0), items) as i:
                b.call(block, [context, i, I64(0)])

    def context(self, args: ir.Value) -> ir.Value:
        """Return the context of a block that works on an argument block."""
        context = self.room(PTR, 2)
        self.b.store(args, context)
        self.b.store(self.bases, at(self.b, context, 8))
        return context

    # -- arguments ---------------------------------------------------------------------------------------

    def number(self, i: int) -> ir.Value:
        """Return a number of the argument block."""
        return self.e.load(at(self.e, self.args, 8 * i), typ=I64)

    def base(self, i: ir.Value) -> ir.Value:
        """Return an address of the step's table."""
        return self.e.load(at(self.e, self.bases, self.e.shl(i, I64(3))), typ=PTR)

    def address(self, i: int) -> ir.Value:
        """Return the address that two numbers of the argument block stand for: a base, and an offset in bytes."""
        base = self.base(self.number(i))
        return at(self.e, base, self.number(i + 1))

    def offsets(self, index: ir.Value, axes: ir.Value, first: int, count: int) -> list[ir.Value]:
        """Return variables with the offsets of an element of a stack in `count` arrays.

        The argument block has, from number `first` on, the size of each axis and the strides of the arrays along it.
        """
        b = self.b
        left, offsets = self.variable(index), [self.variable(I64(0)) for _ in range(count)]
        with self.counting(I64(0), axes) as turn:  # the last axis first
            axis = b.add(b.mul(b.sub(b.sub(axes, ONE), turn), I64(1 + count)), I64(first))
            entry = self.element(self.args, axis, 8)
            size, *strides = (b.load(at(b, entry, 8 * i), typ=I64) for i in range(1 + count))
            position = b.urem(self.get(left), size)
            b.store(b.udiv(self.get(left), size), left)
            for offset, stride in zip(offsets, strides, strict=True):
                b.store(b.add(self.get(offset), b.mul(position, stride)), offset)
        return offsets

    def index(self, i: ir.Value, length: ir.Value, flag: ir.Value, reading: str | None = None,
              null: Sequence[ir.Value] = (), mask: ir.Value | None = None) -> ir.Value:
        """Return an index counted from 0; one out of range sets the flag, and is replaced by 0."""
        b = self.b
        i = counted(b, i, length, reading, null)
        bad = wrong = b.icmp_unsigned(">=", i, length)
        if mask is not None:
            wrong = b.and_(bad, mask)
        with b.if_then(any_lane(b, wrong), likely=False):
            b.store(I64(1), flag, align=8)
        return b.select(bad, constant(i.type, 0), i)


def halved(b: ir.IRBuilder, combined: Callable[[ir.Value, ir.Value], ir.Value], x: ir.Value, lanes: int) -> ir.Value:
    """Combine the halves of a vector, then the halves of the result, and so on: the order is that of a tree."""
    while lanes > 2:
        lanes //= 2
        nothing = ir.Constant(x.type, ir.Undefined)
        x = combined(*(b.shuffle_vector(x, nothing, lane_numbers(I32, lanes, k)) for k in (0, lanes)))
    return combined(b.extract_element(x, I32(0)), b.extract_element(x, I32(1)))


def counted(b: ir.IRBuilder, i: ir.Value, length: ir.Value, reading: str | None, null: Sequence[ir.Value] = ()
            ) -> ir.Value:
    """Return an index counted from 0; it is out of range where it is not less than `length`, as an unsigned number."""
    if reading is None:
        return b.select(b.icmp_signed("<", i, constant(i.type, 0)), b.add(i, length), i)
    if not null:
        return i  # a negative one is more than any length
    return ex.formula(b, PLACES[reading].kernel, [i, b.sub(length, constant(i.type, len(null))), *null])

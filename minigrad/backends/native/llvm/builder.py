"""The builder of a module: functions, variables, loops, and vectors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from . import ir
from .values import I1, I8, I32, I64, PTR, VOID, constant, declared, lane_numbers, lanes_of, memory_type, splat, suffix

ONE = I64(1)
STEP = ir.FunctionType(VOID, [PTR, PTR])  # ``void step(i64 *args, ptr *bases)``
BLOCK = ir.FunctionType(VOID, [PTR, I64, I64])  # ``void block(ptr context, i64 item, i64 thread)``


class Builder:
    """Writes the functions of a module, one at a time or one within another.

    Attributes
    ----------
    module : ir.Module
    name : str
        Prefix of the module's internal functions.
    once : bool
        Whether the functions run a few times per program, so that LLVM does not optimize them: that takes most of the
        time of a compilation.
    b, e : ir.IRBuilder
        Builders of the current function: of its body, and of its entry block, which runs once before the body.
    """

    b: ir.IRBuilder
    e: ir.IRBuilder

    def __init__(self, name: str, once: bool = False):
        self.module, self.name, self.once = ir.Module(name), name, once

    @contextmanager
    def function(self, name: str, arguments: Sequence[ir.Type], linkage: str = "internal") -> Iterator[ir.Function]:
        """Write a function without a result: the ``with`` block emits its body."""
        f = ir.Function(self.module, ir.FunctionType(VOID, arguments), name)
        f.linkage = linkage
        if self.once:
            f.attributes.add("noinline")
            f.attributes.add("optnone")
        outer = vars(self).copy()  # the state of the function around this one
        self.e, self.b = ir.IRBuilder(f.append_basic_block("entry")), ir.IRBuilder(f.append_basic_block("body"))
        yield f
        self.b.ret_void()
        self.e.branch(f.blocks[1])
        vars(self).update(outer)

    # -- variables and loops -----------------------------------------------------------------------------

    def variable(self, start: ir.Value) -> ir.Value:
        """Return the address of a variable that begins with `start`."""
        address = self.room(start.type)
        self.b.store(start, address)
        return address

    def room(self, kind: ir.Type, count: int = 1, align: int = 0) -> ir.Value:
        """Return memory for some values, as long as the function runs."""
        return self.e.alloca(kind, I64(count) if count > 1 else None, align)

    def get(self, variable: ir.Value) -> ir.Value:
        return self.b.load(variable, typ=variable.allocated_type)

    @contextmanager
    def repeated(self, condition: Callable[[], ir.Value]) -> Iterator[None]:
        """Write a loop that goes on while a condition holds: the ``with`` block emits its body."""
        b = self.b
        test, body, end = (b.append_basic_block(name) for name in ("test", "loop", "end"))
        b.branch(test)
        b.position_at_end(test)
        b.cbranch(condition(), body, end)
        b.position_at_end(body)
        yield
        b.branch(test)
        b.position_at_end(end)

    def counting(self, start: ir.Value, end: ir.Value, by: ir.Value = ONE) -> AbstractContextManager[ir.Value]:
        """Write a loop over ``range(start, end, by)``: the ``with`` block emits its body."""
        return self._counting(self.variable(start), end, by)

    @contextmanager
    def _counting(self, variable: ir.Value, stop: ir.Value, by: ir.Value) -> Iterator[ir.Value]:
        """Write a loop while a variable is less than `stop`; each turn adds `by` to it."""
        turns: list[ir.Value] = []

        def goes_on() -> ir.Value:
            turns.append(self.get(variable))
            return self.b.icmp_signed("<", turns[0], stop)

        with self.repeated(goes_on):
            yield turns[0]
            self.b.store(self.b.add(turns[0], by), variable)

    def chunks(self, start: ir.Value, end: ir.Value, widths: Sequence[int]) -> Iterator[tuple[ir.Value, int]]:
        """Write loops over a range, one for each width of a vector: yield the position and the width.

        The widths decrease to 1. The code emitted before the next iteration is the body of that loop.
        """
        position = self.variable(start)
        for width in widths:
            last = self.b.sub(end, I64(width - 1))
            with self._counting(position, last, I64(width)) as i:
                yield i, width

    # -- memory ------------------------------------------------------------------------------------------

    def element(self, pointer: ir.Value, i: ir.Value, itemsize: int) -> ir.Value:
        """Return the address of element `i`."""
        return at(self.b, pointer, self.b.mul(i, I64(itemsize)))

    def mask(self, count: ir.Value, i: ir.Value, lanes: int) -> ir.Value | None:
        """Return which of the lanes from `i` on are less than `count`; None where all always are."""
        if lanes == 1 or (isinstance(count, ir.Constant) and count.number % lanes == 0):
            return None
        b = self.b
        left = b.trunc(least(b, b.sub(count, i), I64(lanes)), I32)
        return b.icmp_unsigned("<", lane_numbers(I32, lanes), splat(b, left, lanes))

    def load(self, dtype: np.dtype, pointer: ir.Value, lanes: int = 1, mask: ir.Value | None = None) -> ir.Value:
        """Load neighbouring elements; lanes that are masked off hold 0."""
        t = memory_type(dtype, lanes)
        if mask is None:
            x = self.b.load(pointer, typ=t, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.load.{suffix(t)}.p0", t, [PTR, I32, mask.type, t])
            x = self.b.call(f, [pointer, I32(dtype.itemsize), mask, ir.Constant(t, None)])
        return self._from_memory(x, dtype)

    def gather(self, dtype: np.dtype, pointer: ir.Value, offsets: ir.Value, lanes: int,
               mask: ir.Value | None) -> ir.Value:
        """Load elements at offsets in bytes, one per lane."""
        if lanes == 1:
            return self.load(dtype, at(self.b, pointer, offsets))
        t = memory_type(dtype, lanes)
        pointers = self.b.gep(pointer, [offsets], source_etype=I8)
        mask = mask or ir.Constant(ir.VectorType(I1, lanes), [1] * lanes)
        f = self.intrinsic(f"llvm.masked.gather.{suffix(t)}.v{lanes}p0", t, [pointers.type, I32, mask.type, t])
        return self._from_memory(self.b.call(f, [pointers, I32(dtype.itemsize), mask, ir.Constant(t, None)]), dtype)

    def store(self, x: ir.Value, dtype: np.dtype, pointer: ir.Value, mask: ir.Value | None = None) -> None:
        """Store a value, or the lanes of it that are not masked off."""
        if dtype.kind == "b":
            x = self.b.zext(x, lanes_of(I8, x.type.count) if isinstance(x.type, ir.VectorType) else I8)
        if mask is None:
            self.b.store(x, pointer, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.store.{suffix(x.type)}.p0", VOID, [x.type, PTR, I32, mask.type])
            self.b.call(f, [x, pointer, I32(dtype.itemsize), mask])

    def _from_memory(self, x: ir.Value, dtype: np.dtype) -> ir.Value:
        return self.b.icmp_unsigned("!=", x, constant(x.type, 0)) if dtype.kind == "b" else x

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        return declared(self.module, name, result, arguments)


def at(b: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """Return an address `offset` bytes further."""
    if isinstance(offset, int):
        if not offset:
            return pointer
        offset = I64(offset)
    return b.gep(pointer, [offset], source_etype=I8)


def least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def most(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed(">", x, y), x, y)

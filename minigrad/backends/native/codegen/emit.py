"""Pieces of code that kernels are made of: loops, masks, loads and stores of vectors, what reductions combine by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from ....graph import Node
from ....ops.strict_index import PLACES
from . import expressions as ex

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
VOID, PTR = ir.VoidType(), ir.PointerType()
ONE = I64(1)


class Emitter:
    """Writes a function of a module.

    Attributes
    ----------
    module : ir.Module
    name : str
        What the module's own functions' names begin with.
    lanes : int
        Elements of a vector.
    b, e : ir.IRBuilder
        Where code goes that runs now, and code that runs once, before all else.
    """

    def __init__(self, name: str, lanes: int):
        self.module, self.name, self.lanes = ir.Module(name), name, lanes
        self.b: Any = None
        self.e: Any = None

    @contextmanager
    def counting(self, n: ir.Value, by: ir.Value = ONE) -> Iterator[ir.Value]:
        """Emit a loop: the body is what is emitted inside the ``with`` block."""
        counter = self.e.alloca(I64)
        self.b.store(I64(0), counter)
        with counting(self.b, counter, n, by) as i:
            yield i

    def mask(self, count: ir.Value, i: ir.Value, lanes: int) -> ir.Value | None:
        """Return which of the lanes from `i` on are less than `count`; None where all always are."""
        if lanes == 1 or (isinstance(count, ir.Constant) and count.constant % lanes == 0):
            return None
        b = self.b
        left = b.trunc(least(b, b.sub(count, i), I64(lanes)), I32)
        iota = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return b.icmp_unsigned("<", iota, ex.splat(b, left, lanes))

    def load(self, dtype: np.dtype, pointer: ir.Value, lanes: int, mask: ir.Value | None) -> ir.Value:
        """Load neighbouring elements; lanes that are masked off hold 0."""
        t = memory_type(dtype, lanes)
        if mask is None:
            x = self.b.load(pointer, typ=t, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.load.{ex.suffix(t)}.p0", t, [PTR, I32, mask.type, t])
            x = self.b.call(f, [pointer, I32(dtype.itemsize), mask, ir.Constant(t, None)])
        return self.from_memory(x, dtype)

    def gather(self, dtype: np.dtype, pointer: ir.Value, offsets: ir.Value, lanes: int,
               mask: ir.Value | None) -> ir.Value:
        """Load elements at offsets in bytes, one per lane."""
        if lanes == 1:
            return self.load(dtype, at(self.b, pointer, offsets), 1, None)
        t = memory_type(dtype, lanes)
        pointers = self.b.gep(pointer, [offsets], source_etype=I8)
        pointers.type = ir.VectorType(PTR, lanes)
        mask = mask or ir.Constant(ir.VectorType(I1, lanes), [1] * lanes)
        f = self.intrinsic(f"llvm.masked.gather.{ex.suffix(t)}.v{lanes}p0", t, [pointers.type, I32, mask.type, t])
        return self.from_memory(self.b.call(f, [pointers, I32(dtype.itemsize), mask, ir.Constant(t, None)]), dtype)

    def store(self, x: ir.Value, dtype: np.dtype, pointer: ir.Value, lanes: int, mask: ir.Value | None) -> None:
        t = memory_type(dtype, lanes)
        x = self.b.zext(x, t) if dtype.kind == "b" else x
        if mask is None:
            self.b.store(x, pointer, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.store.{ex.suffix(t)}.p0", VOID, [t, PTR, I32, mask.type])
            self.b.call(f, [x, pointer, I32(dtype.itemsize), mask])

    def from_memory(self, x: ir.Value, dtype: np.dtype) -> ir.Value:
        return self.b.icmp_unsigned("!=", x, ex.constant(x.type, 0)) if dtype.kind == "b" else x

    @contextmanager
    def function(self, name: str, arguments: Sequence[ir.Type]) -> Iterator[ir.Function]:
        """Emit an internal function without a result: the body is what is emitted inside the ``with`` block."""
        f = ir.Function(self.module, ir.FunctionType(VOID, arguments), name)
        f.linkage = "internal"
        outer = self.b, self.e
        self.e, self.b = ir.IRBuilder(f.append_basic_block("entry")), ir.IRBuilder(f.append_basic_block("body"))
        yield f
        self.b.ret_void()
        self.e.branch(f.basic_blocks[1])
        self.b, self.e = outer

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def combined(self, n: Node, x: ir.Value, y: ir.Value) -> ir.Value:
        """Return what a reduction makes of two values."""
        return ex.combined(self.b, n.prim.combiner, x, y, n.dtype.kind == "u")

    def identity(self, n: Node, lanes: int) -> ir.Constant:
        return ex.identity(n.prim.combiner, n.dtype, lanes)

    def combine(self, n: Node, left: ir.Value, right: ir.Value, to: ir.Value, count: ir.Value,
                begins: ir.Value | None = None) -> None:
        """Write what a reduction makes of each two of `count` elements; where it `begins`, the right ones alone."""
        b = self.b
        with self.counting(count, I64(self.lanes)) as i:
            mask, where = self.mask(count, i, self.lanes), b.mul(i, I64(n.dtype.itemsize))
            x, y = (self.load(n.dtype, at(b, p, where), self.lanes, mask) for p in (left, right))
            if begins is not None:
                x = b.select(begins, self.identity(n, self.lanes), x)
            self.store(self.combined(n, x, y), n.dtype, at(b, to, where), self.lanes, mask)

    def begin(self, n: Node, to: ir.Value, count: ir.Value) -> None:
        """Write what a reduction begins with into `count` elements."""
        b = self.b
        with self.counting(count, I64(self.lanes)) as i:
            self.store(self.identity(n, self.lanes), n.dtype, at(b, to, b.mul(i, I64(n.dtype.itemsize))), self.lanes,
                       self.mask(count, i, self.lanes))

    def across(self, n: Node, x: ir.Value, lanes: int) -> ir.Value:
        """Return what a reduction makes of all lanes."""
        if lanes == 1:
            return x
        name = f"{self.name}.across.{n.prim.name}.{ex.suffix(x.type)}{n.dtype.kind}"
        f = self.module.globals.get(name)
        if f is None:
            f = ir.Function(self.module, ir.FunctionType(ex.element(x.type), [x.type]), name)
            f.linkage = "internal"
            outer, self.b = self.b, ir.IRBuilder(f.append_basic_block("entry"))
            self.b.ret(halved(self.b, partial(self.combined, n), f.args[0], lanes))
            self.b = outer
        return self.b.call(f, [x])


def at(b: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """Return an address `offset` bytes further."""
    if isinstance(offset, int):
        if not offset:
            return pointer
        offset = I64(offset)
    return b.gep(pointer, [offset], source_etype=I8)


def halved(b: ir.IRBuilder, combined: Callable[[ir.Value, ir.Value], ir.Value], x: ir.Value, lanes: int) -> ir.Value:
    """Combine the halves of a vector, and the halves of those: the order is that of a tree."""
    while lanes > 1:
        lanes //= 2
        nothing = ir.Constant(x.type, ir.Undefined)
        x = combined(*(b.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(I32, lanes), list(range(k, k + lanes))))
                       for k in (0, lanes)))
    return b.extract_element(x, I32(0))


def least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def most(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed(">", x, y), x, y)


@contextmanager
def repeated(b: ir.IRBuilder, condition: Callable[[], ir.Value]) -> Iterator[None]:
    """Emit a loop with a condition; the ``with`` block emits its body."""
    test, body, end = (b.append_basic_block(name) for name in ("test", "loop", "end"))
    b.branch(test)
    b.position_at_end(test)
    b.cbranch(condition(), body, end)
    b.position_at_end(body)
    yield
    b.branch(test)
    b.position_at_end(end)


@contextmanager
def counting(b: ir.IRBuilder, place: ir.Value, stop: ir.Value, by: ir.Value = ONE) -> Iterator[ir.Value]:
    """Emit a loop while the number at `place` is less than `stop`; each turn adds `by` to it."""
    i: Any = None

    def goes_on() -> ir.Value:
        nonlocal i
        i = b.load(place, typ=I64)
        return b.icmp_signed("<", i, stop)

    with repeated(b, goes_on):
        yield i
        b.store(b.add(i, by), place)


def memory_type(dtype: np.dtype, lanes: int) -> ir.Type:
    """Return the type of neighbouring elements in memory."""
    scalar = I8 if dtype.kind == "b" else ex.scalar_type(dtype)
    return ir.VectorType(scalar, lanes) if lanes > 1 else scalar


def counted(b: ir.IRBuilder, i: ir.Value, length: ir.Value, read: str | None, null: Sequence[ir.Value] = ()
            ) -> ir.Value:
    """Return an index counted from 0; it is out of range where it is not less than `length`, as an unsigned number."""
    if read is None:
        return b.select(b.icmp_signed("<", i, ex.constant(i.type, 0)), b.add(i, length), i)
    if not null:
        return i  # a negative one is more than any length
    return ex.formula(b, PLACES[read].kernel, [i, b.sub(length, ex.constant(i.type, len(null))), *null])

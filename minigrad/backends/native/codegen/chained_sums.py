"""Sums of floats in chains: `RUN` terms are a chain, whose sum is a term of the next level (`ops.accumulators`).

The loop of a sum has one accumulator, the open chain. A sum in registers keeps it there, and the sum of up to `RUN`
chains; other accumulators, and the sums that wait for others of their level, lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....graph import Node
from ....ops.accumulators import RUN
from ..llvm import ir
from ..llvm.builder import at, least
from ..llvm.values import I1, I64, PTR, vector_type
from .kernel_emitter import KernelEmitter

_WAITING = 8  # levels of chains, that is `RUN` to that power of vectors: more than any loop has


class InRegisters:
    """The accumulators of a sum of vectors in one loop.

    Parameters
    ----------
    k : KernelEmitter
    n : Node
        The sum.
    lanes : int
        Elements of a vector.
    total : ir.Value
        The address of the vector that the loop adds to.
    limit : int
        Sums that `total` takes: `RUN` where it begins with nothing, else one.
    turns : int or None
        Turns of the loop, where they are known.

    Attributes
    ----------
    open : ir.Value
        The address of the open chain.
    deep : bool
        Whether there may be more chains than `total` takes.
    """

    def __init__(self, k: KernelEmitter, n: Node, lanes: int, total: ir.Value, limit: int, turns: int | None):
        self._k, self._node, self._lanes, self._total, self._limit = k, n, lanes, total, limit
        self._type = vector_type(n.dtype, lanes)
        self.deep = turns is None or turns > RUN * limit
        self.open = k.e.alloca(self._type)
        self._second = k.e.alloca(self._type) if self.deep else total
        self._levels = k.e.alloca(self._type, size=I64(_WAITING)) if self.deep else self._second

    def begin(self) -> None:
        """Begin a chain."""
        self._k.b.store(self._k.identity(self._node, self._lanes), self.open)

    def end(self, turn: ir.Value, turns: ir.Value) -> None:
        """End a chain, the `turn`-th of `turns`."""
        b = self._k.b
        old, x = (b.load(p, typ=self._type) for p in (self._second, self.open))
        b.store(self._k.combined(self._node, old, x), self._second)

    def begin_many(self) -> None:
        """Begin `RUN` chains."""
        self._k.b.store(self._k.identity(self._node, self._lanes), self._second)

    def end_many(self, turn: ir.Value, turns: ir.Value) -> None:
        """End `RUN` chains, the `turn`-th of `turns` times."""
        b, count = self._k.b, I64(self._lanes)
        b.store(b.load(self._second, typ=self._type), self._levels)
        b.call(_carry(self._k, self._node, count), [self._levels, self._total, count, turn, turns, I64(self._limit)])


class InMemory:
    """The accumulators of a sum in one loop around others that run along its result.

    Parameters
    ----------
    k, n, total, limit
        As for `InRegisters`.
    count : ir.Value
        Elements that lie inside the loop.
    levels : ir.Value
        The address of `ops.accumulators.waiting` accumulators.
    turns : ir.Value
        Turns of the loop: up to the limit, the total itself is the open chain.
    """

    def __init__(self, k: KernelEmitter, n: Node, count: ir.Value, levels: ir.Value, total: ir.Value, limit: int,
                 turns: ir.Value):
        self._k, self._node, self._count, self._levels, self._total, self._limit = k, n, count, levels, total, limit
        self._many = k.b.icmp_signed(">", turns, I64(limit))
        self.open = k.b.select(self._many, levels, total)

    def begin(self) -> None:
        with self._k.b.if_then(self._many):
            self._k.begin(self._node, self.open, self._count)

    def end(self, turn: ir.Value, turns: ir.Value) -> None:
        b = self._k.b
        with b.if_then(self._many):
            b.call(_carry(self._k, self._node, self._count),
                   [self._levels, self._total, self._count, turn, turns, I64(self._limit)])


def in_chains(k: KernelEmitter, count: ir.Value, by: int, sums: Sequence[InRegisters | InMemory],
              body: Callable[[ir.Value], None]) -> None:
    """Write a loop that adds to the open chains of `sums`: ``body`` emits the elements ``i`` to ``i + by``."""
    b, span = k.b, RUN * by
    deep = [c for c in sums if isinstance(c, InRegisters) and c.deep]

    def number(n: ir.Value, each: int) -> ir.Value:
        return b.sdiv(b.add(n, I64(each - 1)), I64(each))

    def chains(low: ir.Value, high: ir.Value) -> None:
        with k.counting(I64(0), b.sub(high, low), I64(span)) as j:
            start = b.add(low, j)
            for c in sums:
                c.begin()
            with k.counting(I64(0), least(b, b.sub(high, start), I64(span)), I64(by)) as i:
                body(b.add(i, start))
            for c in sums:
                c.end(b.add(number(start, span), I64(1)), number(count, span))

    if not deep:
        chains(I64(0), count)
        return
    with k.counting(I64(0), count, I64(RUN * span)) as low:
        for c in deep:
            c.begin_many()
        chains(low, least(b, b.add(low, I64(RUN * span)), count))
        for c in deep:
            c.end_many(b.add(number(low, RUN * span), I64(1)), number(count, RUN * span))


def _carry(k: KernelEmitter, n: Node, count: ir.Value) -> ir.Function:
    """Return a function that adds a sum to the next level, and on to further levels where that is full, or the last.

    Its arguments are the first level's address, the total's, the elements of each, the number of the sum from 1, the
    number of sums, and how many the total takes.
    """
    known = count if isinstance(count, ir.Constant) else None
    name = f"{k.name}.carry.{n.dtype.name}.{known.number if known else ''}"
    if name in k.module.functions:
        return k.module.functions[name]
    with k.function(name, [PTR, PTR, I64, I64, I64, I64]) as f:
        b, (first, total, number, *_, limit) = k.b, f.args
        count = known or number
        nbytes = b.mul(count, I64(n.dtype.itemsize))
        level, turn, turns, goes_on = map(k.variable, (first, *f.args[3:5], I1(1)))
        with k.repeated(lambda: k.get(goes_on)):
            row, i, n_sums = map(k.get, (level, turn, turns))
            last = b.icmp_signed("<=", n_sums, limit)
            to = b.select(last, total, at(b, row, nbytes))
            begins = b.and_(b.not_(last), b.icmp_signed("==", b.srem(i, I64(RUN)), I64(1)))
            k.combine(n, to, row, to, count, begins)
            b.store(at(b, row, nbytes), level)
            for place, x in ((turn, i), (turns, n_sums)):
                b.store(b.sdiv(b.add(x, I64(RUN - 1)), I64(RUN)), place)
            full = b.or_(b.icmp_signed("==", b.srem(i, I64(RUN)), I64(0)), b.icmp_signed("==", i, n_sums))
            b.store(b.and_(full, b.not_(last)), goes_on)
    return f

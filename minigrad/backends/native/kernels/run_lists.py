"""Lists of the runs of a scatter: for each piece of the result, the runs that belong to it, in order.

A run is a stretch of neighbouring indices of one position. Blocks of indices count their runs by list; a running total
over lists and blocks gives each block its places, and the blocks write the first index of each run there. So a piece
reads its own runs alone, however many pieces there are, and its rows stay in the cache. Sorted indices need no lists:
a piece finds its own by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....symbolic import Dim
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Place, Step, step, step_code
from ..llvm import ir
from ..llvm.builder import ONE
from ..llvm.values import I1, I64

LISTS = 64  # at most
_BLOCKS = 64  # at most
_BLOCK = 1 << 12  # indices of a block, at least
_INT = np.dtype(np.int64)


def shift_of(rows: int, lists: int) -> int:
    """Return the logarithm of the rows of a list: a power of 2, for at most some number of lists."""
    return max(-(-rows // min(lists, LISTS)) - 1, 0).bit_length()


def blocks_of(count: int) -> int:
    """Return the blocks that some number of indices have."""
    return -(-count // max(_BLOCK, -(-count // _BLOCKS)))


def table_bytes(count: int) -> int:
    """Return the bytes of the table for some number of indices."""
    return 8 * (2 + (1 + LISTS) * blocks_of(count))


def most_table_bytes(count: int | Dim) -> int | Dim:
    """Return a bound of `table_bytes`, linear in the number of indices: it has a block for each `_BLOCK` of them."""
    return table_bytes(1) + count * -(-8 * (1 + LISTS) // _BLOCK)


def run_lists(positions: Place, count: int, rows: int, shift: int, table: Place, runs: Place, team: int) -> list[Step]:
    """Return the steps that write the lists of positions.

    Parameters
    ----------
    positions : Place
        Of `count` positions, each less than `rows`.
    shift : int
        The logarithm of the rows of a list.
    table : Place
        `table_bytes`: 1 if positions fall, anywhere and in each block; then where each block's part of each list
        begins, list by list, and where the last one ends.
    runs : Place
        The lists, one behind the other: a number for each index.
    team : int
    """
    blocks, lists = blocks_of(count), -(-rows // (1 << shift))
    own, share = (positions, table, runs, shift, blocks, lists), -(-count // blocks)
    return [*step(step_code(_tally), team, count, (count, 1), (share, 1), *own),
            *step(step_code(_running_total), 1, 1, (1, 1), (1, 1), *own),
            *step(step_code(_fill), team, count, (count, 1), (share, 1), *own)]


def in_order(code: Emitter, table: ir.Value) -> ir.Value:
    """Return whether no position is less than the one before it."""
    return code.b.icmp_signed("==", code.load(_INT, table), I64(0))


def place(code: Emitter, table: ir.Value, blocks: ir.Value, lists: ir.Value, block: ir.Value) -> ir.Value:
    """Return the address of where a block's part of a list begins."""
    b = code.b
    return code.element(table, b.add(b.add(b.mul(lists, blocks), block), b.add(blocks, ONE)), 8)


class _Step:
    """The numbers of a step that writes lists."""

    def __init__(self, code: Emitter):
        self.code = code
        self.positions, self.table, self.runs = (code.address(HEAD + k) for k in (0, 2, 4))
        self.shift, self.blocks, self.lists = (code.number(HEAD + k) for k in (6, 7, 8))

    def get(self, address: ir.Value) -> ir.Value:
        return self.code.load(_INT, address)

    def put(self, x: ir.Value, address: ir.Value) -> None:
        self.code.store(x, _INT, address)

    def place(self, k: ir.Value, block: ir.Value) -> ir.Value:
        return place(self.code, self.table, self.blocks, k, block)

    def falls(self, block: ir.Value) -> ir.Value:
        """Return the address of the number that is 1 if a block's positions fall."""
        return self.code.element(self.table, self.code.b.add(block, ONE), 8)

    def block(self, low: ir.Value) -> ir.Value:
        """Return the number of the block that begins with an index."""
        return self.code.b.udiv(low, self.code.number(3))

    def each_run(self, ranges: Sequence[ir.Value], visit: Callable[[ir.Value, ir.Value, ir.Value], None]) -> None:
        """Write ``visit(first index, position, position before)`` for the runs that begin in a range."""
        code, b, (low, high, *_) = self.code, self.code.b, ranges
        last = code.variable(I64(-1))
        with b.if_then(b.icmp_signed(">", low, I64(0))):
            b.store(self.get(code.element(self.positions, b.sub(low, ONE), 8)), last)
        with code.counting(low, high) as i:
            now, before = self.get(code.element(self.positions, i, 8)), code.get(last)
            with b.if_then(b.icmp_signed("!=", now, before)):
                visit(i, now, before)
            b.store(now, last)


def _tally(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Count the runs of a block by list."""
    b, own = code.b, _Step(code)
    block, counts, falls = own.block(ranges[0]), code.room(I64, LISTS), code.variable(I1(0))
    with code.counting(I64(0), own.lists) as k:
        own.put(I64(0), code.element(counts, k, 8))

    def visit(i: ir.Value, now: ir.Value, before: ir.Value) -> None:
        b.store(b.or_(code.get(falls), b.icmp_signed("<", now, before)), falls)
        count = code.element(counts, b.lshr(now, own.shift), 8)
        own.put(b.add(own.get(count), ONE), count)

    own.each_run(ranges, visit)
    own.put(b.zext(code.get(falls), I64), own.falls(block))
    with code.counting(I64(0), own.lists) as k:
        own.put(own.get(code.element(counts, k, 8)), own.place(k, block))


def _running_total(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Turn counts into places, and tell whether any block's positions fall."""
    b, own = code.b, _Step(code)
    total, falls = code.variable(I64(0)), code.variable(I64(0))
    with code.counting(I64(0), b.mul(own.lists, own.blocks)) as k:
        address = own.place(I64(0), k)
        before = code.get(total)
        b.store(b.add(before, own.get(address)), total)
        own.put(before, address)
    own.put(code.get(total), own.place(own.lists, I64(0)))
    with code.counting(I64(0), own.blocks) as k:
        b.store(b.or_(code.get(falls), own.get(own.falls(k))), falls)
    own.put(code.get(falls), own.table)


def _fill(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Write the runs of a block to the lists, unless the positions are sorted."""
    b, own = code.b, _Step(code)
    block, places = own.block(ranges[0]), code.room(I64, LISTS)

    def visit(i: ir.Value, now: ir.Value, before: ir.Value) -> None:
        address = code.element(places, b.lshr(now, own.shift), 8)
        k = own.get(address)
        own.put(i, code.element(own.runs, k, 8))
        own.put(b.add(k, ONE), address)

    with b.if_then(b.not_(in_order(code, own.table))):
        with code.counting(I64(0), own.lists) as k:
            own.put(own.get(own.place(k, block)), code.element(places, k, 8))
        own.each_run(ranges, visit)

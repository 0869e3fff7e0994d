"""Gathers and scatters by index arrays.

Indices become positions first, one integer for each: a step per index array adds its contribution, and sets the flag
for an index out of range. A scatter then reads the rows in order, and neighbouring rows of one position as one run,
whose sum stays in registers. Each piece of parallel work owns some of the result's rows and columns and takes the rows
that go there, in order: so each element is the same chain of additions for any number of threads. If indices are
sorted, as those of graphs in a batch, the rows of a piece are contiguous, and the scatter is a segment sum.

Sums of floats follow `ops.accumulators`: a long run is added up in chains; single elements are collected in float64;
and where positions get many rows on average, sums are float64 in memory, too, and another step rounds them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from llvmlite import ir

from ....combiners import ADD, combiner_of
from ....graph import Node
from ....ops.accumulators import RUN, crowded, scattered
from ....ops.strict_index import Reading
from ....primitive import Combiner
from ....symbolic import Dim, size_of
from ..codegen import expressions as ex
from ..codegen import step_codegen
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code, widths
from ..codegen.strides import View
from ..llvm.builder import at, least
from ..llvm.values import I1, I32, I64, PTR, VOID, any_lane, constant, splat
from .copies import copy

POSITION = 8  # bytes
_PIECE = 1 << 14  # indices of one piece of parallel work
_COLUMNS = 1024  # bytes of a row that are worth a piece of their own
_NARROW = 128  # bytes of a row below which adding it takes no longer than skipping it
_PIECES = 8  # pieces of rows at most, as each reads all indices
_LINE, _LINES = 64, 16  # bytes of a cache line; lines of a row that are prefetched
_LANES = 8


def positions(r: Request, sizes: Sequence[int], strides: Sequence[int]) -> list[Step]:
    """Return the steps that write the position of each tuple of indices into the request's room, as int64.

    The flag becomes 1 if an index is out of range; the position is then that of index 0. `sizes` and `strides` are
    those of the indexed axes.
    """
    count, first = math.prod(r.xs[1].shape), True
    readings: Iterable[Reading] = r.node.params.get("read") or itertools.repeat(None)
    steps = []
    for x, node, reading, size, stride in zip(r.xs[1:], r.node.inputs[1:], readings, sizes, strides, strict=False):
        name, null = (reading[0], [n for n in reading[1:] if isinstance(n, int)]) if reading else (None, [])
        code = step_code(_position, node.dtype, name, bool(null))
        steps += step(code, r.team, count, (count, 1), (_PIECE, 1), x, size, stride, r.room, r.flag, first, *null)
        first = False
    return steps


def _position(dtype: np.dtype, read: str | None, has_null: bool, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, wide = code.b, np.dtype(np.int64)
    source, to, flag = (code.address(HEAD + k) for k in (0, 4, 6))
    size, stride, first = (code.number(HEAD + k) for k in (2, 3, 8))
    null = [code.number(HEAD + 9)] if has_null else []
    first = code.e.icmp_signed("!=", first, I64(0))
    for k, width in code.chunks(ranges[0], ranges[1], (_LANES, 1)):
        i = ex.cast(b, code.load(dtype, code.element(source, k, dtype.itemsize), width), dtype, wide)
        i = code.index(i, splat(b, size, width), flag, read, [splat(b, n, width) for n in null])
        address = code.element(to, k, POSITION)
        old = b.select(first, constant(i.type, 0), code.load(wide, address, width))
        code.store(b.add(old, b.mul(i, splat(b, stride, width))), wide, address)


def take(r: Request) -> list[Step]:
    """Return the steps that copy the element or row at single indices."""
    source, n = r.xs[0], len(r.xs) - 1
    row = View(source.base, source.offset, source.shape[n:], source.strides[n:])
    return [*positions(r, source.shape[:n], source.strides[:n]), *(
        copy(r.to, row, r.node.dtype.itemsize, r.team, r.room) if math.prod(source.shape[:n]) else ())]


# -- scatter ---------------------------------------------------------------------------------------------------


def scatter(r: Request) -> list[Step]:
    """Return the steps that combine the rows sent to each position."""
    by, dtype, to, team = combiner_of(r.node), r.node.dtype, r.to, r.team
    n, count = len(r.xs) - 1, math.prod(r.xs[1].shape)
    rows, columns = math.prod(to.shape[:n]), math.prod(to.shape[n:])
    steps = positions(r, to.shape[:n], [math.prod(to.shape[k + 1:n]) for k in range(n)])
    across = min(max(columns * dtype.itemsize // _COLUMNS, 1), team)
    down, narrow = min(-(-team // across), _PIECES), columns * dtype.itemsize < _NARROW
    if narrow and count * columns < step_codegen.SERIAL:
        down = 1
    memory, sums = dtype, to[:2]
    if by is ADD and scattered(dtype) != dtype and crowded(count, rows):
        memory, sums = scattered(dtype), (r.room[0], r.room[1] + count * POSITION)
    code = step_code(_scatter_single if columns == 1 else _scatter_rows, by, dtype, memory)
    lines = 0 if narrow or down == 1 else min(-(-columns * dtype.itemsize // _LINE), _LINES)
    steps += step(code, team, count * columns, (rows, columns), (-(-rows // down), -(-columns // across)),
                  r.room, r.xs[0], sums, count, lines, narrow and down > 1)
    if memory != dtype:
        steps += step(step_code(_rounding, dtype), team, rows * columns, (rows * columns, 1), (_PIECE, 1), sums, to)
    return steps


def room(updates: Node, index: Node) -> int | Dim:
    """Return the bytes that `scatter` needs beside operands and result.

    They hold positions, and sums in float64: where `crowded` asks for these, they are so few that they take less than a
    byte per update.
    """
    sums = size_of(updates.shape) if scattered(updates.dtype) != updates.dtype else 0
    return size_of(index.shape) * POSITION + sums


def _rounding(dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    wide = scattered(dtype)
    source, to = (code.address(HEAD + k) for k in (0, 2))
    for k, width in code.chunks(ranges[0], ranges[1], widths(wide)):
        x = code.load(wide, code.element(source, k, wide.itemsize), width)
        code.store(ex.cast(code.b, x, wide, dtype), dtype, code.element(to, k, dtype.itemsize))


def _scatter_rows(by: Combiner, dtype: np.dtype, memory: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item, wide = code.b, dtype.itemsize, np.dtype(np.int64)
    _, _, left, right = ranges
    targets, updates, to = (code.address(HEAD + k) for k in (0, 2, 4))
    count, nbytes = code.number(HEAD + 6), code.e.mul(code.number(4), I64(item))
    ordered = _is_sorted(code, targets, count)
    low, high, first, stop = _own(code, targets, count, ranges, ordered)
    row_of = code.e.mul(code.number(4), I64(memory.itemsize))
    with code.counting(low, high) as row:
        start = at(b, to, b.mul(row, row_of))
        for column, width in code.chunks(left, right, _row_widths(dtype)):
            code.store(ex.identity(by, memory, width), memory, code.element(start, column, memory.itemsize))
    lines = b.select(ordered, I64(0), code.number(HEAD + 7))
    with code.repeated(lambda: b.icmp_signed("<", code.get(first), code.get(stop))):
        begin = code.get(first)
        source = at(b, updates, b.mul(begin, nbytes))
        _fetch(code, source, lines)
        row = code.load(wide, code.element(targets, begin, POSITION))
        end = _run_end(code, targets, begin, count, row)
        b.store(end, first)
        with b.if_then(b.and_(b.icmp_signed(">=", row, low), b.icmp_signed("<", row, high))):
            target, length = at(b, to, b.mul(row, row_of)), b.sub(end, begin)
            for column, width in code.chunks(left, right, _row_widths(dtype)):
                address = code.element(target, column, memory.itemsize)
                first_row = code.element(source, column, item)

                def load(k: ir.Value, width: int = width, row: ir.Value = first_row) -> ir.Value:
                    return code.load(dtype, at(b, row, b.mul(k, nbytes)), width)

                _collect(by, dtype, memory, code, address, width, length, load)


def _collect(by: Combiner, dtype: np.dtype, memory: np.dtype, code: Emitter, address: ir.Value, width: int,
             length: ir.Value, load: Callable[[ir.Value], ir.Value]) -> None:
    """Combine ``load(0)``, ..., ``load(length - 1)`` with the result at an address."""
    b, nothing = code.b, ex.identity(by, dtype, width)

    def chain(start: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        total = code.variable(start)
        with code.counting(low, high) as k:
            b.store(ex.combined(b, by, code.get(total), load(k), dtype.kind == "u"), total)
        return code.get(total)

    def end(low: ir.Value, count: int, high: ir.Value) -> ir.Value:
        return least(b, b.add(low, I64(count)), high)

    def add(x: ir.Value) -> None:
        code.store(b.fadd(code.load(memory, address, width), ex.cast(b, x, dtype, memory)), memory, address)

    if by is not ADD or dtype.kind != "f":
        code.store(chain(code.load(memory, address, width), I64(0), length), memory, address)
        return
    with b.if_else(b.icmp_signed("<=", length, I64(RUN)), likely=True) as (short, long):
        with short:
            if memory == dtype:
                code.store(chain(code.load(memory, address, width), I64(0), length), memory, address)
            else:
                add(chain(nothing, I64(0), length))
        with long, code.counting(I64(0), length, I64(RUN * RUN)) as low:
            high, total = end(low, RUN * RUN, length), code.variable(nothing)
            with code.counting(low, high, I64(RUN)) as k:
                b.store(b.fadd(code.get(total), chain(nothing, k, end(k, RUN, high))), total)
            add(code.get(total))


def _row_widths(dtype: np.dtype) -> tuple[int, ...]:
    """Return the vectors of a row: 16 bytes are among them, as many rows are no wider."""
    return tuple(sorted({*widths(dtype), max(16 // dtype.itemsize, 1)}, reverse=True))


def _own(code: Emitter, targets: ir.Value, count: ir.Value, ranges: Sequence[ir.Value], ordered: ir.Value) -> tuple[
        ir.Value, ir.Value, ir.Value, ir.Value]:
    """Return the range of rows that a piece owns, and the range of indices that may name them.

    The first piece owns all narrow rows in no order: assigning them to pieces would take as long as adding them.
    """
    b, (low, high, *_) = code.b, ranges
    first, stop = (code.variable(x) for x in (I64(0), count))
    with b.if_then(ordered):
        b.store(_bound(code, targets, count, low), first)
        b.store(_bound(code, targets, count, high), stop)
    alone = b.and_(b.not_(ordered), b.icmp_signed("!=", code.number(HEAD + 8), I64(0)))
    idle = b.and_(alone, b.icmp_signed("!=", low, I64(0)))
    with b.if_then(idle):
        b.store(I64(0), stop)
    whole = b.select(idle, I64(0), code.number(2))
    return b.select(alone, I64(0), low), b.select(alone, whole, high), first, stop


def _is_sorted(code: Emitter, targets: ir.Value, count: ir.Value) -> ir.Value:
    """Return whether no position is less than the one before it; the test ends at the first that is."""
    b, wide = code.b, np.dtype(np.int64)
    position, rising = code.variable(I64(1)), code.variable(I1(1))

    def goes_on(last: ir.Value) -> ir.Value:
        return b.and_(code.get(rising), b.icmp_signed("<", code.get(position), last))

    for width in (_LANES, 1):
        with code.repeated(functools.partial(goes_on, b.sub(count, I64(width - 1)))):
            i = code.get(position)
            before, value = (code.load(wide, code.element(targets, k, POSITION), width) for k in (b.sub(i, I64(1)), i))
            b.store(b.not_(any_lane(b, b.icmp_signed(">", before, value))), rising)
            b.store(b.add(i, I64(width)), position)
    return code.get(rising)


def _bound(code: Emitter, targets: ir.Value, count: ir.Value, row: ir.Value) -> ir.Value:
    """Return the first of sorted positions that is not less than `row`, by halving."""
    b = code.b
    low, high = code.variable(I64(0)), code.variable(count)
    with code.repeated(lambda: b.icmp_signed("<", code.get(low), code.get(high))):
        middle = b.lshr(b.add(code.get(low), code.get(high)), I64(1))
        less = b.icmp_signed("<", code.load(np.dtype(np.int64), code.element(targets, middle, POSITION)), row)
        b.store(b.select(less, b.add(middle, I64(1)), code.get(low)), low)
        b.store(b.select(less, code.get(high), middle), high)
    return code.get(low)


def _fetch(code: Emitter, row: ir.Value, lines: ir.Value) -> None:
    """Prefetch a row, even if this piece skips it: memory is fast in order.

    Measured: to prefetch only the rows of this piece, now or some rows ahead, takes three times as long.
    """
    prefetch = code.intrinsic("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    with code.counting(I64(0), lines) as line:
        code.b.call(prefetch, [at(code.b, row, code.b.mul(line, I64(_LINE))), I32(0), I32(3), I32(1)])


def _run_end(code: Emitter, targets: ir.Value, begin: ir.Value, count: ir.Value, row: ir.Value) -> ir.Value:
    """Return the end of the run of indices that name `row`."""
    b = code.b
    end, same = code.variable(b.add(begin, I64(1))), code.variable(I1(1))
    with code.repeated(lambda: b.and_(code.get(same), b.icmp_signed("<", code.get(end), count))):
        i = code.get(end)
        equal = b.icmp_signed("==", code.load(np.dtype(np.int64), code.element(targets, i, POSITION)), row)
        b.store(equal, same)
        b.store(b.add(i, b.zext(equal, I64)), end)
    return code.get(end)


def _scatter_single(by: Combiner, dtype: np.dtype, memory: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Emit the scatter of rows of one element: the last position's total waits until another position comes."""
    b, item, wide = code.b, memory.itemsize, np.dtype(np.int64)
    register = scattered(dtype) if by is ADD else dtype
    targets, updates, to = (code.address(HEAD + k) for k in (0, 2, 4))
    count, ordered = code.number(HEAD + 6), code.variable(I1(0))
    with b.if_then(b.icmp_signed("!=", code.number(HEAD + 8), I64(0))):  # else there is one piece
        b.store(_is_sorted(code, targets, count), ordered)
    low, high, first, stop = _own(code, targets, count, ranges, code.get(ordered))
    for row, width in code.chunks(low, high, widths(memory)):
        code.store(ex.identity(by, memory, width), memory, code.element(to, row, item))
    last, total = code.variable(at(b, to, b.mul(low, I64(item)))), code.variable(ex.identity(by, register, 1))
    with b.if_then(b.icmp_signed("<", code.get(first), code.get(stop))):
        with code.counting(code.get(first), code.get(stop)) as i:
            address = code.element(to, code.load(wide, code.element(targets, i, POSITION)), item)
            with b.if_then(b.icmp_unsigned("!=", address, code.get(last))):
                code.store(ex.cast(b, code.get(total), register, memory), memory, code.get(last))
                b.store(address, last)
                b.store(ex.cast(b, code.load(memory, address), memory, register), total)
            x = ex.cast(b, code.load(dtype, code.element(updates, i, dtype.itemsize)), dtype, register)
            b.store(ex.combined(b, by, code.get(total), x, register.kind == "u"), total)
        code.store(ex.cast(b, code.get(total), register, memory), memory, code.get(last))

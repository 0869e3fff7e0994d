"""Gathers and scatters by index arrays.

Indices become positions first, one integer for each: a step per index array adds its contribution, and sets the flag
for an index out of range. A scatter then reads the rows in order, and neighbouring rows of one position as one run,
whose sum stays in registers. Each piece of parallel work owns some of the result's rows and columns and takes the rows
that go there, in order: so each element is the same chain of additions for any number of threads. `run_lists` names
the runs of each piece. If indices are sorted, as segment ids are, the rows of a piece are contiguous, and the scatter
is a segment sum.

Sums of floats follow `ops.accumulators`: a long run is added up in chains; single elements are collected in float64;
and where positions get many rows on average, sums are float64 in memory, too, and another step rounds them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ....combiners import ADD, combiner_of
from ....graph import Node
from ....ops.accumulators import RUN, crowded, scattered
from ....ops.index import gather_sum
from ....ops.strict_index import Reading
from ....ops.weighted_sum import weighted_sum
from ....primitive import Combiner
from ....symbolic import Dim, size_of
from ..codegen import expressions as ex
from ..codegen import step_codegen
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Place, Request, Step, step, step_code, widths
from ..codegen.strides import View
from ..llvm import ir
from ..llvm.builder import ONE, at, least
from ..llvm.values import I1, I32, I64, PTR, VOID, any_lane, constant, splat
from .copies import copy
from .run_lists import blocks_of, in_order, most_table_bytes, place, run_lists, shift_of, table_bytes

POSITION = 8  # bytes
_PIECE = 1 << 14  # indices of one piece of parallel work
_COLUMNS = 1024  # bytes of a row that are worth a piece of their own
_EACH = 4  # pieces of rows for each thread, at least, so that crowded rows have company
_LISTED = 1 << 19  # elements from which lists of runs pay
_SINGLES = 4  # threads beyond which they pay for rows of one element, too
_LINE, _LINES = 64, 16  # bytes of a cache line; lines of a row that are prefetched
_AHEAD = 16  # runs between a prefetch and its use
_LANES = 8
_INT = np.dtype(np.int64)
_GATHERED = (gather_sum, weighted_sum)


def positions(r: Request, to: Place, first_index: int, sizes: Sequence[int], strides: Sequence[int]) -> list[Step]:
    """Return the steps that write the position of each tuple of indices to a place, as int64.

    The flag becomes 1 if an index is out of range; the position is then that of index 0. `sizes` and `strides` are
    those of the indexed axes, whose indices are the operands from `first_index` on.
    """
    count, first = math.prod(r.xs[first_index].shape), True
    readings: Iterable[Reading] = r.node.params.get("read") or itertools.repeat(None)
    indices = list(zip(r.xs[1:], r.node.inputs[1:], readings, strict=False))[first_index - 1:]
    steps = []
    for (x, node, reading), size, stride in zip(indices, sizes, strides, strict=False):
        name, null = (reading[0], [n for n in reading[1:] if isinstance(n, int)]) if reading else (None, [])
        code = step_code(_position, node.dtype, name, bool(null))
        steps += step(code, r.team, count, (count, 1), (_PIECE, 1), x, size, stride, to, r.flag, first, *null)
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
    return [*positions(r, r.room, 1, source.shape[:n], source.strides[:n]), *(
        copy(r.to, row, r.node.dtype.itemsize, r.team, r.room) if math.prod(source.shape[:n]) else ())]


# -- scatter ---------------------------------------------------------------------------------------------------


def scatter(r: Request) -> list[Step]:
    """Return the steps that combine the rows sent to each position."""
    by, dtype, to, team = combiner_of(r.node), r.node.dtype, r.to, r.team
    gathered = r.node.prim in _GATHERED  # each update is a row of the first operand, which the first index names
    weights = r.xs[3:] if r.node.prim is weighted_sum else ()
    first, count = 1 + gathered, math.prod(r.xs[1].shape)
    n = len(r.xs) - first - len(weights)
    rows, columns = math.prod(to.shape[:n]), math.prod(to.shape[n:])
    steps = positions(r, r.room, first, to.shape[:n], [math.prod(to.shape[k + 1:n]) for k in range(n)])
    memory, sums = dtype, to[:2]
    places, tabled = count * POSITION, table_bytes(count)
    table, runs, sources, wide = (_behind(r.room, k) for k in (
        places, places + tabled, 2 * places + tabled, (2 + gathered) * places + tabled))
    if gathered:
        steps += positions(r, sources, 1, r.xs[0].shape[:1], (1,))
    if by is ADD and scattered(dtype) != dtype and crowded(count, rows):
        memory, sums = scattered(dtype), wide
    across = min(max(columns * dtype.itemsize // _COLUMNS, 1), team)
    listed = team > 1 and count * columns >= _LISTED and (columns > 1 or team > _SINGLES)
    pieces = (_EACH if listed else 1) * -(-team // across) if count * columns >= step_codegen.SERIAL else 1
    shift = shift_of(rows, pieces)
    if listed:
        steps += run_lists(r.room, count, rows, shift, table, runs, team)
    if columns == 1 and not gathered:
        code = step_code(_scatter_single, by, dtype, memory, listed)
    else:
        code = step_code(_scatter_rows, by, dtype, memory, listed, gathered, bool(weights))
    steps += step(code, team, count * columns, (rows, columns), (1 << shift, -(-columns // across)),
                  r.room, r.xs[0], sums, count, table, runs, shift, blocks_of(count), sources, *weights)
    if memory != dtype:
        steps += step(step_code(_rounding, dtype), team, rows * columns, (rows * columns, 1), (_PIECE, 1), sums, to)
    return steps


def _behind(place: Place, nbytes: int) -> Place:
    return place[0], place[1] + nbytes


def positions_room(node: Node) -> int | Dim:
    """Return the bytes of the positions that `take` needs."""
    return size_of(node.inputs[1].shape) * POSITION


def room(node: Node) -> int | Dim:
    """Return the bytes that `scatter` needs beside operands and result.

    They hold positions, lists of runs, and sums in float64: where `crowded` asks for these, they are so few that they
    take less than a byte per element of an update.
    """
    updates, index, *_ = node.inputs
    gathered = node.prim in _GATHERED
    count = size_of(index.shape)
    elements = count * size_of(updates.shape[1:]) if gathered else size_of(updates.shape)
    sums = elements if scattered(updates.dtype) != updates.dtype else 0
    return (2 + gathered) * count * POSITION + most_table_bytes(count) + sums


def _rounding(dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    wide = scattered(dtype)
    source, to = (code.address(HEAD + k) for k in (0, 2))
    for k, width in code.chunks(ranges[0], ranges[1], widths(wide)):
        x = code.load(wide, code.element(source, k, wide.itemsize), width)
        code.store(ex.cast(code.b, x, wide, dtype), dtype, code.element(to, k, dtype.itemsize))


def _scatter_rows(by: Combiner, dtype: np.dtype, memory: np.dtype, listed: bool, gathered: bool, weighted: bool,
                  code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item = code.b, dtype.itemsize
    updates, to = (code.address(HEAD + k) for k in (2, 4))
    nbytes, row_of = (code.e.mul(code.number(4), I64(t.itemsize)) for t in (dtype, memory))
    own, (_, _, left, right) = _Own(code, ranges, listed), ranges
    sources, weights = code.address(HEAD + 13), code.address(HEAD + 15 if weighted else HEAD)

    def update(k: ir.Value) -> ir.Value:
        """Return the address of an update."""
        if gathered:
            k = code.load(_INT, code.element(sources, k, POSITION))
        return at(b, updates, b.mul(k, nbytes))

    with code.counting(own.low, own.high) as row:
        start = at(b, to, b.mul(row, row_of))
        for column, width in code.chunks(left, right, _row_widths(dtype)):
            code.store(ex.identity(by, memory, width), memory, code.element(start, column, memory.itemsize))

    def visit(begin: ir.Value, end: ir.Value, row: ir.Value) -> None:
        target, length = at(b, to, b.mul(row, row_of)), b.sub(end, begin)
        for column, width in code.chunks(left, right, _row_widths(dtype)):
            address = code.element(target, column, memory.itemsize)

            def load(k: ir.Value, width: int = width, column: ir.Value = column) -> ir.Value:
                k = b.add(begin, k)
                x = code.load(dtype, code.element(update(k), column, item), width)
                return b.fmul(x, splat(b, code.load(dtype, code.element(weights, k, item)), width)) if weighted else x

            _collect(by, dtype, memory, code, address, width, length, load)

    own.each_run(update, nbytes, visit)


class _Own:
    """The rows that a piece owns, ``low`` to ``high``, and its runs of indices.

    Sorted indices are cut where the rows are. Others come by list, or the first piece owns all rows: where lists would
    take as long as adding.
    """

    def __init__(self, code: Emitter, ranges: Sequence[ir.Value], listed: bool):
        b, self.code, self.listed = code.b, code, listed
        low, high, *_ = ranges
        self.targets, self.count = code.address(HEAD), code.number(HEAD + 6)
        self.cursor, self.stop = (code.variable(x) for x in (I64(0), self.count))
        table, self.runs = (code.address(HEAD + k) for k in (7, 9))
        self.ordered = in_order(code, table) if listed else self._is_sorted()
        with b.if_else(self.ordered) as (cut, others):
            with cut:
                for row, end in ((low, self.cursor), (high, self.stop)):
                    b.store(self._bound(row), end)
            with others:
                if listed:
                    own, blocks = b.lshr(low, code.number(HEAD + 11)), code.number(HEAD + 12)
                    for k, end in ((own, self.cursor), (b.add(own, ONE), self.stop)):
                        b.store(code.load(_INT, place(code, table, blocks, k, I64(0))), end)
                else:
                    first = b.icmp_signed("==", low, I64(0))
                    b.store(b.select(first, self.count, I64(0)), self.stop)
        if not listed:
            first = b.icmp_signed("==", low, I64(0))
            high = b.select(self.ordered, high, b.select(first, code.number(2), low))
        self.low, self.high = low, high

    def each_run(self, update: Callable[[ir.Value], ir.Value], nbytes: ir.Value,
                 visit: Callable[[ir.Value, ir.Value, ir.Value], None]) -> None:
        """Write ``visit(first, end, position)`` for each run; ``update(k)`` is the address of a row of `nbytes`."""
        code, b = self.code, self.code.b
        lines = least(code.e, code.e.add(code.e.lshr(nbytes, I64(6)), ONE), I64(_LINES))
        with code.repeated(lambda: b.icmp_signed("<", code.get(self.cursor), code.get(self.stop))):
            begin = now = code.get(self.cursor)
            if self.listed:
                begin = b.select(self.ordered, now, self._run(now))
                with b.if_then(b.not_(self.ordered)):
                    later = self._run(least(b, b.add(now, I64(_AHEAD)), b.sub(code.get(self.stop), ONE)))
                    _fetch(code, code.element(self.targets, later, POSITION), I64(1))
                    _fetch(code, update(later), lines)
            row = code.load(_INT, code.element(self.targets, begin, POSITION))
            end = self._run_end(begin, row)
            b.store(b.select(self.ordered, end, b.add(now, ONE)) if self.listed else end, self.cursor)
            visit(begin, end, row)

    def _run(self, k: ir.Value) -> ir.Value:
        """Return the first index of a run of the lists."""
        return self.code.load(_INT, self.code.element(self.runs, k, POSITION))

    def _is_sorted(self) -> ir.Value:
        """Return whether no position is less than the one before it; the test ends at the first that is."""
        code, b = self.code, self.code.b
        position, rising = code.variable(ONE), code.variable(I1(1))

        def goes_on(last: ir.Value) -> ir.Value:
            return b.and_(code.get(rising), b.icmp_signed("<", code.get(position), last))

        with b.if_then(b.icmp_signed(">", code.number(0), ONE)):  # else the only piece owns all
            for width in (_LANES, 1):
                with code.repeated(functools.partial(goes_on, b.sub(self.count, I64(width - 1)))):
                    i = code.get(position)
                    before, value = (code.load(_INT, code.element(self.targets, k, POSITION), width)
                                     for k in (b.sub(i, ONE), i))
                    b.store(b.not_(any_lane(b, b.icmp_signed(">", before, value))), rising)
                    b.store(b.add(i, I64(width)), position)
        return b.and_(code.get(rising), b.icmp_signed(">", code.number(0), ONE))

    def _bound(self, row: ir.Value) -> ir.Value:
        """Return the first of sorted positions that is not less than `row`, by halving."""
        code, b = self.code, self.code.b
        low, high = code.variable(I64(0)), code.variable(self.count)
        with code.repeated(lambda: b.icmp_signed("<", code.get(low), code.get(high))):
            middle = b.lshr(b.add(code.get(low), code.get(high)), ONE)
            less = b.icmp_signed("<", code.load(_INT, code.element(self.targets, middle, POSITION)), row)
            b.store(b.select(less, b.add(middle, ONE), code.get(low)), low)
            b.store(b.select(less, code.get(high), middle), high)
        return code.get(low)

    def _run_end(self, begin: ir.Value, row: ir.Value) -> ir.Value:
        """Return the end of the run of indices that name `row`."""
        code, b = self.code, self.code.b
        end, same = code.variable(b.add(begin, ONE)), code.variable(I1(1))
        with code.repeated(lambda: b.and_(code.get(same), b.icmp_signed("<", code.get(end), self.count))):
            i = code.get(end)
            equal = b.icmp_signed("==", code.load(_INT, code.element(self.targets, i, POSITION)), row)
            b.store(equal, same)
            b.store(b.add(i, b.zext(equal, I64)), end)
        return code.get(end)


def _fetch(code: Emitter, address: ir.Value, lines: ir.Value) -> None:
    """Prefetch some lines."""
    prefetch = code.intrinsic("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    with code.counting(I64(0), lines) as line:
        code.b.call(prefetch, [at(code.b, address, code.b.mul(line, I64(_LINE))), I32(0), I32(3), I32(1)])


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


def _scatter_single(by: Combiner, dtype: np.dtype, memory: np.dtype, listed: bool, code: Emitter,
                    ranges: Sequence[ir.Value]) -> None:
    """Emit the scatter of rows of one element."""
    b, item = code.b, memory.itemsize
    register = scattered(dtype) if by is ADD else dtype
    updates, to = (code.address(HEAD + k) for k in (2, 4))
    own = _Own(code, ranges, listed)
    for row, width in code.chunks(own.low, own.high, widths(memory)):
        code.store(ex.identity(by, memory, width), memory, code.element(to, row, item))

    def add(i: ir.Value, total: ir.Value) -> None:
        x = ex.cast(b, code.load(dtype, code.element(updates, i, dtype.itemsize)), dtype, register)
        b.store(ex.combined(b, by, code.get(total), x, register.kind == "u"), total)

    def load(address: ir.Value) -> ir.Value:
        return ex.cast(b, code.load(memory, address), memory, register)

    def store(total: ir.Value, address: ir.Value) -> None:
        code.store(ex.cast(b, code.get(total), register, memory), memory, address)

    def visit(begin: ir.Value, end: ir.Value, row: ir.Value) -> None:
        address = code.element(to, row, item)
        total = code.variable(load(address))
        with code.counting(begin, end) as i:
            add(i, total)
        store(total, address)

    if listed:
        own.each_run(lambda k: code.element(updates, k, dtype.itemsize), I64(dtype.itemsize), visit)
        return
    last, total = code.variable(at(b, to, b.mul(own.low, I64(item)))), code.variable(ex.identity(by, register, 1))
    with b.if_then(b.icmp_signed("<", code.get(own.cursor), code.get(own.stop))):
        with code.counting(code.get(own.cursor), code.get(own.stop)) as i:
            address = code.element(to, code.load(_INT, code.element(own.targets, i, POSITION)), item)
            with b.if_then(b.icmp_unsigned("!=", address, code.get(last))):  # the last position's total waits
                store(total, code.get(last))
                b.store(address, last)
                b.store(load(address), total)
            add(i, total)
        store(total, code.get(last))

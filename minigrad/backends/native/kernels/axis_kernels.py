"""Steps along one axis in order: cumulative sums and extremes, argmax and argmin.

A contiguous array is seen as (outer, n, inner), the axis in the middle. Vectors run across inner elements; without
them, running totals of several rows are interleaved, and argmax computes the extreme first, and then its position.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ....combiners import ARGMAX, combiner_of
from ....primitive import Combiner
from ..codegen import expressions as ex
from ..codegen.emit import Emitter, halved
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code, widths
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I1, I64, any_lane, constant, splat, vector, vector_type

_PIECE = 1 << 15  # elements of one piece of parallel work
_COLUMNS = 256  # inner elements of one piece
_TURNS = 4  # rows whose sums are interleaved, since an addition waits for the last one of its row
_LANES = 8  # positions are 64 bits wide
_SHORT = 48  # elements of a row below which each lane takes a row


def along(r: Request) -> list[Step]:
    """Return the steps that compute a running total, ``argmax`` or ``argmin`` along an axis.

    The axis has elements, unless the result has none.
    """
    (source,), axis, dtype, by = r.xs, r.node.params["axis"], r.node.inputs[0].dtype, combiner_of(r.node)
    outer, n, inner = math.prod(source.shape[:axis]), source.shape[axis], math.prod(source.shape[axis + 1:])
    if not n:
        return []
    columns = max(min(inner, _COLUMNS), 1)
    dtype = np.dtype("uint8" if dtype == "bool" else dtype)
    if by.position:
        way = _places if inner > 1 else _places_in_short_rows if n < _SHORT else _place_in_row
        code = step_code(way, by is ARGMAX, dtype)
    else:
        code = step_code(_totals if inner > 1 else _totals_of_rows, by, dtype)
    return step(code, r.team, outer * n * inner, (outer, inner), (_PIECE // (n * columns), columns), n, source, r.to)


def _views(code: Emitter) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """Return the length of the axis, the inner elements of each of its elements, and both addresses."""
    return code.number(HEAD), code.number(4), code.address(HEAD + 1), code.address(HEAD + 3)


# -- running totals --------------------------------------------------------------------------------------------


def _totals(by: Combiner, dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item = code.b, dtype.itemsize
    low, high, left, right = ranges
    n, inner, source, to = _views(code)
    with code.counting(low, high) as o:
        start = b.mul(b.mul(o, n), inner)
        for column, width in code.chunks(left, right, widths(dtype)):
            at_first = b.add(start, column)
            total = code.variable(code.load(dtype, code.element(source, at_first, item), width))
            code.store(code.get(total), dtype, code.element(to, at_first, item))
            with code.counting(I64(1), n) as i:
                k = b.add(at_first, b.mul(i, inner))
                x = code.load(dtype, code.element(source, k, item), width)
                b.store(ex.combined(b, by, x, code.get(total), dtype.kind == "u"), total)
                code.store(code.get(total), dtype, code.element(to, k, item))


def _totals_of_rows(by: Combiner, dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item = code.b, dtype.itemsize
    n, _, source, to = _views(code)
    for row, count in code.chunks(ranges[0], ranges[1], (_TURNS, 1)):
        starts = [b.mul(b.add(row, I64(k)), n) for k in range(count)]
        totals = []
        for start in starts:
            totals.append(code.variable(code.load(dtype, code.element(source, start, item))))
            code.store(code.get(totals[-1]), dtype, code.element(to, start, item))
        with code.counting(I64(1), n) as i:
            for start, total in zip(starts, totals, strict=True):
                k = b.add(start, i)
                x = code.load(dtype, code.element(source, k, item))
                b.store(ex.combined(b, by, x, code.get(total), dtype.kind == "u"), total)
                code.store(code.get(total), dtype, code.element(to, k, item))


# -- recurrences -----------------------------------------------------------------------------------------------


def recurrence(r: Request) -> list[Step]:
    """Return the steps of a linear recurrence along an axis, or in the segments that a fourth operand names."""
    axis, shape = r.node.params.get("axis", 0), r.to.shape
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])
    columns = max(min(inner, _COLUMNS), 1)
    code = step_code(_recurrence, r.node.dtype, r.node.params["reverse"], len(r.xs) > 3)
    return step(code, r.team, outer * n * inner, (outer, inner), (_PIECE // max(n * columns, 1), columns), n, *r.xs[:3],
                r.to, *r.xs[3:])


def _recurrence(dtype: np.dtype, reverse: bool, segments: bool, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item, mask, wide = code.b, dtype.itemsize, np.dtype(np.uint8), np.dtype(np.int64)
    low, high, left, right = ranges
    n, inner = code.number(HEAD), code.number(4)
    source, factors, goes_on, to = (code.address(HEAD + 1 + 2 * k) for k in range(4))
    add, times = (b.fadd, b.fmul) if dtype.kind == "f" else (b.add, b.mul)
    with code.counting(low, high) as o:
        start = b.mul(b.mul(o, n), inner)
        for column, width in code.chunks(left, right, widths(dtype)):
            total = code.variable(constant(vector_type(dtype, width), 0))
            with code.counting(I64(0), n) as turn:
                row = b.sub(b.sub(n, turn), I64(1)) if reverse else turn
                k = b.add(b.add(start, column), b.mul(row, inner))
                x = code.load(dtype, code.element(source, k, item), width)
                begins = b.icmp_signed("==", turn, I64(0))
                if segments:
                    ids = code.address(HEAD + 9)
                    other = b.select(begins, row, b.add(row, I64(1 if reverse else -1)))
                    own, neighbour = (code.load(wide, code.element(ids, at_, 8)) for at_ in (row, other))
                    begins = b.or_(begins, b.icmp_signed("!=", own, neighbour))
                with b.if_else(begins) as (first, further):
                    with first:
                        b.store(x, total)
                    with further:
                        edge = b.add(k, inner) if reverse else k
                        on = code.load(mask, code.element(goes_on, edge, 1), width)
                        on = b.icmp_unsigned("!=", on, constant(on.type, 0))
                        a = code.load(dtype, code.element(factors, edge, item), width)
                        b.store(b.select(on, add(times(a, code.get(total)), x), x), total)
                code.store(code.get(total), dtype, code.element(to, k, item))


# -- positions of extremes -------------------------------------------------------------------------------------


def _extreme(b: ir.IRBuilder, largest: bool, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
    return ex.extreme(b, x, y, dtype.kind == "u", ">" if largest else "<")


def _place_in_row(largest: bool, dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Find the extreme of a contiguous axis, then the first element equal to it."""
    b, item, wide = code.b, dtype.itemsize, np.dtype(np.int64)
    n, _, source, to = _views(code)
    with code.counting(*ranges[:2]) as o:
        row = code.element(source, b.mul(o, n), item)
        best = _best_of(largest, dtype, code, row, n)
        position, hit = code.variable(I64(0)), code.variable(I1(0))
        lanes = widths(dtype)[1]
        last = b.sub(n, I64(lanes))

        def hits(i: ir.Value, width: int) -> ir.Value:
            x = code.load(dtype, code.element(row, i, item), width)
            same = splat(b, best, width)
            if dtype.kind == "f":
                return b.or_(b.fcmp_ordered("==", x, same), b.fcmp_unordered("uno", x, x))
            return b.icmp_signed("==", x, same)

        def goes_on(end: ir.Value) -> ir.Value:
            return b.and_(b.icmp_signed("<=", code.get(position), end), b.not_(code.get(hit)))

        for width, end in ((lanes, last), (1, b.sub(n, I64(1)))):
            if width == 1:
                b.store(I1(0), hit)
            with code.repeated(functools.partial(goes_on, end)):
                i = code.get(position)
                any_hit = any_lane(b, hits(i, width))
                b.store(any_hit, hit)
                b.store(b.select(any_hit, i, b.add(i, I64(width))), position)
        code.store(code.get(position), wide, code.element(to, o, 8))


def _best_of(largest: bool, dtype: np.dtype, code: Emitter, row: ir.Value, n: ir.Value) -> ir.Value:
    """Return a row's extreme; NaN, where there is one."""
    b, item = code.b, dtype.itemsize
    best = code.variable(code.load(dtype, row))
    lanes = widths(dtype)[0]
    with b.if_then(b.icmp_signed(">=", n, I64(lanes))):
        first = code.load(dtype, row, lanes)
        vector, nan = code.variable(first), code.variable(_is_nan(b, dtype, first))
        with code.counting(I64(lanes), b.sub(n, I64(lanes - 1)), I64(lanes)) as i:
            x, old = code.load(dtype, code.element(row, i, item), lanes), code.get(vector)
            b.store(b.or_(code.get(nan), _is_nan(b, dtype, x)), nan)  # apart, so that the extreme is one instruction
            b.store(b.select(_beats(b, largest, dtype, x, old), x, old), vector)
        total = halved(code.b, functools.partial(_extreme, code.b, largest, dtype), code.get(vector), lanes)
        if dtype.kind == "f":
            total = b.select(any_lane(b, code.get(nan)), constant(total.type, math.nan), total)
        b.store(total, best)
    whole = b.and_(n, I64(-lanes))
    with code.counting(whole, n) as i:
        b.store(_extreme(b, largest, dtype, code.load(dtype, code.element(row, i, item)), code.get(best)), best)
    return code.get(best)


def _is_nan(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return b.fcmp_unordered("uno", x, x) if dtype.kind == "f" else b.icmp_signed("!=", x, x)


def _places(largest: bool, dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Keep the best element so far and its position, for each of the elements across the axis."""
    b, item = code.b, dtype.itemsize
    low, high, left, right = ranges
    n, inner, source, to = _views(code)
    with code.counting(low, high) as o:
        for column, width in code.chunks(left, right, (_LANES, 2, 1)):
            start = code.element(source, b.add(b.mul(b.mul(o, n), inner), column), item)

            def load(i: ir.Value, width: int = width, start: ir.Value = start) -> ir.Value:
                return code.load(dtype, at(b, start, b.mul(b.mul(i, inner), I64(item))), width)

            position = _carried(largest, dtype, code, n, width, load)
            code.store(position, np.dtype(np.int64), code.element(to, b.add(b.mul(o, inner), column), 8))


def _places_in_short_rows(largest: bool, dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Do the same for short rows, each in a lane of its own."""
    b, item = code.b, dtype.itemsize
    n, _, source, to = _views(code)
    nbytes = code.e.mul(n, I64(item))
    for row, width in code.chunks(ranges[0], ranges[1], (_LANES, 1)):
        starts = [at(b, source, b.mul(b.add(row, I64(k)), nbytes)) for k in range(width)]

        def load(i: ir.Value, starts: Sequence[ir.Value] = starts) -> ir.Value:
            return vector(b, [code.load(dtype, code.element(p, i, item)) for p in starts])

        position = _carried(largest, dtype, code, n, width, load)
        code.store(position, np.dtype(np.int64), code.element(to, row, 8))


def _carried(largest: bool, dtype: np.dtype, code: Emitter, n: ir.Value, width: int,
             load: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Return the position of the best of ``load(0)``, ..., ``load(n - 1)``, in each lane."""
    b, wide = code.b, np.dtype(np.int64)
    best = code.variable(load(I64(0)))
    position = code.variable(constant(vector_type(wide, width), 0))
    with code.counting(I64(1), n) as i:
        x, old = load(i), code.get(best)
        better = _better(b, largest, dtype, x, old)
        b.store(b.select(better, x, old), best)
        b.store(b.select(better, splat(b, i, width), code.get(position)), position)
    return code.get(position)


def _better(b: ir.IRBuilder, largest: bool, dtype: np.dtype, x: ir.Value, old: ir.Value) -> ir.Value:
    """Return whether an element replaces an earlier one: the first NaN does, and stays."""
    beats = _beats(b, largest, dtype, x, old)
    if dtype.kind != "f":
        return beats
    return b.or_(beats, b.and_(b.fcmp_unordered("uno", x, x), b.fcmp_ordered("ord", old, old)))


def _beats(b: ir.IRBuilder, largest: bool, dtype: np.dtype, x: ir.Value, old: ir.Value) -> ir.Value:
    """Return whether a number is larger (smaller) than an earlier one."""
    op = ">" if largest else "<"
    if dtype.kind == "f":
        return b.fcmp_ordered(op, x, old)
    return (b.icmp_unsigned if dtype.kind == "u" else b.icmp_signed)(op, x, old)

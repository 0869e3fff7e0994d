"""Steps on packed examples: segment ids, positions of kept rows, checks of indices, cumulative sums of each example."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....combiners import combiner_of
from ....ops.checks import in_range
from ....ops.segments import nonempty
from ....primitive import Combiner, Primitive
from ....symbolic import value
from ..codegen.emit import Emitter, counted
from ..codegen.expressions import combined
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code, widths
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I64, constant, splat

INT = np.dtype(np.int64)
_LANES = (8, 1)
_PIECE = 1 << 14  # numbers of one piece of parallel work
_PIECES = 8  # pieces at most where each reads all lengths
_COLUMNS = 256  # columns of one piece


def ids(r: Request) -> list[Step]:
    """Return the steps that write the segment ids of rows: the example of each.

    The flag becomes 1 if the lengths do not add up to the rows.
    """
    (lengths,), (rows,) = r.xs, r.to.shape
    (count,) = lengths.shape
    return step(step_code(_segment_ids), r.team, rows, (count, 1), (-(-count // _PIECES), 1), lengths, r.to,
                r.flag, rows)


def checked(r: Request) -> list[Step]:
    """Return the steps that copy lengths or indices; the flag becomes 1 if one is wrong."""
    count, prim = math.prod(r.to.shape), r.node.prim
    size = value(r.node.params["size"], r.sizes) if prim is in_range else 0
    return step(step_code(_checked, prim), r.team, count, (count, 1), (_PIECE, 1), r.xs[0], r.xs[-1], r.to, r.flag,
                size)


def totals(r: Request) -> list[Step]:
    """Return the steps of running totals of the rows of each example, from its first row or from its last.

    The segment ids are equal for neighbouring rows of one example.
    """
    x, segments = r.xs
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    dtype = np.dtype("uint8" if r.node.dtype == "bool" else r.node.dtype)
    code = step_code(_segment_totals, combiner_of(r.node), dtype, r.node.params.get("reverse", False))
    return step(code, r.team, rows * columns, (columns, 1), (_COLUMNS, 1), x, segments, r.to, rows, columns)


def kept(r: Request) -> list[Step]:
    """Return the steps that write the positions of the true elements of a mask.

    The flag becomes 1 if their number is not that of the result's elements.
    """
    (rows,) = r.xs[0].shape
    return step(step_code(_kept), 1, rows, (rows, 1), (rows, 1), r.xs[0], r.to, r.flag, math.prod(r.to.shape))


def _kept(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Read eight elements at once, and write eight positions: the next ones overwrite those not kept."""
    b = code.b
    mask, to, flag = (code.address(HEAD + k) for k in (0, 2, 4))
    size, count = code.number(HEAD + 6), code.variable(I64(0))
    for k, width in code.chunks(ranges[0], ranges[1], (8, 1)):
        group = ir.IntType(8 * width)
        some = b.icmp_unsigned("!=", b.load(at(b, mask, k), typ=group, align=1), group(0))
        fits = b.icmp_signed("<=", b.add(code.get(count), I64(width)), size)
        with b.if_then(some), b.if_else(fits) as branches:
            for branch, room in zip(branches, (True, False), strict=True):
                with branch:
                    for i in range(width):
                        _keep(code, mask, b.add(k, I64(i)), to, count, None if room else size)
    with b.if_then(b.icmp_signed("!=", code.get(count), size), likely=False):
        code.store(I64(1), INT, flag)


def _keep(code: Emitter, mask: ir.Value, k: ir.Value, to: ir.Value, count: ir.Value, size: ir.Value | None) -> None:
    """Write a position, and count it if its element is true; `size`: where there may be no room, only then."""
    b, n = code.b, code.get(count)
    true = code.load(np.dtype(bool), at(b, mask, k))
    if size is None:
        code.store(k, INT, code.element(to, n, 8))
    else:
        with b.if_then(b.and_(true, b.icmp_signed("<", n, size))):
            code.store(k, INT, code.element(to, n, 8))
    b.store(b.add(n, b.zext(true, I64)), count)


def shift(r: Request) -> list[Step]:
    """Return the steps that copy the row before each row (or behind it) of the same segment, or zeros."""
    x, ids = r.xs
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    code = step_code(_segment_shift, np.dtype("uint8" if r.node.dtype == "bool" else r.node.dtype),
                     r.node.params["reverse"])
    return step(code, r.team, rows * columns, (rows, 1), (_PIECE // max(columns, 1), 1), x, ids, r.to, columns)


def _segment_shift(dtype: np.dtype, reverse: bool, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, item = code.b, dtype.itemsize
    x, segments, to = (code.address(HEAD + k) for k in (0, 2, 4))
    rows, columns = code.number(2), code.number(HEAD + 6)
    with code.counting(*ranges[:2]) as row:
        other = b.add(row, I64(1 if reverse else -1))
        inside = b.icmp_unsigned("<", other, rows)  # -1 is a large number here
        other = b.select(inside, other, row)
        own, neighbour = (code.load(INT, code.element(segments, r, 8)) for r in (row, other))
        joined = b.and_(inside, b.icmp_signed("==", own, neighbour))
        start, source = b.mul(row, columns), b.mul(other, columns)
        for k, width in code.chunks(I64(0), columns, widths(dtype)):
            value = code.load(dtype, code.element(x, b.add(source, k), item), width)
            code.store(b.select(joined, value, constant(value.type, 0)), dtype, code.element(to, b.add(start, k), item))


def _segment_ids(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b = code.b
    lengths, to, flag = (code.address(HEAD + k) for k in (0, 2, 4))
    count, rows = code.number(2), code.number(HEAD + 6)
    end, begin, wrong = (code.variable(I64(0)) for _ in range(3))
    with code.counting(I64(0), count) as i:
        length = code.load(INT, code.element(lengths, i, 8))
        b.store(b.add(code.get(begin), b.select(b.icmp_signed("<", i, ranges[0]), length, I64(0))), begin)
        b.store(b.add(code.get(end), length), end)
        b.store(b.or_(code.get(wrong), b.or_(length, code.get(end))), wrong)  # a negative length sets the sign
    fits = b.and_(b.icmp_signed(">=", code.get(wrong), I64(0)), b.icmp_signed("==", code.get(end), rows))
    with b.if_else(fits) as (then, otherwise):
        with otherwise:
            code.store(I64(1), INT, flag)
        with then, code.counting(*ranges[:2]) as i:
            low = code.get(begin)
            high = b.add(low, code.load(INT, code.element(lengths, i, 8)))
            for k, width in code.chunks(low, high, _LANES):
                code.store(splat(b, i, width), INT, code.element(to, k, 8))
            b.store(high, begin)


def _checked(prim: Primitive, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b = code.b
    xs, lengths, to, flag = (code.address(HEAD + k) for k in (0, 2, 4, 6))
    with code.counting(*ranges[:2]) as i:
        result = x = code.load(INT, code.element(xs, i, 8))
        if prim is nonempty:
            wrong = b.icmp_signed("<=", x, I64(0))
        else:
            end = code.number(HEAD + 8) if prim is in_range else code.load(INT, code.element(lengths, i, 8))
            position = counted(b, x, end, None)
            wrong = b.icmp_unsigned(">=", position, end)
            result = x if prim is in_range else position
        with b.if_then(wrong, likely=False):
            code.store(I64(1), INT, flag)
        code.store(result, INT, code.element(to, i, 8))


def _segment_totals(by: Combiner, dtype: np.dtype, reverse: bool, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Combine some columns, row after row: in the order of NumPy's additions."""
    b, item = code.b, dtype.itemsize
    x, segments, to = (code.address(HEAD + k) for k in (0, 2, 4))
    rows, columns = code.number(HEAD + 6), code.number(HEAD + 7)
    with code.counting(I64(0), rows) as turn:
        row = b.sub(b.sub(rows, turn), I64(1)) if reverse else turn
        before = b.select(b.icmp_signed("==", turn, I64(0)), row, b.add(row, I64(1 if reverse else -1)))
        own, other = (code.load(INT, code.element(segments, r, 8)) for r in (row, before))
        goes_on = b.and_(b.icmp_signed("!=", turn, I64(0)), b.icmp_signed("==", own, other))
        start, start_before = b.mul(row, columns), b.mul(before, columns)
        for k, width in code.chunks(ranges[0], ranges[1], widths(dtype)):
            value = code.load(dtype, code.element(x, b.add(start, k), item), width)
            address = code.element(to, b.add(start, k), item)
            with b.if_else(goes_on) as (further, first):
                with further:
                    total = code.load(dtype, code.element(to, b.add(start_before, k), item), width)
                    code.store(combined(b, by, value, total, dtype.kind == "u"), dtype, address)
                with first:
                    code.store(value, dtype, address)

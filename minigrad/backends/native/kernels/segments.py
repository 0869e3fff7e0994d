"""Steps on packed examples: segment ids, checks of lengths and indices, cumulative sums of each example."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir

from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Step, StepCode, arguments, widths
from ..codegen.strides import View
from ..codegen.values import I64, splat

Place = tuple[int, int]  # a base, and bytes from there

INT = np.dtype(np.int64)
_LANES = (8, 1)
_PIECE = 1 << 14  # numbers of one piece of parallel work
_PIECES = 8  # pieces at most where each reads all lengths
_COLUMNS = 256  # columns of one piece


def ids(to: View, lengths: View, flag: Place, team: int) -> list[Step]:
    """Return the steps that write the segment ids of rows: the example of each.

    Parameters
    ----------
    to, lengths : View
        Of int64, contiguous.
    flag : Place
        A number that becomes 1 if the lengths do not add up to the rows.
    """
    (count,), (rows,) = lengths.shape, to.shape
    return [(_step("segment_ids", _ids), arguments(team, rows, (count, 1), (-(-count // _PIECES), 1), [
        lengths.base, lengths.offset, to.base, to.offset, *flag, rows]))]


def nonempty(to: View, lengths: View, flag: Place, team: int) -> list[Step]:
    """Return the steps that copy lengths; `flag` becomes 1 if one of them is 0."""
    return _checked("nonempty", _nonempty, to, [lengths, lengths], flag, team)


def checked_index(to: View, index: View, length: View, flag: Place, team: int) -> list[Step]:
    """Return the steps that count indices from 0; `flag` becomes 1 if one is out of its example's range."""
    return _checked("checked_index", _index, to, [index, length], flag, team)


def in_range(to: View, index: View, size: int, flag: Place, team: int) -> list[Step]:
    """Return the steps that copy indices; `flag` becomes 1 if one is out of range of an axis of `size`."""
    count = math.prod(to.shape)
    return [(_step("in_range", _in_range), arguments(team, count, (count, 1), (_PIECE, 1), [
        index.base, index.offset, to.base, to.offset, *flag, size]))] if count else []


def _checked(name: str, write: Callable[[Emitter, list[ir.Value]], None], to: View, sources: Sequence[View],
             flag: Place, team: int) -> list[Step]:
    count = math.prod(to.shape)
    return [(_step(name, write), arguments(team, count, (count, 1), (_PIECE, 1), [
        *(p for s in sources for p in (s.base, s.offset)), to.base, to.offset, *flag]))] if count else []


def cumsum(dtype: np.dtype, reverse: bool, to: View, x: View, segments: View, team: int) -> list[Step]:
    """Return the steps that add up the rows of each example, from its first row or from its last.

    Parameters
    ----------
    to, x, segments : View
        Contiguous; the segment ids are int64, and equal for neighbouring rows of one example.
    """
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    if not rows * columns:
        return []
    return [(_running(dtype, reverse), arguments(team, rows * columns, (columns, 1), (_COLUMNS, 1), [
        x.base, x.offset, segments.base, segments.offset, to.base, to.offset, rows, columns]))]


_step = functools.cache(StepCode)


@functools.cache
def _running(dtype: np.dtype, reverse: bool) -> StepCode:
    return StepCode(f"segment_cumsum.{dtype}.{reverse}", functools.partial(_cumsum, dtype, reverse))


def _ids(code: Emitter, ranges: Sequence[ir.Value]) -> None:
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


def _nonempty(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b = code.b
    lengths, to, flag = (code.address(HEAD + k) for k in (0, 4, 6))
    with code.counting(*ranges[:2]) as i:
        length = code.load(INT, code.element(lengths, i, 8))
        with b.if_then(b.icmp_signed("<=", length, I64(0)), likely=False):
            code.store(I64(1), INT, flag)
        code.store(length, INT, code.element(to, i, 8))


def _index(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b = code.b
    indices, lengths, to, flag = (code.address(HEAD + k) for k in (0, 2, 4, 6))
    with code.counting(*ranges[:2]) as i:
        index, length = (code.load(INT, code.element(p, i, 8)) for p in (indices, lengths))
        position = b.select(b.icmp_signed("<", index, I64(0)), b.add(index, length), index)
        with b.if_then(b.icmp_unsigned(">=", position, length), likely=False):
            code.store(I64(1), INT, flag)
        code.store(position, INT, code.element(to, i, 8))


def _in_range(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b = code.b
    indices, to, flag = (code.address(HEAD + k) for k in (0, 2, 4))
    size = code.number(HEAD + 6)
    with code.counting(*ranges[:2]) as i:
        index = code.load(INT, code.element(indices, i, 8))
        position = b.select(b.icmp_signed("<", index, I64(0)), b.add(index, size), index)
        with b.if_then(b.icmp_unsigned(">=", position, size), likely=False):
            code.store(I64(1), INT, flag)
        code.store(index, INT, code.element(to, i, 8))


def _cumsum(dtype: np.dtype, reverse: bool, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Sum some columns, row after row: in the order of NumPy's additions."""
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
                    sum_ = code.load(dtype, code.element(to, b.add(start_before, k), item), width)
                    code.store((b.fadd if dtype.kind == "f" else b.add)(sum_, value), dtype, address)
                with first:
                    code.store(value, dtype, address)

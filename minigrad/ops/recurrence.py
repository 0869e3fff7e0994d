"""Linear recurrences along an axis, with running products and sums that restart as cases.

``recurrence(b, a, goes_on)`` is h with ``h[t] = a[t] * h[t - 1] + b[t]``, or ``h[t] = b[t]`` where it does not go on.
Its transpose in b runs backwards, and is the same operation with ``reverse=True``; so derivatives of every order are
recurrences. No derivative divides by a factor: zeros and infinities need no care.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..axes import ORDERED, PERMUTED, along, subscripts
from ..errors import DtypeError, at_user_line
from ..families import linear
from ..graph import ArrayType, Node, full, zeros_like
from ..primitive import ArrayNamespace, Primitive, Sample, fail
from ..symbolic import differs
from ..tracing import guard_equal_shapes, number
from . import elementwise as ew
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .reduce import sum_
from .segment_rows import fits, in_one
from .shape import pad, require_axes, section

# -- one place on ----------------------------------------------------------------------------------------------


def _shift_eval(xp: ArrayNamespace, x: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
    x = xp.moveaxis(x, axis, 0)
    none, kept = xp.zeros_like(x[:1, ...]), (x[1:, ...] if reverse else x[:-1, ...])
    return xp.moveaxis(xp.concat((kept, none) if reverse else (none, kept), axis=0), 0, axis)


shift: Primitive = linear(  # each element one place on (`reverse`: back), and a zero at the end
    "shift", lambda t, *, axis, reverse: require_axes("shift", t, axis), _shift_eval,
    lambda g, x, *, axis, reverse: shift(g, axis=axis, reverse=not reverse), axes=along("axis", PERMUTED),
    params={"axis": int, "reverse": bool},
    samples=lambda: [Sample((_uniform(3, 4),), {"axis": axis, "reverse": r}) for axis in (0, 1) for r in (True, False)])


def _segment_shift_eval(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray, *, reverse: bool) -> np.ndarray:
    moved, neighbours = (_shift_eval(xp, v, axis=0, reverse=reverse) for v in (x, ids))
    row = xp.arange(ids.shape[0], dtype=xp.int64)
    same = (ids == neighbours) & (row != (ids.shape[0] - 1 if reverse else 0))
    return xp.where(_beside(xp, same, x), moved, xp.zeros_like(x))


def _beside(xp: ArrayNamespace, mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return a mask of rows with the axes of `x`."""
    return xp.reshape(mask, (-1,) + (1,) * (x.ndim - 1)) if x.ndim > 1 else mask


segment_shift: Primitive = linear(
    "segment_shift", lambda x, ids, *, reverse: fits("segment_shift", x, ids), _segment_shift_eval,
    lambda g, x, ids, *, reverse: segment_shift(g, ids, reverse=not reverse), partial(in_one, "segment_shift"),
    axes=subscripts("row|1 ..., row|1 -> row|1 ..."), params={"reverse": bool},
    samples=lambda: [Sample((_uniform(6, 2), np.array([0, 0, 1, 1, 1, 3])), {"reverse": r}) for r in (False, True)])


def previous(x: Node, axis: int, *ids: Node, reverse: bool = False) -> Node:
    """Return the elements one place earlier along an axis (`reverse`: later), and zero where there are none.

    `ids`: the segments of rows, along axis 0.
    """
    if ids:
        return segment_shift(x, *ids, reverse=reverse)
    n = x.shape[axis]
    if differs(n) or not (n := number(n)):
        return shift(x, axis=axis, reverse=reverse)
    low, high = (1, n) if reverse else (0, n - 1)
    at = [i == axis for i in range(x.ndim)]
    pads = [(int(a and not reverse), int(a and reverse)) for a in at]
    return pad(section(x, axis, low, high - low), low=tuple(p for p, _ in pads), high=tuple(p for _, p in pads),
               interior=(0,) * x.ndim)


def has_previous(x: Node, axis: int, *ids: Node) -> Node:
    """Return the mask of places of `x` with an earlier one along an axis."""
    n, others = x.shape[axis], tuple(i for i in range(x.ndim) if i != axis)
    if ids:
        one = full(1, (n,), np.dtype(np.int64))
        has = ew.eq(segment_shift(one, *ids, reverse=False), one)
    else:
        has = ew.ne(iota(size=n), full(0, (n,), np.dtype(np.int64)))
    return broadcast_along(has, x.shape, others)


# -- recurrences -----------------------------------------------------------------------------------------------


def _type(b: ArrayType, a: ArrayType, goes_on: ArrayType, *, axis: int, reverse: bool) -> ArrayType:
    if a.dtype != b.dtype or a.dtype.kind == "b" or goes_on.dtype.kind != "b":
        raise DtypeError(at_user_line(f"recurrence({b}, {a}, {goes_on}): needs two arrays of numbers and one of bools"))
    if not (guard_equal_shapes(a.shape, b.shape) and guard_equal_shapes(a.shape, goes_on.shape)):
        raise fail("recurrence", "shapes differ", b, a, goes_on)
    return require_axes("recurrence", b, axis)


def _segment_type(b: ArrayType, a: ArrayType, goes_on: ArrayType, ids: ArrayType, *, reverse: bool) -> ArrayType:
    return fits("segment_recurrence", _type(b, a, goes_on, axis=0, reverse=reverse), ids)


def _evaluate(xp: ArrayNamespace, b: np.ndarray, a: np.ndarray, goes_on: np.ndarray, *, axis: int, reverse: bool
              ) -> np.ndarray:
    a, b, goes_on = (xp.moveaxis(x, axis, 0) for x in (a, b, goes_on))
    if xp is not np:
        return xp.moveaxis(_by_doubling(xp, a, b, goes_on, reverse), 0, axis)
    n = len(b)
    out = np.array(b)
    if not out.size:
        return np.moveaxis(out, 0, axis)
    # All stretches between restarts take their steps together, the longest ones first: no step reads a finished one.
    cut = np.logical_not(goes_on.any(axis=tuple(range(1, goes_on.ndim))))
    starts = np.union1d(0, np.flatnonzero(cut))
    lengths = np.diff(starts, append=n)
    order = np.argsort(-lengths, kind="stable")
    running = np.searchsorted(-lengths[order], -np.arange(1, int(lengths.max())), side="left")
    firsts = (starts + lengths - 1 if reverse else starts)[order]
    with np.errstate(all="ignore"):
        for t, count in enumerate(running.tolist(), 1):
            to, before = (firsts[:count] - t, firsts[:count] - t + 1) if reverse else (
                firsts[:count] + t, firsts[:count] + t - 1)
            edge = before if reverse else to
            out[to] = np.where(goes_on[edge], a[edge] * out[before] + b[to], b[to])
    return np.moveaxis(out, 0, axis)


def _by_doubling(xp: ArrayNamespace, a: np.ndarray, b: np.ndarray, goes_on: np.ndarray, reverse: bool) -> np.ndarray:
    """Return the recurrence along the first axis in log2(n) steps: each one doubles the reach."""
    n, reach = b.shape[0], 1
    if reverse:  # the coefficient between two rows belongs to the later one
        a, goes_on = (xp.flip(xp.concat((x[1:, ...], x[:1, ...]), axis=0), axis=0) for x in (a, goes_on))
        b = xp.flip(b, axis=0)
    while reach < n:
        def earlier(x: np.ndarray, reach: int = reach) -> np.ndarray:
            return x[:n - reach, ...]

        ends, own, factor = goes_on[reach:, ...], b[reach:, ...], a[reach:, ...]
        b = xp.concat((b[:reach, ...], xp.where(ends, factor * earlier(b) + own, own)), axis=0)
        a = xp.concat((a[:reach, ...], factor * earlier(a)), axis=0)
        goes_on = xp.concat((goes_on[:reach, ...] & False, ends & earlier(goes_on)), axis=0)
        reach *= 2
    return xp.flip(b, axis=0) if reverse else b


def _segment_eval(xp: ArrayNamespace, b: np.ndarray, a: np.ndarray, goes_on: np.ndarray, ids: np.ndarray, *,
                  reverse: bool) -> np.ndarray:
    same = _segment_shift_eval(xp, xp.ones_like(ids), ids, reverse=False) == 1
    return _evaluate(xp, b, a, goes_on & _beside(xp, same, b), axis=0, reverse=reverse)


def _vjp(g: Node, out: Node, b: Node, a: Node, goes_on: Node, *ids: Node, reverse: bool, axis: int = 0
         ) -> list[Node | None]:
    back = _again(g, a, goes_on, axis, *ids, reverse=not reverse)
    earlier, later = (back, out) if reverse else (out, back)
    goes_on = ew.logical_and(goes_on, has_previous(a, axis, *ids))
    return [back, ew.where(goes_on, later * previous(earlier, axis, *ids), zeros_like(a)), None, *[None] * len(ids)]


def _jvp(ts: Sequence[Node | None], out: Node, b: Node, a: Node, goes_on: Node, *ids: Node, reverse: bool,
         axis: int = 0) -> Node:
    moved = ts[0]
    if ts[1] is not None:
        goes = ew.logical_and(goes_on, has_previous(a, axis, *ids))
        term = ew.where(goes, ts[1] * (out if reverse else previous(out, axis, *ids)), zeros_like(b))
        if reverse:  # a coefficient takes part one place before its own
            term = previous(term, axis, *ids, reverse=True)
        moved = term if moved is None else moved + term
    return zeros_like(b) if moved is None else _again(moved, a, goes_on, axis, *ids, reverse=reverse)


def _again(b: Node, a: Node, goes_on: Node, axis: int, *ids: Node, reverse: bool) -> Node:
    if ids:
        return segment_recurrence(b, a, goes_on, *ids, reverse=reverse)
    return recurrence(b, a, goes_on, axis=axis, reverse=reverse)


def _operands(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _uniform(*shape), _uniform(*shape)[::-1], np.random.default_rng(7).random(shape) < 0.8


def _uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(6).uniform(-1.5, 1.5, shape)


recurrence: Primitive = Primitive(
    "recurrence", _type, _evaluate, _vjp, _jvp, axes=along("axis", ORDERED), linear="first",
    params={"axis": int, "reverse": bool},
    samples=lambda: [Sample(_operands(4, 3), {"axis": axis, "reverse": r}) for axis in (0, 1) for r in (False, True)])

segment_recurrence: Primitive = Primitive(
    "segment_recurrence", _segment_type, _segment_eval, _vjp, _jvp, partial(in_one, "segment_recurrence"),
    axes=subscripts("row|3 ..., row|3 ..., row|3 ..., row|3 -> row|3 ..."), linear="first", params={"reverse": bool},
    samples=lambda: [Sample((*_operands(6, 2), np.array([0, 0, 1, 1, 1, 3])), {"reverse": r}) for r in (False, True)])


def cumulative_product(x: Node, axis: int) -> Node:
    """Return the running product along an axis of any size, in the order of NumPy's multiplications."""
    later = has_previous(x, axis)
    return recurrence(ew.where(later, zeros_like(x), x), x, later, axis=axis, reverse=False)


def sums_of_runs(x: Node, goes_on: Node, axis: int, *ids: Node, reverse: bool = False) -> Node:
    """Return the running sums that begin anew where `goes_on` is false; `reverse`: from the end of each run."""
    return _again(x, full(1, x.shape, x.dtype), goes_on, axis, *ids, reverse=reverse)


def product(x: Node, axis: int) -> Node:
    """Return the product over an axis of any size, which is the last running product; 1 of no factors."""
    n = x.shape[axis]
    place, others = iota(size=n), tuple(i for i in range(x.ndim) if i != axis)
    last = ew.eq(place, broadcast_along(size_scalar(n - 1, place.dtype), (n,), (0,)))
    last = ew.where(broadcast_along(last, x.shape, others), cumulative_product(x, axis), zeros_like(x))
    total = sum_(last, axes=(axis,))
    count = broadcast_along(size_scalar(n, place.dtype), total.shape, tuple(range(total.ndim)))
    return ew.where(ew.eq(count, zeros_like(count)), full(1, total.shape, total.dtype), total)

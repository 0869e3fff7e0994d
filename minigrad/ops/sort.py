"""Operations along an ordered axis: cumulative sums and extremes, sorting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..axes import ORDERED, along
from ..combiners import ADD, FMAX, FMIN, MAX, MIN
from ..families import discrete, linear, require_float
from ..graph import ArrayType, Node, full, zeros_like
from ..primitive import ArrayNamespace, Combiner, Primitive, Sample
from ..symbolic import differs
from ..tracing import number
from . import elementwise as ew
from .accumulators import accumulator, running
from .index import take_along_axis
from .recurrence import has_previous, previous, sums_of_runs
from .reduce import require_number
from .shape import concatenate, flip, require_axes, section


def _samples(order: int = 2) -> list[Sample]:
    x = np.random.default_rng(4).permutation(12.0 * np.arange(1, 13)).reshape(3, 4) / 40
    return [Sample((x,), {"axis": a}, order=order) for a in (0, 1)]


cumsum: Primitive = linear(
    "cumsum", lambda t, *, axis: require_axes("cumsum", require_number("cumsum", t), axis),
    lambda xp, x, *, axis: running(xp, x, axis),
    lambda g, x, *, axis: flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,)),
    axes=along("axis", ORDERED), combiner=ADD, params={"axis": int}, samples=_samples)


# -- cumulative extremes -----------------------------------------------------------------------------


def _cumulative_extreme(name: str, by: Combiner, pair: Primitive, ignores_nan: bool = False) -> Primitive:
    """Declare the cumulative maximum or minimum: equal elements share each cotangent.

    The results are monotonic, so that equal ones form runs, which contain the elements that attain them. No element
    attains NaN.
    """

    def type_rule(t: ArrayType, *, axis: int) -> ArrayType:
        if ignores_nan:
            require_float(name, t)
        return require_axes(name, t, axis)

    evaluate = running_extreme(by, pair, ignores_nan)

    def vjp(g: Node, out: Node, x: Node, *, axis: int) -> list[Node]:
        if differs(x.shape[axis]):
            return [shared_cotangent(g, out, x, axis)]
        hit, count = _attained(out, x, axis)
        share = ew.cast_to(g, count.dtype) / count
        share, reached = (flip(y, axes=(axis,)) for y in (share, out))
        total = flip(_sums_in_runs(share, reached, axis), axes=(axis,))
        return [ew.where(hit, ew.cast_to(total, x.dtype), zeros_like(x))]

    def jvp(ts: Sequence[Node], out: Node, x: Node, *, axis: int) -> Node:
        if differs(x.shape[axis]):
            return mean_tangent(ts[0], out, x, axis)
        hit, count = _attained(out, x, axis)
        moved = ew.cast_to(ew.where(hit, ts[0], zeros_like(x)), count.dtype)
        return ew.cast_to(_sums_in_runs(moved, out, axis) / count, x.dtype)

    return Primitive(name, type_rule, evaluate, vjp, jvp, axes=along("axis", ORDERED), combiner=by, samples=_samples)


def running_extreme(by: Combiner, pair: Primitive, ignores_nan: bool) -> Callable[..., np.ndarray]:
    """Return the evaluation of a cumulative maximum or minimum along an axis."""
    def combined(xp: ArrayNamespace, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        best: np.ndarray = pair.eval(xp, later, earlier)
        if not ignores_nan:
            return best
        return xp.where(xp.isnan(later), earlier, xp.where(xp.isnan(earlier), later, best))

    def evaluate(xp: ArrayNamespace, x: np.ndarray, *, axis: int) -> np.ndarray:
        if xp is np:
            return by.ufunc.accumulate(x, axis=axis)
        n, reach = x.shape[axis], 1
        while reach < n:
            first, later, earlier = (x[(slice(None),) * axis + (cut, ...)] for cut in (
                slice(0, reach), slice(reach, n), slice(0, n - reach)))
            x = xp.concat((first, combined(xp, later, earlier)), axis=axis)
            reach *= 2
        return x

    return evaluate


def _hits(out: Node, x: Node, axis: int, *ids: Node) -> tuple[Node, Node, Node]:
    """Return the masks of elements that continue a run of extremes and that attain it, and their number so far."""
    same = ew.logical_and(ew.eq(out, previous(out, axis, *ids)), has_previous(out, axis, *ids))
    hit = ew.eq(x, out)
    count = sums_of_runs(ew.cast_to(hit, accumulator(x.dtype)), same, axis, *ids)
    return same, hit, ew.maximum(count, full(1, count.shape, count.dtype))


def shared_cotangent(g: Node, out: Node, x: Node, axis: int, *ids: Node) -> Node:
    """Return the cotangent of `x`, in which equal elements share each one; `ids` name segments of the rows."""
    same, hit, count = _hits(out, x, axis, *ids)
    total = sums_of_runs(ew.cast_to(g, count.dtype) / count, same, axis, *ids, reverse=True)
    return ew.where(hit, ew.cast_to(total, x.dtype), zeros_like(x))


def mean_tangent(t: Node, out: Node, x: Node, axis: int, *ids: Node) -> Node:
    """Return the tangent of `out`: the mean of those of the elements that attain it."""
    same, hit, count = _hits(out, x, axis, *ids)
    moved = ew.cast_to(ew.where(hit, t, zeros_like(x)), count.dtype)
    return ew.cast_to(sums_of_runs(moved, same, axis, *ids) / count, x.dtype)


def _attained(out: Node, x: Node, axis: int) -> tuple[Node, Node]:
    """Return the mask of elements equal to their extreme, and their number so far."""
    n, hit = number(x.shape[axis]), ew.eq(x, out)
    if n < 2:
        return hit, full(1, x.shape, accumulator(x.dtype))
    ones = ew.cast_to(hit, np.dtype(np.int64))
    count, zeros = cumsum(ones, axis=axis), zeros_like(ones)
    begins = concatenate(full(True, section(hit, axis, 0, 1).shape, hit.dtype),
                         ew.ne(section(out, axis, 1, n - 1), section(out, axis, 0, n - 1)), axis=axis)
    count = count - cummax(ew.where(begins, count - ones, zeros), axis=axis)
    return hit, ew.cast_to(ew.maximum(count, full(1, x.shape, ones.dtype)), accumulator(x.dtype))


def _sums_in_runs(x: Node, out: Node, axis: int) -> Node:
    """Return the cumulative sums of `x` in each run of equal elements of `out`, by doubling."""
    n, reach = number(x.shape[axis]), 1
    while reach < n:
        first, later, earlier = (section(x, axis, *cut) for cut in ((0, reach), (reach, n - reach), (0, n - reach)))
        same = ew.eq(section(out, axis, reach, n - reach), section(out, axis, 0, n - reach))
        x = concatenate(first, later + ew.where(same, earlier, zeros_like(earlier)), axis=axis)
        reach *= 2
    return x


cummax = _cumulative_extreme("cummax", MAX, ew.maximum)
cummin = _cumulative_extreme("cummin", MIN, ew.minimum)
cumfmax = _cumulative_extreme("cumfmax", FMAX, ew.maximum, ignores_nan=True)
cumfmin = _cumulative_extreme("cumfmin", FMIN, ew.minimum, ignores_nan=True)

# -- sorting -----------------------------------------------------------------------------------------


def _argsort_type(t: ArrayType, *, axis: int) -> ArrayType:
    return ArrayType(require_axes("argsort", t, axis).shape, np.dtype(np.int64))


argsort = discrete(
    "argsort", _argsort_type,
    lambda xp, x, *, axis: np.argsort(x, axis=axis, kind="stable") if xp is np else xp.argsort(x, axis=axis),
    axes=along("axis", ORDERED),
    flops=lambda node, value, count: value(node.type.size) * math.log2(max(value(node.shape[node.params["axis"]]), 1)),
    samples=partial(_samples, 0))


def sort(x: Node, axis: int) -> Node:
    """Sort `x` along an axis; ties keep their order."""
    return take_along_axis(x, argsort(x, axis=axis), axis)

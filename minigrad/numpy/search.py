"""Finding where numbers stand in an order: searchsorted, digitize, interp, histogram, membership, partitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..ops.index import scatter_add
from ..tracing import number
from .array import Array, any_traced, as_array, as_axis, as_int, as_ints, implements
from .reductions import argsort, sort
from .shaping import where


@implements(np.searchsorted)
def searchsorted(a, v, side="left", sorter=None):
    """Where each of `v` would have to stand in the sorted vector `a`, by bisection; NaN stands last.

    The positions are integers: no gradient flows.
    """
    if side not in ("left", "right"):
        raise ShapeError(at_user_line(f"np.searchsorted: side must be 'left' or 'right', not {side!r}"))
    a, v = as_array(a), as_array(v)
    if a.ndim != 1:
        raise ShapeError(at_user_line(f"np.searchsorted in {a._node.type}: needs one sorted axis; use mg.vmap for "
                                      "rows"))
    if sorter is not None:
        a = a[as_array(sorter)]
    n = number(a._node.shape[0])
    dtype = np.result_type(a.dtype, v.dtype)
    if dtype == np.bool_:
        dtype = np.dtype(np.int64)
    a, v = a.astype(dtype), v.astype(dtype)
    place = np.zeros_like(v, dtype=np.int64)
    for k in reversed(range(n.bit_length())):
        further = place + (1 << k)
        before = a[np.minimum(further, n) - 1]
        ahead = _before(before, v) if side == "left" else ~_before(v, before)
        place = where((further <= n) & ahead, further, place)
    return place


def _before(x: Array, y: Array) -> Array:
    """Whether `x` comes before `y` in NumPy's order, in which NaN is the largest number."""
    return (x < y) | (np.isnan(y) & ~np.isnan(x)) if x.dtype.kind == "f" else x < y


@implements(np.digitize)
def digitize(x, bins, right=False):
    """Index of the bin of each of `x`; the bins must rise or fall, and traced bins are trusted to do so."""
    edges = as_array(bins)
    if edges.ndim != 1:
        raise ShapeError(at_user_line(f"np.digitize with bins {edges._node.type}: needs one axis of edges"))
    n = number(edges._node.shape[0])
    side = "left" if right else "right"
    if n < 2:
        return searchsorted(edges, x, side)
    if any_traced([bins]):
        falling = edges[0] > edges[-1]
        place = searchsorted(where(falling, edges[::-1], edges), x, side)
        return where(falling, n - place, place)
    edges = np.asarray(bins)
    steps = np.diff(edges)
    if not np.any(steps < 0):
        return searchsorted(edges, x, side)
    if np.any(steps > 0):
        raise ShapeError(at_user_line("np.digitize: bins must be monotonically increasing or decreasing"))
    return n - searchsorted(edges[::-1], x, side)


@implements(np.isin)
def isin(element, test_elements, assume_unique=False, invert=False, *, kind=None):
    """Whether each element is one of `test_elements`."""
    x, y = as_array(element), as_array(test_elements).ravel()
    found = (np.expand_dims(x, -1) == y).any(axis=-1)
    return ~found if invert else found


@implements(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """Linear interpolation; differentiable in `x`, `xp` and `fp`. At a knot the slope is that to its right."""
    x, xp, fp = (v if v.dtype == np.float64 else v.astype(np.float64) for v in map(as_array, (x, xp, fp)))
    if xp.ndim != 1 or fp.ndim != 1 or number(xp._node.shape[0]) != number(fp._node.shape[0]):
        raise ShapeError(at_user_line(f"np.interp: xp and fp must be vectors of one length, not {xp._node.type} and "
                                      f"{fp._node.type}"))
    if period is not None:
        if not period:
            raise ShapeError(at_user_line("np.interp: period must not be 0"))
        period = abs(period)
        x, xp = x % period, xp % period
        order = argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    n = number(xp._node.shape[0])
    if not n:
        raise ShapeError(at_user_line("np.interp of no points"))
    j = np.clip(searchsorted(xp, x, "right") - 1, 0, max(n - 2, 0))
    k = np.minimum(j + 1, n - 1)
    x0, f0, width = xp[j], fp[j], xp[k] - xp[j]
    there = width > 0
    inside = f0 + (fp[k] - f0) / where(there, width, 1.0) * (x - x0)
    out = where(there, inside, where(x >= xp[k], fp[k], f0))
    out = where(x < xp[0], fp[0] if left is None else left, where(x > xp[-1], fp[-1] if right is None else right, out))
    return where(np.isnan(x), x, out)


@implements(np.histogram)
def histogram(a, bins=10, range=None, density=None, weights=None):
    """Counts, or sums of weights, per bin; gradients flow to the weights alone, since a count has none."""
    if isinstance(bins, str):
        raise TraceError(at_user_line(f"np.histogram with bins={bins!r}: how many bins there are would depend on data. "
                                      "Give a number or the edges"))
    x = as_array(a).ravel()
    edges = histogram_bin_edges(a, bins, range)
    n = int(edges.shape[0]) - 1
    if n < 1:
        raise ShapeError(at_user_line(f"np.histogram: {n + 1} edges have no bin between them"))
    at = searchsorted(edges, x, "right") - 1
    at = where(x == edges[-1], n - 1, at)
    there = (at >= 0) & (at < n)
    if weights is None:
        w = there.astype(np.int64)
    else:
        w = as_array(weights).ravel()
        w = where(there, w if w.dtype != np.bool_ else w.astype(np.int64), 0)
    at = where(there, at, 0)
    counts = Array(scatter_add(w._node, at._node, shape=(n,)))
    if density:
        counts = counts / np.diff(edges).astype(float) / counts.sum()
    return counts, edges


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a, bins=10, range=None, weights=None):
    """The edges that `histogram` uses."""
    if isinstance(bins, str):
        raise TraceError(at_user_line(f"np.histogram_bin_edges with bins={bins!r}: how many there are would depend on "
                                      "data. Give a number"))
    if np.ndim(bins):
        return bins if isinstance(bins, Array) else np.asarray(bins)
    x, bins = as_array(a), as_int(bins, "histogram", "bins")
    if range is not None:
        return np.histogram_bin_edges(np.zeros(0, x.dtype), bins, range)
    low, high = x.min(), x.max()
    if x.dtype.kind != "f":
        low, high = low.astype(float), high.astype(float)
    flat = low == high
    return np.linspace(where(flat, low - 0.5, low), where(flat, high + 0.5, high), int(bins) + 1)


@implements(np.lexsort)
def lexsort(keys, axis=-1):
    """Indices that sort by the last key, then by the one before it, and so on."""
    rows = [as_array(k) for k in (keys if isinstance(keys, (list, tuple)) else as_array(keys))]
    a = as_axis(axis, rows[0].ndim, "lexsort")
    order = argsort(rows[0], a)
    for key in rows[1:]:
        order = np.take_along_axis(order, argsort(np.take_along_axis(key, order, a), a), a)
    return order


@implements(np.partition)
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """The sorted array, which is partitioned at every `kth`."""
    as_ints(kth, "partition", "kth")
    return sort(a, axis)


@implements(np.argpartition)
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    """The indices that sort, which partition at every `kth`."""
    as_ints(kth, "argpartition", "kth")
    return argsort(a, axis)


def _whole(name: str, x: Any) -> Array:
    x = as_array(x)
    if x.dtype.kind not in "iu":
        raise DtypeError(at_user_line(f"np.{name}: needs integers, got {x._node.type}"))
    return x


@implements(np.unravel_index)
def unravel_index(indices, shape, order="C"):
    """Index arrays from an index into the flattened array."""
    x = _whole("unravel_index", indices)
    parts = []
    for n in (reversed(tuple(shape)) if order == "C" else tuple(shape)):
        parts.append(x % int(n))
        x = x // int(n)
    return tuple(reversed(parts)) if order == "C" else tuple(parts)


@implements(np.ravel_multi_index)
def ravel_multi_index(multi_index, dims, mode="raise", order="C"):
    """The index into the flattened array; an index out of range is not noticed unless `mode` clips or wraps it."""
    flat: Any = 0
    modes = mode if isinstance(mode, tuple) else (mode,) * len(dims)
    pairs = list(zip(multi_index, dims, modes, strict=True))
    for i, n, how in pairs if order == "C" else reversed(pairs):
        i = _whole("ravel_multi_index", i)
        i = np.clip(i, 0, n - 1) if how == "clip" else i % n if how == "wrap" else i
        flat = flat * n + i
    return flat

"""Searching: extreme positions, counts, membership, places in an order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, at_user_line
from ..ops import reduce
from ..primitive import Primitive
from ..sizes import shown
from ..symbolic import differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, counted, one_axis
from .dispatch import any_traced, implements
from .elementwise import where
from .manipulation import expand_dims
from .reductions import keep_axes, sum_


def _arg(numpys: Callable[..., object], prim: Primitive) -> Callable[..., Array]:
    @implements(numpys, doc=f"Return the index of the first {prim.name[3:]}imum along an axis.")
    def function(a: ArrayLike, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Array:
        whole = as_array(a)._node
        x, a_ = one_axis(a, axis, prim.name)
        return keep_axes(prim(x, axis=a_), whole, tuple(range(whole.ndim)) if axis is None else (a_,), keepdims)

    return function


argmax, argmin = _arg(np.argmax, reduce.argmax), _arg(np.argmin, reduce.argmin)


@implements(np.count_nonzero)
def count_nonzero(a: ArrayLike, axis: Axes = None, *, keepdims: bool = False) -> Array:
    """Return the number of non-zero elements along axes."""
    return sum_(as_array(a) != 0, axis, keepdims=keepdims)


@implements(np.searchsorted)
def searchsorted(a: ArrayLike, v: ArrayLike, side: str = "left", sorter: ArrayLike | None = None) -> Array:
    """Return the place of each of `v` in the sorted vector `a`, by bisection.

    NaN comes last.

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
    dtype = np.result_type(a.dtype, v.dtype)
    if dtype == np.bool_:
        dtype = np.dtype(np.int64)
    a, v = a.astype(dtype), v.astype(dtype)
    if differs(a._node.shape[0]):  # without a number of rounds: the count of those before
        a = a[(slice(None), *(None,) * v.ndim)]
        return sum_(_before(a, v) if side == "left" else ~_before(v, a), 0)
    n = number(a._node.shape[0])
    place = TABLE[np.zeros_like](v, dtype=np.int64)
    for k in reversed(range(n.bit_length())):
        further = place + (1 << k)
        before = a[TABLE[np.minimum](further, n) - 1]
        ahead = _before(before, v) if side == "left" else ~_before(v, before)
        place = where((further <= n) & ahead, further, place)
    return place


def _before(x: Array, y: Array) -> Array:
    """Return whether `x` comes before `y` in NumPy's order: NaN is the largest number."""
    return (x < y) | (np.isnan(y) & ~np.isnan(x)) if x.dtype.kind == "f" else x < y


@implements(np.digitize)
def digitize(x: ArrayLike, bins: ArrayLike, right: ArrayLike = False) -> Array:
    """Return the index of the bin of each element.

    Bins must rise or fall; of traced bins this is taken for granted.
    """
    edges = as_array(bins)
    if edges.ndim != 1:
        raise ShapeError(at_user_line(f"np.digitize with bins {edges._node.type}: needs one axis of edges"))
    side, size = "left" if right else "right", edges._node.shape[0]
    if differs(size):
        place = as_array(counted(size))
        falling = (edges < edges[TABLE[np.maximum](place - 1, 0)]).any()
        place = searchsorted(where(falling, edges[::-1], edges), x, side)
        return where(falling, as_array(shown(size)) - place, place)
    n = number(size)
    if n < 2:
        return searchsorted(edges, x, side)
    if any_traced([bins]):
        falling = edges[0] > edges[-1]
        place = searchsorted(where(falling, edges[::-1], edges), x, side)
        return where(falling, n - place, place)
    values = np.asarray(bins)
    steps = np.diff(values)
    if not np.any(steps < 0):
        return searchsorted(values, x, side)
    if np.any(steps > 0):
        raise ShapeError(at_user_line("np.digitize: bins must be monotonically increasing or decreasing"))
    return n - searchsorted(values[::-1], x, side)


@implements(np.isin)
def isin(element: ArrayLike, test_elements: ArrayLike, assume_unique: bool = False, invert: bool = False, *,
         kind: str | None = None) -> Array:
    """Return whether each element is among `test_elements`."""
    x, y = as_array(element), as_array(test_elements).ravel()
    among = (expand_dims(x, -1) == y).any(axis=-1)
    return ~among if invert else among

"""Sums, means, extremes and what else makes an axis go away; and cumulative sums and sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import Node, dtype_of, full
from ..ops import elementwise as ew
from ..ops import reduce
from ..ops import sort as ordering
from ..ops.accumulators import accumulator
from ..ops.constants import size_scalar
from ..ops.shape import concatenate, flip, reshape, section, slice_, transpose
from ..primitive import Primitive
from ..symbolic import Dim, Shape, size_of
from ..tracing import differs, number
from .array import (
    TABLE,
    Array,
    accumulates,
    as_array,
    as_axes,
    as_axis,
    as_int,
    broadcast_node,
    broadcast_shapes,
    held,
    implements,
)


def _keep(out: Node, x: Node, axes: tuple[int, ...], keepdims: Any) -> Array:
    if keepdims is True:
        out = reshape(out, shape=tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    return Array(out)


def _masked(x: Node, where: Any, value: Any) -> Node:
    """Return `x` with `value` where the mask of a reduction leaves it out."""
    if where is True or where is np._NoValue or where is None:
        return x
    mask = as_array(where)._node
    shape = broadcast_shapes("where=", [x.type, mask.type])
    return ew.where(broadcast_node(mask, shape), broadcast_node(x, shape), full(value, shape, x.dtype))


def given(initial: Any) -> bool:
    return initial is not None and initial is not np._NoValue


def filled(initial: Any, shape: Shape, dtype: np.dtype) -> Node:
    """Return the start of a reduction; as in NumPy it takes the dtype of the result, and does not decide it."""
    return broadcast_node(held(initial, dtype), shape)


@implements(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=True):
    """Sum over axes; bool and small integers add up in the platform's int, as in NumPy."""
    x = as_array(a)._node
    if dtype is None:
        dtype = np.add.reduce(np.empty(0, x.dtype)).dtype
    x = _masked(ew.cast_to(x, dtype_of(dtype)), where, 0)
    axes = as_axes(axis, x.ndim, "sum")
    total = reduce.sum_(x, axes=axes) if axes else x
    if given(initial):
        total = total + filled(initial, total.shape, total.dtype)
    return _keep(total, x, axes, keepdims)


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    """Arithmetic mean over axes; integers are averaged in float64."""
    x = as_array(a)._node
    dtype = dtype_of(dtype or (x.dtype if x.type.floating else np.float64))
    x = ew.cast_to(x, dtype)
    axes = as_axes(axis, x.ndim, "mean")
    if where is not True and where is not np._NoValue:
        mask, wide = Array(broadcast_node(as_array(where)._node, x.shape)), accumulator(dtype)
        total = sum_(Array(x), axis, dtype=wide, keepdims=keepdims, where=where)
        return (total / sum_(mask, axis, dtype=wide, keepdims=keepdims)).astype(dtype)
    return _keep(reduce.mean(x, axes=axes) if axes else x, x, axes, keepdims)


def _extreme(name: str, of_some: Primitive, or_worst: Primitive, pair: Primitive) -> Callable[..., Array]:
    def function(a, axis=None, out=None, keepdims=False, initial=None, where=True):
        x = as_array(a)._node
        axes = as_axes(axis, x.ndim, name)
        if where is not True and where is not np._NoValue:
            if not given(initial):
                raise ShapeError(at_user_line(f"np.{name} with where= needs initial=, as in NumPy"))
            x = _masked(x, where, of_some.combiner.identity(x.dtype))
        if given(initial) and any(x.shape[i] == 0 for i in axes):
            left = tuple(n for i, n in enumerate(x.shape) if i not in axes)
            return _keep(filled(initial, left, x.dtype), x, axes, keepdims)
        prim = or_worst if given(initial) and any(isinstance(x.shape[i], Dim) for i in axes) else of_some
        found = prim(x, axes=axes) if axes else x
        if given(initial):
            found = pair(found, filled(initial, found.shape, found.dtype))
        return _keep(found, x, axes, keepdims)

    function.__doc__ = f"The {name} over axes; elements that tie share its gradient equally."
    return function


max_ = implements(np.max, np.amax, name="max")(
    _extreme("max", reduce.max_, reduce.max_or_least, ew.maximum))
min_ = implements(np.min, np.amin, name="min")(
    _extreme("min", reduce.min_, reduce.min_or_largest, ew.minimum))


@implements(np.ptp)
def ptp(a, axis=None, out=None, keepdims=False):
    """Range (maximum minus minimum) over axes."""
    return max_(a, axis, out, keepdims) - min_(a, axis, out, keepdims)


@implements(np.prod)
@accumulates
def prod(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=True):
    """Product over axes, as a tree of multiplications: exact derivatives of every order, zeros included."""
    x = as_array(a)._node
    if dtype is None:
        dtype = np.multiply.reduce(np.empty(0, x.dtype)).dtype
    x = whole = _masked(ew.cast_to(x, dtype_of(dtype)), where, 1)
    axes = as_axes(axis, x.ndim, "prod")
    for a_ in reversed(axes):
        while (n := number(x.shape[a_])) > 1:
            half, odd = divmod(n, 2)
            halves = _cut(x, a_, 0, half) * _cut(x, a_, half, 2 * half)
            x = halves if not odd else _join(halves, _cut(x, a_, n - 1, n), a_)
        left = tuple(m for i, m in enumerate(x.shape) if i != a_)
        x = reshape(x, shape=left) if n else full(1, left, x.dtype)
    if given(initial):
        x = x * filled(initial, x.shape, x.dtype)
    return _keep(x, whole, axes, keepdims)


def _cut(x: Node, axis: int, low: int, high: int) -> Node:
    return slice_(x, start=tuple(low if a == axis else 0 for a in range(x.ndim)),
                  stop=tuple(high if a == axis else n for a, n in enumerate(x.shape)), step=(1,) * x.ndim)


def _join(a: Node, b: Node, axis: int) -> Node:
    # The last of an odd number of factors joins the last product of the halves.
    n = a.shape[axis]
    last = _cut(a, axis, n - 1, n) * b
    return last if n == 1 else concatenate(_cut(a, axis, 0, n - 1), last, axis=axis)


def _truth(name: str, prim: Primitive) -> Callable[..., Array]:
    def function(a, axis=None, out=None, keepdims=False, *, where=True):
        x = as_array(a)._node
        if x.dtype != np.bool_:
            x = ew.ne(x, full(0, x.shape, x.dtype))
        x = _masked(x, where, name == "all")
        axes = as_axes(axis, x.ndim, name)
        return _keep(prim(x, axes=axes) if axes else x, x, axes, keepdims)

    function.__doc__ = f"Whether {name} of the elements along axes hold."
    return function


any_ = implements(np.any, name="any")(_truth("any", reduce.any_))
all_ = implements(np.all, name="all")(_truth("all", reduce.all_))


def _arg(name: str, prim: Primitive) -> Callable[..., Array]:
    def function(a, axis=None, out=None, *, keepdims=False):
        x = as_array(a)._node
        if axis is None:
            flat = reshape(x, shape=(x.type.size,))
            return _keep(prim(flat, axis=0), x, tuple(range(x.ndim)), keepdims)
        a_ = as_axis(axis, x.ndim, name)
        return _keep(prim(x, axis=a_), x, (a_,), keepdims)

    function.__doc__ = f"Index of the first {name[3:]}imum along an axis."
    return function


argmax = implements(np.argmax, name="argmax")(_arg("argmax", reduce.argmax))
argmin = implements(np.argmin, name="argmin")(_arg("argmin", reduce.argmin))


@implements(np.var)
@accumulates
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=None, correction=None):
    """Variance over axes, with `ddof` (or `correction`) taken off the count."""
    x = as_array(a)
    if where is not True and where is not np._NoValue:
        raise TraceError(at_user_line("np.var with where=: write it with two masked means"))
    x = Array(ew.cast_to(x._node, dtype_of(dtype or (x.dtype if x.dtype.kind == "f" else np.float64))))
    ddof = ddof if correction is None else correction
    center = _MEAN(x, axis, keepdims=True) if mean is None or mean is np._NoValue else as_array(mean)
    squares = (x - center) ** 2
    if not ddof:
        return _MEAN(squares, axis, keepdims=keepdims)
    count = size_scalar(size_of(x._node.shape[a] for a in as_axes(axis, x.ndim, "var")), x.dtype)
    return sum_(squares, axis, keepdims=keepdims) / np.maximum(Array(count) - ddof, 0)


_MEAN = mean


@implements(np.std)
@accumulates
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=None, correction=None):
    """Standard deviation over axes; where it is 0, so is its gradient."""
    square = var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    return Array(ew.norm_of(square._node))


@implements(np.average)
@accumulates
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """Weighted mean over axes."""
    if weights is None:
        out, total = mean(a, axis, keepdims=keepdims), None
    else:
        x, w = as_array(a), as_array(weights)
        dtype = np.result_type(x.dtype, w.dtype, *([] if x.dtype.kind == "f" else [np.float64]))
        x, w = x.astype(dtype), w.astype(dtype)
        if x.ndim != w.ndim:
            if not isinstance(axis, int) or w.ndim != 1:
                raise ShapeError(at_user_line("np.average: weights need the shape of a, or one axis and 1-d weights"))
            w = Array(reshape(w._node, shape=tuple(
                w._node.shape[0] if i == axis % x.ndim else 1 for i in range(x.ndim))))
            w = w * np.ones_like(x)
        total = sum_(w, axis, keepdims=keepdims)
        out = sum_(x * w, axis, keepdims=keepdims) / total
    if returned:
        return out, total if total is not None else np.full_like(out, 1) * (np.size(a) // np.size(out))
    return out


# -- along an axis -----------------------------------------------------------------------------------------


@implements(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    """Cumulative sum along an axis, or of the flattened array."""
    x, a_ = _one_axis(a, axis, "cumsum")
    dtype = np.add.reduce(np.empty(0, x.dtype)).dtype if dtype is None else dtype
    return Array(ordering.cumsum(ew.cast_to(x, dtype_of(dtype)), axis=a_))


@implements(np.cumprod)
@accumulates
def cumprod(a, axis=None, dtype=None, out=None):
    """Cumulative product along an axis, by doubling: exact derivatives of every order, zeros included."""
    x, a_ = _one_axis(a, axis, "cumprod")
    x = ew.cast_to(x, dtype_of(np.multiply.reduce(np.empty(0, x.dtype)).dtype if dtype is None else dtype))
    n, reach = number(x.shape[a_]), 1
    while reach < n:
        x = concatenate(_cut(x, a_, 0, reach), _cut(x, a_, reach, n) * _cut(x, a_, 0, n - reach), axis=a_)
        reach *= 2
    return Array(x)


@implements(np.cumulative_sum)
def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    """Cumulative sum by the array API's rules."""
    x = as_array(x)
    if axis is None and x.ndim > 1:
        raise ShapeError(at_user_line("cumulative_sum: an array of several axes needs axis="))
    out = cumsum(x, 0 if axis is None else axis, dtype)
    if include_initial:
        a_ = as_axis(0 if axis is None else axis, x.ndim, "cumulative_sum")
        first = tuple(1 if a == a_ else n for a, n in enumerate(out._node.shape))
        out = Array(concatenate(full(0, first, out.dtype), out._node, axis=a_))
    return out


def _one_axis(a: Any, axis: Any, name: str) -> tuple[Node, int]:
    x = as_array(a)._node
    if axis is None:
        return reshape(x, shape=(x.type.size,)), 0
    return x, as_axis(axis, x.ndim, name)


@implements(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None, descending=False):
    """Sort along an axis; gradients follow the elements, and ties keep their order."""
    x, a_ = _one_axis(a, axis, "sort")
    out = ordering.sort(x, a_)
    return Array(flip(out, axes=(a_,)) if descending else out)


@implements(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None, descending=False):
    """Indices that sort along an axis, stable."""
    x, a_ = _one_axis(a, axis, "argsort")
    out = ordering.argsort(x, axis=a_)
    return Array(flip(out, axes=(a_,)) if descending else out)


@implements(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """Median over axes; nan where there is one."""
    x = whole = as_array(a)._node
    axes = as_axes(axis, x.ndim, "median")
    if not x.type.floating:
        x = ew.cast_to(x, np.dtype(np.float64))
    kept = [i for i in range(x.ndim) if i not in axes]
    n = number(size_of(x.shape[i] for i in axes))
    if n == 0:
        raise ShapeError(at_user_line(f"np.median of an empty axis of {x.type}"))
    rows = reshape(transpose(x, perm=(*kept, *axes)), shape=(*(x.shape[i] for i in kept), n))
    at = len(kept)
    ordered = ordering.sort(rows, at)
    middle = reduce.mean(_cut(ordered, at, (n - 1) // 2, n // 2 + 1), axes=(at,))
    last = reshape(_cut(ordered, at, n - 1, n), shape=middle.shape)  # NaN sorts last
    return _keep(ew.where(ew.isnan(last), last, middle), whole, axes, keepdims)


@implements(np.diff)
def diff(a, n=1, axis=-1, prepend=None, append=None):
    """The n-th difference along an axis."""
    x, a_ = _one_axis(a, axis, "diff")
    ends = [None if not given(v) else _at_end(v, x, a_) for v in (prepend, append)]
    if any(e is not None for e in ends):
        parts = [n for n in (ends[0], x, ends[1]) if n is not None]
        dtype = np.result_type(*(n.dtype for n in parts))
        x = concatenate(*(ew.cast_to(n, dtype) for n in parts), axis=a_)
    if x.dtype == np.bool_:
        raise DtypeError(at_user_line("np.diff of bools: cast them to int first"))
    for _ in range(as_int(n, "diff", "n")):
        m = x.shape[a_]
        if differs(m):
            x = section(x, a_, 1, m - 1) - section(x, a_, 0, m - 1)
            continue
        m = number(m)
        x = _cut(x, a_, min(1, m), m) - _cut(x, a_, 0, max(m - 1, 0))
    return Array(x)


def _at_end(values: Any, x: Node, axis: int) -> Node:
    """Return what stands before or after `x` in a difference: a number stands for one slice."""
    node = as_array(values)._node
    return node if node.ndim else broadcast_node(node, tuple(1 if a == axis else n for a, n in enumerate(x.shape)))


@implements(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    """Number of non-zero elements along axes."""
    return sum_(as_array(a) != 0, axis, keepdims=keepdims)


for _name in ("sum", "mean", "max", "min", "ptp", "prod", "any", "all", "argmax", "argmin", "var", "std", "cumsum",
              "cumprod", "argsort"):
    setattr(Array, _name, TABLE[getattr(np, _name)])

"""Reductions: sums, means, extremes, products over axes; cumulative and ufunc reductions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import Node, Number, dtype_of, full
from ..ops import elementwise as ew
from ..ops import reduce
from ..ops import sort as ordering
from ..ops.accumulators import accumulator
from ..ops.constants import size_scalar
from ..ops.mean import mean as mean_
from ..ops.recurrence import cumulative_product, has_previous, previous, product, recurrence
from ..ops.shape import concatenate, reshape, section
from ..primitive import Primitive
from ..symbolic import Dim, Shape, differs, size_of
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, as_axes, as_axis, broadcast_node, broadcast_shapes, checked_cast, given, masks, one_axis
from .dispatch import UFUNC_METHODS, accumulates, implements

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- over axes -----------------------------------------------------------------------------------------------


def keep_axes(out: Node, x: Node, axes: tuple[int, ...], keepdims: bool) -> Array:
    """Return the reduction of `x` over axes, which stay as axes of size 1 by `keepdims`."""
    if keepdims is True:
        out = reshape(out, shape=tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    return Array(out)


def _masked(x: Node, where: ArrayLike, value: Number) -> Node:
    """Return `x` with `value` where the mask of a reduction leaves it out."""
    if not masks(where):
        return x
    mask = as_array(where)._node
    shape = broadcast_shapes("where=", [x, mask])
    return ew.where(broadcast_node(mask, shape), broadcast_node(x, shape), full(value, shape, x.dtype))


def initial_value(initial: ArrayLike, shape: Shape, dtype: np.dtype) -> Node:
    """Return the start of a reduction in its shape and dtype."""
    return broadcast_node(checked_cast(initial, dtype), shape)


@implements(np.sum)
def sum_(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, keepdims: bool = False,
         initial: ArrayLike | None = None, where: ArrayLike = True) -> Array:
    """Return the sum over axes; bools and small integers add up in the platform's int."""
    x = as_array(a)._node
    if dtype is None:
        dtype = np.add.reduce(np.empty(0, x.dtype)).dtype
    x = _masked(ew.cast_to(x, dtype_of(dtype)), where, 0)
    axes = as_axes(axis, x.ndim, "sum")
    total = reduce.sum_(x, axes=axes) if axes else x
    if given(initial):
        total = total + initial_value(initial, total.shape, total.dtype)
    return keep_axes(total, x, axes, keepdims)


@implements(np.mean)
def mean(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, keepdims: bool = False, *,
         where: ArrayLike = True) -> Array:
    """Return the arithmetic mean over axes, of integers in float64."""
    x = as_array(a)._node
    dtype = dtype_of(dtype or (x.dtype if x.type.floating else np.float64))
    x = ew.cast_to(x, dtype)
    axes = as_axes(axis, x.ndim, "mean")
    if masks(where):
        mask, wide = Array(broadcast_node(as_array(where)._node, x.shape)), accumulator(dtype)
        total = sum_(Array(x), axis, dtype=wide, keepdims=keepdims, where=where)
        return (total / sum_(mask, axis, dtype=wide, keepdims=keepdims)).astype(dtype)
    return keep_axes(mean_(x, axes=axes) if axes else x, x, axes, keepdims)


def _extreme(of_some: Primitive, or_worst: Primitive, pair: Primitive, *numpys: Callable[..., object]
             ) -> Callable[..., Array]:
    name, combiner = of_some.name, of_some.combiner
    assert combiner is not None

    @implements(*numpys, doc=f"Return the {name} over axes; ties share its gradient equally.")
    def function(a: ArrayLike, axis: Axes = None, out: None = None, keepdims: bool = False,
                 initial: ArrayLike | None = None, where: ArrayLike = True) -> Array:
        x = as_array(a)._node
        axes = as_axes(axis, x.ndim, name)
        if masks(where):
            if not given(initial):
                raise ShapeError(at_user_line(f"np.{name} with where= needs initial=, as in NumPy"))
            x = _masked(x, where, combiner.identity(x.dtype))
        if given(initial) and any(x.shape[i] == 0 for i in axes):
            left = tuple(n for i, n in enumerate(x.shape) if i not in axes)
            return keep_axes(initial_value(initial, left, x.dtype), x, axes, keepdims)
        prim = or_worst if given(initial) and any(isinstance(x.shape[i], Dim) for i in axes) else of_some
        extreme = prim(x, axes=axes) if axes else x
        if given(initial):
            extreme = pair(extreme, initial_value(initial, extreme.shape, extreme.dtype))
        return keep_axes(extreme, x, axes, keepdims)

    return function


max_ = _extreme(reduce.max_, reduce.max_or_least, ew.maximum, np.max, np.amax)
min_ = _extreme(reduce.min_, reduce.min_or_largest, ew.minimum, np.min, np.amin)


@implements(np.ptp)
def ptp(a: ArrayLike, axis: Axes = None, out: None = None, keepdims: bool = False) -> Array:
    """Return the maximum minus the minimum over axes."""
    return max_(a, axis, out, keepdims) - min_(a, axis, out, keepdims)


@implements(np.prod)
@accumulates
def prod(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, keepdims: bool = False,
         initial: ArrayLike | None = None, where: ArrayLike = True) -> Array:
    """Return the product over axes, as a tree of multiplications.

    Derivatives of every order are exact, zeros included.
    """
    x = as_array(a)._node
    if dtype is None:
        dtype = np.multiply.reduce(np.empty(0, x.dtype)).dtype
    x = whole = _masked(ew.cast_to(x, dtype_of(dtype)), where, 1)
    axes = as_axes(axis, x.ndim, "prod")
    for a_ in reversed(axes):
        if differs(x.shape[a_]):
            x = product(x, a_)
            continue
        while (n := number(x.shape[a_])) > 1:
            half, odd = divmod(n, 2)
            halves = slice_along(x, a_, 0, half) * slice_along(x, a_, half, 2 * half)
            x = halves if not odd else _join(halves, slice_along(x, a_, n - 1, n), a_)
        left = tuple(m for i, m in enumerate(x.shape) if i != a_)
        x = reshape(x, shape=left) if n else full(1, left, x.dtype)
    if given(initial):
        x = x * initial_value(initial, x.shape, x.dtype)
    return keep_axes(x, whole, axes, keepdims)


def slice_along(x: Node, axis: int, low: int | Dim, high: int | Dim) -> Node:
    """Return the slice from `low` to `high` along an axis."""
    return section(x, axis, low, high - low)


def _join(a: Node, b: Node, axis: int) -> Node:
    # The last of an odd number of factors joins the last product of the halves.
    n = a.shape[axis]
    last = slice_along(a, axis, n - 1, n) * b
    return last if n == 1 else concatenate(slice_along(a, axis, 0, n - 1), last, axis=axis)


def _truth(numpys: Callable[..., object], prim: Primitive) -> Callable[..., Array]:
    @implements(numpys, doc=f"Return whether {prim.name} of the elements along axes hold.")
    def function(a: ArrayLike, axis: Axes = None, out: None = None, keepdims: bool = False, *,
                 where: ArrayLike = True) -> Array:
        x = as_array(a)._node
        if x.dtype != np.bool_:
            x = ew.ne(x, full(0, x.shape, x.dtype))
        x = _masked(x, where, prim is reduce.all_)
        axes = as_axes(axis, x.ndim, prim.name)
        return keep_axes(prim(x, axes=axes) if axes else x, x, axes, keepdims)

    return function


any_, all_ = _truth(np.any, reduce.any_), _truth(np.all, reduce.all_)


@implements(np.var)
@accumulates
def var(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, ddof: float = 0,
        keepdims: bool = False, *, where: ArrayLike = True, mean: ArrayLike | None = None,
        correction: float | None = None) -> Array:
    """Return the variance over axes; the count is less by `ddof` or `correction`."""
    x = as_array(a)
    if masks(where):
        raise TraceError(at_user_line("np.var with where=: write it with two masked means"))
    x = Array(ew.cast_to(x._node, dtype_of(dtype or (x.dtype if x.dtype.kind == "f" else np.float64))))
    ddof = ddof if correction is None else correction
    center = _MEAN(x, axis, keepdims=True) if not given(mean) else as_array(mean)
    squares = (x - center) ** 2
    if not ddof:
        return _MEAN(squares, axis, keepdims=keepdims)
    count = size_scalar(size_of(x._node.shape[a] for a in as_axes(axis, x.ndim, "var")), x.dtype)
    return sum_(squares, axis, keepdims=keepdims) / np.maximum(Array(count) - ddof, 0)


_MEAN = mean


def deviation(variance: Callable[..., Array]) -> Callable[..., Array]:
    """Return the standard deviation of the arguments of a variance; its gradient at 0 is 0."""
    @accumulates
    @functools.wraps(variance)
    def root(a: ArrayLike, *args: object, **kwargs: object) -> Array:
        return Array(ew.norm_of(variance(a, *args, **kwargs)._node))

    return root


std = implements(np.std, doc="Return the standard deviation over axes; its gradient at 0 is 0.")(deviation(var))


@implements(np.average)
def average(a: ArrayLike, axis: Axes = None, weights: ArrayLike | None = None, returned: bool = False, *,
            keepdims: bool = False) -> Array | tuple[Array, Array]:
    """Return the weighted mean over axes."""
    if weights is None:
        out, total = mean(a, axis, keepdims=keepdims), None
    else:
        x, w = as_array(a), as_array(weights)
        dtype = np.result_type(x.dtype, w.dtype, *([] if x.dtype.kind == "f" else [np.float64]))
        x, w = (v.astype(accumulator(dtype)) for v in (x, w))
        if x.ndim != w.ndim:
            if not isinstance(axis, int) or w.ndim != 1:
                raise ShapeError(at_user_line("np.average: weights need the shape of a, or one axis and 1-d weights"))
            w = Array(reshape(w._node, shape=tuple(
                w._node.shape[0] if i == axis % x.ndim else 1 for i in range(x.ndim))))
            w = w * TABLE[np.ones_like](x)
        total = sum_(w, axis, keepdims=keepdims)
        out, total = (sum_(x * w, axis, keepdims=keepdims) / total).astype(dtype), total.astype(dtype)
    if returned and total is None:
        total = TABLE[np.full_like](out, 1) * (TABLE[np.size](a) // TABLE[np.size](out))
    return out if total is None or not returned else (out, total)


# -- along an axis -------------------------------------------------------------------------------------------


@implements(np.cumsum)
def cumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None) -> Array:
    """Return the cumulative sum along an axis, or of the flattened array."""
    x, a_ = one_axis(a, axis, "cumsum")
    dtype = np.add.reduce(np.empty(0, x.dtype)).dtype if dtype is None else dtype
    return Array(ordering.cumsum(ew.cast_to(x, dtype_of(dtype)), axis=a_))


@implements(np.cumprod)
@accumulates
def cumprod(a: ArrayLike, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None) -> Array:
    """Return the cumulative product along an axis, by doubling.

    Derivatives of every order are exact, zeros included.
    """
    x, a_ = one_axis(a, axis, "cumprod")
    x = ew.cast_to(x, dtype_of(np.multiply.reduce(np.empty(0, x.dtype)).dtype if dtype is None else dtype))
    return Array(accumulate_by_doubling(np.multiply, x, a_))


def _enter_cumulative(function: Callable[..., object], cumulate: Callable[..., Array], identity: int) -> None:
    name = function.__name__

    @implements(function, doc=f"Return the {name.replace('_', ' ')} by the rules of the array API.")
    def cumulative(x: ArrayLike, /, *, axis: int | None = None, dtype: DTypeLike | None = None, out: None = None,
                   include_initial: bool = False) -> Array:
        x = as_array(x)
        if axis is None and x.ndim != 1:
            raise ShapeError(at_user_line(f"{name}: an array of several axes needs axis="))
        a = as_axis(0 if axis is None else axis, x.ndim, name)
        node = cumulate(x, a, dtype)._node
        if include_initial:
            first = tuple(1 if i == a else n for i, n in enumerate(node.shape))
            node = concatenate(full(identity, first, node.dtype), node, axis=a)
        return Array(node)


_enter_cumulative(np.cumulative_sum, cumsum, 0)
_enter_cumulative(np.cumulative_prod, cumprod, 1)


# -- by a ufunc ----------------------------------------------------------------------------------------------


ASSOCIATIVE = (np.add, np.multiply, np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot,
               np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd,
               np.lcm)
_EXTREMES = {np.maximum: ordering.cummax, np.minimum: ordering.cummin, np.fmax: ordering.cumfmax,
             np.fmin: ordering.cumfmin}
_OF_NUMBERS = {np.fmax: np.maximum, np.fmin: np.minimum}  # of dtypes without NaN
_ANY_SIZE: dict[np.ufunc, Callable[[Array, int], Array]] = {
    np.add: lambda x, axis: Array(ordering.cumsum(x._node, axis=axis)),
    np.multiply: lambda x, axis: Array(cumulative_product(x._node, axis)),
    np.logaddexp: lambda x, axis: _cumulative_logsumexp(x, axis),
    np.hypot: lambda x, axis: TABLE[np.sqrt](cumsum(x * x, axis)),
    np.logical_and: lambda x, axis: Array(ordering.cummin(x._node, axis=axis)),
    np.logical_or: lambda x, axis: Array(ordering.cummax(x._node, axis=axis)),
    np.logical_xor: lambda x, axis: cumsum(x, axis) % 2 == 1}
_REDUCED: dict[np.ufunc, Callable[[Array, tuple[int, ...]], Array]] = {
    np.add: sum_, np.multiply: prod, np.maximum: max_, np.minimum: min_, np.logical_and: all_, np.logical_or: any_,
    np.logical_xor: lambda x, axes: sum_(x, axes) % 2 == 1, np.logaddexp: lambda x, axes: _logsumexp(x, axes),
    np.hypot: lambda x, axes: Array(ew.norm_of(sum_(x * x, axes)._node))}
_NAN_LEFT_OUT = {np.fmax: np.nanmax, np.fmin: np.nanmin}


def accumulate_by_doubling(ufunc: np.ufunc, x: Node, axis: int) -> Node:
    """Return the running reduction by an associative ufunc, in log2(n) steps.

    Each step doubles the reach. Extremes have a primitive: in pairs, three equal elements would share a cotangent
    as 1/4, 1/4 and 1/2.
    """
    if ufunc in _EXTREMES:
        cumulate = _EXTREMES[ufunc if x.type.floating else _OF_NUMBERS.get(ufunc, ufunc)]
        return cumulate(x if differs(x.shape[axis]) else slice_along(x, axis, 0, number(x.shape[axis])), axis=axis)
    if differs(x.shape[axis]) and ufunc in _ANY_SIZE:
        return _ANY_SIZE[ufunc](Array(x), axis)._node
    combine, n, reach = TABLE[ufunc], number(x.shape[axis]), 1
    while reach < n:
        later = combine(Array(slice_along(x, axis, reach, n)), Array(slice_along(x, axis, 0, n - reach)))._node
        x = concatenate(slice_along(x, axis, 0, reach), later, axis=axis)
        reach *= 2
    return x


def reduce_by_halving(ufunc: np.ufunc, x: Node, axes: tuple[int, ...]) -> Node:
    """Return the reduction by an associative ufunc over axes, by halving."""
    combine = TABLE[ufunc]
    if ufunc in _REDUCED and any(differs(x.shape[a]) for a in axes):
        return _REDUCED[ufunc](Array(x), axes)._node
    if ufunc in _NAN_LEFT_OUT and all(differs(n) or number(n) for n in (x.shape[a] for a in axes)):
        return TABLE[_NAN_LEFT_OUT[ufunc]](Array(x), axes)._node
    for a in sorted(axes, reverse=True):
        n = number(x.shape[a])
        if not n and ufunc.identity is None:
            raise ShapeError(at_user_line(f"np.{ufunc.__name__}.reduce of an empty axis of {x.type}"))
        if not n:
            x = full(ufunc.identity, tuple(m for i, m in enumerate(x.shape) if i != a), x.dtype)
            continue
        while n > 1:
            half, odd = divmod(n, 2)
            halves = combine(Array(slice_along(x, a, 0, half)), Array(slice_along(x, a, half, 2 * half)))._node
            x = halves if not odd else concatenate(halves, slice_along(x, a, n - 1, n), axis=a)
            n = half + odd
        x = reshape(x, shape=tuple(m for i, m in enumerate(x.shape) if i != a))
    return x


def _enter_ufunc(ufunc: np.ufunc) -> None:
    def accumulate(x: ArrayLike, axis: int = 0, dtype: DTypeLike | None = None, out: None = None) -> Array:
        x = _typed(ufunc, x, dtype)
        return Array(accumulate_by_doubling(ufunc, x._node, as_axis(axis, x.ndim, f"{ufunc.__name__}.accumulate")))

    def reduce(x: ArrayLike, axis: Axes = 0, dtype: DTypeLike | None = None, out: None = None, keepdims: bool = False,
               initial: ArrayLike | None = None, where: ArrayLike = True) -> Array:
        if where is not True:
            raise ShapeError(at_user_line(f"np.{ufunc.__name__}.reduce with where=: put the ufunc's neutral number "
                                          "there first, with np.where"))
        x = _typed(ufunc, x, dtype)
        axes = as_axes(axis, x.ndim, f"{ufunc.__name__}.reduce")
        result = Array(reduce_by_halving(ufunc, x._node, axes))
        if given(initial):
            result = TABLE[ufunc](result, Array(initial_value(initial, (), result.dtype)))
        return TABLE[np.expand_dims](result, axes) if keepdims and axes else result

    UFUNC_METHODS.setdefault((ufunc, "accumulate"), accumulate)
    UFUNC_METHODS.setdefault((ufunc, "reduce"), reduce)


def _typed(ufunc: np.ufunc, x: ArrayLike, dtype: DTypeLike | None) -> Array:
    """Return the operand in the dtype in which the ufunc reduces."""
    x = as_array(x)
    try:
        return x.astype(ufunc.reduce(np.ones(1, x.dtype), dtype=dtype).dtype)
    except TypeError as error:
        raise DtypeError(at_user_line(f"np.{ufunc.__name__}.reduce of {x._node.type}: {error}")) from None


for _ufunc in ASSOCIATIVE:
    _enter_ufunc(_ufunc)


def _cumulative_logsumexp(x: Array, axis: int) -> Array:
    """Return the running logarithm of sums along an axis of any size, relative to the maximum so far."""
    top = Array(ew.stop_gradient(ordering.cummax(x._node, axis=axis)))
    last = Array(previous(top._node, axis))
    level = TABLE[np.where](np.isfinite(top), top, 0.0)
    decay = TABLE[np.exp](TABLE[np.where](np.isfinite(last), last - level, 0.0))
    goes_on = has_previous(x._node, axis)
    sums = recurrence(TABLE[np.exp](x - level)._node, decay._node, goes_on, axis=axis, reverse=False)
    return _log(Array(sums), level)


def _logsumexp(x: Array, axes: tuple[int, ...]) -> Array:
    top = Array(ew.stop_gradient(max_(x, axes, keepdims=True, initial=-np.inf)._node))
    level = TABLE[np.where](np.isfinite(top), top, 0.0)
    return _log(sum_(TABLE[np.exp](x - level), axes), level.reshape(sum_(level, axes).shape))


def _log(sums: Array, level: Array) -> Array:
    """Return the logarithm of sums of exponentials less a level: the slope of no sum is 0."""
    none = sums == 0
    return TABLE[np.where](none, -np.inf, TABLE[np.log](TABLE[np.where](none, 1.0, sums)) + level)


@implements(name="cumulative_logsumexp")
def cumulative_logsumexp(x: ArrayLike, axis: int = -1) -> Array:
    """Return the logarithm of the running sum of exponentials.

    -inf adds nothing, in derivatives too.
    """
    node, a = one_axis(x, axis, "cumulative_logsumexp")
    node = node if node.type.floating else ew.cast_to(node, np.dtype(float))
    return Array(accumulate_by_doubling(np.logaddexp, node, a))

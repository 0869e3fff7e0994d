"""Statistics: quantiles, reductions without NaN, covariances, histograms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError, TraceError, at_user_line
from ..graph import Node
from ..ops import elementwise as ew
from ..ops import sort as ordering
from ..ops.constants import size_scalar
from ..ops.index import scatter_add
from ..ops.mean import mean as mean_
from ..ops.shape import reshape as reshape_node
from ..ops.shape import transpose as transpose_node
from ..sizes import shown
from ..symbolic import differs, size_of
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, as_axes, as_int, at_least_rows, given, masks
from .creation import spaced
from .dispatch import accumulates, implements
from .elementwise import clip
from .elementwise import where as choose
from .indexing import diagonal, take_along_axis
from .joining import concatenate, stack
from .manipulation import at_least, broadcast_to, expand_dims, moveaxis, ravel, reshape
from .reductions import cumprod, cumsum, deviation, keep_axes, max_, mean, min_, prod, slice_along, sum_
from .searching import argmax, argmin, searchsorted

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- quantiles -----------------------------------------------------------------------------------------------


@implements(np.median)
def median(a: ArrayLike, axis: Axes = None, out: None = None, overwrite_input: bool = False,
           keepdims: bool = False) -> Array:
    """Return the median over axes; NaN where an element is NaN."""
    x = as_array(a)
    rows, axes = _rows(x if x.dtype.kind == "f" else x.astype(np.float64), axis, "median")
    ordered, last_axis = rows._node, rows.ndim - 1
    n = ordered.shape[-1]
    if differs(n):
        places = as_array(shown(n))
        below, above, end = _picked(rows, stack([(places - 1) // 2, places // 2, places - 1]))
        halfway = choose(places % 2 == 1, below, (below + above) / 2)
        return keep_axes(choose(np.isnan(end), end, halfway)._node, x._node, axes, keepdims)
    n = number(n)
    middle = mean_(slice_along(ordered, last_axis, (n - 1) // 2, n // 2 + 1), axes=(last_axis,))
    last = reshape_node(slice_along(ordered, last_axis, n - 1, n), shape=middle.shape)  # NaN sorts last
    return keep_axes(ew.where(ew.isnan(last), last, middle), x._node, axes, keepdims)


_CONTINUOUS = {"linear": (1.0, 1.0), "interpolated_inverted_cdf": (0.0, 1.0), "hazen": (0.5, 0.5),
               "weibull": (0.0, 0.0), "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8)}
_DISCRETE: dict[str, Callable[[Array], Array]] = {
    "lower": TABLE[np.floor], "higher": TABLE[np.ceil], "nearest": TABLE[np.rint],
    "midpoint": lambda v: 0.5 * (TABLE[np.floor](v) + TABLE[np.ceil](v))}


def _rows(a: ArrayLike, axis: Axes, name: str) -> tuple[Array, tuple[int, ...]]:
    """Return the array sorted along one last axis in place of `axis`."""
    node = as_array(a)._node
    axes = as_axes(axis, node.ndim, name)
    kept = [i for i in range(node.ndim) if i not in axes]
    n = size_of(node.shape[i] for i in axes)
    if differs(n):
        return _rows_of_any_size(node, axes, kept, name), axes
    n = number(n)
    if not n:
        raise ShapeError(at_user_line(f"np.{name} of an empty axis of {node.type}"))
    rows = reshape_node(transpose_node(node, perm=(*kept, *axes)), shape=(*(node.shape[i] for i in kept), n))
    return Array(ordering.sort(rows, len(kept))), axes


def _rows_of_any_size(node: Node, axes: tuple[int, ...], kept: Sequence[int], name: str) -> Array:
    if len(axes) > 1:  # ragged ones first, as rows: their order does not matter to a sort
        order = sorted(axes, key=lambda i: not differs(node.shape[i]))
        flat = transpose_node(node, perm=(*order, *kept))
        rows = reshape_node(flat, shape=(size_of(flat.shape[:len(axes)]), *flat.shape[len(axes):]))
    else:
        rows = transpose_node(node, perm=(*axes, *kept))
    x = moveaxis(Array(rows), 0, -1)
    if not any(differs(node.shape[i]) for i in kept):
        x = at_least_rows(x, rows.shape[0], 1, f"np.{name}")
    return Array(ordering.sort(x._node, x.ndim - 1))


def _picked(rows: Array, index: Array) -> Array:
    """Return the elements of sorted rows at indices along a new first axis, which broadcast against the other axes."""
    others = rows._node.shape[:-1]
    if not differs(rows._node.shape[-1]):
        shape = (index._node.shape[0], *others)
        wide = moveaxis(broadcast_to(rows, (shape[0], *rows._node.shape)), -1, 0)
        return take_along_axis(wide, expand_dims(broadcast_to(index, shape), 0), 0)[0]
    index = reshape(index, (*index._node.shape, *(1,) * (len(others) + 1 - index.ndim)))
    places = broadcast_to(index, (index._node.shape[0], *others))
    return moveaxis(take_along_axis(rows, moveaxis(places, 0, -1), -1), -1, 0)


def _dtype_between(a: Array, q: Array) -> np.dtype:
    """Return the dtype of quantiles between integers."""
    return np.dtype(float) if q._weak or q.dtype.kind != "f" else np.result_type(a.dtype, q.dtype)


def _quantile(name: str, a: ArrayLike, q: ArrayLike, axis: Axes, method: str, keepdims: bool,
              weights: ArrayLike | None, scale: float, skip_nan: bool) -> Array:
    if weights is not None:
        raise TraceError(at_user_line(f"np.{name} with weights=: sort, np.cumsum the weights and np.interp"))
    if method not in _CONTINUOUS and method not in _DISCRETE:
        raise TraceError(at_user_line(f"np.{name} with method={method!r}: use one of "
                                      f"{', '.join([*_CONTINUOUS, *_DISCRETE])}"))
    a, q = as_array(a), as_array(q)
    chosen = a.dtype.kind in "biu" and (method in ("lower", "higher", "nearest")
                                       or (method == "linear" and scale == 1 and q.dtype.kind != "f"))
    if not chosen and a.dtype.kind != "f":  # quantiles chosen among integers keep their dtype
        a = a.astype(_dtype_between(a, q))
    rows, axes = _rows(a, axis, name)
    size = rows._node.shape[-1]
    n = as_array(shown(size)) if differs(size) else number(size)
    if q._weak or (scale == 1 and q.dtype.kind != "f"):  # integers below a percentage are float64 for NumPy
        q = q.astype(np.float64 if chosen else rows.dtype)
    q = (q if q.dtype.kind == "f" else q.astype(np.float64)) / scale
    quantiles = ravel(q)
    lead = rows.ndim - 1
    quantiles = reshape(quantiles, (-1,) + (1,) * lead)  # one row of results per quantile, in front
    bad = TABLE[np.isnan](rows)
    present = (n - bad.sum(axis=-1)).astype(quantiles.dtype) if skip_nan else n
    alpha, beta = _CONTINUOUS.get(method, (1.0, 1.0))
    virtual = present * quantiles + (alpha + quantiles * (1 - alpha - beta)) - 1
    if method in _DISCRETE:
        virtual = _DISCRETE[method](virtual)
    virtual = clip(virtual, 0, TABLE[np.maximum](present - 1, 0) if skip_nan else n - 1)
    low = TABLE[np.floor](virtual)
    part = virtual - low
    low = low.astype(np.int64)
    high = TABLE[np.minimum](low + 1, n - 1)
    first, second = _picked(rows, low), _picked(rows, high)
    out = first
    if not chosen:
        step = second - first
        between = choose(part >= 0.5, second - step * (1 - part), first + step * part)
        out = choose(part == 0, first, between)
        if not skip_nan:
            out = choose(bad[..., -1] if not differs(size) else bad.any(axis=-1), np.nan, out)
    out = reshape(out, (*q._node.shape, *rows._node.shape[:-1]))
    return expand_dims(out, tuple(i + q.ndim for i in axes)) if keepdims and axes else out


def _enter_quantile(function: Callable[..., object], scale: float, skip_nan: bool) -> None:
    name = function.__name__

    @implements(function, doc=f"Return ``np.{name}`` over axes, differentiable in the array, and in `q` between "
                              "elements.")
    def quantile(a: ArrayLike, q: ArrayLike, axis: Axes = None, out: None = None, overwrite_input: bool = False,
                 method: str = "linear", keepdims: bool = False, *, weights: ArrayLike | None = None) -> Array:
        return _quantile(name, a, q, axis, method, keepdims is True, weights, scale, skip_nan)


_enter_quantile(np.quantile, 1.0, False)
_enter_quantile(np.percentile, 100.0, False)
_enter_quantile(np.nanquantile, 1.0, True)
_enter_quantile(np.nanpercentile, 100.0, True)


@implements(np.nanmedian)
def nanmedian(a: ArrayLike, axis: Axes = None, out: None = None, overwrite_input: bool = False,
              keepdims: bool = False) -> Array:
    """Return the median over the elements other than NaN."""
    return _quantile("nanmedian", a, 0.5, axis, "linear", keepdims is True, None, 1.0, True)


# -- without NaN ---------------------------------------------------------------------------------------------


def _without_nan(a: ArrayLike, value: float) -> tuple[Array, Array]:
    """Return the array with `value` in place of NaN, and the mask of numbers."""
    x = as_array(a)
    if x.dtype.kind != "f":
        return x, TABLE[np.ones_like](x, dtype=bool)
    bad = TABLE[np.isnan](x)
    return choose(bad, value, x), ~bad


def _mask(numbers: Array, where: ArrayLike) -> Array:
    return numbers & as_array(where) if masks(where) else numbers


def _of_numbers(function: Callable[..., object], ours: Callable[..., Array], value: float, doc: str) -> None:
    @implements(function, doc=doc)
    @functools.wraps(ours)
    def of_numbers(a: ArrayLike, *args: object, **kwargs: object) -> Array:
        return ours(_without_nan(a, value)[0], *args, **kwargs)


_of_numbers(np.nansum, sum_, 0, "Return the sum of the elements other than NaN.")
_of_numbers(np.nanprod, prod, 1, "Return the product of the elements other than NaN.")
_of_numbers(np.nancumsum, cumsum, 0, "Return the cumulative sum, with NaN as 0.")
_of_numbers(np.nancumprod, cumprod, 1, "Return the cumulative product, with NaN as 1.")
for _function, _arg, _worst in ((np.nanargmax, argmax, -np.inf), (np.nanargmin, argmin, np.inf)):
    _of_numbers(_function, _arg, _worst, f"Return ``np.{_function.__name__[3:]}`` of the elements other than NaN; 0 "
                "without any, where NumPy raises.")


def _nan_extreme(function: Callable[..., object], extreme_of: Callable[..., Array], worst: float) -> None:
    @implements(function, doc=f"Return the {function.__name__[3:]} of the elements other than NaN; NaN without any.")
    def extreme(a: ArrayLike, axis: Axes = None, out: None = None, keepdims: bool = False,
                initial: ArrayLike | None = None, where: ArrayLike = True) -> Array:
        x, numbers = _without_nan(a, worst)
        result = extreme_of(x, axis, None, keepdims is True, initial, where)
        if x.dtype.kind != "f" or given(initial):
            return result
        # An extreme equal to the replacement of NaN would share its slope with NaN: the mean of numbers does not.
        return choose(result == worst, mean(x, axis, keepdims=keepdims is True, where=numbers), result)


_nan_extreme(np.nanmax, max_, -np.inf)
_nan_extreme(np.nanmin, min_, np.inf)


@implements(np.nanmean)
@accumulates
def nanmean(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, keepdims: bool = False,
            *, where: ArrayLike = True) -> Array:
    """Return the mean of the elements other than NaN."""
    x, numbers = _without_nan(a, 0)
    dtype = dtype or (x.dtype if x.dtype.kind == "f" else np.float64)
    numbers = _mask(numbers, where)
    total = sum_(x, axis, dtype, keepdims=keepdims is True, where=numbers)
    return total / sum_(numbers, axis, dtype, keepdims=keepdims is True)


@implements(np.nanvar)
@accumulates
def nanvar(a: ArrayLike, axis: Axes = None, dtype: DTypeLike | None = None, out: None = None, ddof: float = 0,
           keepdims: bool = False, *, where: ArrayLike = True, mean: ArrayLike | None = None,
           correction: float | None = None) -> Array:
    """Return the variance of the elements other than NaN.

    The result is NaN where no more than `ddof` elements are left.
    """
    x, numbers = _without_nan(a, 0)
    x = x.astype(dtype or (x.dtype if x.dtype.kind == "f" else np.float64))
    numbers = _mask(numbers, where)
    ddof = ddof if correction is None else correction
    center = nanmean(a, axis, x.dtype, keepdims=True, where=where) if not given(mean) else as_array(mean)
    off = choose(numbers, x - center, 0)
    left = sum_(numbers, axis, x.dtype, keepdims=keepdims is True) - ddof
    total = sum_(off * off, axis, keepdims=keepdims is True)
    return choose(left > 0, total / choose(left > 0, left, 1), np.nan)


implements(np.nanstd, doc="""Return the standard deviation of the elements other than NaN.

Its gradient at 0 is 0.""")(deviation(nanvar))


# -- covariance ----------------------------------------------------------------------------------------------


@implements(np.cov)
def cov(m: ArrayLike, y: ArrayLike | None = None, rowvar: bool = True, bias: bool = False, ddof: float | None = None,
        fweights: ArrayLike | None = None, aweights: ArrayLike | None = None, *,
        dtype: DTypeLike | None = None) -> Array:
    """Return the covariance matrix of variables in rows (in columns without `rowvar`)."""
    x = _variables(m, y, rowvar, dtype)
    w = None
    for weights in (fweights, aweights):
        if weights is not None:
            weights = as_array(weights).astype(x.dtype)
            w = weights if w is None else w * weights
    ddof = (0 if bias else 1) if ddof is None else ddof
    if w is None:
        left = Array(size_scalar(x._node.shape[1], x.dtype)) - ddof
        off = x - x.mean(axis=1, keepdims=True)
        out = off @ off.T
    else:
        total = w.sum()
        center = (x * w).sum(axis=1, keepdims=True) / total
        if ddof == 0:
            left = total
        elif aweights is None:
            left = total - ddof
        else:
            left = total - ddof * (w * as_array(aweights).astype(x.dtype)).sum() / total
        out = (x - center) @ ((x - center) * w).T
    out = out / TABLE[np.maximum](left, 0)
    return reshape(out, ()) if out._node.shape == (1, 1) else out


def _variables(m: ArrayLike, y: ArrayLike | None, rowvar: bool, dtype: DTypeLike | None) -> Array:
    parts = [as_array(v) for v in (m, y) if v is not None]
    for p in parts:
        if p.ndim > 2:
            raise ShapeError(at_user_line(f"np.cov of {p._node.type}: needs a vector or a matrix"))
    dtype = np.result_type(*(p.dtype for p in parts), np.float64) if dtype is None else dtype
    parts = [p.astype(dtype) for p in parts]
    # One row of `y` without `rowvar` is one variable, as in NumPy; one row of `m` is one observation.
    turned = [not rowvar and p.ndim == 2 and (k == 0 or p._node.shape[0] != 1) for k, p in enumerate(parts)]
    parts = [p.T if turn else at_least(2, p) for p, turn in zip(parts, turned, strict=True)]
    # An `m` without variables has no covariances in NumPy, also beside a `y` that has some.
    return parts[0] if len(parts) == 1 or parts[0]._node.shape[0] == 0 else concatenate(parts, 0)


@implements(np.corrcoef)
def corrcoef(x: ArrayLike, y: ArrayLike | None = None, rowvar: bool = True, *, dtype: DTypeLike | None = None) -> Array:
    """Return the correlation matrix of variables in rows, or columns by `rowvar`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    deviations = TABLE[np.sqrt](diagonal(c))
    return clip(c / deviations[:, None] / deviations[None, :], -1, 1)


# -- histograms ----------------------------------------------------------------------------------------------


@implements(np.histogram)
def histogram(a: ArrayLike, bins: ArrayLike = 10, range: tuple[float, float] | None = None, density: bool | None = None,
              weights: ArrayLike | None = None) -> tuple[Array, Array | np.ndarray]:
    """Return counts, or sums of weights, per bin; gradients flow to the weights alone."""
    if isinstance(bins, str):
        raise TraceError(at_user_line(f"np.histogram with bins={bins!r}: how many bins there are would depend on data. "
                                      "Give a number or the edges"))
    x = as_array(a).ravel()
    edges = histogram_bin_edges(a, bins, range)
    n = int(edges.shape[0]) - 1
    if n < 1:
        raise ShapeError(at_user_line(f"np.histogram: {n + 1} edges have no bin between them"))
    place = searchsorted(edges, x, "right") - 1
    place = choose(x == edges[-1], n - 1, place)
    inside = (place >= 0) & (place < n)
    if weights is None:
        w = inside.astype(np.int64)
    else:
        w = as_array(weights).ravel()
        w = choose(inside, w if w.dtype != np.bool_ else w.astype(np.int64), 0)
    place = choose(inside, place, 0)
    counts = Array(scatter_add(w._node, place._node, shape=(n,)))
    if density:
        counts = counts / (edges[1:] - edges[:-1]).astype(float) / counts.sum()
    return counts, edges


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a: ArrayLike, bins: ArrayLike = 10, range: tuple[float, float] | None = None,
                        weights: ArrayLike | None = None) -> Array | np.ndarray:
    """Return the edges that `histogram` uses."""
    if isinstance(bins, str):
        raise TraceError(at_user_line(f"np.histogram_bin_edges with bins={bins!r}: how many there are would depend on "
                                      "data. Give a number"))
    if as_array(bins).ndim:
        return bins if isinstance(bins, Array) else np.asarray(bins)
    x, count = as_array(a), as_int(bins, "histogram", "bins")
    if range is not None:
        return np.histogram_bin_edges(np.zeros(0, x.dtype), count, range)
    low, high = x.min(), x.max()
    if x.dtype.kind != "f":
        low, high = low.astype(float), high.astype(float)
    flat = low == high
    return spaced(choose(flat, low - 0.5, low), choose(flat, high + 0.5, high), count + 1, endpoint=True)[0]

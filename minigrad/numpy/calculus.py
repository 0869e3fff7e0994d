"""Calculus: differences, gradients, integrals and interpolation of sampled values."""

from __future__ import annotations

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import Node
from ..ops import elementwise as ew
from ..ops.shape import concatenate as concatenate_nodes
from ..ops.shape import section
from ..sizes import shown
from ..symbolic import differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import guard_equal, number
from .arguments import Axes, as_axes, as_axis, as_count, at_least_rows, broadcast_node, checked_cast, given, one_axis
from .data_types import as_floating
from .dispatch import implements
from .elementwise import clip, where
from .joining import concatenate, split
from .manipulation import moveaxis, ravel, reshape
from .reductions import cumsum, slice_along
from .searching import searchsorted
from .sorting import argsort


@implements(np.diff)
def diff(a: ArrayLike, n: int = 1, axis: int = -1, prepend: ArrayLike | None = None,
         append: ArrayLike | None = None) -> Array:
    """Return the n-th difference along an axis."""
    x, a_ = one_axis(a, axis, "diff")
    ends = [None if not given(v) else _at_end(v, x, a_) for v in (prepend, append)]
    if any(e is not None for e in ends):
        parts = [n for n in (ends[0], x, ends[1]) if n is not None]
        dtype = np.result_type(*(n.dtype for n in parts))
        x = concatenate_nodes(*(ew.cast_to(n, dtype) for n in parts), axis=a_)
    if x.dtype == np.bool_:
        raise DtypeError(at_user_line("np.diff of bools: cast them to int first"))
    for _ in range(as_count(n, "diff", "n")):
        m = x.shape[a_]
        if differs(m):
            x = section(x, a_, 1, m - 1) - section(x, a_, 0, m - 1)
            continue
        m = number(m)
        x = slice_along(x, a_, min(1, m), m) - slice_along(x, a_, 0, max(m - 1, 0))
    return Array(x)


def _at_end(values: ArrayLike, x: Node, axis: int) -> Node:
    """Return values in front of or behind `x`; a number becomes one slice."""
    node = as_array(values)._node
    return node if node.ndim else broadcast_node(node, tuple(1 if a == axis else n for a, n in enumerate(x.shape)))


@implements(np.ediff1d)
def ediff1d(ary: ArrayLike, to_end: ArrayLike | None = None, to_begin: ArrayLike | None = None) -> Array:
    """Return differences of the flattened array, with values before and after."""
    x = ravel(ary)
    first, last = ([] if v is None else [ravel(Array(checked_cast(v, x.dtype)))] for v in (to_begin, to_end))
    return concatenate([*first, x[1:] - x[:-1], *last])


@implements(np.gradient)
def gradient(f: ArrayLike, *varargs: ArrayLike, axis: Axes = None, edge_order: int = 1) -> Array | tuple[Array, ...]:
    """Return central differences of sampled values, one-sided at the ends."""
    (x,) = as_floating(f)
    axes = as_axes(axis, x.ndim, "gradient")
    if isinstance(axis, (tuple, list)):
        axes = tuple(as_axis(a, x.ndim, "gradient") for a in axis)
    if edge_order not in (1, 2):
        raise ShapeError(at_user_line(f"np.gradient: edge_order must be 1 or 2, not {edge_order}"))
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 and len(axes) > 1 and as_array(varargs[0]).ndim):
        raise ShapeError(at_user_line(f"np.gradient: {len(varargs)} spacings for {len(axes)} axes"))
    spacings = list(varargs) * (len(axes) if len(varargs) == 1 else 1) or [1.0] * len(axes)
    out = [_gradient_along(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True)]
    return out[0] if len(out) == 1 else tuple(out)


def _gradient_along(x: Array, axis: int, spacing: ArrayLike, order: int) -> Array:
    y = moveaxis(x, axis, 0)
    n = y._node.shape[0]
    if differs(n):
        y = at_least_rows(y, n, order + 1, "np.gradient")
    elif number(n) < order + 1:
        raise ShapeError(at_user_line(f"np.gradient: axis {axis} of {x._node.type} needs at least {order + 1} "
                                      "elements"))
    if as_array(spacing).ndim:
        steps = diff(as_floating(spacing)[0])
        if not guard_equal(steps._node.shape[0], n - 1):
            raise ShapeError(at_user_line(f"np.gradient: the coordinates do not fit axis {axis} of {x._node.type}"))
        h = reshape(steps, (*steps._node.shape, *(1,) * (y.ndim - 1)))
        h1, h2 = h[:-1], h[1:]
        inner = (-(h2 / (h1 * (h1 + h2))) * y[:-2] + ((h2 - h1) / (h1 * h2)) * y[1:-1]
                 + (h1 / (h2 * (h1 + h2))) * y[2:])
    else:
        h = TABLE[np.ones_like](y, shape=(n - 1,) + (1,) * (y.ndim - 1)) * spacing
        inner = (y[2:] - y[:-2]) / (2.0 * as_array(spacing))
    if order == 1:
        first, last = (y[1:2] - y[:1]) / h[:1], (y[-1:] - y[-2:-1]) / h[-1:]
    else:
        a, b = h[:1], h[1:2]
        first = (-(2 * a + b) / (a * (a + b)) * y[:1] + (a + b) / (a * b) * y[1:2] - a / (b * (a + b)) * y[2:3])
        a, b = h[-2:-1], h[-1:]
        last = (b / (a * (a + b)) * y[-3:-2] - (b + a) / (a * b) * y[-2:-1] + (2 * b + a) / (b * (a + b)) * y[-1:])
    return moveaxis(concatenate([first, inner, last], 0), 0, axis).astype(x.dtype)  # as in NumPy, for all spacings


@implements(np.trapezoid)
def trapezoid(y: ArrayLike, x: ArrayLike | None = None, dx: ArrayLike = 1.0, axis: int = -1) -> Array:
    """Return the integral along an axis by the trapezoidal rule."""
    y = as_array(y)
    a = as_axis(axis, y.ndim, "trapezoid")
    if x is None:
        widths = as_array(dx)  # broadcasts against the pairs of neighbours in place, without a move of the axis
    else:
        x = as_array(x)
        widths = diff(x) if x.ndim == 1 else diff(x, axis=axis)
        if x.ndim == 1:
            widths = widths.reshape(widths.shape + (1,) * (y.ndim - 1 - a))
    before = (slice(None),) * a
    return (widths * (y[(*before, slice(1, None))] + y[(*before, slice(None, -1))]) / 2.0).sum(axis=axis)


@implements(np.unwrap)
def unwrap(p: ArrayLike, discont: float | None = None, axis: int = -1, *, period: float = 2 * np.pi) -> Array:
    """Add multiples of the period, so that neighbours differ by less than half of it.

    `discont` replaces the half period as the bound.
    """
    p = as_array(p)
    a = as_axis(axis, p.ndim, "unwrap")
    step = diff(p, axis=a)
    whole = np.result_type(step.dtype, np.asarray(period).dtype if not isinstance(period, (int, float)) else period)
    step = step.astype(whole)
    if whole.kind == "i":
        high, remainder = divmod(period, 2)
        odd = remainder == 0
    else:
        high, odd = period / 2, True
    low = -high
    near = (step - low) % period + low
    if odd:
        near = where((near == low) & (step > 0), high, near)
    jump = where(np.abs(step) < (period / 2 if discont is None else discont), 0, near - step)
    first, rest_ = split(p.astype(whole), [1], a)
    return concatenate([first, rest_ + cumsum(jump, a, dtype=whole)], a)


@implements(np.interp)
def interp(x: ArrayLike, xp: ArrayLike, fp: ArrayLike, left: ArrayLike | None = None, right: ArrayLike | None = None,
           period: float | None = None) -> Array:
    """Return the linear interpolation of samples, differentiable in all of them.

    At a knot the slope is that to its right.
    """
    x, xp, fp = (v if v.dtype == np.float64 else v.astype(np.float64) for v in map(as_array, (x, xp, fp)))
    if xp.ndim != 1 or fp.ndim != 1 or not guard_equal(xp._node.shape[0], fp._node.shape[0]):
        raise ShapeError(at_user_line(f"np.interp: xp and fp must be vectors of one length, not {xp._node.type} and "
                                      f"{fp._node.type}"))
    if period is not None:
        if not period:
            raise ShapeError(at_user_line("np.interp: period must not be 0"))
        period = abs(period)
        x, xp = x % period, xp % period
        order = argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    n = xp._node.shape[0]
    if differs(n):
        xp, last = at_least_rows(xp, n, 1, "np.interp"), as_array(shown(n)) - 1
    else:
        if not number(n):
            raise ShapeError(at_user_line("np.interp of no points"))
        last = as_array(number(n) - 1)
    j = clip(searchsorted(xp, x, "right") - 1, 0, TABLE[np.maximum](last - 1, 0))
    k = TABLE[np.minimum](j + 1, last)
    x0, f0, width = xp[j], fp[j], xp[k] - xp[j]
    apart = width > 0
    inside = f0 + (fp[k] - f0) / where(apart, width, 1.0) * (x - x0)
    out = where(apart, inside, where(x >= xp[k], fp[k], f0))
    out = where(x < xp[0], fp[0] if left is None else left, where(x > xp[-1], fp[-1] if right is None else right, out))
    return where(np.isnan(x), x, out)

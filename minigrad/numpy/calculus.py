"""Differences, integrals and polynomials of sampled values; ranges whose ends are traced."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError, TraceError, at_user_line
from ..graph import dtype_of
from ..tracing import number
from .array import Array, as_array, as_axes, as_axis, as_int, held, implements
from .shaping import concatenate, expand_dims, moveaxis, ravel, reshape, where


def _floating(*values: Any) -> list[Array]:
    xs = [as_array(v) for v in values]
    return [x if x.dtype.kind == "f" else x.astype(float) for x in xs]


# -- differences and integrals -----------------------------------------------------------------------------


@implements(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    """Differences of the flattened array, with values before and after."""
    x = ravel(ary)
    parts = [ravel(Array(held(v, x.dtype))) for v in (to_begin,) if v is not None]
    parts.append(x[1:] - x[:-1])
    parts += [ravel(Array(held(v, x.dtype))) for v in (to_end,) if v is not None]
    return concatenate(parts)


@implements(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    """Central differences of sampled values, one-sided at the ends."""
    (x,) = _floating(f)
    axes = as_axes(axis, x.ndim, "gradient")
    if isinstance(axis, (tuple, list)):
        axes = tuple(as_axis(a, x.ndim, "gradient") for a in axis)
    if edge_order not in (1, 2):
        raise ShapeError(at_user_line(f"np.gradient: edge_order must be 1 or 2, not {edge_order}"))
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 and len(axes) > 1 and np.ndim(varargs[0])):
        raise ShapeError(at_user_line(f"np.gradient: {len(varargs)} spacings for {len(axes)} axes"))
    spacings = list(varargs) * (len(axes) if len(varargs) == 1 else 1) or [1.0] * len(axes)
    out = [_gradient_along(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True)]
    return out[0] if len(out) == 1 else tuple(out)


def _gradient_along(x: Array, axis: int, spacing: Any, order: int) -> Array:
    y = moveaxis(x, axis, 0)
    n = number(y._node.shape[0])
    if n < order + 1:
        raise ShapeError(at_user_line(f"np.gradient: axis {axis} of {x._node.type} needs at least {order + 1} "
                                      "elements"))
    if as_array(spacing).ndim:
        steps = np.diff(_floating(spacing)[0])
        if number(steps._node.shape[0]) != n - 1:
            raise ShapeError(at_user_line(f"np.gradient: the coordinates do not fit axis {axis} of {x._node.type}"))
        h = reshape(steps, (n - 1,) + (1,) * (y.ndim - 1))
        h1, h2 = h[:-1], h[1:]
        inner = (-(h2 / (h1 * (h1 + h2))) * y[:-2] + ((h2 - h1) / (h1 * h2)) * y[1:-1]
                 + (h1 / (h2 * (h1 + h2))) * y[2:])
    else:
        h = np.ones_like(y, shape=(n - 1,) + (1,) * (y.ndim - 1)) * spacing
        inner = (y[2:] - y[:-2]) / (2.0 * as_array(spacing))
    if order == 1:
        first, last = (y[1:2] - y[:1]) / h[:1], (y[-1:] - y[-2:-1]) / h[-1:]
    else:
        a, b = h[:1], h[1:2]
        first = (-(2 * a + b) / (a * (a + b)) * y[:1] + (a + b) / (a * b) * y[1:2] - a / (b * (a + b)) * y[2:3])
        a, b = h[-2:-1], h[-1:]
        last = (b / (a * (a + b)) * y[-3:-2] - (b + a) / (a * b) * y[-2:-1] + (2 * b + a) / (b * (a + b)) * y[-1:])
    return moveaxis(concatenate([first, inner, last], 0), 0, axis).astype(x.dtype)  # as NumPy, whatever the spacing


@implements(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integral along an axis by the trapezoidal rule."""
    y = as_array(y)
    a = as_axis(axis, y.ndim, "trapezoid")
    if x is None:
        widths: Any = dx  # broadcasts against the pairs of neighbours in place, without a move of the axis
    else:
        x = as_array(x)
        widths = np.diff(x) if x.ndim == 1 else np.diff(x, axis=axis)
        if x.ndim == 1:
            widths = widths.reshape(widths.shape + (1,) * (y.ndim - 1 - a))
    before = (slice(None),) * a
    return (widths * (y[(*before, slice(1, None))] + y[(*before, slice(None, -1))]) / 2.0).sum(axis=axis)


@implements(np.unwrap)
def unwrap(p, discont=None, axis=-1, *, period=2 * np.pi):
    """Add multiples of the period so that neighbours differ by less than half of one (or than `discont`)."""
    p = as_array(p)
    a = as_axis(axis, p.ndim, "unwrap")
    step = np.diff(p, axis=a)
    whole = np.result_type(step.dtype, np.asarray(period).dtype if not isinstance(period, (int, float)) else period)
    step = step.astype(whole)
    if whole.kind == "i":
        high, rest = divmod(period, 2)
        odd = rest == 0
    else:
        high, odd = period / 2, True
    low = -high
    near = (step - low) % period + low
    if odd:
        near = where((near == low) & (step > 0), high, near)
    jump = where(np.abs(step) < (period / 2 if discont is None else discont), 0, near - step)
    first, rest_ = np.split(p.astype(whole), [1], a)
    return concatenate([first, rest_ + np.cumsum(jump, a, dtype=whole)], a)


# -- ranges ------------------------------------------------------------------------------------------------


@implements(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    """Evenly spaced numbers between ends that may be traced."""
    low, high = (as_array(v) for v in (start, stop))
    kind = np.result_type(low, high)
    kind = np.dtype(np.float64) if kind.kind != "f" else kind
    low, high = low.astype(kind), high.astype(kind)
    n = as_int(num, "linspace", "num")
    if n < 0:
        raise ShapeError(at_user_line(f"np.linspace: {n} numbers"))
    parts = n - 1 if endpoint else n
    span = high - low
    at = np.arange(n, dtype=kind).reshape((-1,) + (1,) * span.ndim)
    step = span / parts if parts > 0 else np.full_like(span, np.nan)
    out = low + (at * step if parts > 0 else at * span)
    if endpoint and n > 1:
        out = concatenate([out[:-1], expand_dims(np.broadcast_to(high, out._node.shape[1:]), 0)])
    if dtype is not None and dtype_of(dtype).kind in "iu":
        out = np.floor(out)
    out = moveaxis(out if dtype is None else out.astype(dtype), 0, axis)
    return (out, step) if retstep else out


@implements(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    """Numbers spaced evenly on a logarithmic scale, given exponents."""
    out = base ** linspace(start, stop, num, endpoint)
    return moveaxis(out if dtype is None else out.astype(dtype), 0, axis)


@implements(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """Numbers spaced evenly on a logarithmic scale, given the ends, which have one sign."""
    low, high = (as_array(v) for v in (start, stop))
    low, high = (v.astype(np.float64) for v in _floating(low, high))  # as NumPy does, whatever the ends are
    sign = np.sign(low)
    out = sign * 10.0 ** linspace(np.log10(low * sign), np.log10(high * sign), num, endpoint)
    shape = out._node.shape[1:]
    if num > 0:
        ends = [expand_dims(np.broadcast_to(low, shape), 0)]
        if endpoint and num > 1:
            out = concatenate([*ends, out[1:-1], expand_dims(np.broadcast_to(high, shape), 0)])
        else:
            out = concatenate([*ends, out[1:]])
    return moveaxis(out if dtype is None else out.astype(dtype), 0, axis)


# -- polynomials -------------------------------------------------------------------------------------------


@implements(np.vander)
def vander(x, N=None, increasing=False):
    """Powers of the elements of a vector, as columns."""
    x = as_array(x)
    if x.ndim != 1:
        raise ShapeError(at_user_line(f"np.vander of {x._node.type}: needs a vector"))
    n = number(x._node.shape[0]) if N is None else as_int(N, "vander", "N")
    dtype = np.promote_types(x.dtype, int)
    columns = [np.ones_like(x, dtype=dtype)]
    while len(columns) < n:
        columns.append(columns[-1] * x)
    if not n:
        return np.zeros_like(x, dtype=dtype, shape=(*x._node.shape, 0))
    return np.stack(columns[:n] if increasing else columns[:n][::-1], axis=1)


@implements(np.polyval)
def polyval(p, x):
    """Value of a polynomial, highest power first, by Horner's rule."""
    p, x = as_array(p), as_array(x)
    out = np.zeros_like(x)
    for k in range(number(p._node.shape[0])):
        out = out * x + p[k]
    return out


def _padded(p: Array, n: int) -> Array:
    return np.pad(p, (n - number(p._node.shape[0]), 0))


def _sum_of_polynomials(name: str, function: Any, ufunc: Any) -> None:
    def combine(a1, a2):
        p, q = (np.atleast_1d(as_array(a)) for a in (a1, a2))
        n = max(number(p._node.shape[0]), number(q._node.shape[0]))
        return ufunc(_padded(p, n), _padded(q, n))

    combine.__doc__ = f"``np.{name}`` of coefficients, highest power first."
    implements(function, name=name)(combine)


_sum_of_polynomials("polyadd", np.polyadd, np.add)
_sum_of_polynomials("polysub", np.polysub, np.subtract)


@implements(np.polymul)
def polymul(a1, a2):
    """Product of two polynomials; unlike NumPy it keeps leading zeros, which are known only later."""
    return np.convolve(np.atleast_1d(as_array(a1)), np.atleast_1d(as_array(a2)))


@implements(np.polyder)
def polyder(p, m=1):
    """Coefficients of the m-th derivative."""
    p = np.atleast_1d(as_array(p))
    for _ in range(int(m)):
        n = number(p._node.shape[0])
        p = p[:-1] * np.arange(n - 1, 0, -1) if n > 1 else p[:0]
    return p


@implements(np.polyint)
def polyint(p, m=1, k=None):
    """Coefficients of the m-th antiderivative, with `k` for the constants."""
    (p,) = _floating(np.atleast_1d(as_array(p)))
    constants = ravel(np.zeros(int(m)) if k is None else k)
    if number(constants._node.shape[0]) == 1 and m > 1:
        constants = np.broadcast_to(constants, (int(m),))
    for i in range(int(m)):
        n = number(p._node.shape[0])
        p = concatenate([p / np.arange(n, 0, -1), reshape(constants[i].astype(p.dtype), (1,))])
    return p


@implements(np.poly)
def poly(seq_of_zeros):
    """Coefficients of the monic polynomial with the given zeros."""
    zeros = as_array(seq_of_zeros)
    zeros = zeros.astype(np.mintypecode(zeros.dtype.char))  # float32 stays; all others, float16 too, become float64
    if zeros.ndim != 1:
        raise TraceError(at_user_line("np.poly of a matrix: its eigenvalues may be complex. Give the zeros, as a "
                                      "vector"))
    out = np.ones_like(zeros, shape=(1,))
    for i in range(number(zeros._node.shape[0])):
        out = np.pad(out, (0, 1)) - np.pad(zeros[i] * out, (1, 0))
    return out


@implements(np.polyfit)
def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    """Least-squares fit of a polynomial; the points must determine it."""
    if full or cov:
        raise TraceError(at_user_line("np.polyfit with full= or cov=: use np.vander and np.linalg.lstsq"))
    x, y = _floating(x, y)
    left = vander(x, int(deg) + 1)
    if w is not None:
        w = as_array(w)
        left, y = left * w[:, None], y * (w[:, None] if y.ndim > 1 else w)
    scale = np.sqrt((left * left).sum(axis=0))
    c = np.linalg.lstsq(left / scale, y, rcond)[0]
    return c / (scale[:, None] if y.ndim > 1 else scale)

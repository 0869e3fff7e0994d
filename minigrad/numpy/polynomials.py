"""Polynomials: coefficients, highest power first, in NumPy's order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, TraceError, at_user_line
from ..sizes import Size
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import as_int
from .convolution import convolve
from .creation import ones_like, zeros_like
from .data_types import as_floating
from .dispatch import implements
from .joining import concatenate, pad, stack
from .linear_equations import lstsq
from .manipulation import at_least, broadcast_to, ravel, reshape


@implements(np.vander)
def vander(x: ArrayLike, N: int | Size | None = None, increasing: bool = False) -> Array:
    """Return the powers of a vector's elements, as columns."""
    x = as_array(x)
    if x.ndim != 1:
        raise ShapeError(at_user_line(f"np.vander of {x._node.type}: needs a vector"))
    n = number(x._node.shape[0]) if N is None else as_int(N, "vander", "N")
    dtype = np.promote_types(x.dtype, int)
    columns = [ones_like(x, dtype=dtype)]
    while len(columns) < n:
        columns.append(columns[-1] * x)
    if not n:
        return zeros_like(x, dtype=dtype, shape=(*x._node.shape, 0))
    return stack(columns[:n] if increasing else columns[:n][::-1], axis=1)


@implements(np.polyval)
def polyval(p: ArrayLike, x: ArrayLike) -> Array:
    """Return the value of a polynomial, by Horner's rule."""
    p, x = as_array(p), as_array(x)
    out = zeros_like(x)
    for k in range(number(p._node.shape[0])):
        out = out * x + p[k]
    return out


def _sum_of_polynomials(function: Callable[..., object], ufunc: np.ufunc) -> None:
    @implements(function, doc=f"Return ``np.{function.__name__}`` of coefficients, highest power first.")
    def combine(a1: ArrayLike, a2: ArrayLike) -> Array:
        p, q = (at_least(1, a) for a in (a1, a2))
        n, m = number(p._node.shape[0]), number(q._node.shape[0])
        return TABLE[ufunc](pad(p, (max(m - n, 0), 0)), pad(q, (max(n - m, 0), 0)))


_sum_of_polynomials(np.polyadd, np.add)
_sum_of_polynomials(np.polysub, np.subtract)


@implements(np.polymul)
def polymul(a1: ArrayLike, a2: ArrayLike) -> Array:
    """Return the product of two polynomials; unlike NumPy it keeps leading zeros."""
    return convolve(at_least(1, a1), at_least(1, a2))


@implements(np.polyder)
def polyder(p: ArrayLike, m: int = 1) -> Array:
    """Return the coefficients of the m-th derivative."""
    p = at_least(1, p)
    for _ in range(int(m)):
        n = number(p._node.shape[0])
        p = p[:-1] * np.arange(n - 1, 0, -1) if n > 1 else p[:0]
    return p


@implements(np.polyint)
def polyint(p: ArrayLike, m: int = 1, k: int | None = None) -> Array:
    """Return the coefficients of the m-th antiderivative, with `k` for the constants."""
    (p,) = as_floating(at_least(1, p))
    constants = ravel(np.zeros(int(m)) if k is None else k)
    if number(constants._node.shape[0]) == 1 and m > 1:
        constants = broadcast_to(constants, (int(m),))
    for i in range(int(m)):
        n = number(p._node.shape[0])
        p = concatenate([p / np.arange(n, 0, -1), reshape(constants[i].astype(p.dtype), (1,))])
    return p


@implements(np.poly)
def poly(seq_of_zeros: ArrayLike) -> Array:
    """Return the coefficients of the monic polynomial with the given zeros."""
    zeros = as_array(seq_of_zeros)
    zeros = zeros.astype(np.mintypecode(zeros.dtype.char))  # float32 stays; all others, float16 too, become float64
    if zeros.ndim != 1:
        raise TraceError(at_user_line("np.poly of a matrix: its eigenvalues may be complex. Give the zeros, as a "
                                      "vector"))
    out = ones_like(zeros, shape=(1,))
    for i in range(number(zeros._node.shape[0])):
        out = pad(out, (0, 1)) - pad(zeros[i] * out, (1, 0))
    return out


@implements(np.polyfit)
def polyfit(x: ArrayLike, y: ArrayLike, deg: int, rcond: float | None = None, full: bool = False,
            w: ArrayLike | None = None, cov: bool = False) -> Array:
    """Return the least-squares fit of a polynomial; the points must determine it."""
    if full or cov:
        raise TraceError(at_user_line("np.polyfit with full= or cov=: use np.vander and np.linalg.lstsq"))
    x, y = as_floating(x, y)
    left = vander(x, int(deg) + 1)
    if w is not None:
        w = as_array(w)
        left, y = left * w[:, None], y * (w[:, None] if y.ndim > 1 else w)
    scale = TABLE[np.sqrt]((left * left).sum(axis=0))
    c = lstsq(left / scale, y, rcond)[0]
    return c / (scale[:, None] if y.ndim > 1 else scale)

"""``rfft ⇄ irfft``: the Fourier transform of real signals along the last axis, and back.

A spectrum is one array with an axis of two, the real and the imaginary part, before the last: (…, 2, n // 2 + 1).
Both maps are linear; the adjoint of each is the other one, up to factors of 2 at the frequencies that stand for two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..axes import subscripts
from ..families import linear, require_float
from ..graph import ArrayType, Node, full, zeros_like
from ..primitive import ArrayNamespace, Primitive, Sample, fail
from ..symbolic import Dim, size_of
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .elementwise import eq, logical_or, where


def _rfft_type(t: ArrayType, *, size: int | Dim) -> ArrayType:
    require_float("rfft", t)
    if not t.ndim or t.shape[-1] == 0:
        raise fail("rfft", "needs an axis that is not empty", t)
    if isinstance(size, int) and isinstance(t.shape[-1], int) and size != t.shape[-1] // 2 + 1:
        raise fail("rfft", f"has no {size} frequencies", t)
    return ArrayType((*t.shape[:-1], 2, size), t.dtype)


def _rfft_eval(xp: ArrayNamespace, x: np.ndarray, *, size: int) -> np.ndarray:
    z = xp.fft.rfft(x, axis=-1)
    return xp.astype(xp.stack([xp.real(z), xp.imag(z)], axis=-2), x.dtype)


def _irfft_type(t: ArrayType, *, n: int | Dim) -> ArrayType:
    require_float("irfft", t)
    if t.ndim < 2 or t.shape[-2] != 2 or (isinstance(n, int) and t.shape[-1] != n // 2 + 1):
        raise fail("irfft", f"is no spectrum of {n} points", t)
    return ArrayType((*t.shape[:-2], n), t.dtype)


def _irfft_eval(xp: ArrayNamespace, x: np.ndarray, *, n: int) -> np.ndarray:
    z = xp.complex64 if x.dtype == xp.float32 else xp.complex128
    spectrum = xp.astype(x[..., 0, :], z) + xp.astype(x[..., 1, :], z) * 1j
    return xp.astype(xp.fft.irfft(spectrum, n=n, axis=-1), x.dtype)


def _scaled(x: Node, n: int | Dim, factor: float) -> Node:
    """Multiply the frequencies of a spectrum of `n` points by `factor`, apart from those that stand for one."""
    place = iota(size=x.shape[-1])
    alone = logical_or(eq(place, zeros_like(place)), eq(place + place, _repeated(n, place)))
    weights = where(alone, full(1, place.shape, x.dtype), full(factor, place.shape, x.dtype))
    return x * broadcast_along(weights, x.shape, tuple(range(x.ndim - 1)))


def _repeated(n: int | Dim, x: Node) -> Node:
    """Return a size as an array like `x`."""
    return broadcast_along(size_scalar(n, x.dtype), x.shape, tuple(range(x.ndim)))


def _samples(spectrum: bool) -> list[Sample]:
    rng = np.random.default_rng(10)
    if spectrum:
        return [Sample((rng.normal(size=(*lead, 2, n // 2 + 1)),), {"n": n}) for lead, n in (((), 6), ((2,), 5))]
    return [Sample((rng.normal(size=s),), {"size": s[-1] // 2 + 1}) for s in ((6,), (2, 5), (3, 1))]


def _flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    """Count 5/2 n log2 n operations per n real points, half of a complex transform."""
    signal = node if node.prim is irfft else node.inputs[0]
    return 2.5 * value(size_of(signal.shape)) * math.log2(max(value(signal.shape[-1]), 1))


def _rfft_transpose(g: Node, x: Node, *, size: int | Dim) -> Node:
    back = irfft(_scaled(g, x.shape[-1], 0.5), n=x.shape[-1])
    return back * _repeated(x.shape[-1], back)


def _irfft_transpose(g: Node, x: Node, *, n: int | Dim) -> Node:
    back = _scaled(rfft(g, size=x.shape[-1]), n, 2.0)
    return back / _repeated(n, back)


# `size` is the number of frequencies.
rfft = linear("rfft", _rfft_type, _rfft_eval, _rfft_transpose, kind="transform", hidden_params=frozenset({"size"}),
              axes=subscripts("... t! -> ... part! frequency!"), flops=_flops, samples=partial(_samples, False))

# The imaginary parts that no real signal has, which `irfft` does not look at, are 0 in every `rfft`.
irfft: Primitive = linear("irfft", _irfft_type, _irfft_eval, _irfft_transpose, kind="transform",
                          axes=subscripts("... part! frequency! -> ... t!"), flops=_flops,
                          samples=partial(_samples, True))

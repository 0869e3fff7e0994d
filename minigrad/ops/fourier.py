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
from ..families import linear
from ..graph import ArrayType, Node
from ..primitive import ArrayNamespace, Primitive, Sample, fail, require_float
from ..symbolic import size_of
from ..tracing import number
from .broadcast import broadcast_along
from .constants import constant


def _rfft_type(t: ArrayType) -> ArrayType:
    require_float("rfft", t)
    if not t.ndim or not number(t.shape[-1]):
        raise fail("rfft", "needs an axis that is not empty", t)
    return ArrayType((*t.shape[:-1], 2, number(t.shape[-1]) // 2 + 1), t.dtype)


def _rfft_eval(xp: ArrayNamespace, x: np.ndarray) -> np.ndarray:
    z = xp.fft.rfft(x, axis=-1)
    return xp.astype(xp.stack([xp.real(z), xp.imag(z)], axis=-2), x.dtype)


def _irfft_type(t: ArrayType, *, n: int) -> ArrayType:
    require_float("irfft", t)
    if t.ndim < 2 or t.shape[-2:] != (2, n // 2 + 1):
        raise fail("irfft", f"is no spectrum of {n} points", t)
    return ArrayType((*t.shape[:-2], n), t.dtype)


def _irfft_eval(xp: ArrayNamespace, x: np.ndarray, *, n: int) -> np.ndarray:
    z = xp.complex64 if x.dtype == xp.float32 else xp.complex128
    spectrum = xp.astype(x[..., 0, :], z) + xp.astype(x[..., 1, :], z) * 1j
    return xp.astype(xp.fft.irfft(spectrum, n=n, axis=-1), x.dtype)


def _scaled(x: Node, n: int, factor: float) -> Node:
    """Multiply the inner frequencies of a spectrum, which stand for two, by `factor`."""
    weights = np.full((2, n // 2 + 1), factor, x.dtype)
    weights[:, 0] = 1
    if n % 2 == 0:
        weights[:, -1] = 1
    return x * broadcast_along(constant(weights), x.shape, tuple(range(x.ndim - 2)))


def _samples(spectrum: bool) -> list[Sample]:
    rng = np.random.default_rng(10)
    if spectrum:
        return [Sample((rng.normal(size=(*lead, 2, n // 2 + 1)),), {"n": n}) for lead, n in (((), 6), ((2,), 5))]
    return [Sample((rng.normal(size=s),)) for s in ((6,), (2, 5), (3, 1))]


def _flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    """Count 5/2 n log2 n operations per n real points, half of a complex transform."""
    signal = node if node.prim is irfft else node.inputs[0]
    return 2.5 * value(size_of(signal.shape)) * math.log2(max(value(signal.shape[-1]), 1))


rfft = linear("rfft", _rfft_type, _rfft_eval,
              lambda g, x: irfft(_scaled(g, number(x.shape[-1]), 0.5), n=number(x.shape[-1])) * number(x.shape[-1]),
              axes=subscripts("... t! -> ... part! frequency!"), flops=_flops, samples=partial(_samples, False))

# The imaginary parts that no real signal has, which `irfft` does not look at, are 0 in every `rfft`.
irfft: Primitive = linear("irfft", _irfft_type, _irfft_eval, lambda g, x, *, n: _scaled(rfft(g), n, 2.0) * (1 / n),
                          axes=subscripts("... part! frequency! -> ... t!"), flops=_flops,
                          samples=partial(_samples, True))

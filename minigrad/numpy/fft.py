"""The namespace ``minigrad.numpy.fft``: shifts, and the real transform as two arrays.

`rfft_parts` returns the real and the imaginary part that ``np.fft.rfft`` would have, and `irfft_parts` takes them
back: minigrad has no complex arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, at_user_line
from ..ops import fourier
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, as_axes, as_axis, as_int
from .dispatch import FFT, implements, namespace
from .joining import pad, roll, stack
from .manipulation import moveaxis


def _shift(function: Callable[..., object], sign: int) -> None:
    @implements(function, doc=f"Shift half of each axis cyclically, as ``np.fft.{function.__name__}``.")
    def shift(x: ArrayLike, axes: Axes = None) -> Array:
        x = as_array(x)
        over = as_axes(axes, x.ndim, function.__name__)
        sizes = [number(x._node.shape[a]) for a in over]
        return roll(x, [n // 2 if sign > 0 else -(n // 2) for n in sizes], over) if over else x


_shift(np.fft.fftshift, 1)
_shift(np.fft.ifftshift, -1)


@implements(name="rfft_parts", namespace=FFT)
def rfft_parts(x: ArrayLike, n: int | None = None, axis: int = -1) -> tuple[Array, ...]:
    """Return the Fourier transform of a real signal as its real and its imaginary part.

    Parameters
    ----------
    x : array
    n : int, optional
        The signal is cut, or padded with zeros, to this length.
    axis : int

    Returns
    -------
    (real, imaginary) : arrays of ``n // 2 + 1`` along `axis`
        The parts of ``np.fft.rfft(x, n, axis)``.
    """
    x = _single_or_double(x)
    a = as_axis(axis, x.ndim, "rfft_parts")
    x = _fit(moveaxis(x, a, -1), number(x._node.shape[a]) if n is None else as_int(n, "fft.rfft", "n"))
    parts = Array(fourier.rfft(x._node))
    return tuple(moveaxis(parts[..., i, :], -1, a) for i in (0, 1))


@implements(name="irfft_parts", namespace=FFT)
def irfft_parts(real: ArrayLike, imaginary: ArrayLike, n: int | None = None, axis: int = -1) -> Array:
    """Return the real signal whose Fourier transform has the given parts: the inverse of `rfft_parts`.

    Parameters
    ----------
    real, imaginary : array
    n : int, optional
        The signal's length; ``2 * (m - 1)`` for m frequencies where it is not given.
    axis : int
    """
    re, im = map(_single_or_double, (real, imaginary))
    a = as_axis(axis, re.ndim, "irfft_parts")
    n = 2 * (number(re._node.shape[a]) - 1) if n is None else as_int(n, "fft.irfft", "n")
    parts = [_fit(moveaxis(v, a, -1), n // 2 + 1) for v in (re, im)]
    return moveaxis(Array(fourier.irfft(stack(parts, axis=-2)._node, n=n)), -1, a)


def _single_or_double(x: ArrayLike) -> Array:
    """Return an array in the dtype of the parts of its transform.

    float16 becomes float32, as in NumPy.
    """
    x = as_array(x)
    return x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64)


def _fit(x: Array, n: int) -> Array:
    have = number(x._node.shape[-1])
    if n < 1:
        raise ShapeError(at_user_line(f"a Fourier transform of {n} points"))
    return x[..., :n] if have >= n else pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - have)])


__getattr__, __dir__ = namespace(FFT, np.fft)

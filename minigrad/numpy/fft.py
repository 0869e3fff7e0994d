"""The namespace ``minigrad.numpy.fft``: shifts, and the real transform as two arrays.

`rfft_parts` returns the real and the imaginary part that ``np.fft.rfft`` would have, and `irfft_parts` takes them
back: minigrad has no complex arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import ShapeError, at_user_line
from ..graph import Node
from ..ops import fourier
from ..ops.control import barrier
from ..sizes import Size, shown
from ..symbolic import Dim, differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, as_axes, as_axis, as_int, at_least_rows, counted
from .creation import arange
from .dispatch import FFT, implements, namespace
from .elementwise import where
from .joining import pad, roll, stack
from .manipulation import moveaxis


def _shift(function: Callable[..., object], sign: int) -> None:
    @implements(function, doc=f"Shift half of each axis cyclically, as ``np.fft.{function.__name__}``.")
    def shift(x: ArrayLike, axes: Axes = None) -> Array:
        x = as_array(x)
        over = as_axes(axes, x.ndim, function.__name__)
        halves = [x.shape[a] // 2 for a in over]
        return roll(x, halves if sign > 0 else [-n for n in halves], over) if over else x


_shift(np.fft.fftshift, 1)
_shift(np.fft.ifftshift, -1)


@implements(name="rfft_parts", namespace=FFT)
def rfft_parts(x: ArrayLike, n: int | Size | None = None, axis: int = -1) -> tuple[Array, ...]:
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
    x = _fit(moveaxis(x, a, -1), _points("rfft", x._node.shape[a] if n is None else n))
    signal, size = _frequencies(x._node, x._node.shape[-1])
    parts = Array(fourier.rfft(signal, size=size))
    return tuple(moveaxis(parts[..., i, :], -1, a) for i in (0, 1))


@implements(name="irfft_parts", namespace=FFT)
def irfft_parts(real: ArrayLike, imaginary: ArrayLike, n: int | Size | None = None, axis: int = -1) -> Array:
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
    points = _points("irfft", 2 * (re._node.shape[a] - 1) if n is None else n)
    both = stack([moveaxis(v, a, -1) for v in (re, im)], axis=-2)
    node, size = _frequencies(both._node, points)
    return moveaxis(Array(fourier.irfft(_fit(Array(node), size)._node, n=points)), -1, a)


def _single_or_double(x: ArrayLike) -> Array:
    """Return an array in the dtype of the parts of its transform.

    float16 becomes float32, as in NumPy.
    """
    x = as_array(x)
    return x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64)


def _points(name: str, n: int | Size | Dim) -> int | Dim:
    """Return the number of points of a transform, a size if it differs between examples."""
    points = n.dim if isinstance(n, Size) else n
    if not differs(points):
        points = number(points) if isinstance(points, Dim) else as_int(points, f"fft.{name}", "n")
    if isinstance(points, int) and points < 1:
        raise ShapeError(at_user_line(f"a Fourier transform of {points} points"))
    return points


def _frequencies(x: Node, points: int | Dim) -> tuple[Node, int | Dim]:
    """Return `x` and the number of frequencies of a transform, which the program computes if it differs."""
    if isinstance(points, int):
        return x, points // 2 + 1
    x = at_least_rows(Array(x), points, 1, "a Fourier transform")._node
    place = as_array(arange(shown(points) // 2 + 1))._node
    return barrier(x, place), place.shape[0]


def _fit(x: Array, n: int | Dim) -> Array:
    """Return the first `n` elements along the last axis, with zeros after those that are there."""
    have = x._node.shape[-1]
    if have == n:
        return x
    if differs(have) or differs(n):
        more = pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])
        return more[..., TABLE[np.minimum](as_array(counted(n)), as_array(shown(have)))]
    have, want = number(have), number(n)
    return x[..., :want] if have >= want else pad(x, [(0, 0)] * (x.ndim - 1) + [(0, want - have)])


def _of_size(function: Callable[..., object], positions: Callable[[Size], Array]) -> None:
    @implements(function, doc=f"Return ``np.fft.{function.__name__}``; the size may be symbolic.")
    def frequencies(n: int | Size, d: float = 1.0, device: str | None = None) -> Array:
        if not isinstance(n, Size):
            return as_array(function(n, d))
        return positions(n) / (as_array(n) * d)


_of_size(np.fft.rfftfreq, lambda n: arange(n // 2 + 1))
_of_size(np.fft.fftfreq, lambda n: where(arange(n) < (n + 1) // 2, arange(n), arange(n) - n))


__getattr__, __dir__ = namespace(FFT, np.fft)

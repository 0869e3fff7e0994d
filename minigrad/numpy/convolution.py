"""Convolutions and pooling: sliding windows, and products or extremes of them.

`conv`, `max_pool`, `avg_pool` and `windows` have no counterpart in NumPy; they are functions of one example, whose
first axis counts channels. Being made of views, gathers and contractions, they have every derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..errors import ShapeError, at_user_line
from ..ops.index import scatter_add
from ..sizes import shown
from ..symbolic import Dim, differs
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import number
from .arguments import as_sequence, at_least_rows, counted
from .creation import arange
from .dispatch import implements
from .joining import concatenate, pad
from .manipulation import at_least, flip, moveaxis
from .products import tensordot

T = TypeVar("T")
Padding: TypeAlias = int | str | Sequence[int | tuple[int, int]]


@implements(np.convolve)
def convolve(a: ArrayLike, v: ArrayLike, mode: str = "full") -> Array:
    """Return the discrete convolution of two vectors."""
    return _correlate("convolve", a, v, mode, reverse=True)


@implements(np.correlate)
def correlate(a: ArrayLike, v: ArrayLike, mode: str = "valid") -> Array:
    """Return the cross-correlation of two vectors."""
    return _correlate("correlate", a, v, mode, reverse=False)


def _correlate(name: str, a: ArrayLike, v: ArrayLike, mode: str, reverse: bool) -> Array:
    x, y = (at_least(1, u) for u in (a, v))
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(at_user_line(f"np.{name} of {x._node.type} and {y._node.type}: needs vectors"))
    if mode not in ("full", "same", "valid"):
        raise ShapeError(at_user_line(f"np.{name}: mode must be full, same or valid, not {mode!r}"))
    n, m = x._node.shape[0], y._node.shape[0]
    if differs(n) and differs(m):
        return _of_pairs(name, x, y if reverse else flip(y), mode)
    swapped = differs(m) and not differs(n)
    if swapped or differs(n):  # the ragged one is taken for the longer, which its result's size depends on
        least = n if swapped else m
        x = at_least_rows(x, m if swapped else n, number(least) if mode != "full" else 1, f"np.{name}")
    else:
        n, m = number(n), number(m)
        swapped = m > n
    if not n or not m:
        raise ShapeError(at_user_line(f"np.{name} of an empty vector"))
    if swapped:
        x, y, n, m = y, x, m, n
    if reverse:
        y = flip(y)
    m = number(m)
    low, high = {"full": (m - 1, m - 1), "same": (m // 2, m - 1 - m // 2), "valid": (0, 0)}[mode]
    padded = pad(x, (low, high))
    size = n + low + high - m + 1
    out = padded[counted(size)[:, None] + np.arange(m)] @ y
    return flip(out) if swapped and not reverse else out


def _of_pairs(name: str, x: Array, y: Array, mode: str) -> Array:
    """Return the convolution of two vectors whose lengths differ between examples: the products of all pairs, added."""
    if mode != "full":
        raise ShapeError(at_user_line(f"np.{name} of {x._node.type} and {y._node.type}, both of lengths that differ "
                                      f"between examples, with mode={mode!r}: take a slice of that with mode='full'"))
    n, m = x._node.shape[0], y._node.shape[0]
    x, y = (at_least_rows(v, v._node.shape[0], 1, f"np.{name}") for v in (x, y))
    places = as_array(counted(n)[:, None] + counted(m))
    return Array(scatter_add((x[:, None] * y)._node, places._node, shape=(n + m - 1,)))


def _pairs(name: str, value: T | Sequence[T], axes: int, parameter: str) -> tuple[T, ...]:
    several = as_sequence(value)
    values = tuple(several) if isinstance(value, (tuple, list)) else (several[0],) * axes
    if len(values) != axes:
        raise ShapeError(at_user_line(f"{name}: {len(values)} numbers in {parameter} for {axes} axes"))
    return values


@implements(name="windows")
def windows(x: ArrayLike, size: int | Sequence[int], stride: int | Sequence[int] = 1, padding: Padding = 0,
            dilation: int | Sequence[int] = 1, fill: float = 0) -> Array:
    """Return the windows of an array over its last axes.

    Parameters
    ----------
    x : array, shape ``(..., *sizes)``
    size : tuple of int
        The window; its length says over how many axes.
    stride, dilation : int or tuple of int
        Steps from window to window, and within a window.
    padding : int, tuple of int or of pairs, or ``"same"``
        How much of `fill` stands before and after each axis; ``"same"`` makes ``ceil(n / stride)`` windows.
    fill : number

    Returns
    -------
    array, shape (..., *counts, *size)

    Raises
    ------
    ShapeError
        If no window fits.
    """
    view, axes = _windows(x, size, stride, padding, dilation, fill)
    return moveaxis(view, axes, tuple(range(-len(axes), 0)))


def _windows(x: ArrayLike, size: int | Sequence[int], stride: int | Sequence[int], padding: Padding,
             dilation: int | Sequence[int], fill: float) -> tuple[Array, tuple[int, ...]]:
    """Return the windows, and the axes within them: views in memory's order where windows stand side by side."""
    x = as_array(x)
    window = tuple(as_sequence(size))
    k = len(window)
    if k > x.ndim:
        raise ShapeError(at_user_line(f"windows of {k} axes over {x._node.type}"))
    strides, dilations = (_pairs("windows", v, k, w) for v, w in ((stride, "stride"), (dilation, "dilation")))
    lead = x.ndim - k
    reach = [(n - 1) * d + 1 for n, d in zip(window, dilations, strict=True)]
    sizes = [n if differs(n) and (s == 1 or padding != "same") else number(n)
             for n, s in zip(x._node.shape[lead:], strides, strict=True)]
    pads = _pads(padding, sizes, strides, reach)
    if any(low or high for low, high in pads):
        x = pad(x, [(0, 0)] * lead + pads, constant_values=fill)
    lengths = [n + low + high for n, (low, high) in zip(sizes, pads, strict=True)]
    for n, s, d, r, length in zip(window, strides, dilations, reach, lengths, strict=True):
        if n < 1 or s < 1 or d < 1 or (isinstance(length, int) and length < r):
            raise ShapeError(at_user_line(f"windows: a window of {n} (dilation {d}, stride {s}) does not fit an axis "
                                          f"of {length}"))
        if isinstance(length, Dim):
            x = at_least_rows(x, length, r, f"a window of {n}")
    known = [n for n in lengths if isinstance(n, int)]
    if strides == window and all(d == 1 for d in dilations) and len(known) == k:
        return _side_by_side(x, known, window)
    for i, (n, s, d, r, length) in enumerate(zip(window, strides, dilations, reach, lengths, strict=True)):
        first = arange(0, shown(length - r + 1), s) if isinstance(length, Dim) else np.arange(0, length - r + 1, s)
        index = first[:, None] + np.arange(n) * d
        x = moveaxis(x[(slice(None),) * (lead + i) + (index,)], lead + i + 1, -1)
    return x, tuple(range(-k, 0))


def _side_by_side(x: Array, sizes: Sequence[int], window: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """Return windows that do not overlap, and the axes within them."""
    lead = x.ndim - len(window)
    counts = [n // s for n, s in zip(sizes, window, strict=True)]
    x = x[(..., *(slice(c * s) for c, s in zip(counts, window, strict=True)))]
    x = x.reshape(*x.shape[:lead], *chain(*zip(counts, window, strict=True)))
    return x, tuple(range(lead + 1, x.ndim, 2))


def _pads(padding: Padding, sizes: Sequence[int | Dim], strides: Sequence[int], reach: Sequence[int]
          ) -> list[tuple[int, int]]:
    """Return the padding before and after each axis, of windows that reach so far."""
    if padding == "same":
        total = [r - 1 if isinstance(n, Dim) else max((-(-n // s) - 1) * s + r - n, 0)
                 for n, s, r in zip(sizes, strides, reach, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    each: tuple[Any, ...] = _pairs("windows", padding, len(sizes), "padding")
    return [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in each]


@implements(name="conv")
def conv(x: ArrayLike, w: ArrayLike, stride: int | Sequence[int] = 1, padding: Padding = 0,
         dilation: int | Sequence[int] = 1, groups: int = 1) -> Array:
    """Return the convolution (cross-correlation, as in neural networks) of one example.

    Parameters
    ----------
    x : array, shape ``(channels, *sizes)``
    w : array, shape ``(filters, channels / groups, *window)``
    stride, dilation : int or tuple of int
    padding : int, tuple of int or of pairs, or ``"same"``
    groups : int
        Channels and filters are cut into so many groups that do not mix.

    Returns
    -------
    array, shape (filters, *counts)

    Raises
    ------
    ShapeError
        If the channels or the number of axes do not fit.
    """
    x, w = as_array(x), as_array(w)
    k = w.ndim - 2
    if k < 1 or x.ndim != k + 1:
        raise ShapeError(at_user_line(f"conv: {x._node.type} and filters {w._node.type}: expected (channels, *sizes) "
                                      "and (filters, channels, *window)"))
    channels, filters, each = (number(n) for n in (x._node.shape[0], w._node.shape[0], w._node.shape[1]))
    if channels != each * groups or filters % groups:
        raise ShapeError(at_user_line(f"conv: {channels} channels, and filters {w._node.type} in {groups} groups"))
    view = windows(x, tuple(map(number, w._node.shape[2:])), stride, padding, dilation)
    axes = tuple(range(k + 1, 2 * k + 1))  # of the view, that run within a window
    out = [tensordot(w[g * filters // groups:(g + 1) * filters // groups], view[g * each:(g + 1) * each],
                     ((1, *range(2, k + 2)), (0, *axes))) for g in range(groups)]
    return out[0] if groups == 1 else concatenate(out)


_SPARSE = 4  # steps between windows from which on the elements of each are read together


def _pool(x: ArrayLike, size: int | Sequence[int], stride: int | Sequence[int] | None, padding: Padding,
          fill: float) -> tuple[Array, tuple[int, ...]]:
    """Return the windows of a pooling, and the axes within them.

    They are before the others, which are longer loops, but where a row of windows reads few elements of a cache line.
    """
    x = as_array(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    window = _pairs("pool", size, len(size) if isinstance(size, (tuple, list)) else max(x.ndim - 1, 1), "size")
    strides = _pairs("pool", window if stride is None else stride, len(window), "stride")
    view, axes = _windows(x, window, strides, padding, 1, fill)
    if strides[-1] >= _SPARSE:
        return view, axes
    first = tuple(range(x.ndim - len(axes), x.ndim))
    return moveaxis(view, axes, first), first


@implements(name="max_pool")
def max_pool(x: ArrayLike, size: int | Sequence[int], stride: int | Sequence[int] | None = None,
             padding: Padding = 0) -> Array:
    """Return the largest element of each window over the last axes; ties share the gradient.

    Parameters
    ----------
    x : array, shape ``(..., *sizes)``
    size : int or tuple of int
        An int: over all axes but the first.
    stride : int or tuple of int, optional
        The window's size where none is given.
    padding : int, tuple of int or of pairs, or ``"same"``
        With -inf, which is never the largest.
    """
    view, axes = _pool(x, size, stride, padding, -np.inf)
    return view.max(axis=axes)


@implements(name="avg_pool")
def avg_pool(x: ArrayLike, size: int | Sequence[int], stride: int | Sequence[int] | None = None,
             padding: Padding = 0) -> Array:
    """Return the mean of each window over the last axes; padding counts as zeros.

    Parameters are those of `max_pool`.
    """
    view, axes = _pool(x, size, stride, padding, 0)
    return view.mean(axis=axes)

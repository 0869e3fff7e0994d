"""Random numbers from keys: ``mg.random.normal(key, shape)``.

A key is an array of two 32-bit words, and all numbers are a function of the key: the same on every backend,
whether an example is computed alone, in a batch or in a microbatch. Use a key once; `split` makes more.
Give each example its own by mapping over the keys of ``split(key, n)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError, at_user_line
from .graph import ArrayType, Node, dtype_of
from .numpy.arguments import as_axis, as_shape, broadcast_shapes
from .numpy.indexing import getitem
from .ops.random import random_bits
from .tracebacks import boundary
from .traced_array import Array, as_array
from .tracing import number, tracing
from .transforms.trace import stage

__all__ = [
    "bernoulli", "bits", "categorical", "exponential", "key", "normal", "permutation", "randint", "split", "uniform",
]

_VALUES, _KEYS = 0, 1  # the counter's streams: numbers never meet the keys that `split` makes


@boundary
def key(seed: int) -> np.ndarray:
    """Return a key: uint32[2], the two halves of the seed.

    Raises
    ------
    ShapeError
        If the seed is not an integer between 0 and 2**64 - 1.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ShapeError(at_user_line(f"random.key({seed!r}): a seed is an integer from 0 to 2**64 - 1"))
    return np.array([int(seed) & 0xFFFFFFFF, int(seed) >> 32], np.uint32)


def _drawn(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function of traced arrays take plain ones too; its first `count` arguments are arrays, the rest static."""

    def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
        @boundary
        @functools.wraps(f)
        def draw(*args: Any, **kwargs: Any) -> Any:
            if tracing():
                return f(*args, **kwargs)
            return stage(lambda *arrays: f(*arrays, *args[count:], **kwargs), args[:count], {}).finish()

        return draw

    return decorate


def _bits(key: Any, shape: tuple, stream: int = _VALUES) -> Node:
    node = as_array(key)._node
    if node.dtype != np.uint32 or node.shape != (2,):
        raise DtypeError(at_user_line(f"a random key is uint32[2], from mg.random.key(seed) or split, not {node.type}; "
                                      "for one key per example map over the keys with mg.vmap"))
    return random_bits(node, shape=shape, stream=stream)


@_drawn(1)
def split(key: Any, n: int = 2) -> Any:
    """Return `n` new keys, uint32[n, 2]. They are as good as independent of each other and of the old one."""
    return Array(_bits(key, (int(n), 2), _KEYS))


@_drawn(1)
def bits(key: Any, shape: Any = ()) -> Any:
    """Return random uint32 words of a shape."""
    return Array(_bits(key, as_shape(shape)))


def _unit(key: Any, shape: tuple, dtype: np.dtype) -> Array:
    """Return numbers in [0, 1): 24 random bits for float32, 53 for float64."""
    if dtype == np.float64:
        words = _bits(key, (*shape, 2))
        high, low = (Array(words)[..., i].astype(np.float64) for i in (0, 1))
        return (np.floor(high / 32) * 67108864.0 + np.floor(low / 64)) * 2.0**-53
    if dtype != np.float32:
        raise DtypeError(at_user_line(f"random numbers are float32 or float64, not {dtype}; cast them"))
    words = Array(_bits(key, shape))
    return np.floor_divide(words, np.uint32(256)).astype(np.float32) * np.float32(2.0**-24)


@_drawn(1)
def uniform(key: Any, shape: Any = (), dtype: Any = float, low: Any = 0.0, high: Any = 1.0) -> Any:
    """Return numbers uniform in [low, high).

    Parameters
    ----------
    key : array, uint32[2]
    shape : tuple of int
    dtype : float32 or float64
    low, high : float or array that broadcasts to `shape`
    """
    x = _unit(key, as_shape(shape), dtype_of(dtype))
    return x if _is(low, 0.0) and _is(high, 1.0) else (high - low) * x + low


def _is(x: Any, value: float) -> bool:
    return isinstance(x, (int, float)) and x == value


@_drawn(1)
def normal(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Return standard normal numbers, by the transform of Box and Muller (1958).

    Parameters
    ----------
    key : array, uint32[2]
    shape : tuple of int
    dtype : float32 or float64
    """
    shape, dtype = as_shape(shape), dtype_of(dtype)
    u = _unit(key, (2, *shape), dtype)
    # 1 - u is in (0, 1], where the logarithm is finite.
    return np.sqrt(-2.0 * np.log1p(-u[0])) * np.cos(2.0 * np.pi * u[1])


@_drawn(1)
def exponential(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Return numbers of the exponential distribution with mean 1."""
    return -np.log1p(-_unit(key, as_shape(shape), dtype_of(dtype)))


@_drawn(2)
def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
    """Return bools that are true with probability `p`; `shape` defaults to that of `p`."""
    p = as_array(p)
    want = p._node.shape if shape is None else as_shape(shape)
    dtype = p.dtype if p.dtype == np.float32 else np.dtype(np.float64)
    return _unit(key, want, dtype) < p


@_drawn(2)
def categorical(key: Any, logits: Any, axis: int = -1, shape: Any = None) -> Any:
    """Return indices along `axis` drawn with probabilities softmax(logits), by the Gumbel-max trick.

    Parameters
    ----------
    key : array, uint32[2]
    logits : array
    axis : int
    shape : tuple of int, optional
        The result's shape; it must broadcast with that of `logits` without `axis`. By default just that.
    """
    x = as_array(logits)
    if x.dtype.kind != "f":
        x = x.astype(float)
    a = as_axis(axis, x.ndim, "categorical")
    rest = tuple(n for i, n in enumerate(x._node.shape) if i != a)
    want = rest if shape is None else as_shape(shape)
    broadcast_shapes("categorical", [ArrayType(s, x.dtype) for s in (want, rest)])
    last = np.moveaxis(x, a, -1)
    u = _unit(key, (*want, x._node.shape[a]), x.dtype if x.dtype == np.float32 else np.dtype(np.float64))
    return np.argmax(last - np.log(-np.log1p(-u)), axis=-1)


@_drawn(1)
def randint(key: Any, shape: Any, low: int, high: int) -> Any:
    """Return integers in [low, high), int64; the bias is below 2**-31 for ranges of up to 2**32."""
    low, high = int(low), int(high)
    if not 0 < high - low <= 2**32:
        raise ShapeError(at_user_line(f"random.randint: an empty range, or one above 2**32: [{low}, {high})"))
    x = _unit(key, as_shape(shape), np.dtype(np.float64))
    return np.floor(x * float(high - low)).astype(np.int64) + low


@boundary
def permutation(key: Any, x: Any) -> Any:
    """Return ``0 .. x-1`` in random order for an int, else the rows of `x` in random order.

    The order is that of 53 random bits per row; rows that tie, about one pair in 10**16, keep their order.
    """
    return _permuted(key, np.arange(x) if isinstance(x, (int, np.integer)) else x)


@_drawn(2)
def _permuted(key: Any, x: Any) -> Any:
    x = as_array(x)
    if not x.ndim:
        raise ShapeError(at_user_line("random.permutation of one traced number: it must be a plain int"))
    return getitem(x, np.argsort(_unit(key, (number(x._node.shape[0]),), np.dtype(np.float64))))


def __dir__() -> list[str]:
    return __all__

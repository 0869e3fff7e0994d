"""Random numbers from keys: ``mg.random.normal(key, shape)``.

A key is an array of two 32-bit words, and all numbers are a function of the key: the same on every backend, for an
example alone, in a batch and in a microbatch. Use a key once; `split` makes more. For one key per example, map over
the keys of ``split(key, n)``.

Examples
--------
>>> keys = mg.random.split(mg.random.key(0), 2)
>>> mg.vmap(lambda key: mg.random.randint(key, (3,), 0, 10))(keys)
array([[0, 8, 2],
       [2, 6, 7]])
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from .errors import DtypeError, ShapeError, at_user_line
from .graph import ArrayType, Node, dtype_of
from .numpy.arguments import ShapeLike, as_axis, as_shape, broadcast_shapes
from .numpy.indexing import getitem
from .numpy.manipulation import broadcast_to
from .ops.constants import iota
from .ops.random import random_bits
from .ops.strict_index import place
from .primitive import move_axis
from .sizes import Size
from .symbolic import Shape, differs
from .tracebacks import boundary
from .traced_array import Array, ArrayLike, as_array
from .tracing import number, tracing
from .transforms.trace import Call, run

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "bernoulli", "bits", "categorical", "exponential", "key", "normal", "permutation", "randint", "split", "uniform",
]

P = ParamSpec("P")

_VALUES, _KEYS = 0, 1  # the counter's streams: numbers never meet the keys that `split` makes


@boundary
def key(seed: int) -> np.ndarray:
    """Return the key of a seed.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.

    Returns
    -------
    ndarray (2,), uint32
        The two halves of the seed.

    Raises
    ------
    ShapeError
        If the seed is another number or object.

    Examples
    --------
    >>> mg.random.key(2**32 + 7)
    array([7, 1], dtype=uint32)
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        text = " of a traced value" if isinstance(seed, Array) else f"({seed!r})"
        raise ShapeError(at_user_line(f"random.key{text}: a seed is a Python integer from 0 to 2**64 - 1. Make keys "
                                      "before the program runs, and pass them as arguments"))
    return np.array([int(seed) & 0xFFFFFFFF, int(seed) >> 32], np.uint32)


def _drawn(count: int) -> Callable[[Callable[P, Array]], Callable[P, Any]]:
    """Extend a function of traced arrays to plain ones: its first `count` arguments are arrays, the others static."""

    def decorate(f: Callable[P, Array]) -> Callable[P, Any]:
        @boundary
        @functools.wraps(f)
        def draw(*args: P.args, **kwargs: P.kwargs) -> Any:
            if args and type(args[0]).__module__.startswith("numpy.random"):
                owner = type(args[0]).__name__
                raise DtypeError(at_user_line(f"random.{f.__name__}: a key is uint32[2], not a {owner} of NumPy. "
                                              "mg.random.key(seed) makes one, and mg.random.split more"))
            if tracing():
                return f(*args, **kwargs)
            call: Callable[..., Array] = f
            drawing = Call(lambda *arrays: call(*arrays, *args[count:], **kwargs), args[:count])
            return run(drawing.trace().graph, drawing.leaves)

        return draw

    return decorate


def _bits(key: ArrayLike, shape: Shape, stream: int = _VALUES) -> Node:
    node = as_array(key)._node
    if node.dtype != np.uint32 or node.shape != (2,):
        raise DtypeError(at_user_line(f"a random key is uint32[2], from mg.random.key(seed) or split, not {node.type}; "
                                      "for one key per example map over the keys with mg.vmap"))
    return random_bits(node, shape=shape, stream=stream)


@_drawn(1)
def split(key: ArrayLike, n: int = 2) -> Array:
    """Derive new keys from a key, all statistically independent of each other and of the key.

    Parameters
    ----------
    key : array (2,), uint32
    n : int

    Returns
    -------
    array (n, 2), uint32

    Examples
    --------
    >>> mg.random.split(mg.random.key(0))
    array([[2219120097, 4035800746],
           [ 253345875, 2214098416]], dtype=uint32)
    """
    if isinstance(n, Size) and differs(n.dim):
        return Array(_bits(key, (n.dim, 2), _KEYS))
    if isinstance(n, bool) or not hasattr(n, "__index__") or (count := operator.index(n)) < 0:
        raise ShapeError(at_user_line(f"random.split: the number of keys is one integer of at least 0, got {n!r}"))
    return Array(_bits(key, (count, 2), _KEYS))


@_drawn(1)
def bits(key: ArrayLike, shape: ShapeLike = ()) -> Array:
    """Return random words of 32 bits.

    Parameters
    ----------
    key : array (2,), uint32
    shape : tuple of int

    Returns
    -------
    array, uint32
        Of the given shape.

    Examples
    --------
    >>> mg.random.bits(mg.random.key(0), (2,))
    array([1713891541, 3781805453], dtype=uint32)
    """
    return Array(_bits(key, as_shape(shape)))


def _unit(key: ArrayLike, shape: Shape, dtype: np.dtype) -> Array:
    """Return numbers in [0, 1): 24 random bits for float32, 53 for float64."""
    if dtype == np.float64:
        words = _bits(key, (*shape, 2))
        high, low = (Array(words)[..., i].astype(np.float64) for i in (0, 1))
        return (as_array(np.floor(high / 32)) * 67108864.0 + np.floor(low / 64)) * 2.0**-53
    if dtype != np.float32:
        raise DtypeError(at_user_line(f"random numbers are float32 or float64, not {dtype}; cast them"))
    return (Array(_bits(key, shape)) // np.uint32(256)).astype(np.float32) * np.float32(2.0**-24)


@_drawn(1)
def uniform(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float, low: float | np.ndarray | Array = 0.0,
            high: float | np.ndarray | Array = 1.0) -> Array:
    """Return uniform random numbers in [low, high).

    Parameters
    ----------
    key : array (2,), uint32
    shape : tuple of int
    dtype : float32 or float64
    low, high : float or array that broadcasts to `shape`

    Returns
    -------
    array
        Of the given shape and dtype.

    Examples
    --------
    >>> mg.random.uniform(mg.random.key(0), (3,)).round(4)
    array([0.399 , 0.7357, 0.9722])
    """
    x = _unit(key, as_shape(shape), dtype_of(dtype))
    return x if _is(low, 0.0) and _is(high, 1.0) else as_array((high - low) * x + low)


def _is(x: object, value: float) -> bool:
    return isinstance(x, (int, float)) and x == value


@_drawn(1)
def normal(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Array:
    """Return standard normal numbers, by the transform of Box and Muller (1958).

    Parameters
    ----------
    key : array (2,), uint32
    shape : tuple of int
    dtype : float32 or float64

    Returns
    -------
    array
        Of the given shape and dtype.

    Examples
    --------
    >>> mg.random.normal(mg.random.key(0), (3,)).round(4)
    array([-0.3482,  1.6192,  1.6943])
    """
    u = _unit(key, (2, *as_shape(shape)), dtype_of(dtype))
    # 1 - u is in (0, 1], where the logarithm is finite.
    return as_array(np.sqrt(-2.0 * np.log1p(-u[0])) * np.cos(2.0 * np.pi * u[1]))


@_drawn(1)
def exponential(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Array:
    """Return numbers of the exponential distribution with mean 1.

    Parameters
    ----------
    key : array (2,), uint32
    shape : tuple of int
    dtype : float32 or float64

    Returns
    -------
    array
        Of the given shape and dtype.

    Examples
    --------
    >>> mg.random.exponential(mg.random.key(0), (3,)).round(4)
    array([0.5092, 1.3307, 3.5842])
    """
    return as_array(-np.log1p(-_unit(key, as_shape(shape), dtype_of(dtype))))


@_drawn(2)
def bernoulli(key: ArrayLike, p: ArrayLike = 0.5, shape: ShapeLike | None = None) -> Array:
    """Return bools that are true with probability `p`.

    Parameters
    ----------
    key : array (2,), uint32
    p : float or array
    shape : tuple of int, optional
        Broadcasts with the shape of `p`, which it defaults to.

    Returns
    -------
    array, bool
        Of the given shape.

    Examples
    --------
    >>> mg.random.bernoulli(mg.random.key(0), np.array([0.0, 0.5, 1.0]))
    array([False, False,  True])
    """
    chance = as_array(p)
    dtype = chance.dtype if chance.dtype == np.float32 else np.dtype(np.float64)
    return _unit(key, chance._node.shape if shape is None else as_shape(shape), dtype) < chance


@_drawn(2)
def categorical(key: ArrayLike, logits: ArrayLike, axis: int = -1, shape: ShapeLike | None = None) -> Array:
    """Return indices along `axis` drawn with probabilities softmax(logits), by the Gumbel-max trick.

    Parameters
    ----------
    key : array (2,), uint32
    logits : array
    axis : int
    shape : tuple of int, optional
        Broadcasts with the shape of `logits` without `axis`, which it defaults to.

    Returns
    -------
    array, int64
        Of the given shape.

    Examples
    --------
    >>> mg.random.categorical(mg.random.key(0), np.log(np.array([0.2, 0.3, 0.5])), shape=(5,))
    array([0, 1, 1, 1, 2])
    """
    x = as_array(logits)
    if x.dtype.kind != "f":
        x = x.astype(float)
    a = as_axis(axis, x.ndim, "categorical")
    batch = tuple(n for i, n in enumerate(x._node.shape) if i != a)
    result = batch if shape is None else as_shape(shape)
    broadcast_shapes("categorical", [ArrayType(s, x.dtype) for s in (result, batch)])
    last = Array(move_axis(x._node, a, x.ndim - 1))
    u = _unit(key, (*result, x._node.shape[a]), x.dtype if x.dtype == np.float32 else np.dtype(np.float64))
    return (last - np.log(-np.log1p(-u))).argmax(axis=-1)


@_drawn(1)
def randint(key: ArrayLike, shape: ShapeLike, low: int | Size | Array, high: int | Size | Array) -> Array:
    """Return random integers in [low, high).

    Parameters
    ----------
    key : array (2,), uint32
    shape : tuple of int
    low, high : int
        At most 2**32 apart; in a trace also sizes or traced integers, whose range the program checks. The
        probabilities of two integers differ by a factor of at most 1 + 2**-19.

    Returns
    -------
    array, int64
        Of the given shape.

    Raises
    ------
    ShapeError
        If the range is empty, or longer than 2**32.

    Examples
    --------
    >>> mg.random.randint(mg.random.key(0), (5,), 0, 10)
    array([3, 7, 9, 6, 0])
    """
    if any(isinstance(v, Array) or (isinstance(v, Size) and differs(v.dim)) for v in (low, high)):
        begin, whole = as_array(low).astype(np.int64), np.dtype(np.int64)
        width = broadcast_to(as_array(high).astype(whole) - begin, as_shape(shape))
        drawn = as_array(np.floor(_unit(key, as_shape(shape), np.dtype(np.float64)) * width)).astype(whole)
        return Array(place(drawn._node, width._node)) + begin
    low, high = int(low), int(high)
    if not 0 < high - low <= 2**32:
        raise ShapeError(at_user_line(f"random.randint: an empty range, or one above 2**32: [{low}, {high})"))
    unit = _unit(key, as_shape(shape), np.dtype(np.float64))
    return as_array(np.floor(unit * float(high - low))).astype(np.int64) + low


@boundary
def permutation(key: ArrayLike, x: int | ArrayLike) -> Any:
    """Return the rows of an array, or the integers below an int, in random order.

    Rows are sorted by 53 random bits each; a pair of rows ties, and keeps its order, with probability 2**-53.

    Parameters
    ----------
    key : array (2,), uint32
    x : int or array (N, ...)

    Returns
    -------
    array (N, ...)
        Of the dtype of `x`; int64 for an int.

    Examples
    --------
    >>> mg.random.permutation(mg.random.key(0), 5)
    array([4, 0, 3, 1, 2])
    """
    if isinstance(x, Size):
        x = Array(iota(size=x.dim))
    return _permuted(key, np.arange(x) if isinstance(x, (int, np.integer)) else x)


@_drawn(2)
def _permuted(key: ArrayLike, rows: ArrayLike) -> Array:
    x = as_array(rows)
    if not x.ndim:
        raise ShapeError(at_user_line("random.permutation of one traced number: it must be a plain int"))
    n = x._node.shape[0]
    return getitem(x, np.argsort(_unit(key, (n if differs(n) else number(n),), np.dtype(np.float64))))


def __getattr__(name: str) -> object:
    instead = {"PRNGKey": ": write mg.random.key", "fold_in": ": write mg.random.split(key, n)[i]"}.get(name, "")
    text = f"module {__name__!r} has no attribute {name!r}{instead}"
    raise AttributeError(text, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return __all__

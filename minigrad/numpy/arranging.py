"""Arrays put together, taken apart and turned: append, insert, block, meshgrid, rot90, sliding windows, select."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import interpreters
from ..errors import ShapeError, TraceError, at_user_line
from ..graph import PRIMITIVES
from ..ops import shape as shapes
from ..tracing import number
from .array import (
    Array,
    any_traced,
    as_array,
    as_axis,
    as_int,
    as_ints,
    broadcast_node,
    broadcast_shapes,
    held,
    implements,
)
from .indexing import diag
from .shaping import concatenate, expand_dims, flip, moveaxis, ravel, reshape, swapaxes, vstack, where
from .updates import at

# -- joining and cutting -----------------------------------------------------------------------------------


@implements(np.append)
def append(arr, values, axis=None):
    """Lay `values` after an array."""
    return concatenate([arr, values], axis)


@implements(np.insert)
def insert(arr, obj, values, axis=None):
    """Insert values before given places, which are known."""
    x, a = _flat(arr, axis, "insert")
    n = number(x._node.shape[a])
    values = Array(held(values, x.dtype))
    places = _places("insert", obj, n)
    if ((places < -n) | (places > n)).any():
        raise ShapeError(at_user_line(f"np.insert: {obj} is out of range for an axis of {n}"))
    places = np.where(places < 0, places + n, places)
    values = reshape(values, (1,) * (x.ndim - values.ndim) + values.shape)
    if places.size == 1:
        if not places.ndim:
            values = moveaxis(values, 0, a)  # one number means, as in x[:, 1], that a row is meant
        places = np.full(number(values._node.shape[a]), places.ravel()[0])
    rest = [m for i, m in enumerate(x._node.shape) if i != a]
    new = Array(broadcast_node(values._node, (*rest[:a], len(places), *rest[a:])))
    order = np.argsort(places, kind="stable")
    target = np.empty(len(places), int)
    target[order] = places[order] + np.arange(len(places))
    source = np.full(n + len(places), -1)
    source[target] = n + np.arange(len(places))
    source[source < 0] = np.arange(n)
    return _along(concatenate([x, new], a), a, source)


@implements(np.delete)
def delete(arr, obj, axis=None):
    """Leave out given places, which are known."""
    x, a = _flat(arr, axis, "delete")
    n = number(x._node.shape[a])
    return _along(x, a, np.delete(np.arange(n), obj if isinstance(obj, slice) else _places("delete", obj, n)))


def _places(name: str, obj: Any, n: int) -> np.ndarray:
    if any_traced([obj]):
        raise TraceError(at_user_line(f"np.{name} at traced places: their number and order must be known. Index with "
                                      "an "
                                      "array of known length instead"))
    if isinstance(obj, slice):
        return np.arange(n)[obj]
    places = np.asarray(obj)
    if places.dtype == np.bool_:
        return np.flatnonzero(places) if name == "insert" else places
    return as_ints(obj, name, "obj")


def _flat(arr: Any, axis: Any, name: str) -> tuple[Array, int]:
    x = ravel(arr) if axis is None else as_array(arr)
    return x, as_axis(0 if axis is None else axis, x.ndim, name)


def _along(x: Array, axis: int, index: Any) -> Array:
    return x[(slice(None),) * axis + (index,)]


@implements(np.resize)
def resize(a, new_shape):
    """Repeat the flattened array until it fills a shape."""
    shape = (new_shape,) if isinstance(new_shape, (int, np.integer)) else tuple(new_shape)
    x, total = ravel(a), int(np.prod(shape))
    n = number(x._node.shape[0])
    if not n:
        return Array(shapes.reshape(np.zeros_like(x, shape=(total,))._node, shape=shape))
    return reshape(x[np.arange(total) % n], shape)


@implements(np.compress)
def compress(condition, a, axis=None, out=None):
    """The slices for which a condition, which is known, holds."""
    if any_traced([condition]):
        raise TraceError(at_user_line("np.compress with a traced condition: the result's shape would depend on data. "
                                      "Use "
                                      "np.where(condition, x, 0), or a reduction with where=condition"))
    x, axis = _flat(a, axis, "compress")
    return _along(x, axis, np.flatnonzero(np.asarray(condition)))


@implements(np.extract)
def extract(condition, arr):
    """The elements for which a condition, which is known, holds."""
    return compress(np.ravel(condition) if not any_traced([condition]) else condition, arr)


def _split(name: str, function: Any, axis: Callable[[int], int]) -> None:
    def cut(ary, indices_or_sections):
        x = as_array(ary)
        return np.split(x, indices_or_sections, axis(x.ndim))

    cut.__doc__ = f"``np.{name}``: cut along one axis."
    implements(function, name=name)(cut)


_split("hsplit", np.hsplit, lambda n: 1 if n > 1 else 0)
_split("vsplit", np.vsplit, lambda n: 0)
_split("dsplit", np.dsplit, lambda n: 2)


@implements(np.atleast_3d)
def atleast_3d(*arys):
    """Arrays of at least three axes."""
    new = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    out = [expand_dims(x, new[x.ndim]) if x.ndim < 3 else x for x in map(as_array, arys)]
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.dstack)
def dstack(tup):
    """Join along the third axis."""
    return concatenate([atleast_3d(a) for a in tup], 2)


@implements(np.block)
def block(arrays):
    """Put blocks, in nested lists, together."""
    def depth(b: Any) -> int:
        return 1 + max(map(depth, b)) if isinstance(b, list) else 0

    def leaves(b: Any) -> list[Array]:
        return [x for part in b for x in leaves(part)] if isinstance(b, list) else [as_array(b)]

    levels = depth(arrays)
    rank = max([levels, *(x.ndim for x in leaves(arrays))])

    def join(b: Any, level: int) -> Array:
        if not isinstance(b, list):
            x = as_array(b)
            return reshape(x, (1,) * (rank - x.ndim) + x.shape)
        return concatenate([join(part, level + 1) for part in b], rank - levels + level)

    return join(arrays, 0)


if hasattr(np, "row_stack"):  # gone from NumPy's later versions
    @implements(name="row_stack")
    def row_stack(tup):
        """``np.vstack`` by its older name."""
        return vstack(tup)


# -- turning -----------------------------------------------------------------------------------------------


@implements(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    """Turn by 90 degrees in the plane of two axes."""
    x = as_array(m)
    a, b = (as_axis(i, x.ndim, "rot90") for i in axes)
    k = as_int(k, "rot90", "k") % 4
    if k in (0, 2):
        return flip(x, (a, b)) if k else x
    return swapaxes(flip(x, b), a, b) if k == 1 else flip(swapaxes(x, a, b), b)


@implements(np.fliplr)
def fliplr(m):
    """Reverse the order along axis 1."""
    return flip(m, 1)


@implements(np.flipud)
def flipud(m):
    """Reverse the order along axis 0."""
    return flip(m, 0)


@implements(np.rollaxis)
def rollaxis(a, axis, start=0):
    """Move an axis to before another."""
    n = as_array(a).ndim
    axis, start = as_axis(axis, n, "rollaxis"), start + n if start < 0 else start
    return moveaxis(a, axis, start - (start > axis))


# -- grids and diagonals -----------------------------------------------------------------------------------


@implements(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    """Coordinate arrays of a grid."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(at_user_line(f"np.meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}"))
    xs, n = [ravel(x) for x in xi], len(xi)
    grid = [reshape(x, (1,) * i + (-1,) + (1,) * (n - i - 1)) for i, x in enumerate(xs)]
    if indexing == "xy" and n > 1:
        grid = [swapaxes(x, 0, 1) for x in grid]
    return tuple(grid) if sparse else np.broadcast_arrays(*grid) if n > 1 else tuple(grid)


@implements(np.ix_, name="ix_")
def ix_(*args):
    """Index arrays of an open mesh."""
    xs = [as_array(a) for a in args]
    for x in xs:
        if x.ndim != 1 or (x.dtype == np.bool_):
            raise ShapeError(at_user_line(f"np.ix_: needs vectors of integers, got {x._node.type}"))
    return tuple(reshape(x, (1,) * i + (-1,) + (1,) * (len(xs) - i - 1)) for i, x in enumerate(xs))


@implements(np.diagflat)
def diagflat(v, k=0):
    """The matrix whose diagonal is the flattened array."""
    return diag(ravel(v), k)


def _known_indices(name: str, function: Any) -> None:
    def indices(arr, k=0):
        rows, columns = map(number, as_array(arr)._node.shape)
        return function(np.empty((rows, columns), bool), k)

    indices.__doc__ = f"``np.{name}``, which looks at the shape alone."
    implements(function, name=name)(indices)


class Brackets:
    """``r_`` and ``c_``: what is in the brackets, laid end to end as rows or side by side as columns."""

    def __init__(self, numpys: Any, columns: bool):
        self._numpys, self._columns = numpys, columns

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        if not any_traced(items):
            return self._numpys[key]
        if any(isinstance(x, str) for x in items):
            raise TraceError(at_user_line("np.r_ and np.c_ of traced values with a string: write np.concatenate with "
                                          "axis="))
        parts = [np.atleast_1d(self._numpys[x] if isinstance(x, slice) else as_array(x)) for x in items]
        if not self._columns:
            return concatenate(parts, 0)
        return concatenate([x[:, None] if x.ndim == 1 else x for x in map(as_array, parts)], -1)


_known_indices("tril_indices_from", np.tril_indices_from)
_known_indices("triu_indices_from", np.triu_indices_from)


@implements(np.diag_indices_from)
def diag_indices_from(arr):
    """``np.diag_indices_from``, which looks at the shape alone."""
    return np.diag_indices_from(np.empty(tuple(map(number, as_array(arr)._node.shape)), bool))


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False):
    """All windows of a shape: a copy here, of which every element's gradient adds up."""
    x = as_array(x)
    sizes = tuple(window_shape) if isinstance(window_shape, (tuple, list)) else (window_shape,)
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = [as_axis(a, x.ndim, "sliding_window_view") for a in axes]
    if len(sizes) != len(axes):
        raise ShapeError(at_user_line(f"sliding_window_view: {len(sizes)} window sizes for {len(axes)} axes"))
    for n, a in zip(sizes, axes, strict=True):
        count = number(x._node.shape[a]) - n + 1
        if n < 0 or count < 1:
            raise ShapeError(at_user_line(f"sliding_window_view: a window of {n} does not fit axis {a} of "
                                          f"{x._node.type}"))
        x = moveaxis(_along(x, a, np.arange(count)[:, None] + np.arange(n)), a + 1, -1)
    return x


# -- choosing, applying ------------------------------------------------------------------------------------


@implements(np.select)
def select(condlist, choicelist, default=0):
    """For each element the choice of the first condition that holds."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(at_user_line(f"np.select: {len(condlist)} conditions for {len(choicelist)} choices"))
    choices = _same_dtype_weakly([*choicelist, default])
    out = choices[-1]
    for condition, choice in zip(reversed(condlist), reversed(choices[:-1]), strict=True):
        out = where(condition, choice, out)
    shape = broadcast_shapes("np.select", [as_array(x)._node.type for x in (*condlist, *choices)])
    return Array(broadcast_node(out._node, shape))


def _same_dtype_weakly(values: list[Any]) -> list[Array]:
    xs = [as_array(v) for v in values]
    dtype = np.result_type(*xs) if any_traced(values) else np.result_type(*values)
    return [x.astype(dtype) for x in xs]


@implements(np.choose)
def choose(a, choices, out=None, mode="raise"):
    """For each element the choice of that number; out of range is an error only when the program runs."""
    at_ = as_array(a)
    options = _same_dtype_weakly(choices if isinstance(choices, (list, tuple)) else list(as_array(choices)))
    shape = broadcast_shapes("np.choose", [at_._node.type, *(c._node.type for c in options)])
    n = len(options)
    at_ = np.clip(at_, 0, n - 1) if mode == "clip" else at_ % n if mode == "wrap" else at_
    stacked = np.stack([Array(broadcast_node(c._node, shape)) for c in options])
    at_ = Array(broadcast_node(at_._node, shape))
    return np.take_along_axis(stacked, expand_dims(at_, 0), 0)[0]


@implements(np.piecewise)
def piecewise(x, condlist, funclist, *args, **kw):
    """Each element through the function of the last condition that holds for it; all functions see all of `x`."""
    x = as_array(x)
    one = not isinstance(condlist, (list, tuple)) or (condlist and as_array(condlist[0]).ndim == 0 and x.ndim)
    conditions = [as_array(c) for c in ([condlist] if one else condlist)]
    functions = list(funclist)
    if len(functions) == len(conditions) + 1:
        otherwise = functions.pop()
        conditions.append(~np.logical_or.reduce(np.stack(conditions)) if len(conditions) > 1 else ~conditions[0])
        functions.append(otherwise)
    if len(functions) != len(conditions):
        raise ShapeError(at_user_line(f"np.piecewise: {len(conditions)} conditions for {len(funclist)} functions"))
    out = np.zeros_like(x)
    for condition, function in zip(conditions, functions, strict=True):
        value = Array(held(function(x, *args, **kw) if callable(function) else function, x.dtype))
        out = where(condition, value, out)
    return out


@implements(np.apply_along_axis)
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    """Apply a function of vectors along an axis: it is traced once, and batched."""
    x = as_array(arr)
    a = as_axis(axis, x.ndim, "apply_along_axis")
    rows = moveaxis(x, a, -1)
    lead, n = rows._node.shape[:-1], rows._node.shape[-1]
    count = 1
    for m in lead:
        count = count * m
    row = PRIMITIVES["input"](shape=(n,), dtype=x.dtype)
    one = as_array(func1d(Array(row), *args, **kwargs))._node
    (out, has_axis), = interpreters.batch([one], {}, {row: shapes.reshape(rows._node, shape=(count, n))}, count)
    out = interpreters.with_axis(out, has_axis, count)
    out = Array(shapes.reshape(out, shape=(*lead, *one.shape)))
    k = one.ndim
    return moveaxis(out, tuple(range(len(lead), len(lead) + k)), tuple(range(a, a + k))) if k else out


@implements(np.apply_over_axes)
def apply_over_axes(func, a, axes):
    """Apply a reduction over several axes, one after the other."""
    x = as_array(a)
    for axis in (axes if isinstance(axes, (tuple, list)) else (axes,)):
        out = as_array(func(x, as_axis(axis, x.ndim, "apply_over_axes")))
        x = out if out.ndim == x.ndim else expand_dims(out, as_axis(axis, x.ndim, "apply_over_axes"))
    return x


@implements(name="put_along_axis")
def put_along_axis(arr, indices, values, axis=-1):
    """Return, unlike NumPy which writes into `arr`, a new array with `values` where the indices name them."""
    x = as_array(arr)
    a = as_axis(axis, x.ndim, "put_along_axis")
    i = as_array(indices)
    grid = [i if b == a else np.arange(number(x._node.shape[b])).reshape((1,) * b + (-1,) + (1,) * (x.ndim - b - 1))
            for b in range(x.ndim)]
    return at(x)[tuple(grid)].set(values)

"""Shapes: reshape, transpose, joining and splitting, padding, and arrays made from a shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import Node, constant_of, dtype_of, full
from ..ops import elementwise as ew
from ..ops import shape as shapes
from ..ops.constants import constant, iota
from ..sizes import Size, shown, unwrap
from ..symbolic import Dim, divide, format_shape, size_of
from ..tracing import differs, guard_equal_shapes, number
from .array import (
    Array,
    as_array,
    as_axes,
    as_axis,
    as_int,
    as_ints,
    as_shape,
    broadcast_node,
    broadcast_shapes,
    held,
    implements,
)


@implements(np.reshape)
def reshape(a, /, shape=None, order="C", *, newshape=None, copy=None):
    """Reshape; one size may be -1."""
    if order not in ("C", "F", None):
        raise TraceError(at_user_line(f"np.reshape with order={order!r}: C or F, since traced arrays have no layout"))
    x = as_array(a)._node
    want = list(as_shape(shape if shape is not None else newshape))
    if order == "F":
        return transpose(reshape(transpose(Array(x)), want[::-1]))
    if -1 in want:
        at = want.index(-1)
        rest = size_of(want[:at] + want[at + 1:])
        fit = divide(x.type.size, rest)
        if fit is None and (isinstance(x.type.size, Dim) or isinstance(rest, Dim)):
            fit = divide(number(x.type.size), number(rest))
        if fit is None or -1 in want[at + 1:]:
            raise ShapeError(at_user_line(f"reshape({x.type}): cannot become {format_shape(want)}"))
        want[at] = fit
    return Array(x if tuple(want) == x.shape else shapes.reshape(x, shape=tuple(want)))


@implements(np.ravel)
def ravel(a, order="C"):
    """Flatten to one axis."""
    return reshape(a, (-1,) if size_of(as_array(a)._node.shape) != 0 else (0,), order)


@implements(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    """Permute the axes; reverse them without `axes`."""
    x = as_array(a)._node
    if axes is None:
        perm = tuple(reversed(range(x.ndim)))
    else:
        perm = tuple(as_axis(i, x.ndim, "transpose") for i in axes)
        if sorted(perm) != list(range(x.ndim)):
            raise ShapeError(at_user_line(f"transpose({x.type}): {tuple(axes)} is not an order of its axes"))
    return Array(shapes.transpose(x, perm=perm) if perm != tuple(range(x.ndim)) else x)


@implements(np.matrix_transpose)
def matrix_transpose(x):
    """Swap the last two axes."""
    if as_array(x).ndim < 2:
        raise ShapeError(at_user_line(f"matrix_transpose of {as_array(x)._node.type}: needs two axes"))
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    """Swap two axes."""
    n = as_array(a).ndim
    perm = list(range(n))
    i, j = as_axis(axis1, n, "swapaxes"), as_axis(axis2, n, "swapaxes")
    perm[i], perm[j] = j, i
    return transpose(a, perm)


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    """Move axes to new places."""
    n = as_array(a).ndim
    source, destination = ([as_axis(i, n, "moveaxis") for i in (s if isinstance(s, (tuple, list)) else (s,))]
                           for s in (source, destination))
    perm = [i for i in range(n) if i not in source]
    for to, i in sorted(zip(destination, source, strict=True)):
        perm.insert(to, i)
    return transpose(a, perm)


@implements(np.expand_dims)
def expand_dims(a, axis):
    """Insert axes of size 1."""
    x = as_array(a)._node
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    new = set(as_axes(tuple(axes), x.ndim + len(axes), "expand_dims"))
    sizes = iter(x.shape)
    return Array(shapes.reshape(x, shape=tuple(1 if i in new else next(sizes) for i in range(x.ndim + len(new)))))


@implements(np.squeeze)
def squeeze(a, axis=None):
    """Drop axes of size 1."""
    x = as_array(a)._node
    ones = tuple(i for i, n in enumerate(x.shape) if number(n) == 1) if axis is None else ()
    axes = ones if axis is None else as_axes(axis, x.ndim, "squeeze")
    if any(number(x.shape[i]) != 1 for i in axes):
        raise ShapeError(at_user_line(f"squeeze({x.type}): axis {axis} is not of size 1"))
    return Array(shapes.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes)) if axes else x)


@implements(np.broadcast_to)
def broadcast_to(array, shape, subok=False):
    """Broadcast to a shape."""
    return Array(broadcast_node(as_array(array)._node, as_shape(shape)))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args, subok=False):
    """Broadcast arrays against each other."""
    nodes = [as_array(a)._node for a in args]
    shape = broadcast_shapes("broadcast_arrays", [n.type for n in nodes])
    return tuple(Array(broadcast_node(n, shape)) for n in nodes)


@implements(np.atleast_1d)
def atleast_1d(*arys):
    """Arrays of at least one axis."""
    out = [x if x.ndim else reshape(x, (1,)) for x in map(as_array, arys)]
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.atleast_2d)
def atleast_2d(*arys):
    """Arrays of at least two axes."""
    out = [x if x.ndim >= 2 else expand_dims(x, 0) for x in map(atleast_1d, arys)]
    return out[0] if len(out) == 1 else tuple(out)


# -- joining and splitting ---------------------------------------------------------------------------------


def _same_dtype(xs: Sequence[Array]) -> list[Node]:
    # Only ufuncs let a Python scalar's dtype give way: the functions that come here make an array of it first.
    dtype = np.result_type(*(x.dtype for x in xs))
    return [ew.cast_to(x._node, dtype) for x in xs]


def _arrays(arrays: Any, name: str) -> list[Array]:
    xs = [as_array(a) for a in arrays]
    if not xs:
        raise ShapeError(at_user_line(f"np.{name} of no arrays"))
    return xs


@implements(np.concatenate, name="concatenate")
def concatenate(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Lay arrays end to end along an axis."""
    xs = _arrays(arrays, "concatenate")
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if xs[0].ndim == 0:
        raise ShapeError(at_user_line("np.concatenate of scalars: use np.stack"))
    nodes = _same_dtype(xs)
    if dtype is not None:
        if not all(np.can_cast(n.dtype, dtype, casting) for n in nodes):
            raise DtypeError(at_user_line(f"np.concatenate: {nodes[0].type} cannot be cast to {np.dtype(dtype)} by "
                                          f"casting={casting!r}. Write x.astype({np.dtype(dtype)}) first"))
        nodes = [ew.cast_to(n, dtype_of(dtype)) for n in nodes]
    return Array(shapes.concatenate(*nodes, axis=as_axis(axis, xs[0].ndim, "concatenate")))


@implements(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Join arrays along a new axis."""
    xs = _arrays(arrays, "stack")
    if not all(guard_equal_shapes(x._node.shape, xs[0]._node.shape) for x in xs):
        raise ShapeError(at_user_line(f"np.stack: shapes differ: {', '.join(str(x._node.type) for x in xs)}"))
    at = as_axis(axis, xs[0].ndim + 1, "stack")
    return concatenate([expand_dims(x, at) for x in xs], at, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup, *, dtype=None, casting="same_kind"):
    """Join along axis 1 (0 for vectors)."""
    xs = [atleast_1d(a) for a in tup]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(tup, *, dtype=None, casting="same_kind"):
    """Join along axis 0; vectors are rows."""
    return concatenate([atleast_2d(a) for a in tup], 0, dtype=dtype, casting=casting)


@implements(np.column_stack)
def column_stack(tup):
    """Join vectors as columns."""
    return concatenate([x if x.ndim > 1 else reshape(x, (-1, 1)) for x in map(as_array, tup)], 1)


@implements(np.array_split)
def array_split(ary, indices_or_sections, axis=0, _even=False):
    """Cut into parts along an axis, of nearly equal size or at the given indices."""
    x = as_array(ary)._node
    a = as_axis(axis, x.ndim, "split")
    n = number(x.shape[a])
    if not np.iterable(indices_or_sections):
        k = as_int(indices_or_sections, "split", "indices_or_sections")
        if k <= 0 or (_even and n % k):
            raise ShapeError(at_user_line(f"np.split: an axis of {n} cannot be cut into {k} equal parts"))
        ends = np.cumsum([0] + [n // k + (i < n % k) for i in range(k)])
    else:
        ends = [0, *(min(max(i + (n if i < 0 else 0), 0), n) for i in (
            as_int(i, "split", "indices_or_sections") for i in indices_or_sections)), n]
    return [Array(shapes.slice_(
        x, start=tuple(int(low) if i == a else 0 for i in range(x.ndim)),
        stop=tuple(int(max(low, high)) if i == a else m for i, m in enumerate(x.shape)), step=(1,) * x.ndim))
        for low, high in itertools.pairwise(ends)]


@implements(np.split)
def split(ary, indices_or_sections, axis=0):
    """Cut into equal parts along an axis, or at the given indices."""
    return array_split(ary, indices_or_sections, axis, _even=True)


@implements(np.tile)
def tile(A, reps):
    """Repeat the whole array along each axis."""
    x = as_array(A)
    reps = tuple(unwrap(r) if isinstance(r, Size) else as_int(r, "tile", "reps")
                 for r in (reps if np.iterable(reps) else (reps,)))
    n = max(x.ndim, len(reps))
    reps = (1,) * (n - len(reps)) + reps
    x = reshape(x, (1,) * (n - x.ndim) + x.shape)
    double = tuple(m for r, s in zip(reps, x._node.shape, strict=True) for m in (r, s))
    spread = broadcast_node(expand_dims(x, tuple(range(0, 2 * n, 2)))._node, double)
    return Array(shapes.reshape(spread, shape=tuple(r * s for r, s in zip(reps, x._node.shape, strict=True))))


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """Repeat each element a fixed number of times along an axis."""
    x = ravel(a) if axis is None else as_array(a)
    at = as_axis(0 if axis is None else axis, x.ndim, "repeat")
    if isinstance(repeats, Array):
        raise TraceError(at_user_line("np.repeat with traced counts: the result's shape would depend on data"))
    counts = as_ints(repeats, "repeat", "repeats")
    if counts.size == 1:
        shape = list(x._node.shape)
        k = int(counts.ravel()[0])
        wide = broadcast_node(expand_dims(x, at + 1)._node, (*shape[:at + 1], k, *shape[at + 1:]))
        return Array(shapes.reshape(wide, shape=(*shape[:at], shape[at] * k, *shape[at + 1:])))
    index = np.repeat(np.arange(number(x._node.shape[at])), counts)
    return x[(slice(None),) * at + (index,)]


@implements(np.flip)
def flip(m, axis=None):
    """Reverse the order along axes."""
    x = as_array(m)._node
    return Array(shapes.flip(x, axes=as_axes(axis, x.ndim, "flip")))


@implements(np.roll)
def roll(a, shift, axis=None):
    """Shift along axes, what falls off coming back at the other end."""
    x = as_array(a)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    shifts = list(ravel(shift)) if isinstance(shift, Array) else as_ints(shift, "roll", "shift").ravel().tolist()
    axes = np.ravel(axis).tolist()
    for s, at in zip(*(v * max(len(shifts), len(axes)) if len(v) == 1 else v for v in (shifts, axes)), strict=True):
        at = as_axis(at, x.ndim, "roll")
        n = x._node.shape[at]
        if differs(n) or isinstance(s, Array):
            index = (arange(shown(n)) - s) % shown(n)
            x = moveaxis(moveaxis(x, at, 0)[index], 0, at)
            continue
        n = number(n)
        cut = -s % n if n else 0
        if cut:
            before, after = array_split(x, [cut], at)
            x = concatenate([after, before], at)
    return x


def _pad_widths(pad_width: Any, ndim: int) -> np.ndarray:
    """Return how far each axis is padded before and after, from all forms that NumPy takes."""
    if isinstance(pad_width, dict):
        each = {as_axis(a, ndim, "pad"): n for a, n in pad_width.items()}
        pad_width = [np.broadcast_to(each.get(a, 0), 2) for a in range(ndim)]
    try:
        width = np.broadcast_to(as_ints(pad_width, "pad", "pad_width"), (ndim, 2))
    except ValueError:
        raise ShapeError(at_user_line(f"np.pad with pad_width={pad_width!r}: an array of {ndim} axes needs a number, "
                                      f"a pair, {ndim} pairs, or a dict of pairs by axis")) from None
    if (width < 0).any():
        raise ShapeError(at_user_line(f"np.pad with pad_width={pad_width!r}: widths must not be negative"))
    return width


@implements(np.pad)
def pad(array, pad_width, mode="constant", *, constant_values=0, reflect_type="even"):
    """Pad with a constant, or by ``edge``, ``reflect``, ``symmetric`` and ``wrap``."""
    x = as_array(array)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise TraceError(at_user_line(f"np.pad with mode={mode!r}: use constant, edge, reflect, symmetric or wrap"))
    if reflect_type != "even":
        raise TraceError(at_user_line(f"np.pad with reflect_type={reflect_type!r}: use 'even', or np.concatenate with "
                                      "2 * edge - x[::-1]"))
    width = _pad_widths(pad_width, x.ndim)
    if mode != "constant":
        for a, (low, high) in enumerate(width):
            if low or high:
                index = np.pad(np.arange(number(x._node.shape[a])), (low, high), mode)
                x = x[(slice(None),) * a + (index,)]
        return x
    low, high = (tuple(map(int, w)) for w in width.T)
    out = shapes.pad(x._node, low=low, high=high, interior=(0,) * x.ndim)
    values = as_array(constant_values)
    if constant_of(values._node) == 0:
        return Array(out)
    values = broadcast_to(values.astype(x.dtype), (x.ndim, 2))
    for a, widths in enumerate(width):
        if not widths.any():
            continue
        before, after = (broadcast_to(values[a, side], (*x.shape[:a], int(n), *x.shape[a + 1:]))
                         for side, n in enumerate(widths))
        x = concatenate([before, x, after], a)
    return x


# -- made from a shape --------------------------------------------------------------------------------------


def _like(name: str, function: Any, value: Any) -> None:
    def like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
        x = as_array(a)._node
        return Array(full(value, x.shape if shape is None else as_shape(shape), dtype_of(dtype or x.dtype)))

    like.__doc__ = f"``np.{name}`` with the shape and dtype of a traced value."
    implements(function, name=name)(like)


_like("zeros_like", np.zeros_like, 0)
_like("ones_like", np.ones_like, 1)
_like("empty_like", np.empty_like, 0)


@implements(np.full_like)
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """An array of one value with the shape and dtype of another."""
    x = as_array(a)._node
    value = held(fill_value, dtype_of(dtype or x.dtype))
    return Array(broadcast_node(value, x.shape if shape is None else as_shape(shape)))


def _from_shape(name: str, function: Any, value: Any) -> None:
    def make(shape, dtype=float, order="C", *, device=None, like=None):
        return Array(full(value, as_shape(shape), dtype_of(dtype or float)))

    make.__doc__ = f"``np.{name}`` of a shape that may hold symbolic sizes."
    implements(function, name=name)(make)


_from_shape("zeros", np.zeros, 0)
_from_shape("ones", np.ones, 1)
_from_shape("empty", np.empty, 0)


@implements(np.full)
def full_(shape, fill_value, dtype=None, order="C", *, device=None, like=None):
    """An array of one value, of a shape that may hold symbolic sizes."""
    value = as_array(fill_value)._node if dtype is None else held(fill_value, dtype_of(dtype))
    return Array(broadcast_node(value, as_shape(shape)))


@implements(np.arange)
def arange(start, stop=None, step=1, dtype=None, *, device=None, like=None):
    """``np.arange``; a symbolic size may be the end of a count from zero."""
    if stop is None:
        start, stop = 0, start
    if isinstance(stop, Size) and (start, step) == (0, 1):
        counted = iota(size=stop.dim)
        return Array(counted if dtype is None else ew.cast_to(counted, dtype_of(dtype)))
    return Array(constant(np.arange(*(int(v) if isinstance(v, Size) else v for v in (start, stop, step)), dtype=dtype)))


@implements(np.eye)
def eye(N, M=None, k=0, dtype=float, order="C", *, device=None, like=None):
    """The identity matrix, or ones on another diagonal; its sizes may be symbolic."""
    k = as_int(k, "eye", "k")
    if isinstance(N, Size) or isinstance(M, Size):
        return (arange(N)[:, None] + k == arange(N if M is None else M)).astype(dtype)
    return Array(constant(np.eye(as_int(N, "eye", "N"), None if M is None else as_int(M, "eye", "M"), k, dtype)))


@implements(np.identity)
def identity(n, dtype=None, *, like=None):
    """The identity matrix; its size may be symbolic."""
    return eye(n, dtype=dtype or float)


@implements(np.tri)
def tri(N, M=None, k=0, dtype=float, *, like=None):
    """Ones on and below a diagonal; the sizes may be symbolic."""
    return (as_array(arange(N))[:, None] + as_int(k, "tri", "k") >= arange(N if M is None else M)).astype(dtype)


@implements(np.shape)
def shape(a):
    """The shape, symbolic sizes included."""
    return as_array(a).shape


@implements(np.ndim)
def ndim(a):
    """The number of axes."""
    return as_array(a).ndim


@implements(np.size)
def size(a, axis=None):
    """The number of elements, of all or along an axis."""
    x = as_array(a)._node
    return shown(size_of(x.shape[i] for i in as_axes(axis, x.ndim, "size")))


@implements(np.copy)
def copy(a, order="K", subok=False):
    """The value itself: traced arrays never change."""
    return as_array(a)


@implements(np.asarray, np.array, np.asanyarray, np.ascontiguousarray)
def asarray(a, dtype=None, order=None, *, copy=None, like=None, device=None, ndmin=0, subok=False):
    """A traced value as it is, or cast; a list of traced values stacked."""
    x = as_array(a)
    if ndmin > x.ndim:
        x = expand_dims(x, tuple(range(ndmin - x.ndim)))
    return x if dtype is None else astype(x, dtype)


@implements(np.astype)
def astype(x, dtype, /, *, copy=True, order="K", casting="unsafe", subok=True, device=None):
    """Cast to a dtype."""
    return Array(ew.cast_to(as_array(x)._node, dtype_of(dtype)))


@implements(np.result_type)
def result_type(*arrays_and_dtypes):
    """The dtype that a mix of values promotes to."""
    return np.result_type(*((x.dtype if not x._weak else 0.0 if x.dtype.kind == "f" else 0)
                            if isinstance(x, Array) else x for x in arrays_and_dtypes))


@implements(np.where)
def where(condition, x=None, y=None, /):
    """Choose elementwise; no gradient flows into the branch not taken.

    That holds also where the branch not taken has an infinite slope, ``np.where(x > 0, np.sqrt(x), 0.0)``: the
    choice is made after the products with the slopes, through all work that keeps elements apart. Behind work that
    mixes them (a matrix product) zero times infinity is nan, as anywhere: there guard the argument, too.
    """
    if x is None or y is None:
        raise TraceError(at_user_line("np.where(condition) alone has a shape that depends on data: give both branches"))
    c = as_array(condition)._node
    if c.dtype != np.bool_:
        c = ew.ne(c, full(0, c.shape, c.dtype))
    values = [as_array(x), as_array(y)]
    dtype = result_type(*values)
    nodes = [ew.cast_to(v._node, dtype) for v in values]  # of a Python int, as NumPy does it, in range or not
    result = broadcast_shapes("np.where", [c.type, *(n.type for n in nodes)])
    return Array(ew.where(*(broadcast_node(n, result) for n in (c, *nodes))))


for _name, _function in {"ravel": ravel, "flatten": ravel, "swapaxes": swapaxes, "squeeze": squeeze,
                         "repeat": repeat, "astype": astype, "copy": copy}.items():
    setattr(Array, _name, _function)


def _reshape_method(self, *shape, order="C", copy=None):
    return reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape, order)


def _transpose_method(self, *axes):
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = axes[0]
    return transpose(self, axes or None)


Array.reshape, Array.transpose = _reshape_method, _transpose_method

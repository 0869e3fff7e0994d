"""Manipulation: shapes, the order of axes and elements, repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import ShapeError, TraceError, at_user_line
from ..graph import ArrayType, full
from ..ops import shape as shapes
from ..sizes import Size, shown
from ..symbolic import Dim, differs, divide, format_shape, size_of
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import number
from .arguments import (
    Axes,
    ShapeLike,
    as_axes,
    as_axis,
    as_count,
    as_int,
    as_ints,
    as_sequence,
    as_shape,
    at_least_rows,
    broadcast_node,
    broadcast_shapes,
    counted,
    several,
)
from .dispatch import implements
from .protocols import known_array

# -- shapes --------------------------------------------------------------------------------------------------


@implements(np.shape)
def shape(a: ArrayLike) -> tuple[int | Size, ...]:
    """Return the shape, symbolic sizes included."""
    return as_array(a).shape


@implements(np.ndim)
def ndim(a: ArrayLike) -> int:
    """Return the number of axes."""
    return as_array(a).ndim


@implements(np.size)
def size(a: ArrayLike, axis: Axes = None) -> int | Size:
    """Return the number of elements, of all or along an axis."""
    x = as_array(a)._node
    return shown(size_of(x.shape[i] for i in as_axes(axis, x.ndim, "size")))


@implements(np.reshape)
def reshape(a: ArrayLike, /, shape: ShapeLike | None = None, order: str = "C", *, newshape: ShapeLike | None = None,
            copy: bool | None = None) -> Array:
    """Reshape; one size may be -1."""
    if order not in ("C", "F", None):
        raise TraceError(at_user_line(f"np.reshape with order={order!r}: C or F, since traced arrays have no layout"))
    x = as_array(a)._node
    sizes = list(as_shape(newshape if shape is None else shape, least=-1))
    if order == "F":
        return transpose(reshape(transpose(Array(x)), sizes[::-1]))
    if -1 in sizes:
        unknown = sizes.index(-1)
        known = size_of(sizes[:unknown] + sizes[unknown + 1:])
        missing = divide(size_of(x.shape), known)
        if missing is None and (isinstance(size_of(x.shape), Dim) or isinstance(known, Dim)):
            missing = divide(number(size_of(x.shape)), number(known))
        if missing is None or -1 in sizes[unknown + 1:]:
            raise ShapeError(at_user_line(f"reshape({x.type}): cannot become {format_shape(sizes)}"))
        sizes[unknown] = missing
    return Array(x if tuple(sizes) == x.shape else shapes.reshape(x, shape=tuple(sizes)))


@implements(np.ravel)
def ravel(a: ArrayLike, order: str = "C") -> Array:
    """Flatten to one axis."""
    return reshape(a, (-1,) if size_of(as_array(a)._node.shape) != 0 else (0,), order)


@implements(np.expand_dims)
def expand_dims(a: ArrayLike, axis: int | Sequence[int]) -> Array:
    """Insert axes of size 1."""
    x = as_array(a)._node
    axes = as_sequence(axis)
    new = set(as_axes(tuple(axes), x.ndim + len(axes), "expand_dims"))
    sizes = iter(x.shape)
    return Array(shapes.reshape(x, shape=tuple(1 if i in new else next(sizes) for i in range(x.ndim + len(new)))))


@implements(np.squeeze)
def squeeze(a: ArrayLike, axis: Axes = None) -> Array:
    """Drop axes of size 1."""
    x = as_array(a)._node

    def single(i: int) -> bool:
        n = x.shape[i]
        return not differs(n) and number(n) == 1  # a ragged axis is one, also of a single row

    axes = tuple(filter(single, range(x.ndim))) if axis is None else as_axes(axis, x.ndim, "squeeze")
    if not all(map(single, axes)):
        raise ShapeError(at_user_line(f"squeeze({x.type}): axis {axis} is not of size 1"))
    return Array(shapes.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes)) if axes else x)


_NEW_AXES: dict[int, dict[int, tuple[int, ...]]] = {
    1: {0: (0,)}, 2: {0: (0, 1), 1: (0,)}, 3: {0: (0, 1, 2), 1: (0, 2), 2: (2,)}}


def at_least(ndim: int, a: ArrayLike) -> Array:
    """Return an array with new axes of size 1 where it has fewer than 1, 2 or 3."""
    x = as_array(a)
    axes = _NEW_AXES[ndim].get(x.ndim)
    return expand_dims(x, axes) if axes else x


def _enter_at_least(ndim: int, function: Callable[..., object]) -> None:
    @implements(function, doc=f"Return arrays of at least {ndim} axes.")
    def atleast(*arys: ArrayLike) -> Array | tuple[Array, ...]:
        out = tuple(at_least(ndim, a) for a in arys)
        return out[0] if len(out) == 1 else out


_enter_at_least(1, np.atleast_1d)
_enter_at_least(2, np.atleast_2d)
_enter_at_least(3, np.atleast_3d)


# -- broadcasting --------------------------------------------------------------------------------------------


@implements(np.broadcast_to)
def broadcast_to(array: ArrayLike, shape: ShapeLike, subok: bool = False) -> Array:
    """Broadcast to a shape."""
    return Array(broadcast_node(as_array(array)._node, as_shape(shape)))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: ArrayLike, subok: bool = False) -> tuple[Array, ...]:
    """Broadcast arrays against each other."""
    nodes = [as_array(a)._node for a in args]
    shape = broadcast_shapes("broadcast_arrays", nodes)
    return tuple(Array(broadcast_node(n, shape)) for n in nodes)


@implements(name="broadcast_shapes")
def broadcast_shapes_(*shapes: ShapeLike) -> tuple[int | Size, ...]:
    """Return the shape that shapes broadcast to; sizes may be symbolic."""
    kind = np.dtype(float)
    types = [ArrayType(as_shape(s), kind) for s in shapes]
    return tuple(shown(n) for n in broadcast_shapes("broadcast_shapes", types)) if types else ()


# -- order of axes -------------------------------------------------------------------------------------------


@implements(np.transpose, np.permute_dims)
def transpose(a: ArrayLike, axes: Sequence[int] | None = None) -> Array:
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
def matrix_transpose(x: ArrayLike) -> Array:
    """Swap the last two axes."""
    if as_array(x).ndim < 2:
        raise ShapeError(at_user_line(f"matrix_transpose of {as_array(x)._node.type}: needs two axes"))
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Array:
    """Swap two axes."""
    n = as_array(a).ndim
    perm = list(range(n))
    i, j = as_axis(axis1, n, "swapaxes"), as_axis(axis2, n, "swapaxes")
    perm[i], perm[j] = j, i
    return transpose(a, perm)


@implements(np.moveaxis)
def moveaxis(a: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """Move axes to new places."""
    n = as_array(a).ndim
    before, after = ([as_axis(i, n, "moveaxis") for i in as_sequence(s)] for s in (source, destination))
    perm = [i for i in range(n) if i not in before]
    for to, i in sorted(zip(after, before, strict=True)):
        perm.insert(to, i)
    return transpose(a, perm)


@implements(np.rollaxis)
def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Array:
    """Move an axis in front of another."""
    n = as_array(a).ndim
    axis, start = as_axis(axis, n, "rollaxis"), start + n if start < 0 else start
    return moveaxis(a, axis, start - (start > axis))


# -- order of elements ---------------------------------------------------------------------------------------


@implements(np.flip)
def flip(m: ArrayLike, axis: Axes = None) -> Array:
    """Reverse the order along axes."""
    x = as_array(m)._node
    return Array(shapes.flip(x, axes=as_axes(axis, x.ndim, "flip")))


@implements(np.fliplr)
def fliplr(m: ArrayLike) -> Array:
    """Reverse the order along axis 1."""
    return flip(m, 1)


@implements(np.flipud)
def flipud(m: ArrayLike) -> Array:
    """Reverse the order along axis 0."""
    return flip(m, 0)


@implements(np.rot90)
def rot90(m: ArrayLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Array:
    """Turn by 90 degrees in the plane of two axes."""
    x = as_array(m)
    a, b = (as_axis(i, x.ndim, "rot90") for i in axes)
    k = as_int(k, "rot90", "k") % 4
    if k in (0, 2):
        return flip(x, (a, b)) if k else x
    return swapaxes(flip(x, b), a, b) if k == 1 else flip(swapaxes(x, a, b), b)


# -- repetition ----------------------------------------------------------------------------------------------


@implements(np.tile)
def tile(A: ArrayLike, reps: int | Size | Iterable[int | Size]) -> Array:
    """Repeat the whole array along each axis."""
    x = as_array(A)
    counts: list[int | Dim] = [r.dim if isinstance(r, Size) else as_count(r, "tile", "reps")
              for r in (reps if several(reps) else (reps,))]
    n = max(x.ndim, len(counts))
    counts = [*[1] * (n - len(counts)), *counts]
    x = reshape(x, (1,) * (n - x.ndim) + x.shape)
    pairs = list(zip(counts, x._node.shape, strict=True))
    copies = broadcast_node(expand_dims(x, tuple(range(0, 2 * n, 2)))._node, tuple(m for pair in pairs for m in pair))
    return Array(shapes.reshape(copies, shape=tuple(count * size for count, size in pairs)))


@implements(np.repeat)
def repeat(a: ArrayLike, repeats: ArrayLike, axis: int | None = None) -> Array:
    """Repeat each element a fixed number of times along an axis."""
    x, a_ = flat_along(a, axis, "repeat")
    if isinstance(repeats, Array) and known_array(repeats) is None:
        raise TraceError(at_user_line("np.repeat with traced counts: the result's shape would depend on data"))
    counts = as_ints(repeats, "repeat", "repeats")
    as_count(min(counts.ravel(), default=0), "repeat", "repeats")
    if counts.size == 1:
        shape = list(x._node.shape)
        k = int(counts.ravel()[0])
        wide = broadcast_node(expand_dims(x, a_ + 1)._node, (*shape[:a_ + 1], k, *shape[a_ + 1:]))
        return Array(shapes.reshape(wide, shape=(*shape[:a_], shape[a_] * k, *shape[a_ + 1:])))
    return index_along(x, a_, np.repeat(np.arange(number(x._node.shape[a_])), counts))


@implements(np.resize)
def resize(a: ArrayLike, new_shape: ShapeLike) -> Array:
    """Repeat the flattened array until it fills a shape."""
    shape = as_shape(new_shape)
    x, total = ravel(a), number(size_of(shape))
    n = number(x._node.shape[0])
    if not n:
        return Array(full(0, shape, x.dtype))
    return Array(shapes.reshape(x[np.arange(total) % n]._node, shape=shape))


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(x: ArrayLike, window_shape: int | Sequence[int], axis: Axes = None, *, subok: bool = False,
                        writeable: bool = False) -> Array:
    """Return all windows of a shape, as a copy."""
    x = as_array(x)
    sizes = as_sequence(window_shape)
    axes = [as_axis(a, x.ndim, "sliding_window_view") for a in (range(x.ndim) if axis is None else as_sequence(axis))]
    if len(sizes) != len(axes):
        raise ShapeError(at_user_line(f"sliding_window_view: {len(sizes)} window sizes for {len(axes)} axes"))
    for n, a in zip(sizes, axes, strict=True):
        m = x._node.shape[a]
        if differs(m):
            x = at_least_rows(x, m, max(n, 1), "sliding_window_view")
        count = (m if differs(m) else number(m)) - n + 1
        if n < 0 or (isinstance(count, int) and count < 1):
            raise ShapeError(at_user_line(f"sliding_window_view: a window of {n} does not fit axis {a} of "
                                          f"{x._node.type}"))
        x = moveaxis(index_along(x, a, counted(count)[:, None] + np.arange(n)), a + 1, -1)
    return x


def flat_along(arr: ArrayLike, axis: int | None, name: str) -> tuple[Array, int]:
    """Return an array and an axis of it: the flattened array where the argument `axis` is None."""
    x = ravel(arr) if axis is None else as_array(arr)
    return x, as_axis(0 if axis is None else axis, x.ndim, name)


def index_along(x: Array, axis: int, index: object) -> Array:
    """Index one axis of an array."""
    return x[(slice(None),) * axis + (index,)]

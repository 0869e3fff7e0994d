"""Views: operations whose result lies in the memory of their first operand.

A primitive declares its view once, and every backend reads it: as offset and strides, as the text of an index, as
NumPy's slices. A view that neither keeps the row-major order (`IN_ORDER`) nor takes a part of a tuple (`PART`) is a
`Window`: along each axis of the operand, the index is a start plus steps along one axis of the result.

Examples
--------
>>> import numpy as np
>>> from minigrad.graph import PRIMITIVES as P
>>> from minigrad.views import window
>>> x = P["full"](value=0.0, shape=(2, 3), dtype=np.dtype("f8"))

Element ``[k, i, j]`` of this expand is element ``[i, j]`` of the operand:

>>> window(P["expand"](x, shape=(4, 2, 3), axes=(0,)))
Window(axes=(1, 2), start=(0, 0), step=(1, 1))

A flip counts from the last position:

>>> window(P["flip"](x, axes=(1,)))
Window(axes=(0, 1), start=(0, 2), step=(1, -1))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .axes import axis_rule
from .graph import Node
from .primitive import IN_ORDER, Size, View, Window

Strides = tuple[Size, ...]


def window(node: Node) -> Window | None:
    """Return the positions of a view's elements, or None for an `IN_ORDER` view, a `PART`, and other operations."""
    view = node.prim.view
    return view.window(node) if view is not None and view.window is not None else None


def added(node: Node) -> list[int]:
    """Return the axes along which a node repeats its operand; none for other operations."""
    positions = window(node)
    if positions is None or positions.moved or list(positions.axes) != sorted(positions.axes):
        return []
    return positions.repeated(node.ndim)


def is_whole(node: Node) -> bool:
    """Return whether a view has every element of its operand once: it permutes axes or reshapes."""
    positions = window(node)
    if positions is None:
        return node.prim.view is IN_ORDER
    return len(positions.axes) == node.ndim and not positions.moved


def _by_axes(node: Node) -> Window:
    """Return the window of a view that permutes axes and repeats along new ones, from its axis rule."""
    rule = axis_rule(node)
    assert rule is not None
    (before,), (after,) = rule.operands, rule.results
    return Window(tuple(map(after.index, before)), (0,) * len(before), (1,) * len(before))


BY_AXES = View(_by_axes)


def along_each(start_and_step: Callable[..., tuple[Sequence[Size], Sequence[int]]]) -> View:
    """Declare a view with the axes of its operand.

    ``start_and_step(shape, **params)`` returns the first position and the step along each axis of an operand of
    `shape`.
    """
    def positions(node: Node) -> Window:
        start, step = start_and_step(node.inputs[0].shape, **node.params)
        return Window(tuple(range(node.ndim)), tuple(start), tuple(step))

    return View(positions)


def _same(node: Node) -> Window:
    return Window(tuple(range(node.ndim)), (0,) * node.ndim, (1,) * node.ndim)


SAME = View(_same, in_order=True)  # the operand itself


def dense_strides(shape: Sequence[Size], unit: int = 1) -> Strides:
    """Return the strides of an array in row-major order whose elements are `unit` apart."""
    strides: list[Size] = [unit] * len(shape)
    for k in range(len(shape) - 1, 0, -1):
        strides[k - 1] = strides[k] * shape[k]
    return tuple(strides)


def strided(view: Node, offset: Size, strides: Strides, unit: int = 1) -> tuple[Size, Strides]:
    """Return offset and strides of a view, given those of its operand; `unit` is the distance of neighbours."""
    positions = window(view)
    if positions is None:
        return offset, dense_strides(view.shape, unit)
    moved: list[Size] = [0] * view.ndim
    for axis, start, step, stride in zip(*positions, strides, strict=True):
        offset, moved[axis] = offset + start * stride, step * stride
    return offset, tuple(moved)

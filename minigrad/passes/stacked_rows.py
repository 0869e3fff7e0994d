"""Values of a literal graph as rows of arrays, and stacks of such rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..graph import Node, TupleType
from ..ops.constants import constant, known, proj
from ..ops.index import gather
from ..ops.shape import concatenate, pad, reshape, slice_
from ..primitive import input_, move_axis
from ..symbolic import Shape


class Row(NamedTuple):
    """A value of a literal graph.

    Attributes
    ----------
    array : Node
    position : int or None
        The position of the value along axis 0 of `array`; None: the value is `array` itself.
    """

    array: Node
    position: int | None = None


def element_axis(node: Node) -> int | None:
    """Return the axis along which a slice ``x[i]`` takes one position, and whole axes beside it; otherwise None."""
    return position_axis(node, node.inputs[0]) if node.prim is slice_ else None


def padded_axis(node: Node) -> int | None:
    """Return the axis along which a pad puts one position into zeros: the cotangent of ``x[i]``; otherwise None."""
    return position_axis(node.inputs[0], node) if node.prim is pad else None


def position_axis(part: Node, whole: Node) -> int | None:
    """Return the one axis along which a part has a single position of the whole, or None."""
    cut = [a for a, (n, m) in enumerate(zip(whole.shape, part.shape, strict=True)) if n != m]
    return cut[0] if len(cut) == 1 and part.shape[cut[0]] == 1 else None


def reshaped(x: Node, shape: Shape) -> Node:
    """Return `x` in another shape, read from the array that `x` itself is a reshape of."""
    while x.prim is reshape:
        (x,) = x.inputs
    return x if x.shape == shape else reshape(x, shape=shape)


class Rows:
    """The values of a literal graph that are computed so far.

    Parameters
    ----------
    elements : mapping of Node to int
        The slices ``x[i]`` that are rows without a node of their own, and the axis of each.
    """

    def __init__(self, elements: Mapping[Node, int]):
        self._elements = elements
        self._rows: dict[Node, Row] = {}
        self._parts: dict[Node, tuple[tuple[Node, ...], int | None]] = {}  # results of nodes with several
        self._constants: dict[Hashable, Node] = {}
        self._arrays: dict[Hashable, Node] = {}

    def add(self, nodes: Sequence[Node], result: Node | tuple[Node, ...], stacked: bool) -> None:
        """Enter the values of nodes: the rows of a result that is stacked, or one value."""
        several = isinstance(nodes[0].type, TupleType)
        if several and isinstance(result, Node):
            result = tuple([proj(result, index=i) for i in range(len(nodes[0].types))])
        for k, node in enumerate(nodes):
            index = k if stacked else None
            if isinstance(result, Node):
                self._rows[node] = Row(result, index)
            else:
                self._parts[node] = result, index

    def copy(self, node: Node, same: Node) -> None:
        """Enter the value of a node that has the value of another."""
        if isinstance(node.type, TupleType):
            self._parts[node] = self._parts[same]
        else:
            self._rows[node] = self[same]

    def __getitem__(self, node: Node) -> Row:
        row = self._rows.get(node)
        if row is None:
            row = self._rows[node] = self._read(node)
        return row

    def _read(self, node: Node) -> Row:
        if node.prim is proj:
            parts, index = self._parts[node.inputs[0]]
            return Row(parts[node.params["index"]], index)
        if node in self._elements:
            return self._element(node, self._elements[node])
        assert node.prim.kind == "leaf", f"{node} is not computed yet"
        if node.prim is input_:
            return Row(node)
        key = node.prim.key(node.params) if node.prim.key is not None else tuple(node.params.values())
        return Row(self._constants.setdefault((node.prim, key), node))  # equal constants are one value

    def _once(self, key: Hashable, make: Callable[[], Node]) -> Node:
        array = self._arrays.get(key)
        if array is None:
            array = self._arrays[key] = make()
        return array

    def _element(self, node: Node, axis: int) -> Row:
        """Return ``x[i]``, an element of row r, as row ``r * m + i`` of the array of all elements, m per row."""
        array, index = self[node.inputs[0]]
        size, position = node.inputs[0].shape[axis], node.params["start"][axis]
        assert isinstance(size, int)

        def make() -> Node:
            if index is None:
                return reshaped(move_axis(array, axis, 0), (size, *node.shape))
            return reshaped(move_axis(array, axis + 1, 1), (array.shape[0] * size, *node.shape))

        return Row(self._once((array, index is None, axis), make), (index or 0) * size + position)

    def value(self, row: Row) -> Node:
        """Return the value of a row, an array of its own."""
        if row.position is None:
            return row.array
        position = row.position
        return self._once(row, lambda: reshaped(take(row.array, [position]), row.array.shape[1:]))

    def stack(self, rows: Sequence[Row]) -> Node:
        """Return the array of `rows`, one after the other."""
        return self._once(tuple(rows), lambda: self._stacked(rows))

    def _stacked(self, rows: Sequence[Row]) -> Node:
        shape, dtype = rows[0].array.shape[rows[0].position is not None:], rows[0].array.dtype
        numbers = [known(array) for array, index in rows if index is None]
        sizes = [n for n in shape if isinstance(n, int)]
        if len(numbers) == len(rows) and all(c is not None for c in numbers) and len(sizes) == len(shape):
            return constant(np.stack([np.broadcast_to(np.asarray(c, dtype), sizes) for c in numbers]))
        taken: dict[Row | Node, list[int]] = {}  # positions in each array; a value alone is one row
        places = []
        for row in rows:
            source = row if row.position is None else row.array
            own = taken.setdefault(source, [])
            if row.position is not None or not own:
                own.append(row.position or 0)
            places.append((source, len(own) - 1))
        pieces = [take(s, own) if isinstance(s, Node) else reshaped(s.array, (1, *shape)) for s, own in taken.items()]
        first = dict(zip(taken, itertools.accumulate(map(len, taken.values()), initial=0), strict=False))
        joined = pieces[0] if len(pieces) == 1 else concatenate(*pieces, axis=0)
        return take(joined, [first[source] + k for source, k in places])


def take(array: Node, positions: Sequence[int]) -> Node:
    """Return rows of an array: the whole, a slice, or a gather with constant indices."""
    size, first, n = array.shape[0], positions[0], len(positions)
    step = positions[1] - first if n > 1 else 1
    if step < 1 or list(positions) != list(range(first, first + n * step, step)):
        return gather(array, constant(np.asarray(positions, dtype=np.int64)))
    if n == size:
        return array
    return slice_(array, start=(first, *(0 for _ in array.shape[1:])), step=(step, *(1 for _ in array.shape[1:])),
                  stop=(first + (n - 1) * step + 1, *array.shape[1:]))

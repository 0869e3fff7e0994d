"""The sizes that the arguments of a graph give its symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .errors import ShapeError
from .graph import Graph
from .symbolic import Dim, Symbol, format_shape, value

Size = TypeVar("Size", int, "int | Dim")


def argument_sizes(graph: Graph, shapes: Sequence[tuple[Size, ...]]) -> dict[Symbol, Size]:
    """Return every symbol's size, found by matching the shapes of the graph's inputs with those of its arguments.

    Raises
    ------
    ShapeError
        If a number does not match, or one symbol would need two values.
    """
    sizes: dict[Symbol, Size] = {}
    owners: dict[Symbol, str] = {}
    composite = []
    for i, (node, actual) in enumerate(zip(graph.inputs, shapes, strict=True)):
        if node.ndim != len(actual):
            raise _other_shape(graph, i, actual)
        for axis, (n, size) in enumerate(zip(node.shape, actual, strict=True)):
            symbol = n.symbol if isinstance(n, Dim) else None
            if symbol is None:
                composite.append((n, size, i))
            elif sizes.setdefault(symbol, size) != size:
                raise ShapeError(f"size {symbol} is {sizes[symbol]} in {owners[symbol]} "
                                 f"and {size} in {graph.names[i]} (axis {axis})")
            else:
                owners.setdefault(symbol, graph.names[i])
    for n, size, i in composite:
        if value(n, sizes) != size:
            raise _other_shape(graph, i, shapes[i])
    return sizes


def _other_shape(graph: Graph, i: int, actual: Sequence[int | Dim]) -> ShapeError:
    return ShapeError(f"argument {graph.names[i]}: expected shape {format_shape(graph.inputs[i].shape)}, "
                      f"got {format_shape(actual)}")

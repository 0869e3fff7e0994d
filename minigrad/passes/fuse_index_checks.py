"""Fusion of index checks (`ops.strict_index`) into the gathers and scatters that read the indices.

A backend applies it last, so that the other passes see each check as a node.
"""

from __future__ import annotations

from ..graph import Graph, Node, Number, constant_of
from ..interpreters import rebuilt, rewrite
from ..ops.constants import size_
from ..ops.index import INDEXED_AXES, gather, gather_sum, lockstep
from ..ops.strict_index import NAMES, Reading
from ..symbolic import Dim, Shape


def fuse_index_checks(graph: Graph) -> Graph:
    """Return an equal graph whose gathers and scatters check their indices."""
    if not any(prim.name in NAMES for prim in graph.prims):
        return graph
    return rewrite(graph, _read_checked)


def _read_checked(node: Node, inputs: tuple[Node, ...]) -> Node | None:
    readings = [_reading(i, n) for i, n in zip(node.inputs[1:], _indexed_sizes(node), strict=False)]
    if not any(readings):
        return None
    indices = (i.inputs[0] if r else i for i, r in zip(inputs[1:], readings, strict=True))
    return rebuilt(node, (inputs[0], *indices), {**node.params, "read": tuple(readings)})


def _indexed_sizes(node: Node) -> tuple[int | Dim, ...]:
    """Return the sizes that indices count along, where kernels check them."""
    if node.prim is gather_sum:
        return node.inputs[0].shape[0], node.params["size"]
    if node.prim.axes is not INDEXED_AXES:
        return ()
    if node.prim is gather:
        return node.inputs[0].shape[:1] if len(node.inputs) == 2 else ()
    if lockstep(node) and node.inputs[1].ndim == 1:  # an assignment, which counts the rows itself
        return ()
    shape: Shape = node.params["shape"]
    return shape[:len(node.inputs) - 1]


def _reading(index: Node, size: int | Dim) -> Reading:
    """Return the check of an index into `size` elements, or None."""
    if index.prim.name not in NAMES:
        return None
    _, count, *null = (_common_value(i) for i in index.inputs)
    return (index.prim.name, *null) if count == size - len(null) else None


def _common_value(node: Node) -> Number | Dim | None:
    """Return the value of all elements of an array, or None."""
    while node.prim.kind == "view":
        node = node.inputs[0]
    if node.prim is size_:
        size: int | Dim = node.params["size"]
        return size
    return constant_of(node)

"""Gathers and scatters make the check of `ops.strict_index` themselves, where they read the indices anyway.

A backend applies it last: what a check is, and what it refuses, the other passes see in the graph.
"""

from __future__ import annotations

from ..graph import Graph, Node, constant_of
from ..interpreters import rebuilt, rewrite
from ..ops.constants import size_
from ..ops.index import INDEXED_AXES, gather, gather_sum, lockstep
from ..ops.strict_index import NAMES, Reading
from ..symbolic import Dim


def fuse_index_checks(graph: Graph) -> Graph:
    """Return an equal graph whose gathers and scatters have a parameter ``read``: how each index is read."""
    if not any(n.prim.name in NAMES for n in graph.nodes):
        return graph
    return rewrite(graph, _read_checked)


def _read_checked(node: Node, inputs: tuple[Node, ...]) -> Node | None:
    readings = [_reading(i, n) for i, n in zip(node.inputs[1:], _sizes(node), strict=False)]
    if not any(readings):
        return None
    read = (i.inputs[0] if r else i for i, r in zip(inputs[1:], readings, strict=True))
    return rebuilt(node, (inputs[0], *read), {**node.params, "read": tuple(readings)})


def _sizes(node: Node) -> tuple[int | Dim, ...]:
    """Return the sizes that a node's indices count along, of those that may be read in another way."""
    if node.prim is gather_sum:
        return node.inputs[0].shape[0], node.params["size"]
    if node.prim.axes is not INDEXED_AXES:
        return ()
    if node.prim is gather:
        return node.inputs[0].shape[:1] if len(node.inputs) == 2 else ()
    a_kernels_own = lockstep(node) and node.inputs[1].ndim == 1
    return () if a_kernels_own else node.params["shape"][:len(node.inputs) - 1]


def _reading(index: Node, size: int | Dim) -> Reading:
    """Return the check that an index into `size` elements has behind it."""
    if index.prim.name not in NAMES:
        return None
    _, places, *null = (_number(i) for i in index.inputs)
    return (index.prim.name, *null) if places == size - len(null) else None


def _number(node: Node) -> int | Dim | None:
    """Return the number that all elements of an array are."""
    while node.prim.kind == "view":
        node = node.inputs[0]
    return node.params["size"] if node.prim is size_ else constant_of(node)

"""places: gathers and scatters make the check of `ops.places` themselves, where they read the indices anyway.

A backend applies it last: what a check is, and what it refuses, the other passes see in the graph.
"""

from __future__ import annotations

from ..dims import Dim
from ..graph import Graph, Node
from ..ops.places import NAMES, Reading
from .fuse import lockstep

_SCATTERS = ("scatter_add", "scatter_max", "scatter_min")


def places(graph: Graph) -> Graph:
    """Return an equal graph whose gathers and scatters have a parameter ``read``: how each index is read."""
    if not any(n.prim.name in NAMES for n in graph.nodes):
        return graph
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs, params = tuple(made[i] for i in node.inputs), node.params
        readings = [_reading(i, n) for i, n in zip(node.inputs[1:], _sizes(node), strict=False)]
        if any(readings):
            inputs = (inputs[0], *(i.inputs[0] if r else i for i, r in zip(inputs[1:], readings, strict=True)))
            params = {**params, "read": tuple(readings)}
        made[node] = node if inputs == node.inputs else Node(node.prim, inputs, params, node.type, like=node)
    return graph.replace(outputs=tuple(made[n] for n in graph.outputs))


def _sizes(node: Node) -> tuple[int | Dim, ...]:
    """Return the sizes that a node's indices count along, of those that may be read in another way."""
    name = node.prim.name
    if name == "gather" and len(node.inputs) == 2:
        return node.inputs[0].shape[:1]
    if name == "gather_sum":
        return node.inputs[0].shape[0], node.params["size"]
    if name in _SCATTERS and not (lockstep(node) and node.inputs[1].ndim == 1):  # a kernel's own
        return node.params["shape"][:len(node.inputs) - 1]
    return ()


def _reading(index: Node, size: int | Dim) -> Reading:
    """Return the check that an index into `size` elements has behind it."""
    if index.prim.name not in NAMES:
        return None
    _, places, *null = (_number(i) for i in index.inputs)
    return (index.prim.name, *null) if places == size - len(null) else None


def _number(node: Node) -> int | Dim | None:
    """Return the number that all elements of an array are."""
    while node.prim.name in ("expand", "reshape"):
        (node,) = node.inputs
    return node.params.get("value" if node.prim.name == "full" else "size")

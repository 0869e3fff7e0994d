"""The role of each node of a graph: its part in the batch, or in the derivative."""

from __future__ import annotations

from ..graph import Graph, Node
from ..symbolic import symbols


def roles(graph: Graph) -> dict[Node, str]:
    """Return the role of each node: ``gradient``, ``batched``, ``combined``, ``shared`` or ``per-example``."""
    has_batch = any(map(_is_batched, graph.nodes))
    depends_on_batch: set[Node] = set()
    by_node: dict[Node, str] = {}
    for node in graph.nodes:
        if any(i in depends_on_batch or _is_batched(i) for i in node.inputs):
            depends_on_batch.add(node)
        by_node[node] = (
            "gradient" if {"vjp", "jvp"}.intersection(node.rules) else
            "batched" if _is_batched(node) else
            "combined" if node in depends_on_batch else
            "shared" if has_batch else "per-example")
    return by_node


def _is_batched(node: Node) -> bool:
    return "vmap" in node.rules or any(symbols(t.shape) for t in node.types)

"""Sums of gathered rows by weights, without the products of rows and weights in memory.

The gradients of tables whose rows are gathered, and attention along the edges of a graph, scatter
``weight[:, None] * x[source]``. Such a scatter reads the rows where they are.
"""

from __future__ import annotations

from collections import Counter

from ....graph import Graph, Node
from ....interpreters import rewrite
from ....ops.broadcast import expand
from ....ops.elementwise import mul
from ....ops.index import gather, scatter_add
from ....ops.weighted_sum import weighted_sum
from ....symbolic import size_of


def weighted_sums(graph: Graph) -> Graph:
    """Return an equal graph in which sums of weighted rows read the rows in place."""
    if scatter_add not in graph.prims:
        return graph
    uses = Counter(i for n in graph.nodes for i in n.inputs)
    uses.update(graph.outputs)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.prim is not scatter_add or uses[node.inputs[0]] > 1 or not _is_of_rows(node):
            return None
        product, to = inputs
        if product.prim is not mul:
            return None
        for weight, rows in (product.inputs, product.inputs[::-1]):
            if _is_of_rows(rows) and rows.prim is gather and _weighs_rows(weight):
                x, source = rows.inputs
                read = [(n.params.get("read") or (None,))[0] for n in (rows, node)]
                more = {"read": tuple(read)} if any(read) else {}
                return weighted_sum(x, source, to, *weight.inputs, size=node.shape[0], **more)
        return None

    return rewrite(graph, rule)


def _is_of_rows(node: Node) -> bool:
    """Return whether a gather or scatter of floats moves rows of several elements by one vector of indices."""
    return (len(node.inputs) == 2 and node.inputs[1].ndim == 1 and node.dtype.name in ("float32", "float64")
            and node.ndim > 1 and size_of(node.shape[1:]) != 1)


def _weighs_rows(node: Node) -> bool:
    """Return whether a value repeats a number for each row."""
    return node.prim is expand and node.inputs[0].ndim == 1 and 0 not in node.params["axes"]

"""Fusion of a gather and the scatter that sums its rows.

``scatter_add(gather(x, source), to)``, a message along every edge of a graph, is the product of a sparse matrix with x.
Fused, it does not form the messages.
"""

from __future__ import annotations

from ..graph import Graph, Node
from ..interpreters import rewrite
from ..ops.index import gather, gather_sum, scatter_add
from ..tracing import made_by


def fuse_gather_sum(graph: Graph) -> Graph:
    """Return an equal graph in which sums of gathered rows read the rows in place."""
    if scatter_add not in graph.prims:
        return graph
    uses = dict.fromkeys(graph.nodes, 0)
    for used in (*(i for n in graph.nodes for i in n.inputs), *graph.outputs):
        uses[used] += 1
    with made_by("fuse_gather_sum") as working_on:

        def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
            if not _sums_gathered(node, uses):
                return None
            gathered, to = inputs
            working_on(node)
            return gather_sum(*gathered.inputs, to, size=node.shape[0])

        return rewrite(graph, rule)


def _sums_gathered(node: Node, uses: dict[Node, int]) -> bool:
    if node.prim is not scatter_add or len(node.inputs) != 2:
        return False
    values, to = node.inputs
    return (values.prim is gather and len(values.inputs) == 2 and uses[values] == 1 and to.ndim == 1
            and values.inputs[1].ndim == 1 and node.ndim > 1)

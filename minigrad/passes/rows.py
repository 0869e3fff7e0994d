"""rows: a sum of gathered rows never makes the rows.

``scatter_add(gather(x, source), to)``, a message along every edge of a graph, is the product of a sparse matrix with x.
"""

from __future__ import annotations

from ..graph import Graph, Node
from ..ops.index import gather_sum
from ..tracing import made_by


def rows(graph: Graph) -> Graph:
    """Return an equal graph in which rows that are gathered only to be summed are read where they are."""
    uses = dict.fromkeys(graph.nodes, 0)
    for used in (*(i for n in graph.nodes for i in n.inputs), *graph.outputs):
        uses[used] += 1
    made: dict[Node, Node] = {}
    with made_by("rows") as working_on:
        for node in graph.nodes:
            inputs = tuple(made[i] for i in node.inputs)
            if _sums_gathered(node, uses):
                x, source = (made[i] for i in node.inputs[0].inputs)
                working_on(node)
                made[node] = gather_sum(x, source, inputs[1], size=node.shape[0])
            else:
                made[node] = node if inputs == node.inputs else Node(node.prim, inputs, node.params, node.type,
                                                                     like=node)
    return graph.replace(outputs=tuple(made[n] for n in graph.outputs))


def _sums_gathered(node: Node, uses: dict[Node, int]) -> bool:
    if node.prim.name != "scatter_add" or len(node.inputs) != 2:
        return False
    values, to = node.inputs
    return (values.prim.name == "gather" and len(values.inputs) == 2 and uses[values] == 1 and to.ndim == 1
            and values.inputs[1].ndim == 1 and node.ndim > 1)

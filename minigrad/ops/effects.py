"""The order of effects: a later one waits for the earlier ones."""

from __future__ import annotations

from .. import interpreters
from ..graph import CALLS, Graph, Node, reachable
from .chunk_loops import fused_chunk_loops
from .constants import proj
from .control import barrier
from .subgraph import has_effects, orders_of, with_graphs


def order_effects(graph: Graph) -> Graph:
    """Return the graph with its effects, and those of the graphs that it holds, in the order of the user's code."""
    if not has_effects(graph):
        return graph
    ranks = {n: min(found) for n in graph.nodes if (found := [*orders_of(n)])}
    new: dict[Node, Node] = {}

    def rebuild(node: Node) -> None:
        for n in reachable([node]):
            if n not in new:
                inputs = tuple(new[i] for i in n.inputs)
                params = with_graphs(n.params, order_effects) if n in ranks and not n.prim.effect else None
                new[n] = interpreters.rebuilt(n, inputs, params)

    before: Node | None = None
    for node in sorted(ranks, key=ranks.__getitem__):
        for operand in node.inputs:
            rebuild(operand)
        if before is not None and node.inputs and node not in new:
            first = node.inputs[0]
            held, new[first] = new[first], barrier(new[first], before)
            rebuild(node)
            new[first] = held
        else:
            rebuild(node)
        before = new[node] if node.prim.effect else proj(new[node], index=0)
    for node in graph.outputs:
        rebuild(node)
    return graph.replace(outputs=tuple(new[n] for n in graph.outputs))


def _pass_by_pass(graph: Graph) -> Graph:
    """Return a graph to evaluate, whose effects come in the order in which its program has them."""
    return order_effects(fused_chunk_loops(graph)) if has_effects(graph) else graph


CALLS["order_effects"] = _pass_by_pass

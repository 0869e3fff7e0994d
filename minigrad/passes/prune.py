"""Drop the results of `chunked` that nobody reads, and the inputs that only those needed.

A derivative rule makes cotangents for all inputs; which of them anyone wants is known at the end. Ordinary
nodes that nothing reads are gone by themselves, a result of a node with several is not: the cotangent of a
microbatch's examples, say, is as large as the data.
"""

from __future__ import annotations

from .. import walk
from ..graph import PRIMITIVES, Graph, Node, reachable


def prune(graph: Graph) -> Graph:
    """Return the graph with every held loop computing only what is read."""
    outputs = list(graph.outputs)
    done: set[Node] = set()
    while True:
        nodes = reachable(outputs)
        # From the last to the first: what one no longer needs, an earlier one may no longer have to make.
        node = next((n for n in reversed(nodes) if n.prim.name == "chunked" and n not in done), None)
        if node is None:
            return graph.replace(outputs=tuple(outputs))
        read = [n for n in nodes if n.prim.name == "proj" and n.inputs[0] is node]
        smaller, index = _keep(node, sorted({n.params["index"] for n in read}))
        done.add(smaller)
        if smaller is not node:
            proj = PRIMITIVES["proj"]
            new = {n: Node(proj, (smaller,), {"index": index[n.params["index"]]}, n.type, like=n) for n in read}
            outputs = walk.substitute(outputs, new)


def _keep(node: Node, wanted: list[int]) -> tuple[Node, dict[int, int]]:
    """Return the node with the results `wanted` alone, and where each of them is now."""
    params = node.params
    body: Graph = params["graph"]
    outputs = tuple(body.outputs[i] for i in wanted)
    needed = set(reachable(outputs))
    kept = [i for i, n in enumerate(body.inputs) if n in needed]
    index = {old: new for new, old in enumerate(wanted)}
    smaller = prune(Graph(tuple(body.inputs[i] for i in kept), outputs, tuple(body.names[i] for i in kept),
                          name=body.name))
    if len(kept) == len(body.inputs) and smaller.outputs == body.outputs:
        return node, index
    inputs = tuple(node.inputs[i] for i in kept)
    params = params | {"graph": smaller, "in_axes": tuple(params["in_axes"][i] for i in kept),
                       "out_axes": tuple(params["out_axes"][i] for i in wanted)}
    return Node(node.prim, inputs, params, node.prim.type(*(i.type for i in inputs), **params), like=node), index

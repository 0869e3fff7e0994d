"""Two loops over the same chunks, neither of which needs the other's results, become one.

The value and the gradient of a microbatched loss are such loops: together they run the forward pass once.
"""

from __future__ import annotations

from ..graph import PRIMITIVES, Graph, Node
from ..interpreters import dependent, substitute
from ..ops.control import chunked
from ..primitive import placeholder
from .simplify import simplify


def fuse_chunk_loops(graph: Graph) -> Graph:
    """Return an equal graph in which loops over the same chunks are one, where they can be."""
    while (pair := _find(graph)) is not None:
        graph = simplify(_merged(graph, *pair))
    return graph


def _find(graph: Graph) -> tuple[Node, Node] | None:
    loops = [n for n in graph.nodes if n.prim is chunked]
    for i, a in enumerate(loops):
        after = set(dependent(graph.outputs, [a])) if i + 1 < len(loops) else ()
        for b in loops[i + 1:]:
            if b not in after and all(a.params[k] == b.params[k] for k in ("dim", "size", "total", "packed")) and (
                    a.inputs[:len(rows := a.params["packed"])] == b.inputs[:len(rows)]):
                return a, b
    return None


def _merged(graph: Graph, a: Node, b: Node) -> Graph:
    outer: dict[tuple[Node, int | None], Node] = {}  # (what is passed in, how it is cut) -> the body's input
    names: dict[Node, str] = {}
    outputs: list[Node] = []
    for loop in (a, b):
        body = loop.params["graph"]
        new: dict[Node, Node] = {}  # an input that one of the merged body's stands for
        for x, axis, inner, name in zip(loop.inputs, loop.params["in_axes"], body.inputs, body.names, strict=True):
            if (x, axis) not in outer:
                # Bodies may share inputs, as copies of one node do, and be passed other values for them.
                outer[x, axis] = own = placeholder(inner.type) if inner in names else inner
                names[own] = name
            if outer[x, axis] is not inner:
                new[inner] = outer[x, axis]
        outputs += substitute(body.outputs, new)
    body = a.params["graph"].replace(inputs=tuple(outer.values()), outputs=tuple(outputs), out_names=(),
                                     names=tuple(names.values()))
    loop = Node(a.prim, tuple(x for x, _ in outer), {
        **a.params, "graph": body, "in_axes": tuple(axis for _, axis in outer),
        "out_axes": a.params["out_axes"] + b.params["out_axes"]},
        type(a.type)(a.type.parts + b.type.parts), like=b)
    offset = {a: 0, b: len(a.type.parts)}
    results = {n: PRIMITIVES["proj"](loop, index=n.params["index"] + offset[n.inputs[0]])
               for n in graph.nodes if n.inputs and n.inputs[0] in offset}
    return graph.replace(outputs=tuple(substitute(graph.outputs, results)))

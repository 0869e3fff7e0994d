"""Fusion of independent loops over the same chunks, which then run pass by pass."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import PRIMITIVES, Graph, Node, TupleType
from ..interpreters import dependent, substitute
from ..primitive import placeholder
from .control import chunked


def fused_chunk_loops(graph: Graph, tidy: Callable[[Graph], Graph] = lambda graph: graph) -> Graph:
    """Return an equal graph with independent loops over equal chunks fused, tidied after each fusion."""
    while (pair := _fusible_pair(graph)) is not None:
        graph = tidy(_fused(graph, *pair))
    return graph


def _fusible_pair(graph: Graph) -> tuple[Node, Node] | None:
    loops = [n for n in graph.nodes if n.prim is chunked]
    for i, a in enumerate(loops):
        after = set(dependent(graph.outputs, [a])) if i + 1 < len(loops) else ()
        for b in loops[i + 1:]:
            lengths = len(a.params["packed"])
            if b not in after and all(a.params[k] == b.params[k] for k in ("dim", "size", "total", "packed")) and (
                    a.inputs[:lengths] == b.inputs[:lengths]):
                return a, b
    return None


def _fused(graph: Graph, a: Node, b: Node) -> Graph:
    outer: dict[tuple[Node, int | None], Node] = {}  # (operand, the axis along which it is cut) -> the body's input
    names: dict[Node, str] = {}
    outputs: list[Node] = []
    for loop in (a, b):
        body: Graph = loop.params["graph"]
        new: dict[Node, Node] = {}  # an input of this body -> the fused body's input
        for x, axis, inner, name in zip(loop.inputs, loop.params["in_axes"], body.inputs, body.names, strict=True):
            if (x, axis) not in outer:
                # Bodies may share inputs, as copies of one node do, and be passed other values for them.
                outer[x, axis] = own = placeholder(inner.types[0]) if inner in names else inner
                names[own] = name
            if outer[x, axis] is not inner:
                new[inner] = outer[x, axis]
        outputs += substitute(body.outputs, new)
    body = a.params["graph"].replace(inputs=tuple(outer.values()), outputs=tuple(outputs), out_names=(),
                                     names=tuple(names.values()))
    loop = Node(a.prim, tuple(x for x, _ in outer), {
        **a.params, "graph": body, "in_axes": tuple(axis for _, axis in outer),
        "out_axes": a.params["out_axes"] + b.params["out_axes"]},
        TupleType(a.types + b.types), like=b)
    offset = {a: 0, b: len(a.types)}
    results = {n: PRIMITIVES["proj"](loop, index=n.params["index"] + offset[n.inputs[0]])
               for n in graph.nodes if n.inputs and n.inputs[0] in offset}
    return graph.replace(outputs=tuple(substitute(graph.outputs, results)))

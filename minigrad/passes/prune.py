"""Drop the results of held loops that nobody reads, and the loops that another one contains.

A derivative rule makes cotangents for all inputs; which of them anyone wants is known at the end. Ordinary
nodes that nothing reads are gone by themselves, a result of a node with several is not: the cotangent of a
microbatch's examples, say, is as large as the data. And the reverse rule of a `scan` runs the scan once
more to keep what it needs; that run makes the first one's results, too.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from ..graph import Graph, Node, reachable


def prune(graph: Graph) -> Graph:
    """Return the graph with every held loop computing only what is read, and once."""
    graph = _contained(graph)
    live = set(graph.outputs)
    read: dict[Node, set[int]] = {}
    smaller: dict[Node, tuple[Node, dict[int, int]]] = {}
    # From the last to the first: what one no longer needs, an earlier one may no longer have to make.
    for node in reversed(graph.nodes):
        if node not in live:
            continue
        inputs = node.inputs
        if node.prim.name == "proj":
            read.setdefault(inputs[0], set()).add(node.params["index"])
        elif node.prim.name in _SMALLER:
            loop, index = _SMALLER[node.prim.name](node, sorted(read[node]))
            if loop is not node:
                smaller[node], inputs = (loop, index), loop.inputs
        live.update(inputs)
    return _replaced(graph, smaller, live) if smaller else graph


def _replaced(graph: Graph, loops: Mapping[Node, tuple[Node, Mapping[int, int]]], live: Container[Node]) -> Graph:
    """Return the graph with each of `loops` replaced: by another one, and the new places of its results.

    The other loop reads nodes that come before the one that it replaces. Each node is made anew once at most,
    however many loops come before it.
    """
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        if node not in live or node in made:
            continue
        other = loops[node][0] if node in loops else node
        if other not in made:
            inputs = tuple([made.get(i, i) for i in other.inputs])
            params = node.params
            if node.prim.name == "proj" and node.inputs[0] in loops:
                params = {"index": loops[node.inputs[0]][1][params["index"]]}
            elif other is not node:
                params = other.params
            same = inputs == other.inputs and params == other.params
            made[other] = other if same else Node(other.prim, inputs, params, other.type, like=other)
        made[node] = made[other]
    return graph.replace(outputs=tuple(made[n] for n in graph.outputs))


def _chunked(node: Node, wanted: list[int]) -> tuple[Node, dict[int, int]]:
    """Return the node with the results `wanted` alone, and where each of them is now."""
    params = node.params
    body: Graph = params["graph"]
    smaller, kept = _body(body, wanted)
    index = {old: new for new, old in enumerate(wanted)}
    if smaller is body:
        return node, index
    inputs = tuple(node.inputs[i] for i in kept)
    params = params | {"graph": smaller, "in_axes": tuple(params["in_axes"][i] for i in kept),
                       "out_axes": tuple(params["out_axes"][i] for i in wanted)}
    return Node(node.prim, inputs, params, node.prim.type(*(i.type for i in inputs), **params), like=node), index


def _scan(node: Node, wanted: list[int]) -> tuple[Node, dict[int, int]]:
    """Do the same for a scan, whose carry stays as far as what is wanted is made of it."""
    params = node.params
    body: Graph = params["body"]
    n_shared, n_carry = params["counts"]
    live = set(wanted)
    while True:
        needed = set(reachable(body.outputs[i] for i in live))
        more = {i for i in range(n_carry) if body.inputs[n_shared + i] in needed} - live
        if not more:
            break
        live |= more
    wanted = sorted(live)
    carry = [n_shared + i for i in wanted if i < n_carry]
    smaller, kept = _body(body, wanted, carry)
    index = {old: new for new, old in enumerate(wanted)}
    if smaller is body:
        return node, index
    inputs = tuple(node.inputs[i] for i in kept)
    params = params | {"body": smaller, "counts": (sum(i < n_shared for i in kept), len(carry))}
    return Node(node.prim, inputs, params, node.prim.type(*(i.type for i in inputs), **params), like=node), index


def _body(body: Graph, wanted: list[int], always: list[int] = ()) -> tuple[Graph, list[int]]:
    """Return a held graph with the outputs `wanted`, and the inputs that it keeps: those read, and `always`."""
    inner = prune(body.replace(outputs=tuple(body.outputs[i] for i in wanted),
                               out_names=tuple(body.out_names[i] for i in wanted)))
    needed = set(reachable(inner.outputs))
    kept = [i for i, n in enumerate(body.inputs) if n in needed or i in always]
    if len(kept) == len(body.inputs) and inner.outputs == body.outputs:
        return body, kept
    return inner.replace(inputs=tuple(body.inputs[i] for i in kept), names=tuple(body.names[i] for i in kept)), kept


_SMALLER = {"chunked": _chunked, "scan": _scan}


def _contained(graph: Graph) -> Graph:
    """Replace each scan by another one over the same inputs whose results begin with its own."""
    groups: dict[Any, list[Node]] = {}
    for n in graph.nodes:
        if n.prim.name == "scan":
            groups.setdefault((n.inputs, *(n.params[k] for k in ("counts", "length", "reverse"))), []).append(n)
    loops: dict[Node, tuple[Node, dict[int, int]]] = {}
    for group in groups.values():
        group.sort(key=lambda n: len(n.type.parts))
        for i, small in reversed(list(enumerate(group))):
            large = next((n for n in group[i + 1:] if _begins_with(n, small)), None)
            if large is not None:
                large, _ = loops.get(large, (large, None))
                loops[small] = large, {k: k for k in range(len(small.type.parts))}
    return _replaced(graph, loops, set(graph.nodes)) if loops else graph


def _begins_with(large: Node, small: Node) -> bool:
    a, b = large.params["body"], small.params["body"]
    if len(b.outputs) > len(a.outputs):
        return False
    ids: dict[object, int] = {}
    return _numbers(a, ids)[:len(b.outputs)] == _numbers(b, ids)


def _numbers(graph: Graph, ids: dict[object, int]) -> list[int]:
    """Number the outputs such that equal programs on equal inputs get equal numbers."""
    number = {n: -1 - i for i, n in enumerate(graph.inputs)}
    for n in graph.nodes:
        if n not in number:
            params = tuple((k, id(v) if n.prim.name == "const" else v) for k, v in n.params.items())
            key = (n.prim, tuple(number[i] for i in n.inputs), params)
            number[n] = ids.setdefault(key, len(ids))
    return [number[n] for n in graph.outputs]

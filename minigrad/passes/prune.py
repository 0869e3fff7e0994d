"""Drop the results of held loops that nobody reads, and the loops that another one contains.

A derivative rule makes cotangents for all inputs; which of them anyone wants is known at the end. Ordinary
nodes that nothing reads are gone by themselves, a result of a node with several is not: the cotangent of a
microbatch's examples, say, is as large as the data. And the reverse rule of a `scan` runs the scan once
more to keep what it needs; that run makes the first one's results, too.
"""

from __future__ import annotations

from .. import walk
from ..graph import PRIMITIVES, Graph, Node, reachable


def prune(graph: Graph) -> Graph:
    """Return the graph with every held loop computing only what is read, and once."""
    outputs = _contained(list(graph.outputs))
    done: set[Node] = set()
    while True:
        nodes = reachable(outputs)
        # From the last to the first: what one no longer needs, an earlier one may no longer have to make.
        node = next((n for n in reversed(nodes) if n.prim.name in _SMALLER and n not in done), None)
        if node is None:
            return graph.replace(outputs=tuple(outputs))
        read = [n for n in nodes if n.prim.name == "proj" and n.inputs[0] is node]
        smaller, index = _SMALLER[node.prim.name](node, sorted({n.params["index"] for n in read}))
        done.add(smaller)
        if smaller is not node:
            outputs = walk.substitute(outputs, {n: _result(smaller, index[n.params["index"]], n) for n in read})


def _result(node: Node, index: int, like: Node) -> Node:
    return Node(PRIMITIVES["proj"], (node,), {"index": index}, like.type, like=like)


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


def _contained(outputs: list[Node]) -> list[Node]:
    """Replace each scan by another one over the same inputs whose results begin with its own."""
    scans = [n for n in reachable(outputs) if n.prim.name == "scan"]
    new: dict[Node, Node] = {}
    for i, small in enumerate(scans):
        for large in scans[i + 1:]:
            if _begins_with(large, small):
                new[small] = large
                break
    if not new:
        return outputs
    results = {n: _result(large, n.params["index"], n) for n in reachable(outputs)
               if n.prim.name == "proj" and (large := new.get(n.inputs[0])) is not None}
    return _contained(walk.substitute(outputs, results))


def _begins_with(large: Node, small: Node) -> bool:
    a, b = large.params, small.params
    if large.inputs != small.inputs or any(a[k] != b[k] for k in ("counts", "length", "reverse")):
        return False
    mine, other = a["body"].outputs, b["body"].outputs
    if len(other) > len(mine):
        return False
    ids: dict[object, int] = {}
    return _numbers(a["body"], ids)[:len(other)] == _numbers(b["body"], ids)


def _numbers(graph: Graph, ids: dict[object, int]) -> list[int]:
    """Number the outputs such that equal programs on equal inputs get equal numbers."""
    number = {n: -1 - i for i, n in enumerate(graph.inputs)}
    for n in graph.nodes:
        if n not in number:
            params = tuple((k, id(v) if n.prim.name == "const" else v) for k, v in n.params.items())
            key = (n.prim, tuple(number[i] for i in n.inputs), params)
            number[n] = ids.setdefault(key, len(ids))
    return [number[n] for n in graph.outputs]

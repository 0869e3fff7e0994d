"""Nodes with several results: the same node with some of them alone, or with nothing but its checks of indices.

A derivative rule makes cotangents for all inputs, and a batch rule carries what all examples share along with what
differs; which results anyone reads is known at the end. A check that no reading makes any more is kept by a result that
waits for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import interpreters
from ..graph import Graph, Node, full, reachable
from ..primitive import placeholder
from ..tracing import made_by
from .checks import Check, checks_of, in_range, unmade
from .constants import proj
from .control import barrier
from .subgraph import Signature, settled, signature

Smaller = tuple[Node, dict[int, int]]


def read_alone(graph: Graph, checks: bool = True) -> Graph:
    """Return the graph with every node in it computing only the results that are read, and every loop once.

    With `checks`, a node makes every check of an index that it made before.
    """
    graph = _contained(graph)
    live = set(graph.outputs)
    read: dict[Node, set[int]] = {}
    smaller: dict[Node, Smaller] = {}
    # From the last to the first: what one no longer needs, an earlier one may no longer have to make.
    for node in reversed(graph.nodes):
        if node not in live:
            continue
        inputs = node.inputs
        if node.prim.name == "proj":
            read.setdefault(inputs[0], set()).add(node.params["index"])
        elif node.prim.name in _SMALLER:
            loop, index = _SMALLER[node.prim.name](node, sorted(read[node]), checks)
            if loop is not node:
                smaller[node], inputs = (loop, index), loop.inputs
        live.update(inputs)
    return _replaced(graph, smaller) if smaller else graph


def _replaced(graph: Graph, loops: Mapping[Node, Smaller]) -> Graph:
    """Return the graph with each of `loops` replaced: by another one on some of its operands, with new places."""
    made: dict[Node, Node] = {}  # several may be replaced by the same loop

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.prim is proj and node.inputs[0] in loops:
            index = loops[node.inputs[0]][1].get(node.params["index"])
            return (
                node if index is None else interpreters.rebuilt(node, inputs, {"index": index})
            )  # None: nothing reads it
        other = loops[node][0] if node in loops else node
        if other not in made:
            new = dict(zip(node.inputs, inputs, strict=True))
            made[other] = interpreters.rebuilt(other, tuple([new[i] for i in other.inputs]))
        return made[other]

    return interpreters.rewrite(graph, rule)


def with_results(node: Node, wanted: Sequence[int], checks: bool = True) -> Smaller:
    """Return a node with the results `wanted` (and those that they need), and the position of each in it.

    Without `checks`, it leaves those of the indices that it does not read to the node that it stands beside.
    """
    return _SMALLER[node.prim.name](node, list(wanted), checks)


def result(node: Node, index: int, like: Node) -> Node:
    return Node(proj, (node,), {"index": index}, like.type, like=like)


def _node(node: Node, wanted: Sequence[int], kept: Sequence[int], params: dict[str, Any]) -> Smaller:
    index = {old: new for new, old in enumerate(wanted)}
    inputs = tuple(node.inputs[i] for i in kept)
    return interpreters.retyped(node, inputs, node.params | params), index


def _picked(body: Graph, wanted: Collection[int], checks: bool) -> list[Node]:
    """Return the outputs `wanted` of a held graph, with the checks of indices that the graph makes."""
    outputs = [body.outputs[i] for i in sorted(wanted)]
    return keep(body.nodes, outputs) if checks else outputs


def _outputs(body: Graph, wanted: Collection[int], checks: bool) -> tuple[Node, ...]:
    return read_alone(body.replace(outputs=tuple(_picked(body, wanted, checks)), out_names=()), checks).outputs


def _body(body: Graph, wanted: Sequence[int], checks: bool, always: Collection[int] = ()) -> tuple[Graph, list[int]]:
    """Return a held graph with the outputs `wanted`, and the inputs that it keeps: those read, and `always`."""
    outputs = _outputs(body, wanted, checks)
    needed = set(reachable(outputs))
    kept = [i for i, n in enumerate(body.inputs) if n in needed or i in always]
    if len(kept) == len(body.inputs) and outputs == body.outputs:
        return body, kept
    return _cut(body, outputs, wanted, kept), kept


def _cut(body: Graph, outputs: Sequence[Node], wanted: Sequence[int], kept: Sequence[int]) -> Graph:
    return body.replace(outputs=tuple(outputs), out_names=tuple(body.out_names[i] for i in wanted),
                        inputs=tuple(body.inputs[i] for i in kept), names=tuple(body.names[i] for i in kept))


def _same(node: Node, wanted: Sequence[int]) -> Smaller:
    return node, {i: i for i in wanted}


def _chunked(node: Node, wanted: list[int], checks: bool) -> Smaller:
    params = node.params
    smaller, kept = _body(params["graph"], wanted, checks, range(len(params["packed"])))
    if smaller is params["graph"]:
        return _same(node, wanted)
    return _node(node, wanted, kept, {"graph": smaller, "in_axes": tuple(params["in_axes"][i] for i in kept),
                                      "out_axes": tuple(params["out_axes"][i] for i in wanted)})


def _loop(roles: Signature, bodies: Sequence[Graph], wanted: Collection[int], checks: bool,
          roots: Sequence[Node] = ()) -> list[int]:
    """Return the results `wanted` and the carry that they, and the checks of indices, are made of.

    The first of `bodies` makes the next carry; `roots` are nodes of the others that the loop needs in any case.
    """
    def widen(live: set[int]) -> tuple[set[int], None]:
        needed = set(reachable([*_picked(bodies[0], live, checks), *roots]))
        return live | {i for b in bodies for i, n in enumerate(roles.carry(b.inputs)) if n in needed}, None

    return sorted(settled(widen, set(wanted))[0])


def _scan(node: Node, wanted: list[int], checks: bool) -> Smaller:
    body: Graph = node.params["body"]
    roles = signature(node)
    wanted = _loop(roles, [body], wanted, checks)
    carry = roles.carry(range(len(node.inputs)))
    carry = [carry[i] for i in wanted if i < len(carry)]
    smaller, kept = _body(body, wanted, checks, carry)
    if smaller is body:
        return _same(node, wanted)
    return _node(node, wanted, kept, {"body": smaller, "counts": (sum(i < roles.n_shared for i in kept), len(carry))})


def _while(node: Node, wanted: list[int], checks: bool) -> Smaller:
    test, body, count = (node.params[k] for k in ("test", "body", "count"))
    wanted = _loop(signature(node), [body, test], wanted, checks, _picked(test, [0], checks))
    outputs, ends = _outputs(body, wanted, checks), _outputs(test, [0], checks)
    needed = {i for g, found in ((body, outputs), (test, ends)) for n in [set(reachable(found))]
              for i, x in enumerate(g.inputs) if x in n}
    kept = [i for i in range(len(node.inputs)) if i in needed or i - count in wanted]
    if len(kept) == len(node.inputs) and (outputs, ends) == (body.outputs, test.outputs):
        return _same(node, wanted)
    return _node(node, wanted, kept, {"test": _cut(test, ends, [0], kept), "body": _cut(body, outputs, wanted, kept),
                                      "count": sum(i < count for i in kept)})


def _checkpoint(node: Node, wanted: list[int], checks: bool) -> Smaller:
    smaller, kept = _body(node.params["graph"], wanted, checks)
    if smaller is node.params["graph"]:
        return _same(node, wanted)
    return _node(node, wanted, kept, {"graph": smaller})


def _switch(node: Node, wanted: list[int], checks: bool) -> Smaller:
    graphs, rows, sums = (node.params[k] for k in ("graphs", "rows", "sums"))
    outputs = [_outputs(g, wanted, checks) for g in graphs]
    needed = [set(reachable(found)) for found in outputs]
    kept = [i for i in range(len(rows)) if any(g.inputs[i] in n for g, n in zip(graphs, needed, strict=True))]
    if len(kept) == len(rows) and all(o == g.outputs for o, g in zip(outputs, graphs, strict=True)):
        return _same(node, wanted)
    return _node(node, wanted, [0, *(1 + i for i in kept)], {
        "graphs": tuple(_cut(g, o, wanted, kept) for g, o in zip(graphs, outputs, strict=True)),
        "rows": tuple(rows[i] for i in kept), "sums": tuple(sums[i] for i in wanted)})


_SMALLER = {"chunked": _chunked, "scan": _scan, "while": _while, "checkpoint": _checkpoint, "switch": _switch}
SEPARABLE = frozenset(_SMALLER)  # whose results can be computed alone


# -- nothing but checks -------------------------------------------------------------------------------------


def keep(before: Iterable[Node], outputs: Sequence[Node], since: int = -1,
         may_use: Callable[[Node], bool] | None = None) -> list[Node]:
    """Return `outputs` such that they make every check that the nodes `before` make.

    Parameters
    ----------
    before : iterable of Node
    outputs : sequence of Node
        Of the program that takes their place.
    since : int
        The serial number of the oldest node that is looked at.
    may_use : callable, optional
        Tells whether the program may use an index, or a node that holds a graph.
    """
    wanted = checks_of(before)
    if not wanted or not outputs:
        return list(outputs)
    left = unmade(wanted, checks_of(reachable(outputs, since)))
    return tied(outputs, {c: n for c, n in left.items() if may_use is None or may_use(c[0])})


def tied(outputs: Sequence[Node], checks: Mapping[Check, Node]) -> list[Node]:
    """Return `outputs`, the first of which waits for the checks."""
    first, *rest = outputs
    with made_by("checks") as working_on:
        for (node, size), reader in checks.items():
            working_on(reader)
            first = waiting(first, _alone(node) if size is None else [in_range(node, size=size)])
    return [first, *rest]


def is_tie(node: Node) -> bool:
    """Tell whether a node waits for a check, and not for a cotangent or a length."""
    return node.prim is barrier and (node.inputs[1].prim is in_range or node.inputs[1].dtype == _ZERO)


_ZERO = np.dtype(np.int8)


def zero() -> Node:
    """Return the zero that waits for checks where no result does."""
    return full(0, (), _ZERO)


def waiting(node: Node, checks: Iterable[Node]) -> Node:
    """Return a node's value, which waits for values that are checks."""
    return functools.reduce(barrier, checks, node)


def _alone(node: Node) -> list[Node]:
    """Return the checks of the graphs that a node holds, without its results."""
    more, checks = with_checks(node)
    if more is node:
        return checks
    last = len(node.type.parts)
    smaller, places = with_results(more, [last], checks=False)
    return [proj(smaller, index=places[last])]


def with_checks(node: Node) -> tuple[Node, list[Node]]:
    """Return a node with its checks: as one result more, a zero that waits for them, or beside it."""
    p, inputs, count = node.params, node.inputs, len(node.type.parts)
    match node.prim.name:
        case "scan":
            more = {"body": _and_zero(p["body"])}
        case "switch":
            more = {"graphs": tuple(map(_and_zero, p["graphs"])), "sums": (*p["sums"], False)}
        case "chunked":
            more = {"graph": _and_zero(p["graph"]), "out_axes": (*p["out_axes"], None)}
        case "while":
            own = [placeholder(zero().type) for _ in range(2)]
            test, body = (g.replace(inputs=(*g.inputs, n), names=(*g.names, "checked"))
                          for g, n in zip((p["test"], p["body"]), own, strict=True))
            more_state = keep(body.nodes, own[1:])
            more = {"test": test, "body": body.replace(outputs=(*body.outputs, *more_state), out_names=())}
            inputs = (*inputs, zero())
        case _:  # it runs once, as if it were written out
            graph = p["graph"]
            (end,), checks = keep(graph.nodes, [zero()]), []
            while end.prim is barrier:
                end, check = end.inputs
                checks.append(check)
            return node, interpreters.substitute(checks, dict(zip(graph.inputs, inputs, strict=True)))
    node = interpreters.retyped(node, inputs, p | more)
    return node, [proj(node, index=count)]


def _and_zero(graph: Graph) -> Graph:
    outputs = (*graph.outputs, *keep(graph.nodes, [zero()]))
    return graph.replace(outputs=outputs, out_names=(*graph.out_names, "checked"))


def untied(graph: Graph) -> Graph:
    """Return the graph with the checks that its results wait for as results behind the others."""
    ties = {n for n in graph.nodes if is_tie(n)}
    if not ties:
        return graph
    checks: dict[Node, None] = {}

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node not in ties:
            return None
        value, check = inputs
        checks[check] = None
        return value

    return also(interpreters.rewrite(graph, rule), checks)


def also(graph: Graph, checks: Iterable[Node]) -> Graph:
    more = tuple(checks)
    return graph.replace(outputs=graph.outputs + more, out_names=graph.out_names + ("check",) * len(more)
                         ) if more else graph


# -- one loop inside another -------------------------------------------------------------------------------


def _contained(graph: Graph) -> Graph:
    """Replace each scan by another one over the same inputs that has all of its results."""
    groups: dict[Any, list[Node]] = {}
    for n in graph.nodes:
        if n.prim.name == "scan":
            groups.setdefault((n.inputs, *(n.params[k] for k in ("counts", "length", "reverse"))), []).append(n)
    loops: dict[Node, Smaller] = {}
    for group in groups.values():
        group.sort(key=lambda n: len(n.type.parts))
        for i, small in reversed(list(enumerate(group))):
            for large in group[i + 1:]:
                if (places := _places(small, large)) is not None:
                    large, further = loops.get(large, (large, None))
                    loops[small] = large, places if further is None else {k: further[p] for k, p in places.items()}
                    break
    return _replaced(graph, loops) if loops else graph


def _places(small: Node, large: Node) -> dict[int, int] | None:
    """Return where a scan's results are among those of a larger one, or None if not all of them are there."""
    ids: dict[object, int] = {}
    have, wanted = (numbers(n.params["body"], ids) for n in (large, small))
    roles = signature(small)
    (carry, stacked), (own, read) = roles.ends(have), roles.ends(wanted)
    if carry != own or not set(stacked).issuperset(read):
        return None
    return {k: k if k < len(own) else have.index(n, len(own)) for k, n in enumerate(wanted)}


def numbers(graph: Graph, ids: dict[object, int]) -> list[int]:
    """Number the outputs such that equal programs on equal inputs get equal numbers."""
    number = {n: -1 - i for i, n in enumerate(graph.inputs)}
    for n in graph.nodes:
        if n not in number:
            params = tuple((k, id(v) if n.prim.name == "const" else v) for k, v in n.params.items())
            key = (n.prim, tuple(number[i] for i in n.inputs), params)
            number[n] = ids.setdefault(key, len(ids))
    return [number[n] for n in graph.outputs]

"""Sizes that nodes define: the number of rows that a selection keeps is known when its mask is.

A primitive with `defines` names a static parameter, a size that is one symbol, whose number is the value of the node.
All other nodes with the symbol in a type or a parameter are computed after that node.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from .graph import CALLS, Graph, Node, held_graphs
from .symbolic import Dim, Symbol


def definitions(nodes: Iterable[Node]) -> dict[Symbol, Node]:
    """Return the node that defines each symbol; of several, which have one value, the first."""
    found: dict[Symbol, Node] = {}
    for n in [n for n in nodes if n.prim.defines]:
        found.setdefault(n.params[n.prim.defines].symbol, n)
    return found


def defines_sizes(node: Node) -> bool:
    """Return whether a node defines a size, or holds a graph in its place that does."""
    return bool(node.prim.defines) or (node.prim.inline and any(
        defines_sizes(n) for _, graph in held_graphs(node) for n in graph.nodes))


def symbols_of_node(node: Node) -> set[Symbol]:
    """Return the symbols in the types and static parameters of a node, held graphs included."""
    return {s for value in ((t.shape for t in node.types), *node.params.values()) for s in _symbols(value)}


def _symbols(value: object) -> Iterator[Symbol]:
    if isinstance(value, Dim):
        yield from value.symbols
    elif isinstance(value, Graph):
        own = definitions(value.nodes)
        yield from (s for node in value.nodes for s in symbols_of_node(node) if s not in own)
    elif isinstance(value, (tuple, Iterator)):
        for v in value:
            yield from _symbols(v)


def needed_definitions(node: Node, defined: dict[Symbol, Node]) -> list[Node]:
    """Return the nodes that define the sizes of a node."""
    own = node.params[node.prim.defines].symbol if node.prim.defines else None
    return [defined[s] for s in symbols_of_node(node) if s in defined and s is not own]


def after_definitions(nodes: Sequence[Node]) -> Sequence[Node]:
    """Return nodes in topological order, each after the nodes that define its sizes, too."""
    defined = definitions(nodes)
    if not defined:
        return nodes
    place = {n: k for k, n in enumerate(nodes)}
    waiting: list[int] = []
    users: dict[Node, list[Node]] = {}
    for n in nodes:
        needs = {i for i in (*n.inputs, *needed_definitions(n, defined)) if i in place}
        waiting.append(len(needs))
        for i in needs:
            users.setdefault(i, []).append(n)
    ready = [k for k, count in enumerate(waiting) if not count]
    order: list[Node] = []
    while ready:
        order.append(node := nodes[heapq.heappop(ready)])
        for n in users.get(node, ()):
            waiting[place[n]] -= 1
            if not waiting[place[n]]:
                heapq.heappush(ready, place[n])
    return order


def _packed(graph: Graph, *batch: object) -> Graph | None:
    """Return the batch of a graph that defines sizes, whose axes of such sizes are ragged; None for others."""
    packed: Graph | None = CALLS["selections"](graph, *batch) if any(map(defines_sizes, graph.nodes)) else None
    return packed


CALLS.update(in_order=after_definitions, packed=_packed)

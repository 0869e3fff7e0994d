"""Passes keep the checks of indices: each pass sees them as results, which it may not drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..graph import Graph, Node, reachable
from ..interpreters import rebuilt, rewrite
from ..ops.checks import checks_of, in_range
from ..ops.constants import proj
from ..ops.control import barrier
from ..ops.results import drop_unused_results, keep_checks, with_check_results, with_checks
from ..tracing import made_by


def asked(graph: Graph, count: int) -> Graph:
    """Return the graph with all its checks as results behind the first `count`, so that a pass keeps them."""
    wanted = checks_of(graph.nodes)
    if wanted:
        have = checks_of(_awaited(graph, count))
        wanted = {check: node for check, node in wanted.items() if check not in have}
    if not wanted:
        return graph
    more: list[Node] = []
    made: dict[Node, Node] = {}
    with made_by("checks") as working_on:

        def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
            made[node] = rebuilt(node, inputs)
            if (node, None) in wanted:
                working_on(node)
                made[node], own = with_checks(made[node])
                more.extend(own)
            return made[node]

        after = rewrite(graph, rule) if any(size is None for _, size in wanted) else graph
        for (index, size), reader in wanted.items():
            if size is not None:
                working_on(reader)
                more.append(in_range(made.get(index, index), size=size))
    return with_check_results(after, more)


def _awaited(graph: Graph, count: int) -> Iterator[Node]:
    """Yield the nodes that make checks which results behind the first `count` are, or which results wait for."""
    for k, node in enumerate(graph.outputs):
        while node.prim is barrier:
            node, check = node.inputs
            yield check.inputs[0] if check.prim is proj else check
        if k >= count:
            yield node.inputs[0] if node.prim is proj else node


def settled(graph: Graph, count: int) -> Graph:
    """Return the graph with its first `count` results, tied to the checks behind them that they do not make."""
    results, checks = graph.outputs[:count], graph.outputs[count:]
    if not checks:
        return graph
    after = graph.replace(outputs=tuple(keep_checks(reachable(checks), results)), out_names=graph.out_names[:count])
    if not any(n.prim is proj for n in checks):
        return after
    smaller = drop_unused_results(after)  # an unused result may have been the only reader of a check
    return smaller.replace(outputs=tuple(keep_checks(after.nodes, smaller.outputs)))


def guarded(apply: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """Return ``apply(graph)``, with all checks of the graph."""
    count = len(graph.outputs)
    given = asked(graph, count)
    after = apply(given)
    return after if given is graph else graph if after.outputs == given.outputs else settled(after, count)

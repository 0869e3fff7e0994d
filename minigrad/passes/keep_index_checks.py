"""Checks of indices as results of a graph, which a pass may not drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..graph import Graph, Node, reachable
from ..ops.checks import checks_of
from ..ops.constants import proj
from ..ops.control import barrier
from ..ops.results import drop_unused_results, keep_checks, with_all_checks, with_check_results


def with_all_check_results(graph: Graph, count: int) -> Graph:
    """Return the graph with its checks as results after the first `count`."""
    return with_check_results(*with_all_checks(graph, lambda: checks_of(_checking_nodes(graph, count))))


def _checking_nodes(graph: Graph, count: int) -> Iterator[Node]:
    """Yield the nodes of the checks that results are or wait for."""
    for k, node in enumerate(graph.outputs):
        while node.prim is barrier:
            node, check = node.inputs
            yield check.inputs[0] if check.prim is proj else check
        if k >= count:
            yield node.inputs[0] if node.prim is proj else node


def results_after_checks(graph: Graph, count: int) -> Graph:
    """Return the graph with `count` results, which wait for all checks."""
    results, checks = graph.outputs[:count], graph.outputs[count:]
    if not checks:
        return graph
    after = graph.replace(outputs=tuple(keep_checks(reachable(checks), results)), out_names=graph.out_names[:count])
    return drop_unused_results(after) if any(n.prim is proj for n in checks) else after


def keep_index_checks(apply: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """Return ``apply(graph)`` with all checks of the graph."""
    count = len(graph.outputs)
    before = with_all_check_results(graph, count)
    after = apply(before)
    if before is graph:
        return after
    return graph if after.outputs == before.outputs else results_after_checks(after, count)

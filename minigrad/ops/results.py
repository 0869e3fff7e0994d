"""Nodes that hold graphs, reduced to some of their results or to their checks.

A derivative rule makes cotangents for all inputs, and a batch rule carries shared state beside mapped state; which
results are used is known at the end. Where the reader of an index disappears, a remaining result waits for its check.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from .. import interpreters
from ..graph import Graph, Node, full, has_effect, reachable
from ..primitive import placeholder
from ..tracing import made_by
from .checks import CHECKS, Check, checking, checks_of, may_check
from .constants import proj
from .control import barrier, checkpoint
from .equal_checks import missing_checks
from .merge_scans import Replacement, merge_scans, replace_nodes
from .subgraph import HELD, Signature, fixed_point, held_in_order, signature


def drop_unused_results(graph: Graph, checks: bool = True) -> Graph:
    """Remove unused results of the nodes that hold graphs, and merge scans over equal inputs.

    With `checks`, the program keeps its checks of indices.
    """
    if not graph.holders:
        return graph
    graph = merge_scans(graph)
    live = set(graph.outputs)
    used: dict[Node, set[int]] = {}
    smaller: dict[Node, Replacement] = {}
    # From the last node to the first: a node without some results may need fewer results of earlier ones.
    for node in reversed(graph.nodes):
        if node not in live:
            continue
        inputs = node.inputs
        if node.prim is proj:
            used.setdefault(inputs[0], set()).add(node.params["index"])
        elif node.prim.name in SEPARABLE:
            part, positions = with_results(node, sorted(used[node]), checks)
            if part is not node:
                smaller[node], inputs = (part, positions), part.inputs
        live.update(inputs)
    if checks and smaller:  # operands of a removed result may have made checks
        removed = checks_of(n for n in graph.nodes if n not in live)
        if missing := missing_checks(removed, checks_of(n for n in graph.nodes if n in live)):
            return drop_unused_results(graph.replace(outputs=tuple(after_checks(graph.outputs, missing))))
    return replace_nodes(graph, smaller) if smaller else graph


SEPARABLE = frozenset(HELD) - {"custom", "tree_scan"}  # primitives whose results can be computed alone


def with_results(node: Node, selected: Collection[int], checks: bool = True) -> Replacement:
    """Return a node with the results `selected`, and the results that these need.

    Without `checks`, it leaves out the checks of indices that the results do not need.
    """
    held, p = HELD[node.prim.name], node.params
    tests, bodies = held_in_order(node)
    required = set(range(len(p.get("packed", ()))))  # operands that stay even where no graph reads them
    selected = sorted(selected)
    if held.loop:
        roles = signature(node)
        selected = _with_carry(roles, bodies[0], tests, selected, checks)
        required |= {roles.n_shared + i for i in selected if i < roles.n_carry}
    graphs, choices = [*tests, *bodies], [[0]] * len(tests) + [selected] * len(bodies)
    outputs = [_outputs(g, chosen, checks) for g, chosen in zip(graphs, choices, strict=True)]
    for g, ends in zip(graphs, outputs, strict=True):
        needed = set(reachable(ends))
        required |= {i for i, n in enumerate(g.inputs) if n in needed}
    if len(required) == len(graphs[0].inputs) and all(o == g.outputs for o, g in zip(outputs, graphs, strict=True)):
        return node, {i: i for i in selected}

    kept = sorted(required)
    cut = tuple(_cut(*parts, kept) for parts in zip(graphs, outputs, choices, strict=True))
    new = held.params(p, cut[:len(tests)], cut[len(tests):])
    if held.per_input:
        new[held.per_input] = tuple(p[held.per_input][i] for i in kept)
    if held.per_output:
        new[held.per_output] = tuple(p[held.per_output][i] for i in selected)
    if held.loop:
        counts = sum(i < roles.n_shared for i in kept), sum(i < roles.n_carry for i in selected)
        new |= {"counts": counts} if "counts" in p else {"count": counts[0]}
    operands = (*node.inputs[:held.first], *(node.inputs[held.first + i] for i in kept))
    return interpreters.retyped(node, operands, p | new), {old: new for new, old in enumerate(selected)}


def _outputs(graph: Graph, selected: Sequence[int], checks: bool) -> tuple[Node, ...]:
    ends = tuple(_with_own_checks(graph, selected, checks))
    return drop_unused_results(graph.replace(outputs=ends, out_names=()), checks).outputs


def _with_own_checks(graph: Graph, selected: Collection[int], checks: bool) -> list[Node]:
    """Return the outputs `selected` of a held graph, with the checks of the whole graph."""
    outputs = [graph.outputs[i] for i in sorted(selected)]
    return keep_checks(graph.nodes, outputs) if checks else outputs


def _cut(graph: Graph, outputs: Sequence[Node], selected: Sequence[int], kept: Sequence[int]) -> Graph:
    return graph.replace(outputs=tuple(outputs), out_names=tuple(graph.out_names[i] for i in selected),
                         inputs=tuple(graph.inputs[i] for i in kept), names=tuple(graph.names[i] for i in kept))


def _with_carry(roles: Signature, body: Graph, tests: Sequence[Graph], selected: Collection[int], checks: bool
                ) -> list[int]:
    """Return the results `selected` of a loop, and the carry that they and checks need."""
    ends = [n for test in tests for n in _with_own_checks(test, [0], checks)]

    def widen(live: set[int]) -> tuple[set[int], None]:
        needed = set(reachable([*_with_own_checks(body, live, checks), *ends]))
        return live | {i for g in (body, *tests) for i, n in enumerate(roles.carry(g.inputs)) if n in needed}, None

    return sorted(fixed_point(widen, set(selected))[0])


# -- checks of indices ----------------------------------------------------------------------------------------


def keep_checks(before: Iterable[Node], outputs: Sequence[Node], since: int = -1,
                may_use: Callable[[Node], bool] | None = None) -> list[Node]:
    """Return `outputs` such that they make every check that the nodes `before` make.

    Parameters
    ----------
    before : iterable of Node
    outputs : sequence of Node
        The results of the program that replaces these nodes.
    since : int
        The serial number from which on nodes count.
    may_use : callable, optional
        Tells whether the program may use an index, or a node that holds a graph.
    """
    required = checks_of(before)
    if not required or not outputs:
        return list(outputs)
    missing = missing_checks(required, checks_of(reachable(outputs, since)))
    return after_checks(outputs, {c: n for c, n in missing.items() if may_use is None or may_use(c[0])})


def after_checks(outputs: Sequence[Node], checks: Mapping[Check, Node]) -> list[Node]:
    """Return `outputs`, with the first one waiting for the checks."""
    first, *others = outputs
    with made_by("checks") as working_on:
        made: dict[Check, list[Node]] = {}
        for check, reader in checks.items():
            working_on(reader)
            node, size = check
            made[check] = _checks_alone(node) if size is None else [checking(node, size, reader)]
        last = _last(made)
        for check in made:
            if check in last:
                working_on(checks[check])
                first = waiting(first, made[check])
    return [first, *others]


def _last(made: dict[Check, list[Node]]) -> set[Check]:
    """Return the checks but for effects on which a later check depends: a second copy would repeat them."""
    nodes: list[Node] = []
    last: set[Check] = set()
    for check in reversed(made):
        if nodes and has_effect(check[0]) and not missing_checks({check: check[0]}, checks_of(reachable(nodes))):
            continue
        last.add(check)
        nodes += made[check]
    return last


_ZERO = np.dtype(np.int8)


def zero() -> Node:
    """Return the constant that stands for a result where a program has only checks."""
    return full(0, (), _ZERO)


def waiting(node: Node, checks: Iterable[Node]) -> Node:
    """Return the value of `node`, computed after the checks."""
    return functools.reduce(barrier, checks, node)


def waits_for_check(node: Node) -> bool:
    """Tell whether a node is a barrier of `waiting`, and not of `checkpoint`."""
    return node.prim is barrier and (node.inputs[1].prim in CHECKS or node.inputs[1].dtype == _ZERO)


def _checks_alone(node: Node) -> list[Node]:
    """Return the checks of the graphs that a node holds, without its results, or the node that is one."""
    more, checks = with_checks(node)
    if more is node:
        return checks
    last = len(node.types)
    smaller, positions = with_results(more, [last], checks=False)
    return [proj(smaller, index=positions[last])]


def with_checks(node: Node) -> tuple[Node, list[Node]]:
    """Return a node and the checks of its graphs, as a further result or as nodes.

    An effect is its own check; of a node whose results cannot be computed alone, the check is a zero after them.
    """
    if node.prim.name not in HELD:
        return node, [node]
    if node.prim.name not in SEPARABLE:
        if not node.prim.inline:
            return node, [waiting(zero(), [proj(node, index=0)])]
        node = checkpoint(*node.inputs, graph=node.params["graph"])  # the same results, and room for more of them
    p, inputs, held = node.params, node.inputs, HELD[node.prim.name]
    tests, bodies = held_in_order(node)
    if tests:  # the zero is one more state, which the body makes wait for its checks
        tests, bodies = ([_with_input(g) for g in graphs] for graphs in (tests, bodies))
        bodies = [_with_result(g, g.inputs[-1]) for g in bodies]
        inputs = (*inputs, zero())
    else:
        bodies = [_with_result(g, zero()) for g in bodies]
    new = held.params(p, tests, bodies)
    if held.per_output:
        new[held.per_output] = (*p[held.per_output], held.added)
    node = interpreters.retyped(node, inputs, p | new)
    return node, [proj(node, index=len(node.types) - 1)]


def _with_input(graph: Graph) -> Graph:
    return graph.replace(inputs=(*graph.inputs, placeholder(zero().types[0])), names=(*graph.names, "checked"))


def _with_result(graph: Graph, result: Node) -> Graph:
    graph, checks = with_all_checks(graph)
    return graph.replace(outputs=(*graph.outputs, waiting(result, checks)), out_names=(*graph.out_names, "checked"))


def with_all_checks(graph: Graph, present: Callable[[], Collection[Check]] = tuple) -> tuple[Graph, list[Node]]:
    """Return the graph with the checks of held graphs as results of their nodes, and all checks but those `present`."""
    missing = checks_of(graph.nodes) if any(map(may_check, graph.prims)) else {}
    if missing and (known := present()):
        missing = {check: node for check, node in missing.items() if check not in known}
    if not missing:
        return graph, []
    checks: list[Node] = []
    new: dict[Node, Node] = {}
    with made_by("checks") as working_on:

        def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
            new[node] = interpreters.rebuilt(node, inputs)
            if (node, None) in missing:
                working_on(node)
                new[node], own = with_checks(new[node])
                checks.extend(own)
            return new[node]

        after = interpreters.rewrite(graph, rule) if any(size is None for _, size in missing) else graph
        for (index, size), reader in missing.items():
            if size is not None:
                working_on(reader)
                checks.append(checking(new.get(index, index), size, reader))
    return after, checks


def checks_as_results(graph: Graph) -> Graph:
    """Return the graph with the checks that its nodes wait for as further results."""
    barriers = {n for n in graph.nodes if waits_for_check(n)} if barrier in graph.prims else set()
    if not barriers:
        return graph
    checks: dict[Node, None] = {}

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node not in barriers:
            return None
        value, check = inputs
        checks[check] = None
        return value

    return with_check_results(interpreters.rewrite(graph, rule), checks)


def with_check_results(graph: Graph, checks: Iterable[Node]) -> Graph:
    """Return the graph with `checks` as further results."""
    more = tuple(checks)
    return graph.replace(outputs=graph.outputs + more, out_names=graph.out_names + ("check",) * len(more)
                         ) if more else graph

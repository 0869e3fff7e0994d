"""Scans over the same inputs: one with all results of another replaces it."""

from __future__ import annotations

from collections.abc import Mapping

from .. import interpreters
from ..graph import Graph, Node
from .constants import proj
from .subgraph import signature

Replacement = tuple[Node, dict[int, int]]  # a node on some of the operands, and the position of each result in it


def replace_nodes(graph: Graph, replacements: Mapping[Node, Replacement]) -> Graph:
    """Return the graph with nodes of several results replaced."""
    rebuilt: dict[Node, Node] = {}  # several nodes may have one replacement

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.prim is proj and node.inputs[0] in replacements:
            index = replacements[node.inputs[0]][1].get(node.params["index"])
            return node if index is None else interpreters.rebuilt(node, inputs, {"index": index})  # None: unused
        other = replacements[node][0] if node in replacements else node
        if other not in rebuilt:
            new = dict(zip(node.inputs, inputs, strict=True))
            rebuilt[other] = interpreters.rebuilt(other, tuple([new[i] for i in other.inputs]))
        return rebuilt[other]

    return interpreters.rewrite(graph, rule)


def merge_scans(graph: Graph) -> Graph:
    """Replace each scan by another one over the same inputs that has all of its results."""
    groups: dict[object, list[Node]] = {}
    for n in graph.nodes:
        if n.prim.name in ("scan", "packed_scan"):
            others = tuple(v for k, v in n.params.items() if k != "body")
            groups.setdefault((n.prim, n.inputs, others), []).append(n)
    replacements: dict[Node, Replacement] = {}
    for group in groups.values():
        group.sort(key=lambda n: len(n.types))
        for i, small in reversed(list(enumerate(group))):
            for large in group[i + 1:]:
                if (positions := _positions(small, large)) is not None:
                    large, further = replacements.get(large, (large, None))
                    replacements[small] = large, positions if further is None else {
                        k: further[p] for k, p in positions.items()}
                    break
    return replace_nodes(graph, replacements) if replacements else graph


def _positions(small: Node, large: Node) -> dict[int, int] | None:
    """Return the positions of a scan's results in a larger scan; None if one is missing."""
    ids: dict[object, int] = {}
    large_numbers, numbers = (value_numbers(n.params["body"], ids) for n in (large, small))
    roles = signature(small)
    (carry, stacked), (own_carry, own_stacked) = roles.ends(large_numbers), roles.ends(numbers)
    if carry != own_carry or not set(stacked).issuperset(own_stacked):
        return None
    return {k: k if k < len(own_carry) else large_numbers.index(n, len(own_carry)) for k, n in enumerate(numbers)}


def value_numbers(graph: Graph, ids: dict[object, int]) -> list[int]:
    """Number the outputs such that equal programs on equal inputs get equal numbers."""
    number = {n: -1 - i for i, n in enumerate(graph.inputs)}
    for n in graph.nodes:
        if n not in number:
            params = tuple(n.params.items()) if n.prim.key is None else n.prim.key(n.params)
            key = (n.prim, tuple(number[i] for i in n.inputs), params)
            number[n] = ids.setdefault(key, len(ids))
    return [number[n] for n in graph.outputs]

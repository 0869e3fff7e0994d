"""Counts of the nodes and the arithmetic operations of a graph.

One operation is one addition, multiplication, comparison or call of a function such as ``exp``, on one element; a
fused multiply-add counts as two. Moving data (views, gathers, concatenations) counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..axes import INDEXED, ORDERED, REDUCE, SEGMENTED, axis_rule
from ..errors import GraphError, at_user_line
from ..graph import Graph, Node, held_graphs
from ..symbolic import Dim, Symbol, value


def count_operations(graph: Graph, sizes: Mapping[Symbol, int] | None = None) -> int:
    """Return the number of arithmetic operations of a run of `graph`.

    Parameters
    ----------
    graph : Graph
    sizes : mapping of Symbol to int, optional
        Numbers for the symbolic sizes; by default those of the arguments that the graph was traced with.

    Returns
    -------
    int

    Raises
    ------
    GraphError
        If a size has no number.

    Notes
    -----
    A contraction costs two operations per combination of its indices (one where nothing is summed); an elementwise
    node one per element of its result; a reduction one per element of its operand; sorting n elements n log2 n;
    factorizations their leading terms. Held graphs count as often as they run; a `while` loop, whose number of turns is
    unknown, counts once, and a `switch` as its longest branch.
    """
    known = {s: s.hint for s in graph.symbols if s.hint is not None} | dict(sizes or {})
    if missing := [s.name for s in graph.symbols if s not in known]:
        raise GraphError(at_user_line(f"count_operations: no number for the sizes {', '.join(missing)}"))
    return sum(math.ceil(_operations(n, known)) for n in graph.nodes)


def count_nodes(graph: Graph) -> int:
    """Return the number of nodes without inputs, those of held graphs included."""
    return graph.count() + sum(count_nodes(g) for n in graph.nodes for _, g in held_graphs(n))


def _operations(node: Node, sizes: Mapping[Symbol, int]) -> float:
    """Return the primitive's own count, or one operation per point of a combining axis rule."""
    def number(size: int | Dim) -> int:
        return value(size, sizes)

    def count(graph: Graph, more: Mapping[Symbol, int] | None = None) -> int:
        return count_operations(graph, {**sizes, **(more or {})})

    if node.prim.flops is not None:
        return node.prim.flops(node, number, count)
    rule = axis_rule(node)
    if rule is None or node.prim.kind == "elementwise":
        return sum(number(t.size) for t in node.types)
    points = {axis[0]: number(n) for axes, i in zip(rule.operands, node.inputs, strict=True)
              for axis, n in zip(axes, i.shape, strict=True) if axis and axis[0].kind is not INDEXED}
    return math.prod(points.values()) if any(f.kind in (REDUCE, ORDERED, SEGMENTED) for f in points) else 0

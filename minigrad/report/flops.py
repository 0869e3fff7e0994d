"""How much arithmetic a graph stands for.

One operation is one addition, multiplication, comparison or call of a function such as ``exp``, on one element; a
fused multiply-add counts as two, as is usual. Moving data (views, gathers, concatenations) counts as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..axes import INDEXED, ORDERED, REDUCE, SEGMENTED, axis_rule
from ..graph import Graph, Node, held_graphs
from ..symbolic import Dim, Symbol, value


def count_operations(graph: Graph, sizes: Mapping[Symbol, int] | None = None) -> int:
    """Return the number of arithmetic operations that running `graph` takes.

    Parameters
    ----------
    graph : Graph
    sizes : mapping of Symbol to int, optional
        Numbers for the symbolic sizes.

    Notes
    -----
    A contraction costs two operations per combination of its indices (one where nothing is summed); an elementwise
    node one per element of its result; a reduction one per element of its operand; sorting n elements n log2 n;
    factorizations their leading terms. Graphs that nodes hold count as often as they run: a `while` loop, of which
    that is not known, once, and of a `switch` the longest branch.
    """
    return sum(math.ceil(_operations(n, sizes or {})) for n in graph.nodes)


def count_nodes(graph: Graph) -> int:
    """Return the number of nodes, inputs apart; of graphs that nodes hold, too."""
    return graph.count() + sum(count_nodes(g) for n in graph.nodes for _, g in held_graphs(n))


def _operations(node: Node, sizes: Mapping[Symbol, int]) -> float:
    """Return the primitive's own count, or one operation per point of the axis rule's factors where it combines."""
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

"""The memory of a graph that is evaluated node by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..graph import PRIMITIVES, ArrayType, Graph, Node, held_graphs
from ..symbolic import Symbol, size_of, value


def evaluated_bytes(graph: Graph, sizes: Mapping[Symbol, int]) -> int:
    """Return the peak of the bytes of all values while a graph is evaluated, its inputs aside.

    A value lives from its node to its last reader. A view keeps the memory of its operand alive. Held graphs count
    while their node is evaluated; sizes of their own count as 1. So do copies of results, as long as a node may make
    them for some values: a formula other than NumPy's own functions, and results of a loop put together.
    """
    known: Mapping[Symbol, int] = defaultdict(lambda: 1, sizes)
    readers: dict[Node, int] = defaultdict(int)  # of the memory of a node, through its views
    root: dict[Node, Node] = {}
    for n in graph.nodes:
        root[n] = root[n.inputs[0]] if n.prim.view is not None and n.inputs else n
        for i in n.inputs:
            readers[root[i]] += 1
    for n in graph.outputs:
        readers[root[n]] += 1
    for n, source in root.items():  # a view is a reader for as long as it is read itself
        if source is not n:
            readers[source] -= 1
    live = peak = 0
    own = {n: sum(_bytes(t, known) for t in n.types) for n in graph.nodes if root[n] is n and n not in graph.inputs}
    for n in graph.nodes:
        if n in own:
            live += own[n]
            inside = max((evaluated_bytes(held, known) for _, held in held_graphs(n)), default=0)
            inside += _copies(n, known)
            peak = max(peak, live + inside)
            if not readers[n]:
                live -= own[n]
        if root[n] is not n:
            continue
        for i in n.inputs:
            source = root[i]
            readers[source] -= 1
            if not readers[source] and source in own:
                live -= own[source]
    return peak


def _copies(n: Node, sizes: Mapping[Symbol, int]) -> int:
    """Return the bytes that the evaluation of a node may allocate beside its results."""
    if (n.prim.kind == "elementwise" and n.prim.ufunc is None) or n.prim is PRIMITIVES.get("scan"):
        return sum(_bytes(t, sizes) for t in n.types)
    if n.prim.combiner is not None and len(n.inputs) > 1:  # a sum by index: places, and a 1 for each of them
        return 2 * _bytes(n.inputs[1].types[0], sizes)
    return 0


def _bytes(t: ArrayType, sizes: Mapping[Symbol, int]) -> int:
    return value(size_of(t.shape), sizes) * t.dtype.itemsize

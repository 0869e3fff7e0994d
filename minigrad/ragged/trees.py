"""Batching rules of `tree_scan`: the program of a level from that of a node, and batches of trees as one forest."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import CALLS, ArrayType, Graph, Node, full
from ..ops.broadcast import broadcast_along
from ..ops.constants import size_scalar
from ..ops.control import parts
from ..ops.elementwise import add, cast_to, logical_or, lt, where
from ..ops.index import gather, scatter_add
from ..ops.reduce import sum_
from ..ops.tree_scan import Counts, Outs, tree_heights, tree_scan, with_roles
from ..primitive import broadcast_leading, placeholder
from ..symbolic import Dim, Symbol
from .rows import Domain, Rows
from .rules import EVERY, RULES, Batching, Inputs, refuse

_INT = np.dtype(np.int64)


@functools.lru_cache(maxsize=256)
def tree_level(graph: Graph, dim: Dim, counts: tuple[int, ...], outs: tuple[int, ...], reverse: bool
               ) -> tuple[Graph, dict[str, Symbol]]:
    """Return the program of the nodes of a level, whose children are rows of a ragged axis; and its sizes."""
    nodes, children = Dim.new("nodes", rows=True), Dim.new("children", rows=True)
    rows, (symbol,) = Rows(nodes), dim.symbols
    lengths, owners = (placeholder(ArrayType((n,), _INT)) for n in (nodes, children))
    rows.lengths[symbol], rows.owners[symbol], rows.totals[(symbol,)] = lengths, owners, children
    shared, *others = Counts(*counts).split(graph.inputs)
    batched = {n: n for n in shared}
    mapped = [n for role in others for n in role]
    batched |= {n: placeholder(ArrayType(rows.packed(n.shape), n.dtype)) for n in mapped}
    batching = Batching(rows, dict(batched), set(mapped))
    results = batching.run(graph.outputs, EVERY)
    states, sums, own, below = Outs(*outs).split(results)

    def spread(node: Node, has_rows: bool) -> Node:
        return node if has_rows else broadcast_leading(node, nodes)

    new = [spread(*r) for r in states]
    begun = [placeholder(n.types[0]) for n in new]
    outputs = [(logical_or if n.dtype.kind == "b" else add)(n, old) for n, old in zip(new, begun, strict=True)]
    outputs += [sum_(node, axes=(0,)) if has_rows else node * broadcast_along(
        size_scalar(nodes, node.dtype), node.shape, tuple(range(node.ndim))) for node, has_rows in sums]
    outputs += [spread(*r) for r in (*own, *below)]
    inputs = (lengths, owners, *(batched[n] for n in graph.inputs), *begun)
    sizes = {name: s for name, n in (("nodes", nodes), ("children", children)) for s in n.symbols}
    return Graph(inputs, tuple(outputs), name=graph.name), sizes


CALLS["tree_level"] = tree_level


def _parents(b: Batching, old: Node, domain: Domain) -> Node:
    """Return the parents as rows of the batch."""
    if old in b.packed_indices:
        return cast_to(b.packed_indices[old], _INT)
    local = b.batched[old]
    none = full(-1, local.shape, _INT)
    return where(lt(local, full(0, local.shape, _INT)), none, local + b.rows.of_owner(b.rows.offset(domain), domain))


def _heights(b: Batching, node: Node, xs: Inputs) -> Node:
    domain = b.rows.domain(node.shape)
    return tree_heights(_parents(b, node.inputs[0], domain), b.rows.position(domain), b.rows.owner(domain))


def _tree_scan(b: Batching, node: Node, xs: Inputs) -> Any:
    """Run the trees of all examples as one forest."""
    p, domain = node.params, b.rows.domain(node.inputs[0].shape)
    counts, outs = Counts(*p["counts"]), Outs(*p["outs"])
    olds = node.inputs[2:]
    if not domain or any(map(b.is_ragged, olds[:counts.shared])):
        raise refuse(node, "the function of a node reads the rows of an axis", "Give them to the nodes as a value per "
                     "node, or reduce over the axis before")
    apart = [i in b.mapped for i in olds[:counts.shared]]
    graph, new_counts, new_outs, order, places = with_roles(p["graph"], counts, outs, apart, summed=False)
    operands: list[Node] = []
    for i in order:
        x = xs[2 + i]
        operands.append(gather(x, b.rows.owner(domain)) if i < counts.shared and apart[i] else x)
    forest = tree_scan(_parents(b, node.inputs[0], domain), xs[1], *operands, graph=graph, dim=p["dim"],
                       counts=tuple(new_counts), outs=tuple(new_outs), reverse=p["reverse"])
    return _in_order(b, parts(forest), outs, places, domain)


def _in_order(b: Batching, results: Sequence[Node], outs: Outs, places: Sequence[int], domain: Domain
              ) -> tuple[Node, ...]:
    """Return the results in their old order, the sums over nodes as sums over those of each example."""
    sums = outs.split(range(len(places)))[1]
    ids, found = b.rows.owner(domain), dict(zip(places, results, strict=True))
    for i in sums:
        found[i] = scatter_add(found[i], ids, shape=(b.rows.size, *found[i].shape[1:]))
    return tuple(found[i] for i in range(len(places)))


RULES[tree_heights] = _heights
RULES[tree_scan] = _tree_scan

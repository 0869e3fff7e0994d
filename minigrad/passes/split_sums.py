"""Splitting of sums over concatenated axes into sums over the parts, and merging of sums per example into one.

The squared norm of a flattened gradient becomes a sum per leaf, which `factorize` can rewrite. Sums per example that
are then summed over the examples become one sum over all rows: the sum of ``X^T X`` of every example is one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

from ..graph import PRIMITIVES, Graph, Node
from ..interpreters import rebuilt, rewrite
from ..ops.block_einsum import block_einsum, summed
from ..ops.einsum import einsum, parse
from ..ops.index import scatter_add
from ..ops.reduce import sum_
from ..ops.shape import concatenate, section
from ..primitive import broadcast_axes
from ..tracing import made_by

_JOINING = (concatenate, block_einsum, scatter_add)
_MOST = 60  # elementwise nodes between a sum and a concatenation


def split_sums(graph: Graph) -> Graph:
    """Return an equal graph whose sums run over parts, not over concatenated axes."""
    if graph.prims.isdisjoint(_JOINING):
        return graph
    read = {i for n in graph.nodes if not _over_segments(n) for i in n.inputs}.union(graph.outputs)
    with made_by("split_sums") as working_on:

        def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
            if node.prim not in _ROOTS or (_over_segments(node) and node.inputs[0] in read):
                return None
            new = rebuilt(node, inputs)
            working_on(new)
            return _ROOTS[node.prim](new) or new

        return rewrite(graph, rule)


def _sum(node: Node) -> Node | None:
    (x,) = node.inputs
    if (whole := _over_examples(x, node.params["axes"])) is not None:
        return whole
    for a in node.params["axes"]:
        cuts = _cuts(x, a)
        if cuts is not None:
            return reduce(add, [PRIMITIVES["sum"](p, axes=node.params["axes"]) for p in _parts(x, a, cuts, {})])
    return None


def _einsum(node: Node) -> Node | None:
    terms, out = parse(node.params["subscripts"])
    for c in dict.fromkeys("".join(terms)):
        if c in out:
            continue
        places = [(i, t.index(c)) for i, t in enumerate(terms) if c in t]
        cuts = next((s for i, a in places if (s := _cuts(node.inputs[i], a)) is not None), None)
        if cuts is None:
            continue
        pieces = [_parts(x, terms[i].index(c), cuts, {}) if c in terms[i] else [x] * len(cuts)
                  for i, x in enumerate(node.inputs)]
        return reduce(add, [PRIMITIVES["einsum"](*xs, **node.params) for xs in zip(*pieces, strict=True)])
    return None


def _over_segments(node: Node) -> bool:
    """Return whether a node adds up sums per example."""
    return node.prim is sum_ and 0 in node.params["axes"] and node.inputs[0].prim in (block_einsum, scatter_add)


def _over_examples(x: Node, axes: tuple[int, ...]) -> Node | None:
    """Return the sum over the examples of sums per example, over all rows."""
    if 0 not in axes:
        return None
    others = tuple(a - 1 for a in axes if a)
    if x.prim is block_einsum:
        whole = summed(x)
    elif x.prim is scatter_add and len(x.inputs) == 2 and x.inputs[1].ndim == 1:
        whole = PRIMITIVES["sum"](x.inputs[0], axes=(0,))
    else:
        return None
    return PRIMITIVES["sum"](whole, axes=others) if whole is not None and others else whole


_ROOTS = {sum_: _sum, einsum: _einsum}  # `simplify` has made sums of the means


def _cuts(node: Node, axis: int) -> tuple[int, ...] | None:
    """Return the sizes of the parts of a concatenated axis, or None."""
    seen = {node}
    stack = [node]
    while stack and len(seen) < _MOST:
        n = stack.pop()
        if n.prim is concatenate and n.params["axis"] == axis:
            sizes = [size for i in n.inputs if isinstance(size := i.shape[axis], int)]
            return tuple(sizes) if len(sizes) == len(n.inputs) else None
        if n.prim.kind == "elementwise":
            new = [i for i in n.inputs if i not in seen]
            seen.update(new)
            stack += new
    return None


def _parts(node: Node, axis: int, cuts: Sequence[int], known: dict[Node, list[Node]]) -> list[Node]:
    """Return the parts of a value along an axis, cut at `cuts`."""
    if node not in known:
        known[node] = _cut(node, axis, cuts, known)
    return known[node]


def _cut(node: Node, axis: int, cuts: Sequence[int], known: dict[Node, list[Node]]) -> list[Node]:
    if node.prim is concatenate and node.params["axis"] == axis and [i.shape[axis] for i in node.inputs] == list(cuts):
        return list(node.inputs)
    shapes = [(*node.shape[:axis], n, *node.shape[axis + 1:]) for n in cuts]
    if axis in broadcast_axes(node):
        return [node.prim(*node.inputs, **{**node.params, "shape": s}) for s in shapes]
    if node.prim.kind == "elementwise" and _cuts(node, axis) is not None:
        pieces = [_parts(i, axis, cuts, known) for i in node.inputs]
        return [node.prim(*xs, **node.params) for xs in zip(*pieces, strict=True)]
    return [section(node, axis, sum(cuts[:k]), n) for k, n in enumerate(cuts)]

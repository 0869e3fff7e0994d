"""Products with few multiplications per row, as products and sums row by row.

``x @ w`` and ``x.T @ v`` then join the kernels of the statements around them. A loss of many rows with its gradient
reads the matrix once, one block of rows after the other, where two products would read it from memory twice. The step
of general products takes longer to compile than all else in a small network, which can do without it. In a deep one,
all layers share that step: only products of a vector with a matrix of many rows are sums.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ....graph import Graph, Node
from ....interpreters import rewrite
from ....ops.broadcast import broadcast_along
from ....ops.einsum import einsum, parse, split_subscripts
from ....ops.elementwise import mul, stop_gradient
from ....ops.reduce import sum_
from ....ops.shape import transpose
from ....passes.fuse import Roles
from ....passes.lower_einsum import canonical
from ....symbolic import Dim, Shape
from ..codegen.strides import access

FEW = 128  # multiplications per row, with those of unused lanes
MOST = 16  # thin products: the step of general products takes as long to compile as the sums of some more
MANY = 2  # rows for each multiplication of a row


def thin_products(graph: Graph) -> Graph:
    """Return an equal graph without products of few multiplications per row."""
    orders = {n: order for n in graph.nodes if n.prim is einsum and (order := _order(n)) is not None}
    if len(orders) > MOST:
        orders = {n: order for n, order in orders.items() if _has_vector_and_rows(n, order)}
    if not orders:
        return graph
    roles = Roles.of(graph)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        return _summed(node, inputs, orders[node], roles) if node in orders else None

    return rewrite(graph, rule)


def _order(node: Node) -> str | None:
    """Return the subscripts of a thin product, those of the rows first; None for other contractions."""
    return _thin_order(node.params["subscripts"], tuple([x.shape for x in node.inputs]), node.dtype)


@functools.lru_cache(maxsize=1024)  # equal layers have equal products
def _thin_order(subscripts: str, shapes: tuple[Shape, ...], dtype: np.dtype) -> str | None:
    if not canonical(subscripts) or dtype.name not in ("float32", "float64"):
        return None
    terms, out = parse(subscripts)
    batch, left, right, inner = split_subscripts(*terms, out)
    sizes = _sizes(subscripts, shapes)
    if batch or 0 in sizes.values():
        return None
    for order in (left + inner + right, inner + left + right):
        few = [n for c in order[1:] if isinstance(n := sizes[c], int)]
        if order[0] not in right and 0 < len(few) == len(order) - 1 and _work(few, dtype) <= FEW:
            return order
    return None


def _has_vector_and_rows(node: Node, order: str) -> bool:
    """Return whether a thin product is that of a vector with a matrix of many rows."""
    if len(order) != 2:
        return False
    sizes = _sizes(node.params["subscripts"], [x.shape for x in node.inputs])
    rows, few = (sizes[c] for c in order)
    return isinstance(rows, Dim) or isinstance(few, Dim) or rows >= MANY * few


def _sizes(subscripts: str, shapes: Sequence[Shape]) -> dict[str, int | Dim]:
    """Return the size of each subscript of a product."""
    terms, _ = parse(subscripts)
    return dict(zip("".join(terms), [n for shape in shapes for n in shape], strict=True))


def _work(sizes: Sequence[int], dtype: np.dtype) -> int:
    """Return the multiplications of a row, in whole vectors along the last axis that has several elements."""
    *others, last = [n for n in sizes if n != 1] or [1]
    lanes = 64 // dtype.itemsize
    return math.prod(others) * -(-last // lanes) * lanes


def _summed(node: Node, inputs: Sequence[Node], order: str, roles: Roles) -> Node | None:
    """Return a thin product as a sum; None if vectors would gather the elements of a matrix row by row."""
    terms, out = parse(node.params["subscripts"])
    sizes = _sizes(node.params["subscripts"], [x.shape for x in node.inputs])
    last = next((c for c in reversed(order[1:]) if sizes[c] != 1), "none")
    factors = []
    for old, x, term in zip(node.inputs, inputs, terms, strict=True):
        if len(term) == 2 and last in term and not access(old, roles).linked[term.index(last)]:
            if order[0] in term:
                return None
            x = stop_gradient(x)  # a contiguous copy of few numbers
        factors.append(_spread(x, term, order, sizes))
    (inner,) = set(order).difference(out)
    return sum_(mul(*factors), axes=(order.index(inner),))


def _spread(x: Node, term: str, order: str, sizes: Mapping[str, int | Dim]) -> Node:
    """Return an operand with the axes of `order`: its own, transposed, and others along which it repeats."""
    perm = tuple([term.index(c) for c in order if c in term])
    if x.prim is transpose:
        x, perm = x.inputs[0], tuple([x.params["perm"][a] for a in perm])
    if perm != tuple(range(x.ndim)):
        x = transpose(x, perm=perm)
    shape, added = tuple([sizes[c] for c in order]), tuple([a for a, c in enumerate(order) if c not in term])
    return broadcast_along(x, shape, added)

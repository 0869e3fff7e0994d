"""Products of a vector with a matrix of few columns, as products and sums row by row.

``x @ w`` and ``v @ x`` then join the kernels of the statements around them, and a loss of many rows with its gradient
reads the matrix once, one block of rows after the other, where two calls of BLAS would read it from memory twice.
"""

from __future__ import annotations

from ....graph import Graph, Node
from ....interpreters import rewrite
from ....ops.broadcast import broadcast_along
from ....ops.einsum import einsum, parse, split_subscripts
from ....ops.elementwise import mul
from ....ops.reduce import sum_
from ....passes.fuse import Roles
from ....passes.lower_einsum import canonical
from ..codegen.strides import access

FEW = 128  # columns
MANY = 2  # rows for each column


def thin_products(graph: Graph) -> Graph:
    """Return an equal graph without products of a vector with a matrix of many rows and few columns."""
    if not any(n.prim is einsum for n in graph.nodes):
        return graph
    roles = Roles.of(graph)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        matrix = _matrix(node)
        if matrix is None or not _thin(node.inputs[matrix], roles):
            return None
        x, v = inputs[matrix], inputs[1 - matrix]
        by_row = matrix == 1
        return sum_(mul(x, broadcast_along(v, x.shape, (int(by_row),))), axes=(int(not by_row),))

    return rewrite(graph, rule)


def _matrix(node: Node) -> int | None:
    """Return the position of the matrix in a product with a vector, ``x @ w`` or ``v @ x``; None for others."""
    if node.prim is not einsum or node.dtype.name not in ("float32", "float64") or not canonical(
            node.params["subscripts"]):
        return None
    terms, out = parse(node.params["subscripts"])
    batch, left, right, _ = split_subscripts(*terms, out)
    return None if batch or bool(left) == bool(right) else 0 if left else 1


def _thin(x: Node, roles: Roles) -> bool:
    """Return whether a matrix has many rows of few columns that lie side by side."""
    rows, columns = x.shape
    if not isinstance(columns, int) or columns > FEW or (isinstance(rows, int) and rows < MANY * columns):
        return False
    layout = access(x, roles)
    return columns == 1 or (not layout.repeated[1] and layout.linked[1])

"""Sums of gathered rows by weights: the product of a sparse matrix, given by its entries, with a dense one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..axes import subscripts
from ..combiners import ADD
from ..graph import ArrayType, Node
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading, fail
from ..symbolic import Dim
from .broadcast import broadcast_along
from .index import gather, gather_batch, gather_sum, scatter_add, scatter_batch
from .reduce import sum_
from .strict_index import Reading


def _type(x: ArrayType, source: ArrayType, to: ArrayType, weight: ArrayType, *, size: int | Dim) -> ArrayType:
    result = gather_sum.type(x, source, to, size=size)
    assert isinstance(result, ArrayType)
    if weight.shape != source.shape or weight.dtype != x.dtype:
        raise fail("weighted_sum", "needs a weight for each index, of the rows' dtype", x, source, to, weight)
    return result


def _eval(xp: ArrayNamespace, x: np.ndarray, source: np.ndarray, to: np.ndarray, weight: np.ndarray, *, size: int,
          read: Sequence[Reading] = (None, None)) -> np.ndarray:
    rows = gather.eval(xp, x, source, read=read[:1])
    rows = rows * xp.reshape(weight, (*weight.shape, *(1,) * (rows.ndim - 1)))
    result: np.ndarray = scatter_add.eval(xp, rows, to, shape=(size, *x.shape[1:]), read=read[1:])
    return result


def _weighted(rows: Node, weight: Node) -> Node:
    return rows * broadcast_along(weight, rows.shape, tuple(range(weight.ndim, rows.ndim)))


def _vjp(g: Node, out: Node, x: Node, source: Node, to: Node, weight: Node, *, size: int | Dim) -> list[Node | None]:
    products = gather(g, to) * gather(x, source)
    return [weighted_sum(g, to, source, weight, size=x.shape[0]), None, None,
            sum_(products, axes=tuple(range(1, x.ndim)))]


def _jvp(ts: Sequence[Node | None], out: Node, x: Node, source: Node, to: Node, weight: Node, *, size: int | Dim
         ) -> Node:
    dx, _, _, dw = ts
    parts = [weighted_sum(a, source, to, w, size=size) for a, w in ((dx, weight), (x, dw)) if a and w]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _batch(n: int | Dim, mapped: Sequence[bool], x: Node, source: Node, to: Node, weight: Node, *, size: int | Dim
           ) -> Node:
    rows = gather_batch(n, mapped[:2], x, source) if any(mapped[:2]) else broadcast_leading(gather(x, source), n)
    products = _weighted(rows, weight if mapped[3] else broadcast_leading(weight, n))
    return scatter_batch("scatter_add", n, (True, mapped[2]), products, to, shape=(size, *x.shape[1 + mapped[0]:]))


weighted_sum = Primitive(
    "weighted_sum", _type, _eval, _vjp, _jvp, _batch, hidden_params=frozenset({"size"}), combiner=ADD,
    axes=subscripts("row@1 ..., edge:add, edge:add, edge:add -> place@2 ..."),
    samples=lambda: [Sample((np.array([[0.1, -1.2], [0.6, 0.2], [-0.4, 2.1]]), np.array([0, 2, 2, 1]),
                             np.array([1, 1, 0, 3]), np.array([0.3, -0.7, 1.2, 2.0])), {"size": 4})])

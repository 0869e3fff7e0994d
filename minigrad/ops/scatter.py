"""The largest, or smallest, of what is sent to each place: the scatters that are not linear.

Their derivative goes to the update that won, in equal shares where several did. A place to which nothing is sent
holds -inf (inf), or the least (largest) integer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..combiners import MAX, MIN, Combiner
from ..graph import PRIMITIVES, ArrayType, Node
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading
from ..symbolic import Dim, Shape
from .elementwise import cast_to, eq
from .index import INDEXED_AXES, _lockstep, _scatter_type, gather, scatter_add
from .reduce import require_number
from .strict_index import Reading
from .sum_rows import as_read, flat_index


def _shares(out: Node, u: Node, indices: Sequence[Node]) -> Node:
    """Return the part that each update has in the result at its place."""
    hit = cast_to(eq(u, gather(out, *indices)), u.dtype)
    return hit / gather(scatter_add(hit, *indices, shape=out.shape), *indices)


def _extreme(name: str, by: Combiner) -> Primitive:
    at = by.ufunc.at

    def type_rule(u: ArrayType, *indices: ArrayType, shape: Shape) -> ArrayType:
        return _scatter_type(require_number(name, u), *indices, shape=shape)

    def evaluate(xp: ArrayNamespace, u: np.ndarray, *indices: np.ndarray, shape: Shape, read: Sequence[Reading] = ()
                ) -> Any:
        dtype = u.dtype if xp is np else np.dtype(str(u.dtype).rsplit(".", 1)[-1])
        start = by.identity(dtype)
        if xp is np:
            out = np.full(shape, start, dtype)
            at(out, as_read(indices, shape, read), u)
            return out
        # Without a scatter in the standard: every place looks at every update.
        k = len(indices)
        flat = xp.reshape(flat_index(xp, indices, shape), (1, -1, 1))
        places = xp.reshape(xp.arange(math.prod(shape[:k]), dtype=xp.int64), (-1, 1, 1))
        rows = xp.reshape(u, (1, flat.shape[1], math.prod(shape[k:])))
        none = xp.full((1, 1, 1), start, dtype=u.dtype)
        return xp.reshape(getattr(xp, by.name)(xp.where(flat == places, rows, none), axis=1), shape)

    def vjp(g: Node, out: Node, u: Node, *indices: Node, shape: Shape) -> list[Node | None]:
        return [gather(g, *indices) * _shares(out, u, indices), *[None] * len(indices)]

    def jvp(ts: Sequence[Node | None], out: Node, u: Node, *indices: Node, shape: Shape) -> Node:
        return scatter_add(ts[0] * _shares(out, u, indices), *indices, shape=shape)

    def batch(size: int | Dim, mapped: Sequence[bool], u: Node, *indices: Node, shape: Shape) -> Node:
        u = u if mapped[0] else broadcast_leading(u, size)
        return PRIMITIVES[name](u, *_lockstep(size, mapped[1:], indices), shape=(size, *shape))

    return Primitive(name, type_rule, evaluate, vjp, jvp, batch, axes=INDEXED_AXES, combiner=by,
                     hidden_params=frozenset({"shape"}), samples=_samples)


def _samples() -> list[Sample]:
    rng = np.random.default_rng(8)
    i, j = np.array([[0, 2], [1, -1]]), np.array([[1, 1], [0, 0]])
    return [Sample((rng.normal(size=(2, 2, 4)), i), {"shape": (3, 4)}),
            Sample((rng.normal(size=5), np.array([0, 1, 1, 0, 2]), np.array([0, 0, 0, 0, 0])), {"shape": (3, 1)}),
            Sample((rng.normal(size=(2, 2)), i, j), {"shape": (3, 4)}, order=0),
            Sample((np.array([5, 3, 8]), np.array([1, 1, 3])), {"shape": (4,)}, order=0)]


scatter_max = _extreme("scatter_max", MAX)
scatter_min = _extreme("scatter_min", MIN)

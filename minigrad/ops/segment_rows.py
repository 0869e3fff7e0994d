"""The rows of segments: types, evaluation segment by segment, and the batch rule of operations within segments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ..graph import PRIMITIVES, ArrayType, Node
from ..primitive import ArrayNamespace, broadcast_operands, fail, on_host
from ..symbolic import Dim, size_of
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .elementwise import cast_to
from .refusals import require_ints
from .shape import reshape

_INT = np.dtype(np.int64)


def rank(n: int | Dim, shape: tuple[int | Dim, ...]) -> Node:
    """Return the position of each example in a batch, broadcast to `shape`."""
    return broadcast_along(iota(size=n), shape, tuple(range(1, len(shape))))


def fits(name: str, x: ArrayType, ids: ArrayType) -> ArrayType:
    require_ints(name, ids)
    if ids.ndim != 1 or not x.ndim or x.shape[0] != ids.shape[0]:
        raise fail(name, "the ids do not fit the rows", x, ids)
    return x


def each(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray, work: Callable[[np.ndarray], np.ndarray], dtype: object
          ) -> np.ndarray:
    """Apply `work` to the rows of every segment."""
    ids = on_host(ids)
    if not len(ids):
        return xp.zeros(x.shape, dtype=dtype)
    ends = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    return xp.concat([work(x[a:b, ...]) for a, b in itertools.pairwise(ends)], axis=0)


def in_one(name: str, size: int | Dim, mapped: Sequence[bool], *operands: Node, **params: object) -> Node:
    """Batch the operation called `name` within segments, whose ids are its last operand: the batch is packed."""
    *xs, ids = broadcast_operands(operands, mapped, size)
    # Ids of neighbours are different where their examples are.
    own = cast_to(ids, _INT) * broadcast_along(size_scalar(size, _INT), ids.shape, (0, 1)) + rank(size, ids.shape)
    flat = [reshape(x, shape=(size_of(x.shape[:2]), *x.shape[2:])) for x in (*xs, own)]
    return reshape(PRIMITIVES[name](*flat, **params), shape=xs[0].shape)

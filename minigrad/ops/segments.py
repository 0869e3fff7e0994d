"""Packed arrays: segment ids, checks at run time, sums and sorting within segments.

A *segment* is the rows of one example. Segments follow each other, and `ids` numbers the example of each row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..axes import POINTWISE, subscripts
from ..combiners import ADD
from ..families import discrete, linear
from ..graph import PRIMITIVES, ArrayType, Node
from ..primitive import FIRST, ArrayNamespace, Primitive, Sample, broadcast_operands, fail, on_host
from ..symbolic import Dim, size_of
from .accumulators import running
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .elementwise import cast_to
from .reduce import require_number
from .refusals import first_where, require_ints
from .shape import reshape

_INT = np.dtype(np.int64)


def _rank(n: int | Dim, shape: tuple[int | Dim, ...]) -> Node:
    """Return the position of each example in a batch, broadcast to `shape`."""
    return broadcast_along(iota(size=n), shape, tuple(range(1, len(shape))))


# -- segment ids ----------------------------------------------------------------------------------------------


def _ids_type(lengths: ArrayType, *, size: int | Dim) -> ArrayType:
    require_ints("segment_ids", lengths)
    if lengths.ndim != 1:
        raise fail("segment_ids", "needs one length per example", lengths)
    return ArrayType((size,), _INT)


def _ids_batch(batch: int | Dim, mapped: Sequence[bool], lengths: Node, *, size: int | Dim) -> Node:
    n = lengths.shape[1]
    flat = segment_ids(reshape(lengths, shape=(batch * n,)), size=batch * size)
    ids = reshape(flat, shape=(batch, size))
    return ids - _rank(batch, ids.shape) * broadcast_along(size_scalar(n, _INT), ids.shape, (0, 1))


segment_ids = discrete(
    "segment_ids", _ids_type,
    lambda xp, lengths, *, size: xp.repeat(xp.arange(lengths.shape[0], dtype=xp.int64), xp.astype(lengths, xp.int64)),
    batch=_ids_batch, axes=subscripts("segment|0 -> row|0"), hidden_params=frozenset({"size"}),
    samples=lambda: [Sample((np.array([2, 0, 3]),), {"size": 5}, order=0)])


# -- checks at run time ---------------------------------------------------------------------------------------


def _checked_eval(xp: ArrayNamespace, index: np.ndarray, length: np.ndarray) -> np.ndarray:
    index, length = xp.astype(index, xp.int64), xp.astype(length, xp.int64)
    if bad := first_where(xp, (index < -length) | (index >= length), index, length):
        raise IndexError(f"index {bad[1]} is out of range for an example with {bad[2]} rows")
    return xp.where(index < 0, index + length, index)


def _checked_type(index: ArrayType, length: ArrayType) -> ArrayType:
    require_ints("checked_index", index, length)
    if index.shape != length.shape:
        raise fail("checked_index", "shapes differ", index, length)
    return ArrayType(index.shape, _INT)


checked_index = discrete(  # an index within an example; negative ones count from its end
    "checked_index", _checked_type, _checked_eval, axes=POINTWISE,
    samples=lambda: [Sample((np.array([0, 2, 1]), np.array([3, 3, 3])), order=0)])


def _nonempty_eval(xp: ArrayNamespace, lengths: np.ndarray, *, message: str) -> np.ndarray:
    if bad := first_where(xp, lengths <= 0):  # negative: a slice longer than the example
        raise ValueError(message.replace("{}", str(bad[0])))
    return lengths


nonempty = discrete(
    "nonempty", lambda lengths, *, message: require_ints("nonempty", lengths), _nonempty_eval, axes=POINTWISE,
    picks=FIRST, params={"message": str},
    samples=lambda: [Sample((np.array([2, 3]),), {"message": "example {} has no rows"}, order=0)])


# -- along a segment -----------------------------------------------------------------------------------------


def _fits(name: str, x: ArrayType, ids: ArrayType) -> ArrayType:
    require_ints(name, ids)
    if ids.ndim != 1 or not x.ndim or x.shape[0] != ids.shape[0]:
        raise fail(name, "the ids do not fit the rows", x, ids)
    return x


def _each(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray, work: Callable[[np.ndarray], np.ndarray], dtype: object
          ) -> np.ndarray:
    """Apply `work` to the rows of every segment."""
    ids = on_host(ids)
    if not len(ids):
        return xp.zeros(x.shape, dtype=dtype)
    ends = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    return xp.concat([work(x[a:b, ...]) for a, b in itertools.pairwise(ends)], axis=0)


def _in_one(name: str, size: int | Dim, mapped: Sequence[bool], x: Node, ids: Node, **params: object) -> Node:
    """Batch the operation called `name` within segments: the batch is packed."""
    x, ids = broadcast_operands((x, ids), mapped, size)
    # Ids of neighbours are different where their examples are.
    own = cast_to(ids, _INT) * broadcast_along(size_scalar(size, _INT), ids.shape, (0, 1)) + _rank(size, ids.shape)
    flat = reshape(x, shape=(size_of(x.shape[:2]), *x.shape[2:]))
    return reshape(PRIMITIVES[name](flat, reshape(own, shape=(size_of(ids.shape),)), **params), shape=x.shape)


def _cumsum_eval(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray, *, reverse: bool) -> np.ndarray:
    # Segment by segment: a difference of cumulative sums would cancel digits and spread nan to later segments.
    def work(part: np.ndarray) -> np.ndarray:
        part = xp.flip(part, axis=0) if reverse else part
        part = running(xp, part, 0)
        return xp.flip(part, axis=0) if reverse else part

    return _each(xp, x, ids, work, x.dtype)


segment_cumsum: Primitive = linear(
    "segment_cumsum",
    lambda x, ids, *, reverse: require_number("segment_cumsum", _fits("segment_cumsum", x, ids)), _cumsum_eval,
    lambda g, x, ids, *, reverse: segment_cumsum(g, ids, reverse=not reverse),
    partial(_in_one, "segment_cumsum"),
    axes=subscripts("row|1 ..., row|1 -> row|1 ..."), combiner=ADD, params={"reverse": bool},
    samples=lambda: [Sample((np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 0, 1, 1, 1, 3])),
                            {"reverse": r}) for r in (False, True)])


def _argsort_eval(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
    def work(part: np.ndarray) -> np.ndarray:
        return np.argsort(part, axis=0, kind="stable") if xp is np else xp.argsort(part, axis=0)

    return _each(xp, x, ids, work, xp.int64)


segment_argsort: Primitive = discrete(  # counted from the first row of the segment
    "segment_argsort", lambda x, ids: ArrayType(_fits("segment_argsort", x, ids).shape, _INT), _argsort_eval,
    batch=partial(_in_one, "segment_argsort"),
    axes=subscripts("row|1 ..., row|1 -> row|1 ..."),
    samples=lambda: [Sample((np.array([2.0, 1.0, 3.0, 5.0, 4.0, 0.5]), np.array([0, 0, 1, 1, 1, 3])), order=0)])

"""What examples laid end to end need beside gather and scatter: who owns a row, and work along a segment.

A *segment* is the rows of one example; segments follow each other, and `ids` says for each row whose it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import Dim
from ..errors import Unsupported, at_user_line
from ..graph import ArrayType, Node
from ..primitive import Primitive, Sample, fail, linear, spread
from .layout import transpose
from .spread import require_number

_INT = np.dtype(np.int64)


def _require_ints(name: str, *types: ArrayType) -> None:
    for t in types:
        if t.dtype != _INT or t.ndim != 1:
            raise fail(name, "needs int64 vectors", *types)


def _no_vjp(g: Node, out: Node, *xs: Node, **params: Any) -> list[None]:
    return [None] * len(xs)


# -- who owns a row ------------------------------------------------------------------------------------------


def _owners_type(lengths: ArrayType, *, size: int | Dim) -> ArrayType:
    _require_ints("segment_ids", lengths)
    return ArrayType((size,), _INT)


segment_ids = Primitive(
    "segment_ids", _owners_type,
    lambda xp, lengths, *, size: xp.repeat(xp.arange(lengths.shape[0], dtype=xp.int64), lengths),
    vjp=_no_vjp, jvp=Unsupported("its values are integers"),
    batch=Unsupported("each example would have segments of its own"), hidden_params=frozenset({"size"}),
    samples=lambda: [Sample((np.array([2, 0, 3]),), {"size": 5}, order=0)])


# -- an index within a segment --------------------------------------------------------------------------------


def _checked_eval(xp: Any, index: Any, length: Any) -> Any:
    if bool(xp.any((index < -length) | (index >= length))):
        bad = np.flatnonzero(np.asarray((index < -length) | (index >= length)).reshape(-1))[0]
        raise IndexError(f"index {np.asarray(index).reshape(-1)[bad]} is out of range for an example with "
                         f"{np.asarray(length).reshape(-1)[bad]} rows")
    return xp.where(index < 0, index + length, index)


def _checked_type(index: ArrayType, length: ArrayType) -> ArrayType:
    if index != length or index.dtype.kind != "i":
        raise fail("checked_index", "needs integers of one type", index, length)
    return index


def _checked_batch(size: Any, mapped: Sequence[bool], *xs: Node) -> Node:
    return checked_index(*(x if m else spread(x, size) for x, m in zip(xs, mapped, strict=True)))


checked_index = Primitive(
    "checked_index", _checked_type, _checked_eval, vjp=_no_vjp, jvp=Unsupported("its values are integers"),
    batch=_checked_batch, samples=lambda: [Sample((np.array([0, -1, 3]), np.array([2, 2, 4])), order=0)])


def _nonempty_eval(xp: Any, lengths: Any, *, what: str) -> Any:
    if lengths.shape[0] and bool(xp.any(lengths == 0)):
        k = int(np.flatnonzero(np.asarray(lengths) == 0)[0])
        raise ValueError(f"{what} of example {k}, which has no rows: give initial=")
    return lengths


def _nonempty_type(lengths: ArrayType, *, what: str) -> ArrayType:
    _require_ints("nonempty", lengths)
    return lengths


nonempty = Primitive(
    "nonempty", _nonempty_type, _nonempty_eval, vjp=_no_vjp, jvp=Unsupported("its values are integers"),
    batch=Unsupported("each example would have segments of its own"),
    samples=lambda: [Sample((np.array([2, 3]),), {"what": "max"}, order=0)])


# -- along a segment ------------------------------------------------------------------------------------------


def _cumsum_type(x: ArrayType, ids: ArrayType, *, reverse: bool) -> ArrayType:
    _require_ints("segment_cumsum", ids)
    if not x.ndim or x.shape[0] != ids.shape[0]:
        raise fail("segment_cumsum", "the ids do not fit the rows", x, ids)
    return require_number("segment_cumsum", x)


def bounds(ids: np.ndarray) -> list[int]:
    """Return where sorted segments begin, and where the last one ends."""
    return [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)] if len(ids) else [0]


def _cumsum_eval(xp: Any, x: Any, ids: Any, *, reverse: bool) -> Any:
    # Segment by segment: a difference of running totals would cancel digits, and carry one example's nan to the next.
    ends = bounds(np.asarray(ids))
    parts = []
    for a, b in itertools.pairwise(ends):
        part = xp.flip(x[a:b, ...], axis=0) if reverse else x[a:b, ...]
        part = np.cumsum(part, axis=0, dtype=x.dtype) if xp is np else xp.cumulative_sum(part, axis=0, dtype=x.dtype)
        parts.append(xp.flip(part, axis=0) if reverse else part)
    return xp.concat(parts, axis=0) if parts else x


def _cumsum_batch(size: Any, mapped: Sequence[bool], x: Node, ids: Node, *, reverse: bool) -> Node:
    if mapped[1]:
        raise Unsupported(at_user_line("a cumulative sum within segments that differ from example to example"))
    return swap(segment_cumsum(swap(x), ids, reverse=reverse))


def swap(x: Node) -> Node:
    """Return `x` with its first two axes exchanged."""
    return transpose(x, perm=(1, 0, *range(2, x.ndim)))


segment_cumsum = linear(
    "segment_cumsum", _cumsum_type, _cumsum_eval,
    lambda g, x, ids, *, reverse: segment_cumsum(g, ids, reverse=not reverse), _cumsum_batch,
    samples=lambda: [Sample((np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 0, 1, 1, 1, 3])),
                            {"reverse": r}) for r in (False, True)])


def _argsort_type(x: ArrayType, ids: ArrayType) -> ArrayType:
    _require_ints("segment_argsort", ids)
    if not x.ndim or x.shape[0] != ids.shape[0]:
        raise fail("segment_argsort", "the ids do not fit the rows", x, ids)
    return ArrayType(x.shape, _INT)


def _argsort_eval(xp: Any, x: Any, ids: Any) -> Any:
    """Return, for each place, which row of the whole array comes there."""
    ends = bounds(np.asarray(ids))
    parts = []
    for a, b in itertools.pairwise(ends):
        order = np.argsort(x[a:b], axis=0, kind="stable") if xp is np else xp.argsort(x[a:b, ...], axis=0)
        parts.append(order + a)
    return xp.concat(parts, axis=0) if parts else xp.zeros(x.shape, dtype=xp.int64)


def _argsort_batch(size: Any, mapped: Sequence[bool], x: Node, ids: Node) -> Node:
    if mapped[1]:
        raise Unsupported(at_user_line("an order within segments that differ from example to example"))
    return swap(segment_argsort(swap(x), ids))


segment_argsort = Primitive(
    "segment_argsort", _argsort_type, _argsort_eval, vjp=_no_vjp, jvp=Unsupported("its values are integers"),
    batch=_argsort_batch,
    samples=lambda: [Sample((np.random.default_rng(1).normal(size=6), np.array([0, 0, 1, 1, 1, 3])), order=0)])

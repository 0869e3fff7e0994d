"""Packed arrays: segment ids, checks at run time, sums and sorting within segments.

A *segment* is the rows of one example. Segments follow each other, and `ids` numbers the example of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..axes import POINTWISE, subscripts
from ..combiners import ADD, FMAX, FMIN, MAX, MIN
from ..families import discrete, linear, require_float
from ..graph import ArrayType, Node
from ..primitive import (
    FIRST,
    ArrayNamespace,
    Combiner,
    Primitive,
    Sample,
    fail,
)
from ..symbolic import Dim
from .accumulators import running
from .broadcast import broadcast_along
from .constants import size_scalar
from .elementwise import maximum, minimum
from .reduce import require_number
from .refusals import first_where, require_ints
from .segment_rows import each, fits, in_one, rank
from .shape import reshape
from .sort import mean_tangent, running_extreme, shared_cotangent

_INT = np.dtype(np.int64)
_SHORT = 12  # rows of a segment below which one sort of all rows by two keys takes less time than one of each segment


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
    return ids - rank(batch, ids.shape) * broadcast_along(size_scalar(n, _INT), ids.shape, (0, 1))


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
    "checked_index", _checked_type, _checked_eval, axes=POINTWISE, kind="check",
    samples=lambda: [Sample((np.array([0, 2, 1]), np.array([3, 3, 3])), order=0)])


def _nonempty_eval(xp: ArrayNamespace, lengths: np.ndarray, *, message: str) -> np.ndarray:
    if bad := first_where(xp, lengths <= 0):  # negative: a slice longer than the example
        raise ValueError(message.replace("{}", str(bad[0])))
    return lengths


nonempty = discrete(
    "nonempty", lambda lengths, *, message: require_ints("nonempty", lengths), _nonempty_eval, axes=POINTWISE,
    picks=FIRST, params={"message": str}, kind="check",
    samples=lambda: [Sample((np.array([2, 3]),), {"message": "example {} has no rows"}, order=0)])


# -- along a segment -----------------------------------------------------------------------------------------


def _cumsum_eval(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray, *, reverse: bool) -> np.ndarray:
    # Segment by segment: a difference of cumulative sums would cancel digits and spread nan to later segments.
    def work(part: np.ndarray) -> np.ndarray:
        part = xp.flip(part, axis=0) if reverse else part
        part = running(xp, part, 0)
        return xp.flip(part, axis=0) if reverse else part

    return each(xp, x, ids, work, x.dtype)


segment_cumsum: Primitive = linear(
    "segment_cumsum",
    lambda x, ids, *, reverse: require_number("segment_cumsum", fits("segment_cumsum", x, ids)), _cumsum_eval,
    lambda g, x, ids, *, reverse: segment_cumsum(g, ids, reverse=not reverse),
    partial(in_one, "segment_cumsum"),
    axes=subscripts("row|1 ..., row|1 -> row|1 ..."), combiner=ADD, params={"reverse": bool},
    samples=lambda: [Sample((np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 0, 1, 1, 1, 3])),
                            {"reverse": r}) for r in (False, True)])


def _cumulative_extreme(name: str, by: Combiner, pair: Primitive, ignores_nan: bool = False) -> Primitive:
    """Declare the cumulative maximum or minimum of each segment: equal elements share each cotangent."""
    evaluate = running_extreme(by, pair, ignores_nan)

    def type_rule(x: ArrayType, ids: ArrayType) -> ArrayType:
        if ignores_nan:
            require_float(name, x)
        return fits(name, x, ids)

    return Primitive(
        name, type_rule, lambda xp, x, ids: each(xp, x, ids, lambda part: evaluate(xp, part, axis=0), x.dtype),
        lambda g, out, x, ids: [shared_cotangent(g, out, x, 0, ids), None],
        lambda ts, out, x, ids: mean_tangent(ts[0], out, x, 0, ids), partial(in_one, name),
        axes=subscripts("row|1 ..., row|1 -> row|1 ..."), combiner=by,
        samples=lambda: [Sample((np.random.default_rng(4).permutation(18.0 * np.arange(1, 13)).reshape(6, 2) / 40,
                                 np.array([0, 0, 1, 1, 1, 3])))])


segment_cummax = _cumulative_extreme("segment_cummax", MAX, maximum)
segment_cummin = _cumulative_extreme("segment_cummin", MIN, minimum)
segment_cumfmax = _cumulative_extreme("segment_cumfmax", FMAX, maximum, ignores_nan=True)
segment_cumfmin = _cumulative_extreme("segment_cumfmin", FMIN, minimum, ignores_nan=True)


def _places_by_key(x: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """Sort all rows at once by keys of 63 bits: the segment, the value, and the place; None where these need more.

    NumPy sorts integers in vectors: keys take a quarter of the time of a stable sort of each segment.
    """
    if x.ndim != 1 or x.dtype.itemsize > 4 or not len(ids):
        return None
    first = np.append(True, ids[1:] != ids[:-1])
    segment = np.cumsum(first) - 1
    place = np.arange(len(ids)) - np.flatnonzero(first)[segment]
    bits = int(place.max()).bit_length()
    if 32 + bits + int(segment[-1]).bit_length() > 63:
        return None
    if x.dtype.kind == "f":  # the bits of a float as an integer, in the order of the floats; NaN is the last
        code = (x.astype(np.float32) + 0.0).view(np.int32)
        code = np.where(np.isnan(x), np.int32(0x7FFFFFFF), code ^ (code >> 31 & 0x7FFFFFFF))
    else:
        code = x
    least = 0 if code.dtype.kind in "bu" else -(1 << 31)
    key = (segment << 32 | code.astype(np.int64) - least) << bits | place
    key.sort()
    places: np.ndarray = key & ((1 << bits) - 1)
    return places


def _argsort_eval(xp: ArrayNamespace, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
    if xp is np and (places := _places_by_key(x, ids)) is not None:
        return places
    if xp is np and x.ndim == 1 and len(ids) and len(ids) < _SHORT * abs(int(ids[-1]) - int(ids[0])):
        # One sort by (segment, value), without a loop over segments.
        first = np.append(True, ids[1:] != ids[:-1])
        starts = np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))
        return np.lexsort((x, np.cumsum(first))) - starts

    def work(part: np.ndarray) -> np.ndarray:
        return np.argsort(part, axis=0, kind="stable") if xp is np else xp.argsort(part, axis=0)

    return each(xp, x, ids, work, xp.int64)


segment_argsort: Primitive = discrete(  # counted from the first row of the segment
    "segment_argsort", lambda x, ids: ArrayType(fits("segment_argsort", x, ids).shape, _INT), _argsort_eval,
    batch=partial(in_one, "segment_argsort"),
    axes=subscripts("row|1 ..., row|1 -> row|1 ..."),
    samples=lambda: [Sample((np.array([2.0, 1.0, 3.0, 5.0, 4.0, 0.5]), np.array([0, 0, 1, 1, 1, 3])), order=0)])

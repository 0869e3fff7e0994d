"""The examples that a page holds, from which its reader chooses a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ragged.axes import Axis
from ..ragged.batch import Batch
from .record import WHOLE, Arrays, Record, packed

HELD = 1000  # examples that a page holds, at most
ROOM = 400_000  # bytes of examples that it holds, at most
MOST = 1 << 20  # elements of one argument over all held examples, at most


def size_name(axis: Axis) -> str:
    """Return the name of the number of packed rows along an axis."""
    return axis.name.replace(" ", "_") + "s"


def fitting(count: int, bytes_of_one: float, least: int) -> int:
    """Return how many of `count` examples a page holds: `least`, or more where there is room."""
    return min(count, max(least, min(HELD, int(ROOM / max(bytes_of_one, 1)))))


def stacked(leaves: Sequence[np.ndarray], axes: Sequence[int | None], total: int, shown: int,
            pool: Arrays) -> Record:
    """Return the record of examples in arrays with an axis of examples (None: shared by all)."""
    count = next(x.shape[a] for x, a in zip(leaves, axes, strict=True) if a is not None)
    return _record([_held(x, a, pool) for x, a in zip(leaves, axes, strict=True)],
                   [_leaf(x, a) for x, a in zip(leaves, axes, strict=True)], {"": [1] * count}, total, shown)


def ragged(parts: Sequence[np.ndarray | Batch], axes: Sequence[int | None], total: int, shown: int,
           pool: Arrays) -> Record:
    """Return the record of examples that differ in size: a batch of them, and arrays beside it."""
    leaves: list[Record | None] = []
    held: list[int] = []
    lengths: Record = {}
    for x, a in zip(parts, axes, strict=True):
        if isinstance(x, Batch):
            own, at = _rows(x, pool)
            leaves, held = [*leaves, *own], [*held, *at]
            lengths = {"": [1] * len(x), **{size_name(k): np.asarray(x.lengths[k]).tolist() for k in x.schema.axes}}
        else:
            leaves.append(_leaf(np.asarray(x), a))
            held.append(_held(np.asarray(x), a, pool))
    return _record(held, leaves, lengths, total, shown)


def _rows(batch: Batch, pool: Arrays) -> tuple[list[Record | None], list[int]]:
    """Return the records of a batch's arrays, and their places in the pool."""
    arrays, schema = batch.leaves(), batch.schema
    leaves: list[Record | None] = []
    held: list[int] = []
    ids = {schema.leaf_name("segment_ids", a) for a in schema.axes}
    derived = ids | {schema.leaf_name("lengths", a) for a in schema.axes}
    for name, t in schema.leaf_types.items():
        if arrays[name] is None:
            continue
        leaf: Record = {"axis": 0, "rows": [size_name(a) for a in schema.row_axes(t)]}
        if t.target is not None:
            leaf["target"] = size_name(t.target)
        if name in ids:
            leaf["target"] = ""  # the examples themselves
        if t.null is not None:
            leaf["null"] = t.null
        if name in derived or t.blank:
            leaf["derived"] = True
        leaves.append(None if t.shared else leaf)
        held.append(_held(np.asarray(arrays[name]), None if t.shared else 0, pool))
    return leaves, held


def _leaf(x: np.ndarray, axis: int | None) -> Record | None:
    return None if axis is None else {"axis": axis % x.ndim, "rows": []}


def _held(x: np.ndarray, axis: int | None, pool: Arrays) -> int:
    return pool.add(x, WHOLE if axis is None else MOST)


def shared(leaves: Sequence[np.ndarray], pool: Arrays) -> Record:
    """Return the record of arguments without an axis of examples."""
    return _record([_held(x, None, pool) for x in leaves], [None] * len(leaves), {"": []}, 0, 0)


def _record(held: Sequence[int], leaves: Sequence[Record | None], lengths: Record, total: int, shown: int) -> Record:
    return {"arrays": list(held), "leaves": list(leaves), "lengths": lengths, "total": total, "shown": shown}


def weight(leaves: Sequence[np.ndarray]) -> float:
    """Return the bytes that arrays take on a page."""
    return sum(_weights(leaves))


def _weights(leaves: Sequence[np.ndarray]) -> Iterator[float]:
    for x in leaves:
        yield x.size * packed(x.flat[:1000]).dtype.itemsize

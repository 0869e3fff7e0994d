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
    return _record([pool.add(x, WHOLE if a is None else MOST) for x, a in zip(leaves, axes, strict=True)],
                   [None if a is None else {"axis": a % x.ndim, "rows": []} for x, a in zip(leaves, axes, strict=True)],
                   {"": [1] * count}, total, shown)


def ragged(shared: Sequence[np.ndarray], batch: Batch, total: int, shown: int, pool: Arrays) -> Record:
    """Return the record of a batch of examples that differ in size; `shared` are the arrays before it."""
    arrays, schema = batch.leaves(), batch.schema
    leaves: list[Record | None] = [None] * len(shared)
    held = [pool.add(x, WHOLE) for x in shared]
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
        held.append(pool.add(np.asarray(arrays[name]), WHOLE if t.shared else MOST))
    lengths = {size_name(a): np.asarray(batch.lengths[a]).tolist() for a in schema.axes}
    return _record(held, leaves, {"": [1] * len(batch), **lengths}, total, shown)


def shared(leaves: Sequence[np.ndarray], pool: Arrays) -> Record:
    """Return the record of arguments without an axis of examples."""
    return _record([pool.add(x, WHOLE) for x in leaves], [None] * len(leaves), {"": []}, 0, 0)


def _record(held: Sequence[int], leaves: Sequence[Record | None], lengths: Record, total: int, shown: int) -> Record:
    return {"arrays": list(held), "leaves": list(leaves), "lengths": lengths, "total": total, "shown": shown}


def weight(leaves: Sequence[np.ndarray]) -> float:
    """Return the bytes that arrays take on a page."""
    return sum(_weights(leaves))


def _weights(leaves: Sequence[np.ndarray]) -> Iterator[float]:
    for x in leaves:
        yield x.size * packed(x.flat[:1000]).dtype.itemsize

"""Arguments in chunks: collections of Dask, and arrays and batches beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import dask
import dask.array as da
import numpy as np
import optree
from dask.bag import Bag
from dask.delayed import Delayed

from ...errors import BatchError, at_user_line
from ...graph import PyTree
from ...ragged.batch import Batch, batch
from ...ragged.schema import schema_of
from ..files import InFile, sent


class ChunkError(BatchError):
    """A chunk that is none of those that the program was made for."""


class ArrayChunks:
    """A Dask array."""

    def __init__(self, x: da.Array, axis: int, label: str):
        self.x, self.axis, self.name = x, axis, x.name
        self.count = x.numblocks[axis]
        own = x.chunks[axis]
        self.sizes = None if any(map(math.isnan, own)) else list(own)
        if any(math.isnan(n) for a, n in enumerate(x.shape) if a != axis):
            raise BatchError(at_user_line(f"{label} is a Dask array of shape {x.shape}: only the number of examples "
                                          "may be unknown"))

    def stand_in(self, n: int) -> np.ndarray:
        """Return an array of the same type without memory."""
        shape = (*self.x.shape[:self.axis], n, *self.x.shape[self.axis + 1:])
        return np.broadcast_to(np.zeros((), self.x.dtype), shape)

    def chunks(self, sizes: Sequence[int] | None) -> list[Delayed]:
        """Return the chunks, of these sizes if known."""
        whole: dict[int, int | tuple[int, ...]] = {
            a: -1 for a, n in enumerate(self.x.numblocks) if a != self.axis and n > 1}
        if self.sizes is not None and sizes is not None and self.sizes != list(sizes):
            whole[self.axis] = tuple(sizes)
        return list((self.x.rechunk(whole) if whole else self.x).to_delayed().ravel())

    def counted(self) -> list[Delayed]:
        """Return values of the lengths of the chunks, which cost little to read."""
        column = self.x[tuple(slice(None) if a == self.axis else 0 for a in range(self.x.ndim))]
        return list(column.to_delayed())


class FrameChunks:
    """A Dask data frame or series: its rows are the examples, and its columns an axis."""

    def __init__(self, x: da.Array, axis: int, label: str):
        self.x, self.name, self.count, self.sizes = x, x._name, x.npartitions, None
        if axis:
            raise BatchError(at_user_line(f"{label} is a Dask {type(x).__name__}, whose examples are its rows: axis 0, "
                                          f"got axis {axis}"))

    def stand_in(self, n: int) -> np.ndarray:
        """Return an array of the same type without memory."""
        like = self.x._meta.to_numpy()
        return np.broadcast_to(np.zeros((), like.dtype), (n, *like.shape[1:]))

    def chunks(self, sizes: Sequence[int] | None) -> list[Delayed]:
        """Return the partitions."""
        return _partitions(self.x)

    def counted(self) -> list[Delayed]:
        """Return values of the lengths of the partitions, which cost little to read."""
        return _partitions(self.x.index)


def _partitions(x: da.Array) -> list[Delayed]:
    """Return the partitions of a frame, each reading its own columns.

    Dask's whole optimization would merge partitions by the number of columns that are read, and so make those of two
    frames differ.
    """
    return list(x.simplify().to_delayed(optimize_graph=False))


class BagChunks:
    """A Dask bag of examples: of a class made by `example`, or pytrees of arrays of one shape."""

    def __init__(self, x: Bag, axis: int, label: str, first: Callable[[Bag], PyTree]):
        self.x, self.name, self.count, self.sizes = x, x.name, x.npartitions, None
        self._first = first
        if axis:
            raise BatchError(at_user_line(f"{label} is a Dask bag of examples: its axis is 0, got {axis}"))

    def stand_in(self, n: int) -> PyTree:
        """Return a batch of copies of the first example."""
        return together([self._first(self.x)] * min(n, 2))

    def chunks(self, sizes: Sequence[int] | None) -> list[Delayed]:
        """Return the partitions."""
        return list(self.x.to_delayed())

    def counted(self) -> list[Delayed]:
        """Return values of the lengths of the partitions."""
        return list(self.x.to_delayed())


class LocalChunks:
    """An array or a batch of this process, beside Dask's."""

    name = None

    def __init__(self, x: np.ndarray | Batch, axis: int, label: str):
        self.x, self.axis, self.count = x, axis, 1
        self.sizes = [len(x) if isinstance(x, Batch) else x.shape[axis]]

    def stand_in(self, n: int) -> np.ndarray | Batch:
        """Return an argument of the same type, of `n` examples."""
        if isinstance(self.x, Batch):
            several: Batch = self.x[np.arange(n) % len(self.x)]
            return several
        shape = (*self.x.shape[:self.axis], n, *self.x.shape[self.axis + 1:])
        return np.broadcast_to(np.zeros((), self.x.dtype), shape)

    def chunks(self, sizes: Sequence[int] | None) -> list[np.ndarray | InFile | Batch]:
        """Return the sections; those of a file are opened by the workers."""
        ends = list(accumulate(sizes or ()))
        spans = [slice(end - n, end) for end, n in zip(ends, sizes or (), strict=True)]
        if isinstance(self.x, Batch):
            return [self.x[span] for span in spans]
        return [sent(self.x[(*(slice(None),) * self.axis, span)]) for span in spans]

    def counted(self) -> list[Delayed]:
        """Return nothing: the length is known."""
        return []


Chunks = ArrayChunks | FrameChunks | BagChunks | LocalChunks


def is_collection(x: object) -> bool:
    """Return whether an argument is a collection of Dask."""
    return bool(dask.is_dask_collection(x))


def together(examples: Sequence[PyTree]) -> PyTree:
    """Return a batch of examples: packed if they are of a class, else stacked."""
    if schema_of(type(examples[0])) is not None:
        return batch(examples)
    trees = [optree.tree_structure(x) for x in examples]
    if any(t != trees[0] for t in trees):
        raise ChunkError(f"the examples of a bag have one structure, but there are {trees[0]} and "
                         f"{next(t for t in trees if t != trees[0])}")
    try:
        columns = [np.stack([np.asarray(x) for x in column])
                   for column in zip(*map(optree.tree_leaves, examples), strict=True)]
    except ValueError as error:
        raise ChunkError("the arrays of a bag have one shape in all examples. Those that differ in size are fields of "
                         f"a class made by @mg.example: {error}") from None
    out: PyTree = optree.tree_unflatten(trees[0], columns)
    return out

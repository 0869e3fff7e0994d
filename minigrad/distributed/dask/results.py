"""Results per example as collections of Dask: arrays of rows, and bags of results of different size."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import optree
from dask.bag import Bag
from dask.delayed import Delayed

from ...graph import PyTree
from ...ragged.batch import Batch, is_batch
from ...symbolic import Dim, Symbol, value
from ..divide import Divided
from .tasks import Terms, examples_of, moved, one, rows_of


def in_chunks(divided: Divided) -> tuple[dict[int, int], list[tuple[Batch, list[int]]]]:
    """Return the outputs that stay in chunks, each with its result of a part, and the batches that they make up.

    A batch has the numbers of outputs in place of arrays, and comes with these numbers. All of them stay in chunks, or
    none.
    """
    axes = divided.node.params["out_axes"]
    lazy = {k: i for k, i in divided.direct.items() if axes[i] is not None}
    assert divided.graph.out_tree is not None
    numbers: PyTree = optree.tree_unflatten(divided.graph.out_tree, range(len(divided.graph.outputs)))
    values: list[PyTree] = optree.tree_leaves(numbers, is_leaf=is_batch)
    batches = [(x, _leaves(x)) for x in values if is_batch(x)]
    for _, places in batches:
        if not lazy.keys() >= {*places}:
            lazy = {k: i for k, i in lazy.items() if k not in places}
    return lazy, [(b, places) for b, places in batches if lazy.keys() >= {*places}]


def _leaves(batch: PyTree) -> list[Any]:
    leaves: list[Any] = optree.tree_leaves(batch)
    return leaves


def with_bags(result: PyTree) -> PyTree:
    """Return a result in which a bag takes the place of each batch that holds it."""
    def opened(x: PyTree) -> PyTree:
        first: PyTree = _leaves(x)[0] if isinstance(x, Batch) else x
        return first if isinstance(first, Bag) else x

    out: PyTree = optree.tree_map(opened, result, is_leaf=is_batch)
    return out


def terms_of(divided: Divided, n: Dim) -> Terms:
    """Return a number of rows as a sum of multiples of the counts of a chunk."""
    symbols = [own for own, _ in divided.symbols]
    return [(symbols.index(s), factor) for (s,), factor in n.terms]


class Lazy:
    """The results of chunks that compute later.

    Parameters
    ----------
    divided : Divided
    parts : sequence of Delayed
        The `Results` of each chunk.
    sizes : sequence of int, optional
        The number of examples of each chunk, if known.
    known : dict of Symbol to int
        Other sizes.
    """

    def __init__(self, divided: Divided, parts: Sequence[Delayed], sizes: Sequence[int] | None,
                 known: Mapping[Symbol, int]):
        self._divided, self._parts, self._sizes, self._known = divided, parts, sizes, known

    def array(self, i: int) -> da.Array:
        """Return the rows of all chunks; indices count from the first row of the first chunk."""
        p = self._divided.node.params
        axis, node = p["out_axes"][i], p["graph"].outputs[i]
        sizes = self._sizes if node.shape[axis] == p["dim"] else None
        shape = [math.nan if a == axis else value(n, self._known) for a, n in enumerate(node.shape)]
        blocks = [da.from_delayed(task, (*shape[:axis], math.nan if sizes is None else sizes[k], *shape[axis + 1:]),
                                  node.dtype) for k, task in enumerate(self._rows(i))]
        return da.concatenate(blocks, axis, allow_unknown_chunksizes=True)

    def _rows(self, i: int) -> list[Delayed]:
        if i not in self._divided.positions.moved:
            return [dask.delayed(one, pure=False)(part, i) for part in self._parts]
        n, null = self._divided.positions.moved[i]
        counts = [dask.delayed(rows_of, pure=False)(part, terms_of(self._divided, n)) for part in self._parts]
        before = accumulate(counts[:-1], dask.delayed(operator.add, pure=False), initial=0)
        return [dask.delayed(moved, pure=False)(part, i, rows, null)
                for part, rows in zip(self._parts, before, strict=True)]

    def bag(self, batch: Batch) -> Bag:
        """Return the examples of a batch whose arrays are numbers of outputs, one partition per chunk."""
        names = {name: self._divided.direct[k] for name, k in batch.leaves().items() if k is not None}
        examples = functools.partial(examples_of, batch.schema, names)
        return db.from_delayed([dask.delayed(examples, name="examples", pure=False)(part) for part in self._parts])

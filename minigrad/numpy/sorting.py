"""Sorting: sorted arrays, the indices that sort, partitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ops import sort as ordering
from ..ops.shape import flip
from ..traced_array import Array, ArrayLike, as_array
from .arguments import as_axis, as_ints, one_axis
from .dispatch import implements
from .indexing import take_along_axis


@implements(np.sort)
def sort(a: ArrayLike, axis: int = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
         descending: bool = False) -> Array:
    """Sort along an axis; gradients follow the elements, and ties keep their order."""
    x, a_ = one_axis(a, axis, "sort")
    out = ordering.sort(x, a_)
    return Array(flip(out, axes=(a_,)) if descending else out)


@implements(np.argsort)
def argsort(a: ArrayLike, axis: int = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
            descending: bool = False) -> Array:
    """Return the indices that sort along an axis, stable."""
    x, a_ = one_axis(a, axis, "argsort")
    out = ordering.argsort(x, axis=a_)
    return Array(flip(out, axes=(a_,)) if descending else out)


@implements(np.lexsort)
def lexsort(keys: ArrayLike, axis: int = -1) -> Array:
    """Return the indices that sort by the last key, then by the one before, and so on."""
    rows = [as_array(k) for k in (keys if isinstance(keys, (list, tuple)) else as_array(keys))]
    a = as_axis(axis, rows[0].ndim, "lexsort")
    order = argsort(rows[0], a)
    for key in rows[1:]:
        order = take_along_axis(order, argsort(take_along_axis(key, order, a), a), a)
    return order


@implements(np.partition)
def partition(a: ArrayLike, kth: int | Sequence[int], axis: int = -1, kind: str = "introselect",
              order: None = None) -> Array:
    """Return the sorted array: it is partitioned at every `kth`."""
    as_ints(kth, "partition", "kth")
    return sort(a, axis)


@implements(np.argpartition)
def argpartition(a: ArrayLike, kth: int | Sequence[int], axis: int = -1, kind: str = "introselect",
                 order: None = None) -> Array:
    """Return the indices that sort: they partition at every `kth`."""
    as_ints(kth, "argpartition", "kth")
    return argsort(a, axis)

"""Sorting: sorted arrays, the indices that sort, partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Node
from ..ops import sort as ordering
from ..ops.shape import flip
from ..sizes import Size
from ..traced_array import Array, ArrayLike, as_array
from .arguments import as_axis, as_ints, one_axis
from .dispatch import implements
from .indexing import take_along_axis


def _enter(numpys: Callable[..., object], along: Callable[[Node, int], Node], doc: str) -> Callable[..., Array]:
    @implements(numpys, doc=doc)
    def ordered(a: ArrayLike, axis: int = -1, kind: str | None = None, order: None = None, *,
                stable: bool | None = None, descending: bool = False) -> Array:
        x, a_ = one_axis(a, axis, numpys.__name__)
        out = along(x, a_)
        return Array(flip(out, axes=(a_,)) if descending else out)

    return ordered


sort = _enter(np.sort, ordering.sort, "Sort along an axis; gradients follow the elements, and ties keep their order.")
argsort = _enter(np.argsort, lambda x, axis: ordering.argsort(x, axis=axis),
                 "Return the indices that sort along an axis, stable.")


@implements(np.lexsort)
def lexsort(keys: ArrayLike, axis: int = -1) -> Array:
    """Return the indices that sort by the last key, then by the one before, and so on."""
    rows = [as_array(k) for k in (keys if isinstance(keys, (list, tuple)) else as_array(keys))]
    a = as_axis(axis, rows[0].ndim, "lexsort")
    order = argsort(rows[0], a)
    for key in rows[1:]:
        order = take_along_axis(order, argsort(take_along_axis(key, order, a), a), a)
    return order


def _enter_partition(numpys: Callable[..., object], by: Callable[..., Array], doc: str) -> None:
    @implements(numpys, doc=doc)
    def partition(a: ArrayLike, kth: int | Sequence[int], axis: int = -1, kind: str = "introselect",
                  order: None = None) -> Array:
        if not isinstance(kth, (Size, Array)):
            as_ints(kth, numpys.__name__, "kth")
        return by(a, axis)


_enter_partition(np.partition, sort, "Return the sorted array: it is partitioned at every `kth`.")
_enter_partition(np.argpartition, argsort, "Return the indices that sort: they partition at every `kth`.")

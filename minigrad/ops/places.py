"""Indices that are stricter than NumPy's: places, which count from 0 alone, and indices of which one value means none.

Each returns an index for a gather or a scatter to read. Where it refuses an index, `eval` raises; a kernel cannot, so
there the index becomes one that whoever reads it refuses. So the check costs a comparison in a loop, and is made by
every backend, inside every transform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dims import Dim
from ..graph import Node, full
from ..primitive import Primitive, Sample, elementwise, on_host
from .constants import size_scalar
from .spread import expand_to


def _samples(*null: int) -> Callable[[], list[Sample]]:
    index = np.array([[0, 2, 1], [1, *(null or (0,)), 3]])
    return lambda: [Sample((index, np.full((2, 3), 4), *(np.full((2, 3), k) for k in null)), order=0)]


def _refuse(xp: Any, index: Any, outside: Any, size: Any) -> None:
    """Raise `IndexError` at the first index that is outside."""
    if not bool(xp.any(outside)):
        return
    outside, index, size = np.broadcast_arrays(*map(on_host, (outside, index, size)))
    k = int(np.flatnonzero(outside)[0])
    raise IndexError(f"index {index.ravel()[k]} is out of range for {size.ravel()[k]} places")


def _are_places(xp: Any, index: Any, size: Any, null: Any = -1) -> bool:
    """Tell whether every index is a place, from the least and the largest; False where they do not tell.

    The masks of the other way take several times as long.
    """
    if xp is not np:
        return False
    size, null = np.asarray(size), np.asarray(null)
    if any(size.strides + null.strides):  # several sizes
        return False
    return not np.size(index) or bool(np.minimum.reduce(index, axis=None) >= 0 > null.flat[0]
                                  and np.maximum.reduce(index, axis=None) < size.flat[0])


def _place_eval(xp: Any, index: Any, size: Any) -> Any:
    if _are_places(xp, index, size):
        return index
    _refuse(xp, index, (index < 0) | (index >= size), size)
    return index


def _place_or_null_eval(xp: Any, index: Any, size: Any, null: Any) -> Any:
    if _are_places(xp, index, size, null):
        return index
    none = index == null
    _refuse(xp, index, ((index < 0) | (index >= size)) & ~none, size)
    return xp.where(none, size, index)


def _row_or_null_eval(xp: Any, index: Any, size: Any, null: Any) -> Any:
    if _are_places(xp, index, size, null):
        return index
    none = index == null
    _refuse(xp, index, ((index + size < 0) | (index >= size)) & ~none, size)
    return xp.where(none, size, xp.where(index < 0, index + size, index))


# place(index, size): an index that is not negative. The others take `null` to the place behind the last one;
# row_or_null counts other negative indices from the end, as NumPy does.
place = elementwise("place", _place_eval, "{0} < 0 ? -{1} - 1 : {0}", domain="iu", samples=_samples())
place_or_null = elementwise(
    "place_or_null", _place_or_null_eval,
    "{0} == {2} ? {1} : (({0} < 0 || {0} >= {1}) ? -{1} - 2 : {0})", domain="iu", samples=_samples(-1))
row_or_null = elementwise(
    "row_or_null", _row_or_null_eval,
    "{0} == {2} ? {1} : (({0} + {1} < 0 || {0} >= {1}) ? -{1} - 2 : ({0} < 0 ? {0} + {1} : {0}))", domain="iu",
    samples=_samples(-2))

NAMES = frozenset((place.name, place_or_null.name, row_or_null.name))


def checked(prim: Primitive, index: Node, n: int | Dim, *null: int) -> Node:
    """Return an int64 index into `n` places, after the check that `prim` makes."""
    size = expand_to(size_scalar(n, index.dtype), index.shape, tuple(range(index.ndim)))
    return prim(index, size, *(full(k, index.shape, index.dtype) for k in null))

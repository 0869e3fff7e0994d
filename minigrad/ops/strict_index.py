"""Indices stricter than NumPy's: places (not negative), and indices with a null value.

Each operation returns an index for a gather or a scatter. `eval` raises for a bad index; a kernel replaces it by an
index that the gather or scatter refuses. So the check costs a comparison in a loop, and every backend makes it, inside
every transform.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..families import elementwise
from ..graph import Node, full
from ..primitive import FIRST, ArrayNamespace, Primitive, Sample
from ..symbolic import Dim
from .broadcast import broadcast_along
from .constants import size_scalar
from .refusals import first_where


def _samples(*null: int) -> list[Sample]:
    index = np.array([[0, 2, 1], [1, *(null or (0,)), 3]])
    return [Sample((index, np.full((2, 3), 4), *(np.full((2, 3), k) for k in null)), order=0)]


def _are_places(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray, null: np.ndarray | int = -1) -> bool:
    """Tell whether every index is a place; False may mean that it is unknown."""
    if xp is not np:
        return False
    if not np.size(index):
        return True
    size, none = np.asarray(size), np.asarray(null)
    if any(size.strides + none.strides):  # several sizes
        return False
    return bool(none.flat[0] < 0) and all_below(np.asarray(index), int(size.flat[0]))


def all_below(index: np.ndarray, size: int) -> bool:
    """Tell whether every index is in ``range(size)``; False may mean that it is unknown.

    Read as unsigned, negative indices are larger than half the range of the dtype: one pass tests both ends.
    """
    return not index.size or (size <= 1 << 8 * index.itemsize - 1 and int(
        np.maximum.reduce(index.view(f"u{index.itemsize}"), axis=None)) < size)


def _strict(name: str, kernel: str, *null: int, wraps: bool = False, **attributes: Any) -> Primitive:
    """Declare a check of indices; `wraps`: negative ones count from the end. `null` is the samples' null index."""
    def evaluate(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray, *null: np.ndarray) -> np.ndarray:
        if _are_places(xp, index, size, *null):
            return index
        outside = ((index + size if wraps else index) < 0) | (index >= size)
        outside = outside & ~(index == null[0]) if null else outside
        if bad := first_where(xp, outside, index, size):
            raise IndexError(f"index {bad[1]} is out of range for an axis of size {bad[2]}")
        place = xp.where(index < 0, index + size, index) if wraps else index
        return xp.where(index == null[0], size, place) if null else place

    return elementwise(name, evaluate, kernel, domain="iu", raises="iu", samples=partial(_samples, *null),
                       **attributes)


# place(index, size) accepts indices that are not negative. The others map `null` to the place behind the last one;
# row_or_null counts other negative indices from the end, as NumPy does.
place = _strict("place", "{0} < 0 ? -{1} - 1 : {0}", picks=FIRST)
place_or_null = _strict("place_or_null", "{0} == {2} ? {1} : (({0} < 0 || {0} >= {1}) ? -{1} - 2 : {0})", -1)
row_or_null = _strict(
    "row_or_null", "{0} == {2} ? {1} : (({0} + {1} < 0 || {0} >= {1}) ? -{1} - 2 : ({0} < 0 ? {0} + {1} : {0}))", -2,
    wraps=True)

PLACES = {prim.name: prim for prim in (place, place_or_null, row_or_null)}
NAMES = frozenset(PLACES)
Reading = tuple[str, *tuple[object, ...]] | None  # the name of one of these and its null; None: NumPy's indices


def read(index: np.ndarray, size: int, reading: tuple[str, *tuple[object, ...]]) -> np.ndarray:
    """Map `index` into `size` elements by `reading`; null is the last element."""
    name, *null = reading
    places: np.ndarray = PLACES[name].eval(np, index, size - len(null), *null)
    return places


def checked(prim: Primitive, index: Node, n: int | Dim, *null: int) -> Node:
    """Return an int64 index into `n` places, checked by `prim`."""
    size = broadcast_along(size_scalar(n, index.dtype), index.shape, tuple(range(index.ndim)))
    return prim(index, size, *(full(k, index.shape, index.dtype) for k in null))

"""Indices that are stricter than NumPy's: places, which count from 0 alone, and indices of which one value means none.

Each returns an index for a gather or a scatter to read. Where it refuses an index, `eval` raises; a kernel cannot, so
there the index becomes one that whoever reads it refuses. So the check costs a comparison in a loop, and is made by
every backend, inside every transform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..families import elementwise
from ..graph import Node, full
from ..primitive import FIRST, ArrayNamespace, Primitive, Sample
from ..symbolic import Dim
from .broadcast import broadcast_along
from .constants import size_scalar
from .refusals import first_where


def _samples(*null: int) -> Callable[[], list[Sample]]:
    index = np.array([[0, 2, 1], [1, *(null or (0,)), 3]])
    return lambda: [Sample((index, np.full((2, 3), 4), *(np.full((2, 3), k) for k in null)), order=0)]


def _refuse(xp: ArrayNamespace, index: np.ndarray, outside: np.ndarray, size: np.ndarray) -> None:
    """Raise `IndexError` at the first index that is outside."""
    if bad := first_where(xp, outside, index, size):
        raise IndexError(f"index {bad[1]} is out of range for {bad[2]} places")


def _are_places(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray, null: np.ndarray | int = -1) -> bool:
    """Tell whether every index is a place, without the masks that find the first other one; False if it is unsure."""
    if xp is not np:
        return False
    if not np.size(index):
        return True
    size, none = np.asarray(size), np.asarray(null)
    if any(size.strides + none.strides):  # several sizes
        return False
    return bool(none.flat[0] < 0) and all_below(np.asarray(index), int(size.flat[0]))


def all_below(index: np.ndarray, size: int) -> bool:
    """Tell whether every index counts from 0 and is below `size`; False if it is unsure.

    As an unsigned number, a negative one is more than half of what its dtype holds: one pass finds both ends.
    """
    return not index.size or (size <= 1 << 8 * index.itemsize - 1 and int(
        np.maximum.reduce(index.view(f"u{index.itemsize}"), axis=None)) < size)


def _place_eval(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray) -> Any:
    if _are_places(xp, index, size):
        return index
    _refuse(xp, index, (index < 0) | (index >= size), size)
    return index


def _place_or_null_eval(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray, null: np.ndarray) -> Any:
    if _are_places(xp, index, size, null):
        return index
    none = index == null
    _refuse(xp, index, ((index < 0) | (index >= size)) & ~none, size)
    return xp.where(none, size, index)


def _row_or_null_eval(xp: ArrayNamespace, index: np.ndarray, size: np.ndarray, null: np.ndarray) -> Any:
    if _are_places(xp, index, size, null):
        return index
    none = index == null
    _refuse(xp, index, ((index + size < 0) | (index >= size)) & ~none, size)
    return xp.where(none, size, xp.where(index < 0, index + size, index))


# place(index, size): an index that is not negative. The others take `null` to the place behind the last one;
# row_or_null counts other negative indices from the end, as NumPy does.
place = elementwise("place", _place_eval, "{0} < 0 ? -{1} - 1 : {0}", domain="iu", raises="iu", picks=FIRST,
                    samples=_samples())
place_or_null = elementwise(
    "place_or_null", _place_or_null_eval,
    "{0} == {2} ? {1} : (({0} < 0 || {0} >= {1}) ? -{1} - 2 : {0})", domain="iu", raises="iu",
    samples=_samples(-1))
row_or_null = elementwise(
    "row_or_null", _row_or_null_eval,
    "{0} == {2} ? {1} : (({0} + {1} < 0 || {0} >= {1}) ? -{1} - 2 : ({0} < 0 ? {0} + {1} : {0}))", domain="iu",
    raises="iu", samples=_samples(-2))

PLACES = {prim.name: prim for prim in (place, place_or_null, row_or_null)}
NAMES = frozenset(PLACES)
Reading = tuple[str, *tuple[object, ...]] | None  # the name of one of these and its null; None: NumPy's indices


def read(index: np.ndarray, size: int, reading: tuple[str, *tuple[object, ...]]) -> np.ndarray:
    """Return an index into `size` elements, the last of which is the element of null, where there is one."""
    name, *null = reading
    places: np.ndarray = PLACES[name].eval(np, index, size - len(null), *null)
    return places


def checked(prim: Primitive, index: Node, n: int | Dim, *null: int) -> Node:
    """Return an int64 index into `n` places, after the check that `prim` makes."""
    size = broadcast_along(size_scalar(n, index.dtype), index.shape, tuple(range(index.ndim)))
    return prim(index, size, *(full(k, index.shape, index.dtype) for k in null))

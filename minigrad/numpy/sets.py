"""Sets of values: unique ones, unions and differences, counts of integers, trimmed zeros.

The data determine the sizes of the results, as those of selections (`minigrad.select`): one for each example of a
batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import full
from ..ops.index import scatter_add
from ..ops.strict_index import checked, place
from ..sizes import Size, shown
from ..symbolic import Dim, size_of
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import number
from .arguments import Axes, as_axes, as_axis, as_shape, counted
from .dispatch import implements
from .elementwise import where
from .joining import concatenate
from .manipulation import moveaxis, ravel, reshape
from .searching import isin
from .selections import coordinates, sized
from .sorting import argsort, lexsort

_INT = np.dtype(np.int64)


def _beside(rows: Array, step: int) -> tuple[Array, Array]:
    """Return the row before (-1) or after (1) each row, itself at the end, and whether there is one."""
    n = shown(rows._node.shape[0])
    positions = as_array(counted(rows._node.shape[0]))
    end = 0 if step < 0 else as_array(n) - 1
    return rows[where(positions == end, positions, positions + step)], positions != end


def _equal(a: Array, b: Array, equal_nan: bool) -> Array:
    same = a == b
    if a.dtype.kind == "f" and equal_nan:
        same = same | (np.isnan(a) & np.isnan(b))
    return same.all(axis=tuple(range(1, a.ndim)))


class _Unique:
    """The unique rows of an array, in order.

    Attributes
    ----------
    order : Array
        The positions that sort the rows; equal rows keep their order.
    rows : Array
        The sorted rows.
    first : Array
        Whether each sorted row is the first of its value.
    kept : Array
        The positions of these among the sorted rows.
    """

    def __init__(self, rows: Array, equal_nan: bool = True):
        if rows.ndim == 1:
            self.order = argsort(rows)
        else:
            self.order = lexsort([rows[:, k] for k in reversed(range(number(rows._node.shape[1])))])
        self.rows = rows[self.order]
        before, present = _beside(self.rows, -1)
        self.first = ~(present & _equal(self.rows, before, equal_nan))
        (self.kept,) = coordinates(self.first._node)

    def inverse(self) -> Array:
        """Return the position of each row's value among the unique ones."""
        return (self.first.cumsum() - 1)[argsort(self.order)]

    def counts(self) -> Array:
        """Return the number of rows of each value."""
        return TABLE[np.zeros_like](self.kept).at[self.first.cumsum() - 1].add(1)


@implements(np.unique)
def unique(ar: ArrayLike, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
           axis: int | None = None, *, equal_nan: bool = True, sorted: bool = True) -> Array | tuple[Array, ...]:
    """Return the sorted unique values, or rows along `axis`; gradients flow to the first element of each value."""
    x = as_array(ar)
    if axis is None or x.ndim == 1:
        flat = ravel(x)
    else:
        a = as_axis(axis, x.ndim, "unique")
        moved = moveaxis(x, a, 0)
        flat = reshape(moved, (shown(moved._node.shape[0]), number(size_of(moved._node.shape[1:]))))
        equal_nan = False
    found = _Unique(flat, equal_nan)
    values = found.rows[found.kept]
    if flat.ndim > 1:
        values = moveaxis(reshape(values, (values.shape[0], *moved.shape[1:])), 0, a)
    results = [values]
    if return_index:
        results.append(found.order[found.kept])
    if return_inverse:
        inverse = found.inverse()
        results.append(reshape(inverse, x.shape) if axis is None else inverse)
    if return_counts:
        results.append(found.counts())
    return tuple(results) if len(results) > 1 else values


_RESULTS: dict[str, type[tuple[Array, ...]]] = {
    name: type(getattr(np, name)(np.zeros(1))) for name in ("unique_all", "unique_counts", "unique_inverse")}


def _enter(function: Callable[..., object], **flags: bool) -> None:
    name = function.__name__

    @implements(function, doc=f"Return ``np.{name}``: NaNs differ from each other.")
    def of_values(x: ArrayLike) -> object:
        results = unique(x, **flags, equal_nan=False)
        return _RESULTS[name](*results) if name in _RESULTS else results


_enter(np.unique_values)
_enter(np.unique_counts, return_counts=True)
_enter(np.unique_inverse, return_inverse=True)
_enter(np.unique_all, return_index=True, return_inverse=True, return_counts=True)


def _vector(x: ArrayLike, unique_already: bool) -> Array:
    x = ravel(as_array(x))
    return x if unique_already else _values(x)


def _values(x: Array) -> Array:
    found = _Unique(x)
    return found.rows[found.kept]


@implements(np.union1d)
def union1d(ar1: ArrayLike, ar2: ArrayLike) -> Array:
    """Return the sorted values of either array."""
    return _values(concatenate([ar1, ar2], None))


@implements(np.intersect1d)
def intersect1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False, return_indices: bool = False
                ) -> Array | tuple[Array, ...]:
    """Return the sorted values of both arrays."""
    first, second = (_Unique(ravel(as_array(x))) for x in (ar1, ar2))
    values, others = first.rows[first.kept], second.rows[second.kept]
    both = concatenate([values, others])
    order = argsort(both)
    rows = both[order]
    after, present = _beside(rows, 1)
    (kept,) = coordinates((present & (rows == after))._node)
    if not return_indices:
        return rows[kept]
    places = order[kept], order[kept + 1] - as_array(values.shape[0])
    return rows[kept], *(found.order[found.kept][k] for found, k in zip((first, second), places, strict=True))


@implements(np.setxor1d)
def setxor1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False) -> Array:
    """Return the sorted values of one array alone."""
    both = concatenate([_vector(ar1, assume_unique), _vector(ar2, assume_unique)])
    rows = both[argsort(both)]
    twins = [present & (rows == other) for other, present in (_beside(rows, step) for step in (-1, 1))]
    return rows[~(twins[0] | twins[1])]


@implements(np.setdiff1d)
def setdiff1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False) -> Array:
    """Return the values of the first array that the second one lacks, sorted unless they are unique already."""
    x = _vector(ar1, assume_unique)
    return x[~isin(x, ar2)]


@implements(np.bincount)
def bincount(x: ArrayLike, /, weights: ArrayLike | None = None, minlength: int | Size = 0) -> Array:
    """Return the number of elements, or the sum of their weights, of each value from 0 to the largest.

    With `minlength` the result has that length: the program checks that every value is below it.
    """
    bins = as_array(x)
    if bins.ndim != 1 or bins.dtype.kind not in "iub":
        raise DtypeError(at_user_line(f"np.bincount of {bins._node.type}: needs one axis of integers"))
    each = full(1, bins._node.shape, _INT) if weights is None else as_array(weights).astype(float)._node
    if each.shape != bins._node.shape:
        raise ShapeError(at_user_line(f"np.bincount of {bins._node.type} with weights {each.type}: needs a weight for "
                                      "each element"))
    bins = bins.astype(int) + 0  # numbers, also where an index into an axis has them
    index = bins._node
    size: int | Dim
    (size,) = as_shape(minlength)
    if size == 0:
        index, size = sized(index, bins.max(initial=-1) + 1)
    return Array(scatter_add(each, checked(place, index, size), shape=(size,)))


@implements(np.trim_zeros)
def trim_zeros(filt: ArrayLike, trim: str = "fb", axis: Axes = None) -> Array:
    """Return an array without its first and last zeros, along each axis."""
    x, ends = as_array(filt), set(trim.lower())
    if not ends <= set("fb"):
        raise ShapeError(at_user_line(f"np.trim_zeros with trim={trim!r}: it is made of the letters f and b"))
    present, cut = x != 0, []
    for a in range(x.ndim):
        if a not in as_axes(axis, x.ndim, "trim_zeros"):
            cut.append(slice(None))
            continue
        along = present.any(axis=tuple(b for b in range(x.ndim) if b != a))
        front, back = ((v.cumsum() == 0).sum() for v in (along, along[::-1]))
        cut.append(slice(front if "f" in ends else None, as_array(x.shape[a]) - back if "b" in ends else None))
    return x[tuple(cut)]

"""Segment reductions (`segment_sum` and the like), and `gather` with a null index.

They are functions of one example. On plain arrays they run in NumPy. On traced arrays they are scatters and gathers,
whose batching rules take all examples of a ragged batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .combiners import MAX, MIN
from .errors import DtypeError, IndexRangeError, ShapeError, at_user_line
from .graph import Node, full
from .ops import elementwise as ew
from .ops import index as indexing
from .ops.accumulators import accumulator
from .ops.constants import const, iota
from .ops.scatter import scatter_max, scatter_min
from .ops.shape import concatenate
from .ops.strict_index import checked, place, place_or_null, row_or_null
from .ops.sum_rows import sum_rows
from .sizes import Size
from .tracebacks import boundary
from .traced_array import Array, ArrayLike, as_array
from .tracing import guard_equal_shapes

F = TypeVar("F", bound=Callable[..., object])

_SECTIONS = """
    Parameters
    ----------
    values : array (E, ...)
        The rows.
    index : int array (E,)
        The segment id of each row.
    size : int
        The number of segments: an int, or ``x.shape[0]`` of an array with a row per segment.
    null : int, optional
        Rows with this index are ignored.{more}

    Returns
    -------
    array (size, ...)
        {dtype}

    Raises
    ------
    IndexError
        If an index is negative or not below `size` (and not `null`), inside and outside of programs.

    Examples
    --------
    >>> values, index = np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2])
    {examples}
    """


def _document(examples: str, dtype: str = "Of the dtype of `values`.", more: str = "") -> Callable[[F], F]:
    """Add the sections that segment reductions share to a docstring."""

    def add(function: F) -> F:
        sections = _SECTIONS.format(examples=examples.strip(), dtype=dtype, more=more)
        function.__doc__ = f"{function.__doc__}\n{sections}"
        return function

    return add


def _traced(*values: object) -> bool:
    return any(isinstance(v, (Array, Size)) for v in values)


def _scatter(name: str, scatter: Callable[..., Node], values: ArrayLike, index: ArrayLike, size: int | Size,
             null: int | None) -> Array:
    """Reduce rows by a scatter; null rows go to a segment of their own, which is dropped."""
    u, i = as_array(values)._node, as_array(index)._node
    n = size.dim if isinstance(size, Size) else int(size)
    if i.dtype.kind not in "iu":
        raise DtypeError(at_user_line(f"{name}: the index must be of integers, got {i.type}"))
    if not guard_equal_shapes(i.shape, u.shape[:i.ndim]):
        raise ShapeError(at_user_line(f"{name}: the index {i.type} does not fit the values {u.type}: it has one "
                                      "segment id for each row"))
    u = ew.cast_to(u, np.dtype(np.int64)) if u.dtype.kind == "b" else u
    i = ew.cast_to(i, np.dtype(np.int64))
    if i.prim is const and isinstance(n, int):
        _check_range(name, i.params["value"], n, null)
    if null is None:
        return Array(scatter(u, checked(place, i, n), shape=(n, *u.shape[i.ndim:])))
    i = checked(place_or_null, i, n, null)
    return Array(indexing.gather(scatter(u, i, shape=(n + 1, *u.shape[i.ndim:])), iota(size=n)))


def _check_range(name: str, index: np.ndarray, n: int, null: int | None) -> None:
    """Raise `IndexRangeError` unless each index is a segment id, or `null`."""
    bad = index[((index < 0) | (index >= n)) & (True if null is None else index != null)]
    if bad.size:
        raise IndexRangeError(at_user_line(f"{name}: index {bad[0]} is out of range for {n} segments"
                                           + (". If it means none, say null=-1" if bad[0] == -1 else "")))


def _plain(name: str, values: ArrayLike, index: ArrayLike, size: int | Size, null: int | None
           ) -> tuple[np.ndarray, np.ndarray, int]:
    u, i, n = np.asarray(values), np.asarray(index), int(size)
    if i.dtype.kind not in "iu" and i.size:
        raise DtypeError(at_user_line(f"{name}: the index must be of integers, got {i.dtype}"))
    if i.shape != u.shape[:i.ndim]:
        raise ShapeError(at_user_line(f"{name}: the index of shape {list(i.shape)} does not fit the values "
                                      f"{list(u.shape)}: it has one segment id for each row"))
    i = i.astype(np.int64, copy=False)
    _check_range(name, i, n, null)
    return (u, i, n) if null is None else (u[i != null], i[i != null], n)


@boundary
@_document("""
    >>> mg.segment_sum(values, index, 3)
    array([1., 0., 6.])
    >>> mg.segment_sum(values, np.array([0, -1, 2]), 3, null=-1)
    array([1., 0., 4.])
    """, dtype="Of the dtype of `values`; int64 for bools.")
def segment_sum(values: ArrayLike, index: ArrayLike, size: int | Size, null: int | None = None) -> Any:
    """Add up the rows of each segment."""
    if _traced(values, index, size):
        return _scatter("segment_sum", indexing.scatter_add, values, index, size, null)
    u, i, n = _plain("segment_sum", values, index, size, null)
    out = np.empty((n, *u.shape[i.ndim:]), np.int64 if u.dtype.kind == "b" else u.dtype)
    return sum_rows(u, (i,), out)


@boundary
@_document("""
    >>> mg.segment_mean(values, index, 3)
    array([1., 0., 3.])
    """, dtype="Of the dtype of `values`; float64 for integers and bools.")
def segment_mean(values: ArrayLike, index: ArrayLike, size: int | Size, null: int | None = None) -> Any:
    """Average the rows of each segment; the mean of an empty segment is 0."""
    values = values if isinstance(values, Array) else np.asarray(values)
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    total = segment_sum(values.astype(accumulator(dtype)) if values.dtype.kind == "f" else values, index, size, null)
    count = np.maximum(segment_sum(np.ones_like(index, dtype=np.int64), index, size, null), 1)
    count = count.astype(accumulator(dtype)).reshape(*count.shape, *(1,) * (total.ndim - count.ndim))
    return (total.astype(accumulator(dtype)) / count).astype(dtype)


def _extreme(name: str, largest: bool) -> Callable[..., Any]:
    def function(values: ArrayLike, index: ArrayLike, size: int | Size, null: int | None = None, initial: Any = None
                 ) -> Any:
        out: Any
        if _traced(values, index, size):
            out = _scatter(name, scatter_max if largest else scatter_min, values, index, size, null)
        else:
            u, i, n = _plain(name, values, index, size, null)
            out = np.full((n, *u.shape[i.ndim:]), (MAX if largest else MIN).identity(u.dtype), u.dtype)
            (np.maximum if largest else np.minimum).at(out, i, u)
        return out if initial is None else (np.maximum if largest else np.minimum)(out, initial)

    word, empty = ("largest", "[  1., -inf,   4.]") if largest else ("smallest", "[ 1., inf,  2.]")
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Take the {word} row of each segment, element by element; ties share the gradient."
    return _document(f"""
    >>> mg.{name}(values, index, 3)
    array({empty})
    >>> mg.{name}(values, index, 3, initial=3.0)
    array({"[3., 3., 4.]" if largest else "[1., 3., 2.]"})
    """, more=f"""
    initial : number, optional
        A further value of each segment. Without it an empty segment holds {'-inf' if largest else 'inf'}, or the
        {'least' if largest else 'largest'} integer.""")(boundary(function))


segment_max = _extreme("segment_max", largest=True)
segment_min = _extreme("segment_min", largest=False)


@boundary
def segment_softmax(values: ArrayLike, index: Array | np.ndarray, size: int | Size, null: int | None = None) -> Any:
    """Return the softmax of the rows within each segment: its weights add up to 1.

    Parameters
    ----------
    values : array (E, ...), floating
        The logits.
    index : int array (E,)
        The segment id of each row.
    size : int
        The number of segments.
    null : int, optional
        Rows with this index belong to no segment; their weight is 0.

    Returns
    -------
    array (E, ...)
        The weights, of the dtype of `values`.

    Raises
    ------
    IndexError
        If an index is negative or not below `size` (and not `null`), inside and outside of programs.

    Examples
    --------
    >>> mg.segment_softmax(np.array([0.0, 1.0, 1.0]), np.array([0, 2, 2]), 3)
    array([1. , 0.5, 0.5])
    """
    top = segment_max(values, index, size, null)
    if isinstance(top, Array):
        top = Array(ew.stop_gradient(top._node))
    weights: Any = np.exp(values - gather(top, index, null) if null is not None else values - top[index])
    if null is not None:
        none = (index == null).reshape(*index.shape, *(1,) * (weights.ndim - index.ndim))
        weights = np.where(none, np.zeros_like(weights), weights)
    total = segment_sum(weights, index, size, null)
    if null is None:
        return weights / total[index]
    return weights / np.where(none, np.ones_like(weights), gather(total, index, null))


@boundary
def gather(values: ArrayLike, index: ArrayLike, null: int = -1) -> Any:
    """Return the rows ``values[index]``, with zeros for the null index.

    Parameters
    ----------
    values : array (N, ...)
    index : int array
        Negative indices other than `null` count from the last row, as in NumPy.
    null : int
        The index that stands for no row.

    Returns
    -------
    array
        Of shape ``index.shape + values.shape[1:]`` and the dtype of `values`.

    Raises
    ------
    IndexError
        If an index is out of range.

    Examples
    --------
    >>> mg.gather(np.array([10.0, 20.0]), np.array([1, -1, 0]))
    array([20.,  0., 10.])
    """
    if not _traced(values, index):
        values, index = np.asarray(values), np.asarray(index)
        none = index == null
        if not len(values):  # no row to stand in for none
            values = np.zeros((1, *values.shape[1:]), values.dtype)
            if not none.all():
                raise IndexRangeError(at_user_line("gather: an index, but there are no rows"))
        rows = values[np.where(none, 0, index)]
        return np.where(none.reshape(*none.shape, *(1,) * (rows.ndim - none.ndim)), np.zeros_like(rows), rows)
    x, i = as_array(values)._node, ew.cast_to(as_array(index)._node, np.dtype(np.int64))
    # The null index reads a row of zeros behind the others.
    padded = concatenate(x, full(0, (1, *x.shape[1:]), x.dtype), axis=0)
    return Array(indexing.gather(padded, checked(row_or_null, i, x.shape[0], null)))

"""Ragged axes, and the types of fields that have them.

An `Axis` names a size that differs between examples. A `FieldType` is the type of a schema's field: ``f32[node, 16]``,
or ``index(node)[edge]``, integers that index the rows of another axis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from ..errors import BatchError, ShapeError, at_user_line
from ..graph import ArrayType, short_dtype
from ..immutable import cached_property
from ..tracebacks import boundary

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True)
class Axis:
    """A ragged axis: its size differs between examples. Two axes of one name are the same axis.

    Attributes
    ----------
    name : str

    Examples
    --------
    >>> mg.axis("node") == mg.axis("node")
    True
    """

    name: str

    def __repr__(self) -> str:
        return self.name


@boundary
def axis(name: str) -> Axis:
    """Return the ragged axis called `name`, for array types such as ``mg.f32[node, 16]``.

    Parameters
    ----------
    name : str
        A Python identifier. Axes of one name are equal.

    Returns
    -------
    Axis

    Raises
    ------
    BatchError
        If `name` is not an identifier.

    Examples
    --------
    >>> node = mg.axis("node")
    >>> print(mg.index(node)[node, 3])
    index(node)[node, 3]
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise BatchError(at_user_line(f"axis({name!r}): the name of an axis is a Python identifier"))
    return Axis(name)


SizeOrAxis = SupportsIndex | Axis


@dataclass(frozen=True)
class FieldType:
    """The type of a field of an example.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int or Axis
    target : Axis or None
        The axis whose rows the integers of this field index.
    null : int or None
        The index of no row, if the field may hold it.
    shared : bool
        Whether all examples of a batch share one value.
    counts : Axis or None
        The axis whose size this field holds.
    blank : bool
        Whether the field has a number of elements but no contents, and takes no memory.
    """

    dtype: np.dtype
    shape: tuple[int | Axis, ...]
    target: Axis | None = None
    null: int | None = None
    shared: bool = False
    counts: Axis | None = None
    blank: bool = False

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The ragged axes of the shape, in order: those of the packed rows, the last one fastest."""
        return tuple(n for n in self.shape if isinstance(n, Axis))

    @cached_property
    def dense(self) -> tuple[int, ...]:
        """The fixed sizes of the shape, in order."""
        return tuple(n for n in self.shape if not isinstance(n, Axis))

    @cached_property
    def _order(self) -> tuple[int, ...]:
        return (*(i for i, n in enumerate(self.shape) if isinstance(n, Axis)),
                *(i for i, n in enumerate(self.shape) if not isinstance(n, Axis)))

    @cached_property
    def rows_lead(self) -> bool:
        """Whether an example's array is packed as it is: its one ragged axis is the first."""
        return len(self.axes) == 1 and self._order[0] == 0

    def pack(self, value: np.ndarray) -> np.ndarray:
        """Return one example's array as rows: ragged axes in front and merged, then the dense ones."""
        if self.rows_lead:
            return value
        n = math.prod(value.shape[i] for i in self._order[:len(self.axes)])
        return value.transpose(self._order).reshape(n, *self.dense)

    def unpack(self, rows: np.ndarray, sizes: Mapping[Axis, int]) -> np.ndarray:
        """Undo `pack`, given the sizes of the example's axes."""
        if self.rows_lead:
            return rows
        full = rows.reshape(*(sizes[a] for a in self.axes), *self.dense)
        return full.transpose(np.argsort(self._order))

    def __str__(self) -> str:
        if self.counts is not None:
            return f"count({self.counts})"
        shape = "[" + ", ".join(map(str, self.shape)) + "]"
        if self.target is None:
            text = short_dtype(self.dtype) + shape
        else:
            null = f", null={self.null}" if self.null is not None else ""
            dtype = f", dtype={self.dtype}" if self.dtype != np.int64 else ""
            text = f"index({self.target}{null}{dtype})" + shape
        return f"shared({text})" if self.shared else text


class IndexSpec:
    """Indices into the rows of an axis, without a shape; made by `index`."""

    def __init__(self, target: Axis, null: int | None, dtype: np.dtype):
        self.target, self.null, self.dtype = target, null, dtype

    def __getitem__(self, shape: SizeOrAxis | tuple[SizeOrAxis, ...]) -> FieldType:
        return FieldType(self.dtype, field_shape(shape), self.target, self.null)

    def __repr__(self) -> str:
        return f"<indices into {self.target}>"


@boundary
def index(axis: Axis, null: int | None = None, dtype: DTypeLike = np.int64) -> IndexSpec:
    """Return the type of indices into the rows of `axis`, to be given a shape.

    ``mg.index(node)[edge]`` is the type of one index per edge. `batch` adds the rows of the preceding examples to each
    index, so that it names the same row in the packed array; `vmap` hands an example its own indices, from 0.

    Parameters
    ----------
    axis : Axis
    null : -1, optional
        Declares -1 as the index of no row. It stays -1 in a batch. `gather` reads zeros there; the segment functions
        with ``null=-1`` ignore it. Without `null`, a negative index is an error.
    dtype : dtype
        int64, or int32 for half the memory: the rows of a batch are then fewer than 2**31.

    Returns
    -------
    IndexSpec
        Its brackets take the shape, ``[()]`` for one integer, and return a `FieldType`.

    Raises
    ------
    BatchError
        If `axis` is not an `Axis`, `null` is another number, or `dtype` another dtype.

    Notes
    -----
    Inside `vmap`, ``x[i]`` with a nullable index `i` is an error. The fields of a `Batch` are plain arrays, and NumPy
    reads -1 as the last row of the packed array: ``b.x[b.parent]`` has the last row of the last example where a parent
    is missing. Write ``mg.gather(b.x, b.parent)``.

    Examples
    --------
    >>> node = mg.axis("node")
    >>> @mg.example
    ... class Tree:
    ...     x: mg.f64[node]
    ...     parent: mg.index(node, null=-1)[node]
    >>> b = mg.batch([Tree([1.0, 2.0], [-1, 0]), Tree([3.0, 4.0], [1, -1])])
    >>> b.parent
    array([-1,  0,  3, -1])
    >>> mg.gather(b.x, b.parent)
    array([0., 1., 4., 0.])
    """
    if not isinstance(axis, Axis):
        raise BatchError(at_user_line(f"index({axis!r}): an index points into an axis, made by mg.axis(name)"))
    if null not in (None, -1):
        raise BatchError(at_user_line(f"index({axis}, null={null!r}): the null index is -1"))
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.int64), np.dtype(np.int32)):
        raise BatchError(at_user_line(f"index({axis}, dtype={kind}): an index is of int64 or int32"))
    return IndexSpec(axis, null, kind)


@boundary
def count(axis: Axis) -> FieldType:
    """Return the type of a field that holds the size of `axis`, for schemas where no array has that axis.

    Parameters
    ----------
    axis : Axis

    Returns
    -------
    FieldType
        Of one int per example; in a batch, the lengths (B,).

    Raises
    ------
    BatchError
        If `axis` is not an `Axis`.

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Links:
    ...     n_node: mg.count(node)
    ...     to: mg.index(node)[edge]
    >>> mg.batch([Links(3, [0, 2]), Links(2, [1])]).n_node
    array([3, 2])
    """
    if not isinstance(axis, Axis):
        raise BatchError(at_user_line(f"count({axis!r}): it counts an axis, made by mg.axis(name)"))
    return FieldType(np.dtype(np.int64), (), counts=axis)


@boundary
def shared(kind: ArrayType | FieldType) -> FieldType:
    """Return the type of a field with one value for all examples, such as a table; a batch holds it once.

    Parameters
    ----------
    kind : array type
        A type of fixed shape, such as ``mg.f32[3]``.

    Returns
    -------
    FieldType

    Raises
    ------
    BatchError
        If `kind` has a ragged axis, or is an index or a count. `batch` raises it where examples differ in the value.

    Examples
    --------
    >>> word = mg.axis("word")
    >>> @mg.example
    ... class Sentence:
    ...     ids: mg.i64[word]
    ...     table: mg.shared(mg.f64[3])
    >>> mg.batch([Sentence([0, 1], np.ones(3)), Sentence([2], np.ones(3))]).table
    array([1., 1., 1.])
    """
    kind = as_field(kind, "shared")
    if kind.axes or kind.target is not None or kind.counts is not None:
        raise BatchError(at_user_line(f"shared({kind}): a field with a ragged axis, an index or a count is not shared"))
    return replace(kind, shared=True)


def field_shape(shape: SizeOrAxis | tuple[SizeOrAxis, ...]) -> tuple[int | Axis, ...]:
    """Return the contents of a type's brackets as a tuple of sizes and axes."""
    sizes: list[int | Axis] = []
    for n in shape if isinstance(shape, tuple) else (shape,):
        if not isinstance(n, Axis) and (not hasattr(n, "__index__") or operator.index(n) < 0):
            raise ShapeError(at_user_line(f"a shape holds sizes and axes, got {n!r}"))
        sizes.append(n if isinstance(n, Axis) else operator.index(n))
    return tuple(sizes)


def as_field(kind: object, name: str) -> FieldType:
    """Return the type of a field, from the annotation in a schema."""
    if isinstance(kind, FieldType):
        return kind
    if isinstance(kind, ArrayType):
        shape = tuple(n for n in kind.shape if isinstance(n, int))
        if len(shape) == kind.ndim:
            return FieldType(kind.dtype, shape)
    raise BatchError(at_user_line(
        f"{name}: expected the type of a field, got {kind!r}. Write mg.f32[node, 16], mg.index(node)[edge], "
        "mg.count(node), or mg.shared(mg.f32[3]); an index needs its shape: mg.index(node)[()] is one integer"))

"""Batches of examples of different size: packed arrays, with indices that count the packed rows.

An array with a ragged axis is *packed*: the rows of all examples follow each other in one array (ΣN, ...). An array
without one is *stacked* (B, ...); a shared field is held once. Lengths per axis delimit the rows of each example.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..graph import ArrayType, PyTree
from ..tracebacks import boundary
from .axes import Axis, FieldType, as_field
from .nested import batch_schema
from .schema import EVERYWHERE, Schema, check_example, out_of_range, schema_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

_NOTHING = np.zeros(1, bool)


class Batch:
    """A batch of examples; made by `batch`.

    Each field of the schema is an attribute: the packed (ΣN, ...), stacked (B, ...) or shared array, with indices into
    the packed rows. A batch is a pytree that traced functions take as an argument; `vmap` maps over its examples.
    ``batch[k]`` is example k, ``batch[indices]`` the batch of several examples, and iteration yields the examples.

    Attributes
    ----------
    schema : Schema
    lengths : mapping of Axis to array (B,)
        The size of each axis in every example. An axis may be given by its name.
    offsets : mapping of Axis to array (B + 1,)
        The first row of each example: example k has rows ``offsets[k]:offsets[k + 1]``.
    segment_ids : mapping of Axis to array (ΣN,)
        The example of each row.

    Examples
    --------
    >>> word = mg.axis("word")
    >>> b = mg.batch([np.arange(2.0), np.arange(3.0)], mg.f64[word])
    >>> b
    <batch of arrays: 2 examples, 5 words>
    >>> b.values, b.lengths[word], b.offsets[word], b.segment_ids[word]
    (array([0., 1., 0., 1., 2.]), array([2, 3]), array([0, 2, 5]), array([0, 0, 1, 1, 1]))
    >>> b[1]
    array([0., 1., 2.])
    """

    __slots__ = ("_fields", "_ids", "_lengths", "_offsets", "_opened", "_pairs", "_size", "schema")

    def __init__(self, schema: Schema, fields: dict[str, Any], lengths: tuple[Any, ...],
                 ids: Sequence[Any] | None = None, pairs: Sequence[Any] | None = None, size: int | None = None):
        self.schema = schema
        self._fields = fields
        self._lengths = lengths  # one array (B,) per axis of the schema
        self._ids = ids
        self._pairs = pairs
        self._offsets: list[np.ndarray] | None = None
        self._size = size
        self._opened: tuple[Any, ...] | None = None  # the call that reopens it, if its arrays are in files

    @classmethod
    def of_leaves(cls, schema: Schema, leaves: Mapping[str, Any]) -> Batch:
        """Return the batch of arrays that are named as in `Schema.leaf_types`; a field without array is absent."""
        lengths, ids = ([leaves[schema.leaf_name(kind, a)] for a in schema.axes] for kind in ("lengths", "segment_ids"))
        return cls(schema, {n: leaves.get(n) for n, t in schema.fields.items() if not t.counts}, tuple(lengths), ids,
                   [leaves[schema.leaf_name("blocks", *pair)] for pair in schema.axis_pairs])

    def leaves(self) -> dict[str, Any]:
        """Return the arrays, named as in `Schema.leaf_types`; None for an absent field."""
        arrays = (*self._fields.values(), *self._lengths, *self._segments(), *self._witnesses())
        return dict(zip(self.schema.leaf_types, arrays, strict=True))

    # -- copies ----------------------------------------------------------------------------------------------

    def __copy__(self) -> Batch:
        return Batch(self.schema, dict(self._fields), self._lengths, self._ids, self._pairs, self._size)

    def __deepcopy__(self, memo: dict[int, object]) -> Batch:
        fields = {n: v if self.schema.fields[n].blank else copy.deepcopy(v, memo) for n, v in self._fields.items()}
        return Batch(self.schema, fields, copy.deepcopy(self._lengths, memo), self._ids, self._pairs, self._size)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened is not None:
            return self._opened[0], self._opened[1:]
        fields = {n: len(v) if v is not None and self.schema.fields[n].blank else v for n, v in self._fields.items()}
        return _again, (self.schema, fields, self._lengths, self._size)

    # -- its arrays ------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "schema":  # an object before __init__ lacks them
            raise AttributeError(name)
        if name in self._fields:
            return self._fields[name]
        if (t := self.schema.fields.get(name)) is not None and t.counts:
            return self.lengths[t.counts]
        raise AttributeError(f"a batch of {self.schema.name} has no field {name!r}; it has "
                             f"{', '.join(self.schema.names)}")

    @property
    def lengths(self) -> AxisMap:
        """The size of each axis in every example: (B,)."""
        return AxisMap(self.schema.axes, self._lengths)

    @property
    def offsets(self) -> AxisMap:
        """The first row of each example, and the number of all rows: (B + 1,)."""
        if self._offsets is None:
            self._offsets = [offsets_of(n) for n in self._lengths]
        return AxisMap(self.schema.axes, self._offsets)

    @property
    def segment_ids(self) -> AxisMap:
        """The example of each row: (ΣN,)."""
        return AxisMap(self.schema.axes, self._segments())

    @property
    def values(self) -> Any:
        """The packed array (ΣN, ...) of a batch whose examples are arrays."""
        if self.schema.cls is not None:
            raise AttributeError(f"a batch of {self.schema.name} has no values of its own, but its fields: "
                                 f"{', '.join(self.schema.names)}")
        return self._fields["value"]

    def _segments(self) -> Sequence[Any]:
        """Return the segment ids of each axis."""
        if self._ids is None:
            every = np.arange(len(self))
            self._ids = [np.repeat(every, n) for n in self._lengths]
        return self._ids

    def _witnesses(self) -> Sequence[Any]:
        """Return an array without memory per pair of axes, of the number of elements of all blocks of the pair.

        A compiled program reads its sizes, those of blocks included, from the shapes of its arguments.
        """
        if self._pairs is None:
            self._pairs = [_nothing(int(a @ b)) for a, b in itertools.combinations_with_replacement(self._lengths, 2)]
        return self._pairs

    def __len__(self) -> int:
        if self._size is None:
            stacked = (v for n, v in self._fields.items()
                       if v is not None and not (t := self.schema.fields[n]).axes and not t.shared)
            self._size = len(next(itertools.chain(self._lengths, stacked)))
        return self._size

    def __repr__(self) -> str:
        if not all(isinstance(v, np.ndarray) for v in (*self._lengths, *self._fields.values()) if v is not None):
            return f"<traced batch of {self.schema.name}>"
        counts = [("example", len(self)), *((str(a), int(n.sum())) for a, n in self.lengths.items())]
        words = [f"{n} {name if n == 1 or name.endswith('s') else f'{name}s'}" for name, n in counts]
        return f"<batch of {self.schema.name}: {', '.join(words)}>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    # -- examples --------------------------------------------------------------------------------------------

    def unbatch(self) -> list[PyTree]:
        """Return the examples: the exact inverse of `batch`, in new arrays.

        Returns
        -------
        list
            Instances of the schema's class, or arrays.

        Examples
        --------
        >>> word = mg.axis("word")
        >>> mg.batch([np.ones(2), np.zeros(1)], mg.f64[word]).unbatch()
        [array([1., 1.]), array([0.])]
        """
        size = len(self)
        columns: dict[str, Sequence[Any]] = {}
        for name, t in self.schema.fields.items():
            value = self._fields.get(name)
            if t.counts:
                columns[name] = self.lengths[t.counts].tolist()
            elif value is None or t.shared:
                columns[name] = [None if value is None else value.copy()] * size
            else:
                columns[name] = self._split(value, t)
        sizes = list(zip(*(n.tolist() for n in self._lengths), strict=True)) if self._lengths else [()] * size
        out = []
        for k in range(size):
            example = self.schema.make({n: c[k] for n, c in columns.items()})
            if self.schema.cls is not None:
                object.__setattr__(example, "_sizes", sizes[k])
            out.append(example)
        return out

    def _split(self, value: np.ndarray, t: FieldType) -> Sequence[np.ndarray]:
        local = value if t.blank else value.copy()
        if t.target is not None:
            shift_indices(local, -self._per_row(t, self.offsets[t.target][:-1]), t.null)
        if not t.axes:
            return list(local)
        ends = np.cumsum(self._rows(t)).tolist()
        parts = [local[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        if t.rows_lead:
            return parts
        lengths = {a: self.lengths[a].tolist() for a in t.axes}
        return [t.unpack(p, {a: n[k] for a, n in lengths.items()}) for k, p in enumerate(parts)]

    def _rows(self, t: FieldType) -> np.ndarray:
        """Return the number of rows of a field in each example."""
        rows = self.lengths[t.axes[0]] if t.axes else np.ones(len(self), np.int64)
        for a in t.axes[1:]:
            rows = rows * self.lengths[a]
        return rows

    def _begins(self, t: FieldType) -> np.ndarray:
        """Return the first row of each example in a field."""
        return self.offsets[t.axes[0]] if len(t.axes) == 1 else offsets_of(self._rows(t))

    def _per_row(self, t: FieldType, values: np.ndarray) -> np.ndarray:
        """Return a value per example (B,) at each row of a field, in a shape that broadcasts with the field's."""
        values = np.repeat(values, self._rows(t)) if t.axes else values
        return values.reshape(-1, *[1] * len(t.dense))

    def __getitem__(self, key: ArrayLike | slice) -> PyTree:
        """Return an example, or the batch of several.

        Parameters
        ----------
        key : int, slice, bool array (B,), or int array
            An int selects one example; others select a batch of them. Negative positions count from the last one.

        Raises
        ------
        BatchError
            If `key` is of another kind, or names an example that does not exist.
        """
        size = len(self)
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            if not -size <= key < size:
                raise BatchError(at_user_line(f"example {key} of a batch of {size}"))
            return self._take(np.array([key % size])).unbatch()[0]
        if isinstance(key, slice):
            return self._take(np.arange(size)[key])
        which = np.asarray(key)
        if which.dtype == bool:
            if which.shape != (size,):
                raise BatchError(at_user_line(f"a mask of shape {list(which.shape)} for a batch of {size} examples"))
            which = np.flatnonzero(which)
        if which.ndim != 1 or (which.size and which.dtype.kind not in "iu"):
            raise BatchError(at_user_line(f"batch[{key!r}]: an int, a slice, a mask of {size} bools, or a list of "
                                          "positions"))
        if which.size and not (-size <= which.min() and which.max() < size):
            raise BatchError(at_user_line(f"examples {which.min()}..{which.max()} of a batch of {size}"))
        return self._take(which.astype(np.int64) % max(size, 1))

    def _take(self, which: np.ndarray) -> Batch:
        lengths = tuple(n[which] for n in self._lengths)
        out = Batch(self.schema, {}, lengths, size=len(which))
        rows: dict[tuple[Axis, ...], np.ndarray] = {}
        for name, t in self.schema.fields.items():
            if t.counts:
                continue
            value = self._fields[name]
            if value is None or t.shared:
                out._fields[name] = value if value is None else value.copy()
                continue
            if t.axes not in rows:
                rows[t.axes] = _rows_of(self._begins(t)[which], out._rows(t)) if t.axes else which
            taken = _nothing(len(rows[t.axes])) if t.blank else value.take(rows[t.axes], axis=0)
            if t.target is not None:
                moves = out.offsets[t.target][:-1] - self.offsets[t.target][:-1][which]
                shift_indices(taken, out._per_row(t, moves), t.null)
            out._fields[name] = taken
        return out

    def __iter__(self) -> Iterator[PyTree]:
        return iter(self.unbatch())

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays of the fields."""
        return sum(v.nbytes for v in self._fields.values() if v is not None)


def is_batch(x: object) -> TypeGuard[Batch]:
    """Return whether `x` is a `Batch`."""
    return isinstance(x, Batch)


def _nothing(n: int) -> np.ndarray:
    """Return an array of `n` elements without memory of their own."""
    return np.ndarray(n, bool, _NOTHING, strides=(0,))


def _again(schema: Schema, fields: dict[str, Any], lengths: tuple[np.ndarray, ...], size: int | None) -> Batch:
    """Return the batch of a pickle, which holds a blank field as its number of elements."""
    blank = {n: _nothing(v) for n, v in fields.items() if v is not None and schema.fields[n].blank}
    return Batch(schema, fields | blank, lengths, size=size)


def _rows_of(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the concatenated ranges ``begins[k]``, ..., ``begins[k] + counts[k] - 1``."""
    rows = np.repeat(begins - offsets_of(counts)[:-1], counts)
    rows += np.arange(len(rows))
    return rows


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the first row of each example, and the number of all rows: (B + 1,)."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def shift_indices(indices: np.ndarray, by: np.ndarray | int, null: int | None) -> None:
    """Add `by` to indices in place, except to null ones."""
    if null is None:
        np.add(indices, by, out=indices, casting="same_kind")
    else:
        np.add(indices, by, out=indices, where=indices != null, casting="same_kind")


class AxisMap(Mapping[Axis, Any]):
    """A mapping from axes to arrays, which takes an axis or its name."""

    def __init__(self, axes: Sequence[Axis], values: Sequence[Any]):
        self._values = dict(zip(axes, values, strict=True))

    def __getitem__(self, axis: Axis | str) -> Any:
        key = Axis(axis) if isinstance(axis, str) else axis
        try:
            return self._values[key]
        except KeyError:
            raise BatchError(at_user_line(f"no axis {key}; there are {', '.join(map(str, self._values))}")) from None

    def __iter__(self) -> Iterator[Axis]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, axis: object) -> bool:
        return (Axis(axis) if isinstance(axis, str) else axis) in self._values

    def __repr__(self) -> str:
        return repr(self._values)


# -- packing -------------------------------------------------------------------------------------------------


@boundary
def batch(examples: Iterable[PyTree], kind: FieldType | ArrayType | None = None,
          fill: Mapping[str, float] | None = None) -> Batch:
    """Pack examples of different size into a batch.

    The rows of all examples are concatenated along each ragged axis, and indices are shifted to the packed rows.

    Parameters
    ----------
    examples : iterable
        Examples of one class made by `minigrad.example`; arrays, with `kind`; or batches, each of them an example of
        the result.
    kind : array type, optional
        The type of examples that are arrays, such as ``mg.f32[word, 8]``.
    fill : mapping of str to number, optional
        For optional fields, the number that takes the place of each element where an example lacks the field: ``{"y":
        np.nan}``, or -1 for an index with ``null=-1``. Such a field is in every batch, so that one program fits all.

    Returns
    -------
    Batch

    Raises
    ------
    BatchError
        If `examples` is empty, the classes of the examples differ, an index is not a row of its axis, examples differ
        in a shared field, or in the absence of an optional one that `fill` lacks, or `fill` has another field.

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Graph:
    ...     x: mg.f64[node]
    ...     src: mg.index(node)[edge]
    >>> b = mg.batch([Graph([1.0, 2.0], [0, 1]), Graph([3.0], [0])])
    >>> b.x, b.src
    (array([1., 2., 3.]), array([0, 1, 2]))
    >>> mg.vmap(lambda g: np.sum(g.x[g.src]))(b)
    array([3., 3.])
    """
    examples = list(examples)
    if not examples:
        raise BatchError(at_user_line("batch() needs at least one example"))
    if kind is not None:
        schema = Schema("arrays", {"value": as_field(kind, "batch")}).check()
        _check_fill(schema, fill)
        checked = [check_example(schema, {"value": x}, f"example {k}") for k, x in enumerate(examples)]
        return _pack(schema, {"value": [v["value"] for v, _ in checked]}, [s for _, s in checked])
    cls = type(examples[0])
    if cls is Batch:
        return _of_batches(examples)
    of_class = schema_of(cls)
    if of_class is None:
        pyg = cls.__module__.startswith("torch_geometric")
        further = (", and convert with mg.from_pyg(data, Class)" if pyg else
                   ", or give the type of an array: mg.batch(arrays, mg.f32[node, 16])")
        raise BatchError(at_user_line(f"batch: example 0 is a {cls.__name__}, whose axes are not known. Make a class "
                                      f"of its fields with @mg.example{further}"))
    for k, x in enumerate(examples):
        if type(x) is not cls:
            raise BatchError(at_user_line(f"batch: example {k} is a {type(x).__name__}, example 0 a {cls.__name__}"))
    try:
        sizes = list(map(operator.attrgetter("_sizes"), examples))
    except AttributeError:
        raise BatchError(at_user_line(f"batch: a {cls.__name__} of traced values: batches are made of arrays, before "
                                      "a function is traced")) from None
    names = of_class.names
    rows = map(operator.attrgetter(*names), examples)
    columns = zip(*rows, strict=True) if len(names) > 1 else [tuple(rows)]
    return _pack(of_class, dict(zip(names, columns, strict=True)), sizes, _check_fill(of_class, fill))


def _check_fill(schema: Schema, fill: Mapping[str, float] | None) -> Mapping[str, float]:
    """Return the numbers for absent fields, which must be optional."""
    if strange := sorted((fill or {}).keys() - schema.optional):
        raise BatchError(at_user_line(f"batch: fill={{{strange[0]!r}: ...}}: {schema.name} has no optional field of "
                                      f"that name; it has {', '.join(sorted(schema.optional)) or 'none'}"))
    return fill or {}


def _of_batches(batches: Sequence[PyTree]) -> Batch:
    inner: Schema = batches[0].schema
    for k, b in enumerate(batches):
        if not isinstance(b, Batch) or b.schema != inner:
            raise BatchError(at_user_line(f"batch: example 0 is a batch of {inner.name}, example {k} is not"))
    schema = batch_schema(inner, Batch)
    rows = [schema.values(b) for b in batches]
    return _pack(schema, {n: [r[n] for r in rows] for n in schema.fields}, [schema.sizes(b) for b in batches])


def _pack(schema: Schema, columns: Mapping[str, Sequence[Any]], sizes: Sequence[tuple[int, ...]],
          fill: Mapping[str, float] = {}) -> Batch:
    table = np.array(sizes, np.int64).reshape(len(sizes), len(schema.axes))
    out = Batch(schema, {}, tuple(np.ascontiguousarray(table.T)), size=len(sizes))
    for name, t in schema.fields.items():
        if t.counts:
            continue
        column = columns[name]
        if name in fill:
            column = [_filled(t, schema, n, fill[name]) if v is None else v for v, n in zip(column, sizes, strict=True)]
        if name in schema.optional and (absent := [v is None for v in column]) and any(absent):
            if not all(absent):
                has, lacks = absent.index(False), absent.index(True)
                raise BatchError(at_user_line(f"batch: {schema.name}.{name} is optional, but all examples of a batch "
                                              f"have it or none: example {has} has it, example {lacks} does not. "
                                              f"fill={{{name!r}: number}} puts a number in its place"))
            out._fields[name] = None
        elif t.shared:
            out._fields[name] = _one_of(column, f"{schema.name}.{name}")
        else:
            out._fields[name] = _packed_indices(out, _concatenated(column, t), t, name)
    return out


def _filled(t: FieldType, schema: Schema, sizes: Sequence[int], value: float) -> np.ndarray:
    """Return an array of one number for an example of the given sizes."""
    by_axis = dict(zip(schema.axes, sizes, strict=True))
    return np.full([by_axis[n] if isinstance(n, Axis) else n for n in t.shape], value, t.dtype)


def _concatenated(column: Sequence[np.ndarray], t: FieldType) -> np.ndarray:
    """Return the examples' arrays packed or stacked."""
    if t.blank:
        return _nothing(sum(map(len, column)))
    if t.axes:
        return np.concatenate(column if t.rows_lead else [t.pack(v) for v in column])
    if not t.shape:
        return np.array(column, t.dtype)
    return np.concatenate(column).reshape(len(column), *t.shape)


def _one_of(column: Sequence[np.ndarray], label: str) -> np.ndarray:
    first = column[0]
    for k, v in enumerate(column):
        if v is not first and not np.array_equal(v, first, equal_nan=first.dtype.kind == "f"):
            raise BatchError(at_user_line(f"batch: {label} is shared, but differs between example 0 and example {k}"))
    return np.array(first)


def _packed_indices(out: Batch, value: np.ndarray, t: FieldType, name: str) -> np.ndarray:
    """Shift a field's indices by the offsets of their examples, after a check of their range; return the array."""
    if t.target is None:
        return value
    sizes = out.lengths[t.target]
    limit = out._per_row(t, sizes)
    if (total := int(sizes.sum())) > (most := np.iinfo(t.dtype).max):
        raise BatchError(at_user_line(f"batch: {out.schema.name}.{name} is an index of {t.dtype}, which has {most} "
                                      f"rows at most; the batch has {total} of {t.target}"))
    # Read as unsigned, a negative index is a large one.
    bad = value.view(f"u{value.itemsize}") >= limit.astype(value.dtype, copy=False).view(f"u{value.itemsize}")
    if t.null is not None:
        bad &= value != t.null
    if bad.any():
        first = tuple(map(int, np.argwhere(bad)[0]))
        begin = offsets_of(out._rows(t))
        k = int(np.searchsorted(begin, first[0], side="right")) - 1
        position = (first[0] - int(begin[k]), *first[1:]) if t.axes else first[1:]
        raise BatchError(at_user_line("batch: " + out_of_range(
            f"example {k}: {out.schema.name}.{name}", position, value[first], int(sizes[k]), t)))
    shift_indices(value, out._per_row(t, out.offsets[t.target][:-1]), t.null)
    return value


# -- as a pytree ---------------------------------------------------------------------------------------------


def _flatten(x: Any) -> tuple[tuple[Any, ...], tuple[Schema, tuple[str, ...]], tuple[str, ...]]:
    leaves = x.leaves()
    present = tuple(n for n, v in leaves.items() if v is not None)
    return tuple(leaves[n] for n in present), (x.schema, present), present


def _unflatten(aux: Any, leaves: Iterable[Any]) -> Any:
    schema, present = aux
    return Batch.of_leaves(schema, dict(zip(present, leaves, strict=True)))


optree.register_pytree_node(Batch, _flatten, _unflatten, namespace=EVERYWHERE)

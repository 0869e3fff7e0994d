"""Schemas: a dataclass whose annotations say what an example is made of, and that checks what it is given."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optree

from ..errors import BatchError, DtypeError, ShapeError, at_user_line, user_frame
from ..graph import dtype_of
from ..sizes import shown, unwrap
from ..symbolic import Dim
from ..tracebacks import boundary
from .axes import Axis, FieldType, as_field

INT, BOOL = np.dtype(np.int64), np.dtype(bool)
# optree keeps what is registered under a name apart; this stands for no name, under which all trees are looked up.
EVERYWHERE = optree.registry.__GLOBAL_NAMESPACE


@dataclass(frozen=True, eq=False)
class Schema:
    """What the examples of one kind are made of.

    Attributes
    ----------
    name : str
    fields : dict of str to FieldType
    optional : frozenset of str
        Fields that may be None.
    cls : type or None
        The dataclass; None where an example is an array by itself, the one field ``value``.
    """

    name: str
    fields: Mapping[str, FieldType]
    optional: frozenset[str] = frozenset()
    cls: type | None = None

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """All ragged axes, in order of appearance."""
        found: dict[Axis, None] = {}
        for t in self.fields.values():
            found |= dict.fromkeys((*t.axes, *((t.counts,) if t.counts else ())))
        return tuple(found)

    @cached_property
    def leaf_types(self) -> dict[str, FieldType]:
        """The arrays of a batch, in the order of its leaves: fields, lengths, segment ids, and elements of blocks."""
        out = {n: t for n, t in self.fields.items() if not t.counts}
        out |= {self.leaf_name("lengths", a): FieldType(INT, ()) for a in self.axes}
        out |= {self.leaf_name("segment_ids", a): FieldType(INT, (a,)) for a in self.axes}
        return out | {self.leaf_name("blocks", *pair): FieldType(BOOL, pair, blank=True) for pair in self.axis_pairs}

    def leaf_name(self, kind: str, *axes: Axis) -> str:
        """Return the name of a batch's ``lengths``, ``segment_ids`` or ``blocks``, unlike that of a field."""
        name = " ".join((kind, *(a.name for a in axes)))
        while name in self.fields:
            name += "'"
        return name

    @property
    def axis_pairs(self) -> Iterator[tuple[Axis, Axis]]:
        """The pairs of axes that blocks may have."""
        return itertools.combinations_with_replacement(self.axes, 2)

    def row_axes(self, t: FieldType) -> tuple[Axis, ...]:
        """Return the ragged axes of a type in the schema's order; () for a stacked or shared one."""
        return tuple(sorted(t.axes, key=self.axes.index))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.fields)

    @property
    def key(self) -> Any:
        """What makes two schemas interchangeable."""
        return self.cls if self.cls is not None else tuple(self.fields.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{n}: {t}' for n, t in self.fields.items())})"

    def __copy__(self) -> Schema:
        return self

    def __deepcopy__(self, memo: dict) -> Schema:
        return self

    def __reduce__(self) -> Any:
        if self.cls is None:
            return super().__reduce__()
        return _of_class, (self.cls, self.name, dict(self.fields), self.optional)

    def check(self) -> Schema:
        """Raise `BatchError` where an index points into an axis that nothing counts; return the schema."""
        for name, t in self.fields.items():
            if t.target is not None and t.target not in self.axes:
                raise BatchError(at_user_line(
                    f"{self.name}.{name}: {t} points into {t.target}, but no field has that axis, so that nothing says "
                    f"how long it is. Add a field such as  n_{t.target}: mg.count({t.target})"))
        return self

    def make(self, values: Mapping[str, Any]) -> Any:
        """Return an example of `values`, unchecked."""
        if self.cls is None:
            return values["value"]
        x = object.__new__(self.cls)
        for name, value in values.items():
            object.__setattr__(x, name, value)
        return x

    def values(self, example: Any) -> dict[str, Any]:
        """Return the fields of an example."""
        return {"value": example} if self.cls is None else {n: getattr(example, n) for n in self.fields}


def _of_class(cls: type, name: str, fields: dict[str, FieldType], optional: frozenset[str]) -> Schema:
    """Return the schema of a class; one that a pickle has made anew (as cloudpickle does) becomes a pytree, too."""
    schema = schema_of(cls)
    if schema is None:
        schema = cls.__schema__ = Schema(name, fields, optional, cls)
        _register(cls, schema)
    return schema


def schema_of(cls: Any) -> Schema | None:
    """Return the schema of a class made by `example`, or of an instance of one; None for anything else."""
    schema = getattr(cls, "__schema__", None)
    return schema if isinstance(schema, Schema) else None  # other libraries have attributes of that name, too


def is_traced(value: Any) -> bool:
    """Tell whether a value is no array yet: a traced one, or a type."""
    return hasattr(value, "_node") or (not hasattr(value, "__array__") and hasattr(value, "dtype"))


@boundary
def example(cls: type) -> type:
    """Make a class of annotated fields a schema: a frozen dataclass that checks its arrays, and a pytree.

    Each field is annotated with its type: ``mg.f32[node, 16]``, ``mg.index(node)[edge]``, ``mg.f32[()]``. A field
    with the default None is optional: in a batch all examples have it, or none.

    Parameters
    ----------
    cls : type

    Returns
    -------
    type
        Its instances check, when they are made, each field's dtype and rank, that fields with an axis in common
        agree on its size, and that each index points at a row that exists.

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Molecule:
    ...     x:   mg.f32[node, 16]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    ...     y:   mg.f32[()]
    """
    fields, frame = {}, user_frame()
    for name, kind in inspect.get_annotations(cls).items():
        if isinstance(kind, str) and frame is not None:
            kind = eval(kind, frame.f_globals, {**frame.f_locals, **vars(cls)})
        fields[name] = as_field(kind, f"{cls.__name__}.{name}")
    if not fields:
        raise BatchError(at_user_line(f"example({cls.__name__}): it has no annotated field"))
    clash = fields.keys() & _RESERVED
    if clash:
        raise BatchError(at_user_line(f"{cls.__name__}.{clash.pop()}: a batch has something else of that name"))
    optional = frozenset(n for n in fields if n in vars(cls) and vars(cls)[n] is None)
    if wrong := [n for n in fields if n in vars(cls) and n not in optional]:
        raise BatchError(at_user_line(f"{cls.__name__}.{wrong[0]}: a field has no default, or None if it is optional"))
    schema = Schema(cls.__name__, fields, optional)
    if "__post_init__" in vars(cls):
        raise BatchError(at_user_line(f"{cls.__name__}: __post_init__ is where an example is checked"))
    cls.__post_init__ = _check
    cls = dataclass(frozen=True, eq=False, repr=False)(cls)
    if "__repr__" not in vars(cls):
        cls.__repr__ = _repr
    object.__setattr__(schema, "cls", cls)
    cls.__schema__ = schema.check()
    _register(cls, schema)
    return cls


_RESERVED = frozenset(("schema", "lengths", "offsets", "segment_ids", "unbatch", "sizes"))


def _repr(self: Any) -> str:
    parts = []
    for name, t in self.__schema__.fields.items():
        v = getattr(self, name)
        shape = getattr(v, "shape", ())
        parts.append(f"{name}: {t.dtype.name}{list(shape)}" if shape else f"{name}={v}")
    return f"{type(self).__name__}({', '.join(parts)})"


def _register(cls: type, schema: Schema) -> None:
    counts = tuple(n for n, t in schema.fields.items() if t.counts)
    arrays = tuple(n for n in schema.fields if n not in counts)

    def flatten(x: Any) -> tuple[Any, Any, Any]:
        # A count is no array: under a trace it is the axis itself.
        return tuple(getattr(x, n) for n in arrays), tuple(unwrap(getattr(x, n)) for n in counts), arrays

    def unflatten(sizes: tuple[int | Dim, ...], values: Any) -> Any:
        return schema.make({**dict(zip(arrays, values, strict=True)),
                            **{n: shown(d) for n, d in zip(counts, sizes, strict=True)}})

    optree.register_pytree_node(cls, flatten, unflatten, namespace=EVERYWHERE)


# -- checking one example ------------------------------------------------------------------------------------


def _check(self: Any) -> None:
    schema: Schema = self.__schema__
    if any(is_traced(getattr(self, n)) for n in schema.fields):
        return  # within a trace: its sizes were checked when the arrays were
    values, sizes = check_example(schema, {n: getattr(self, n) for n in schema.fields}, schema.name)
    for name, value in values.items():
        object.__setattr__(self, name, value)
    object.__setattr__(self, "_sizes", sizes)


def check_example(schema: Schema, given: Mapping[str, Any], who: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return an example's fields as arrays of the declared types, and the sizes of the schema's axes."""
    values: dict[str, Any] = {}
    sizes: dict[Axis, int] = {}
    whose: dict[Axis, str] = {}
    for name, t in schema.fields.items():
        label = f"{who}.{name}" if schema.cls is not None else who
        value = given[name]
        if value is None and name in schema.optional:
            values[name] = None
            continue
        values[name] = value = _as_declared(value, t, label)
        found = [(t.counts, int(value))] if t.counts else zip(t.shape, value.shape, strict=True)
        for want, n in found:
            if isinstance(want, Axis):
                if sizes.setdefault(want, n) != n:
                    raise ShapeError(at_user_line(
                        f"{label}: {want} is {n} here, but {sizes[want]} in {whose[want]}; both are declared on the "
                        f"axis {want}"))
                whose.setdefault(want, label)
            elif want != n:
                raise ShapeError(at_user_line(f"{label}: expected {t}, got shape {list(value.shape)}"))
    missing = [a for a in schema.axes if a not in sizes]
    if missing:
        raise BatchError(at_user_line(f"{who}: nothing says how long {missing[0]} is: all fields with it are None"))
    for name, t in schema.fields.items():
        if t.target is not None and values[name] is not None:
            check_range(values[name], sizes[t.target], t, f"{who}.{name}" if schema.cls is not None else who)
    return values, tuple(sizes[a] for a in schema.axes)


def _as_declared(value: Any, t: FieldType, label: str) -> Any:
    if t.counts:
        if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or value < 0:
            raise DtypeError(at_user_line(f"{label}: expected the number of rows of {t.counts}, got {value!r}"))
        return int(value)
    if value is None:
        raise BatchError(at_user_line(f"{label} is missing: it is declared as {t}. Give it the default None in the "
                                      "class to make it optional"))
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(at_user_line(f"{label}: {error}")) from None
    free = (not isinstance(value, np.ndarray) and array.dtype.kind in "biuf") or not array.size  # numbers of one's own
    dtype_of(array.dtype, lambda: f"{label}: ")
    if t.target is not None and (array.dtype.kind in "iu" or not array.size):
        pass
    elif array.dtype != t.dtype and not (free and np.can_cast(array.dtype, t.dtype, "same_kind")):
        raise DtypeError(at_user_line(
            f"{label}: expected {t}, got {array.dtype}. Convert it with .astype(np.{t.dtype.name})"))
    if array.ndim != len(t.shape) and not (not array.size and array.ndim == 1 and t.shape and _is_list(value)):
        raise ShapeError(at_user_line(f"{label}: expected {t}, with {len(t.shape)} axes, got {array.ndim}: "
                                      f"{list(array.shape)}"))
    if array.ndim != len(t.shape):  # an empty list is empty in every rank
        array = np.zeros(tuple(0 if isinstance(n, Axis) else n for n in t.shape), t.dtype)
    array = array.astype(t.dtype, copy=False)
    return array if array.ndim else array[()]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def check_range(value: Any, size: int, t: FieldType, label: str) -> None:
    """Raise `BatchError` at the first index that points at no row."""
    bad = (value < 0) | (value >= size)
    if t.null is not None:
        bad &= value != t.null
    if np.any(bad):
        at = tuple(map(int, np.argwhere(bad)[0]))
        raise BatchError(at_user_line(out_of_range(label, at, np.asarray(value)[at], size, t)))


def out_of_range(label: str, at: tuple[int, ...], value: Any, size: int, t: FieldType) -> str:
    """Return the words about an index that points at no row."""
    place = f"[{', '.join(map(str, at))}]" if at else ""
    rows = f"it has rows 0..{size - 1}" if size else "it has no rows"
    return (f"{label}{place} is {value}: no such row of {t.target}, {rows}"
            + (f". If {value} means none, declare mg.index({t.target}, null=-1)" if value == -1 else ""))

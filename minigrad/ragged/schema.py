"""Schemas: dataclasses of typed arrays, which check the arrays of an example."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, get_origin

import numpy as np
import optree

from ..errors import BatchError, DtypeError, ShapeError, at_user_line, user_frame
from ..graph import dtype_of
from ..immutable import Immutable, cached_property
from ..sizes import shown, unwrap
from ..tracebacks import boundary
from .axes import Axis, FieldType, as_field

T = TypeVar("T")
INT, BOOL = np.dtype(np.int64), np.dtype(bool)
# optree separates the registrations of each namespace; all trees are looked up in this one, too.
EVERYWHERE = optree.registry.__GLOBAL_NAMESPACE


@dataclass(frozen=True, eq=False)
class Schema(Immutable):
    """The fields of the examples of one class.

    Attributes
    ----------
    name : str
    fields : dict of str to FieldType
    optional : frozenset of str
        Fields that may be None.
    cls : type or None
        The dataclass; None where an example is one array, the field ``value``.
    defaults : frozenset of str
        Fields with a default other than None.
    """

    name: str
    fields: Mapping[str, FieldType]
    optional: frozenset[str] = frozenset()
    cls: type | None = None
    defaults: frozenset[str] = frozenset()

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """All ragged axes, in order of appearance."""
        axes: dict[Axis, None] = {}
        for t in self.fields.values():
            axes |= dict.fromkeys((*t.axes, *((t.counts,) if t.counts else ())))
        return tuple(axes)

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
    def key(self) -> object:
        """The value by which schemas are equal."""
        return self.cls if self.cls is not None else tuple(self.fields.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{n}: {t}' for n, t in self.fields.items())})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self.cls is None:
            return super().__reduce__()
        return _of_class, (self.cls, self.name, dict(self.fields), self.optional, self.defaults)

    def check(self) -> Schema:
        """Return the schema, or raise `BatchError` at an index into an axis that no field has."""
        for name, t in self.fields.items():
            if t.target is not None and t.target not in self.axes:
                raise BatchError(at_user_line(
                    f"{self.name}.{name}: {t} points into {t.target}, but no field has that axis, so its size is not "
                    f"known. Add a field such as  n_{t.target}: mg.count({t.target})"))
        return self

    def make(self, values: Mapping[str, Any]) -> Any:
        """Return an example of `values`, unchecked."""
        if self.cls is None:
            return values["value"]
        x: object = object.__new__(self.cls)
        for name, value in values.items():
            object.__setattr__(x, name, value)
        return x

    def values(self, example: Any) -> dict[str, Any]:
        """Return the fields of an example."""
        return {"value": example} if self.cls is None else {n: getattr(example, n) for n in self.fields}


def _of_class(cls: type, name: str, fields: dict[str, FieldType], optional: frozenset[str],
              defaults: frozenset[str]) -> Schema:
    """Return the schema of a class; a class that a pickle creates (cloudpickle's) becomes a pytree, too."""
    schema = schema_of(cls)
    if schema is None:
        schema = Schema(name, fields, optional, cls, defaults)
        _register(cls, schema)
    return schema


def schema_of(cls: object) -> Schema | None:
    """Return the schema of a class made by `example`, or of an instance of one; None for anything else."""
    schema = getattr(cls, "__schema__", None)
    return schema if isinstance(schema, Schema) else None  # other libraries have such attributes, too


def is_traced(value: object) -> bool:
    """Return whether a value has a dtype but no numbers yet: a traced array, or a type."""
    return hasattr(value, "_node") or (not hasattr(value, "__array__") and hasattr(value, "dtype"))


@boundary
def example(cls: type[T]) -> type[T]:
    """Return a class of annotated fields as a schema: a frozen dataclass that checks its arrays, and a pytree.

    Parameters
    ----------
    cls : type
        Each field is annotated with its type: ``mg.f32[node, 16]``, ``mg.index(node)[edge]``, ``mg.f32[()]``. A field
        with the default None is optional: all examples of a batch have it, or none (but see `batch`). Another default
        is an array of the field's type, or a number for all of its elements. The class may have methods, properties,
        ``ClassVar`` attributes, and a ``__post_init__`` for further checks of its arrays; a subclass has the fields of
        its base class, too.

    Returns
    -------
    type
        A new instance converts its fields to NumPy arrays and checks the dtype and rank of each, that fields with a
        common axis agree on its size (`ShapeError`), and that each index is a row of its axis (`BatchError`).

    Raises
    ------
    BatchError
        If the class has no annotated field, a field has a name that batches use (``lengths``, ``offsets``, ...), an
        annotation that is not a type, or a default that is not of its type, a field without a default follows one
        with a default, or an index points into an axis that no field has.

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Molecule:
    ...     x:   mg.f32[node, 16]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    ...     y:   mg.f32[()]
    >>> Molecule(np.zeros((3, 16), np.float32), [0, 1], [1, 2], 0.5)
    Molecule(x: float32[3, 16], src: int64[2], dst: int64[2], y=0.5)
    """
    bases = [base for c in reversed(cls.__mro__[1:]) if (base := vars(c).get("__schema__")) is not None]
    fields: dict[str, FieldType] = {n: t for base in bases for n, t in base.fields.items()}
    frame = user_frame()
    own: dict[str, FieldType] = {}
    for name, kind in inspect.get_annotations(cls).items():
        if isinstance(kind, str) and frame is not None:
            kind = eval(kind, frame.f_globals, {**frame.f_locals, **vars(cls)})
        if ClassVar not in (kind, get_origin(kind)):
            own[name] = as_field(kind, f"{cls.__name__}.{name}")
    fields |= own
    if not fields:
        raise BatchError(at_user_line(f"example({cls.__name__}): it has no annotated field"))
    clash = fields.keys() & _RESERVED
    if clash:
        raise BatchError(at_user_line(f"{cls.__name__}.{clash.pop()}: batches have an attribute of that name"))
    given = {n: vars(cls)[n] for n in own if n in vars(cls)}
    optional = {n for base in bases for n in base.optional}.difference(own) | {n for n, v in given.items() if v is None}
    defaults = {n for base in bases for n in base.defaults}.difference(own) | given.keys() - optional
    for name in defaults & given.keys():
        if not isinstance(given[name], dataclasses.Field):
            default = _Default.of(given[name], fields[name], f"{cls.__name__}.{name}: the default")
            type.__setattr__(cls, name, dataclasses.field(default_factory=default.copy))
    schema = Schema(cls.__name__, fields, frozenset(optional), defaults=frozenset(defaults))
    type.__setattr__(cls, "__post_init__", boundary(_checks_of(cls)))
    try:
        cls = dataclass(frozen=True, eq=False, repr=False)(cls)
    except TypeError as error:  # a field without a default follows one with a default
        raise BatchError(at_user_line(f"example({cls.__name__}): {error}")) from None
    if "__repr__" not in vars(cls) and not bases:
        type.__setattr__(cls, "__repr__", _repr)
    object.__setattr__(schema, "cls", cls)
    _register(cls, schema.check())
    return cls


@dataclass(frozen=True)
class _Default:
    """The default of a field: an array, or a number for all elements of an array whose size other fields know."""

    value: Any

    @classmethod
    def of(cls, value: Any, t: FieldType, label: str) -> _Default:
        """Return the default of a field, or raise if it is not of the field's type."""
        array = _as_declared(value, t if np.ndim(value) else replace(t, shape=()), label)
        if np.ndim(array) and any(n != size for n, size in zip(t.shape, array.shape, strict=True)):
            raise ShapeError(at_user_line(f"{label}: expected {t}, got shape {list(array.shape)}. A number is a "
                                          "default for all elements"))
        return cls(array)

    def copy(self) -> object:
        return self

    def array(self, t: FieldType, sizes: Mapping[Axis, int]) -> Any:
        """Return the array of an example."""
        if t.counts or not t.shape:
            return self.value
        return np.full([sizes[n] if isinstance(n, Axis) else n for n in t.shape], self.value, t.dtype)


def _checks_of(cls: type) -> Callable[[Any], None]:
    """Return the ``__post_init__`` of a class: the checks, and then those of the class itself."""
    own: Callable[[Any], None] | None = vars(cls).get("__post_init__")
    if own is None:
        inherited: Callable[[Any], None] = getattr(cls, "__post_init__", _check)
        return inherited
    further = own

    def check(self: Any) -> None:
        _check(self)
        if not any(is_traced(getattr(self, n)) for n in self.__schema__.fields):
            further(self)

    return check


_RESERVED = frozenset(("schema", "lengths", "offsets", "segment_ids", "unbatch", "sizes"))


def _repr(self: Any) -> str:
    parts = []
    for name, t in self.__schema__.fields.items():
        v = getattr(self, name)
        shape = getattr(v, "shape", ())
        parts.append(f"{name}: {t.dtype.name}{list(shape)}" if shape else f"{name}={v}")
    return f"{type(self).__name__}({', '.join(parts)})"


def _register(cls: type, schema: Schema) -> None:
    """Enter the schema in its class, and the class among the pytrees."""
    type.__setattr__(cls, "__schema__", schema)
    counts = tuple(n for n, t in schema.fields.items() if t.counts)
    arrays = tuple(n for n in schema.fields if n not in counts)

    def flatten(x: Any) -> tuple[tuple[Any, ...], tuple[object, ...], tuple[str, ...]]:
        # A count is not an array: in a trace it is the symbolic size of its axis.
        return tuple(getattr(x, n) for n in arrays), tuple(unwrap(getattr(x, n)) for n in counts), arrays

    def unflatten(sizes: Any, values: Iterable[Any]) -> Any:
        return schema.make({**dict(zip(arrays, values, strict=True)),
                            **{n: shown(d) for n, d in zip(counts, sizes, strict=True)}})

    optree.register_pytree_node(cls, flatten, unflatten, namespace=EVERYWHERE)


# -- checking one example ------------------------------------------------------------------------------------


def _check(self: Any) -> None:
    schema: Schema = self.__schema__
    if any(is_traced(getattr(self, n)) for n in schema.fields):
        return  # in a trace: the arrays have been checked
    values, sizes = check_example(schema, {n: getattr(self, n) for n in schema.fields}, schema.name)
    for name, value in values.items():
        object.__setattr__(self, name, value)
    object.__setattr__(self, "_sizes", sizes)


def check_example(schema: Schema, fields: Mapping[str, object],
                  example: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return an example's fields as arrays of the declared types, and the sizes of the schema's axes.

    `example` names the example in errors.
    """
    values: dict[str, Any] = {}
    sizes: dict[Axis, int] = {}
    first: dict[Axis, str] = {}  # the field that has the axis first
    labels = {n: f"{example}.{n}" if schema.cls is not None else example for n in schema.fields}
    for name, t in schema.fields.items():
        label, value = labels[name], fields[name]
        if value is None and name in schema.optional:
            values[name] = None
            continue
        if isinstance(value, _Default) and not t.counts:
            values[name] = value
            continue
        values[name] = array = _as_declared(value.value if isinstance(value, _Default) else value, t, label)
        for declared, n in [(t.counts, int(array))] if t.counts else zip(t.shape, array.shape, strict=True):
            if isinstance(declared, Axis):
                if sizes.setdefault(declared, n) != n:
                    raise ShapeError(at_user_line(
                        f"{label}: {declared} is {n} here, but {sizes[declared]} in {first[declared]}; both are "
                        f"declared on the axis {declared}"))
                first.setdefault(declared, label)
            elif declared != n:
                raise ShapeError(at_user_line(f"{label}: expected {t}, got shape {list(array.shape)}"))
    missing = [a for a in schema.axes if a not in sizes]
    if missing:
        raise BatchError(at_user_line(f"{example}: the size of {missing[0]} is not known: all fields with it are None"))
    for name, t in schema.fields.items():
        if isinstance(values[name], _Default):
            values[name] = values[name].array(t, sizes)
        if t.target is not None and values[name] is not None:
            check_range(values[name], sizes[t.target], t, labels[name])
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
    convertible = (not isinstance(value, np.ndarray) and array.dtype.kind in "biuf") or not array.size
    dtype_of(array.dtype, lambda: f"{label}: ")
    if t.target is not None and (array.dtype.kind in "iu" or not array.size):
        pass
    elif array.dtype != t.dtype and not (convertible and np.can_cast(array.dtype, t.dtype, "same_kind")):
        raise DtypeError(at_user_line(
            f"{label}: expected {t}, got {array.dtype}. Convert it with .astype(np.{t.dtype.name})"))
    empty = isinstance(value, (list, tuple)) and array.shape == (0,) and t.shape
    if array.ndim != len(t.shape) and not empty:
        one = ". Take its only row, [0]" if array.ndim == len(t.shape) + 1 and array.shape[0] == 1 else ""
        raise ShapeError(at_user_line(f"{label}: expected {t}, with {len(t.shape)} axes, got {array.ndim}: "
                                      f"{list(array.shape)}{one}"))
    if array.ndim != len(t.shape):  # an empty list fits every rank
        array = np.zeros(tuple(0 if isinstance(n, Axis) else n for n in t.shape), t.dtype)
    array = array.astype(t.dtype, copy=False)
    return array if array.ndim else array[()]


def check_range(value: np.ndarray, size: int, t: FieldType, label: str) -> None:
    """Raise `BatchError` at the first index that is not a row of its axis."""
    bad = (value < 0) | (value >= size)
    if t.null is not None:
        bad &= value != t.null
    if np.any(bad):
        first = tuple(map(int, np.argwhere(bad)[0]))
        raise BatchError(at_user_line(out_of_range(label, first, int(np.asarray(value)[first]), size, t)))


def out_of_range(label: str, position: tuple[int, ...], value: int, size: int, t: FieldType) -> str:
    """Return the message about an index that is not a row of its axis."""
    place = f"[{', '.join(map(str, position))}]" if position else ""
    rows = f"it has rows 0..{size - 1}" if size else "it has no rows"
    return (f"{label}{place} is {value}: no such row of {t.target}, {rows}"
            + (f". If {value} means none, declare mg.index({t.target}, null=-1)" if value == -1 else ""))

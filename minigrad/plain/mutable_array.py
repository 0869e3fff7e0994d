"""Arrays that NumPy code can write to while it is traced, with NumPy's views.

A `MutableArray` holds an ndarray of the host until it meets a traced value, and a node from then on. A view knows its
base: a write to one reaches the other, as in NumPy.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from .. import numpy as ours
from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..numpy.dispatch import any_traced, positional_names
from ..numpy.updates import At
from ..sizes import Size
from ..symbolic import Dim
from ..traced_array import TABLE, Array, as_array
from ..tracing import Guards, guard_equal_shapes, number, thread
from .elements import Either, Elements, known_shape

Step: TypeAlias = Callable[[Either], Either]  # from a base to its view

# NumPy's functions, and the methods of their names, whose result is a view of the first argument.
_PERMUTING = {f.__name__ for f in (np.transpose, np.matrix_transpose, np.permute_dims, np.swapaxes, np.moveaxis,
                                   np.rollaxis)} | {"T", "mT"}
_PICKING = {f.__name__ for f in (np.flip, np.fliplr, np.flipud, np.rot90, np.split, np.array_split, np.hsplit,
                                 np.vsplit, np.dsplit, np.unstack, np.diagonal, np.broadcast_to, np.real, np.squeeze,
                                 np.expand_dims, np.atleast_1d, np.atleast_2d, np.atleast_3d)}
_RESHAPING = {f.__name__ for f in (np.reshape, np.ravel)}  # of an array in C's order, and of some others
_VIEWS = _PERMUTING | _RESHAPING | _PICKING
# Functions that return their argument itself where it is an array already.
_ALIASES = {f.__name__ for f in (np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require,
                                 np.atleast_1d, np.atleast_2d, np.atleast_3d, np.real)}
_NUMBERS = "biuf"


class MutableArray(Array):
    """An array in NumPy code that is being traced.

    It holds an ndarray, or a traced value, or `Elements` once a traced value has been written into it. A view reads its
    root again after a write to it.
    """

    __slots__ = ("_elements", "_in_order", "_root", "_seen", "_step", "_unsure", "_value", "_version")

    _root: MutableArray  # the array that this is a view of, or itself
    _step: Step | None  # from the root to the view
    _elements: Elements | None  # of a root that has been written to
    _version: int  # of a root: the number of writes of traced values
    _in_order: bool | None  # whether the elements surely lie in memory in C's order in NumPy; None: see `in_order`
    _unsure: str  # of a root: the function whose result may share its memory in NumPy, or may not

    def __init__(self, value: Either, base: MutableArray | None = None, step: Step | None = None,
                 in_order: bool = True):
        self._value = value
        self._weak = not isinstance(value, np.ndarray) and value._weak
        self._elements, self._version, self._unsure = None, 0, ""
        if base is None or step is None:
            self._root, self._step = self, None
            self._in_order = value.flags.c_contiguous if isinstance(value, np.ndarray) else (
                in_order or value.ndim < 2)
        else:
            self._in_order = None
            self._root, before = base._root, base._step
            self._step = step if before is None else lambda x: step(before(x))
        self._seen = self._root._version  # the number of writes that `_value` includes

    def current(self) -> Either:
        """Return the elements: an ndarray if no traced value is among them."""
        root = self._root
        if self._seen != root._version:
            if root._elements is not None:
                self._value = root._elements.read(self._places())
            elif self._step is not None:
                self._value = self._step(root.current())
            self._seen = root._version
        return self._value

    def known(self) -> np.ndarray | None:
        """Return the elements, if no traced value is among them."""
        value = self.current()
        return value if isinstance(value, np.ndarray) else None

    def traced(self) -> Array:
        """Return the elements as a traced value."""
        value = self.current()
        return as_array(np.array(value)) if isinstance(value, np.ndarray) else value

    def in_order(self) -> bool:
        """Return whether the elements surely lie in C's order."""
        if self._in_order is None:
            self._in_order = self._root.in_order() and self.layout(lambda x: x.flags.c_contiguous)
        return self._in_order

    def layout(self, question: Callable[[np.ndarray], bool]) -> bool:
        """Ask an ndarray with the strides that this one has in NumPy, if its root lies in C's order.

        Symbolic sizes are those of the traced example, and stay symbolic. Without an example the answer is no.
        """
        trace, step = thread.trace, self._step or (lambda x: x)
        before, trace.guards = trace.guards, Guards()
        try:
            return question(cast(np.ndarray, step(np.empty(known_shape(self._root.current()), bool))))
        except ShapeError:
            return False
        finally:
            trace.guards = before

    def _places(self) -> np.ndarray:
        places = cast(Elements, self._root._elements).places
        return places if self._step is None else cast(np.ndarray, self._step(places))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name == "_node":
                return self.traced()._node
            known = self.known()
            if known is None:
                return super().__getattr__(name)
            found = getattr(known, name)
            return functools.partial(_method(name), self) if callable(found) else found

    # -- writing -------------------------------------------------------------------------------------------------

    def __setitem__(self, key: object, value: object) -> None:  # type: ignore[override]
        key, new = plain(key), plain(value)
        known = self.known()
        if known is not None and not holds_traced(key) and not holds_traced(new):
            known[cast("int", key)] = new
        elif not (isinstance(value, MutableArray) and self._holds_view(key, value)):
            self._write(key, as_array(new))

    def _holds_view(self, key: object, value: MutableArray) -> bool:
        """Return whether a value is this array's own view, as at the end of ``x[key] += y``."""
        if self._root._elements is None or value._root is not self._root or holds_traced(key):
            return False
        own, others = self._places()[cast("int", key)], value._places()
        return own.shape == others.shape and np.array_equal(own, others)

    def _write(self, key: object, value: Array) -> None:
        """Write traced values, or to traced places."""
        root, value = self._root, value.astype(self.dtype)
        if root._unsure:
            raise TraceError(at_user_line(
                f"assignment to elements of an array that np.{root._unsure} has reshaped: whether the two share memory "
                "in NumPy depends on the order in which they lie there. Reshape a copy of it: x.copy()"))
        if holds_traced(key):
            key, value = ..., At[Array](self.traced())[key].set(value)
        if root._elements is None and self is root and any(isinstance(n, Dim) for n in root.traced()._node.shape):
            self._become(value if key is ... else At[Array](self.traced())[key].set(value))
            return
        if root._elements is None:
            known = root.known()
            root._elements = Elements(root.traced() if known is None else known.copy())
        places = self._places()
        self._check_fits(places, key, value)
        root._elements.write(places, key, value)
        root._version += 1

    def _become(self, value: Array) -> None:
        """Replace all elements of a root."""
        self._value = value
        self._version += 1
        self._seen = self._version

    def _check_fits(self, places: np.ndarray, key: object, value: Array) -> None:
        named = places[cast("int", key)]
        shape = value._node.shape
        while len(shape) > named.ndim and shape[0] == 1:
            shape = shape[1:]
        try:
            np.broadcast_to(np.empty(tuple(map(number, shape)), bool), named.shape)
        except ValueError:
            raise ShapeError(at_user_line(f"assignment of {value._node.type} to elements of shape "
                                          f"{list(named.shape)}: they do not fit")) from None

    def _update(self, result: object, name: str) -> MutableArray:
        """Write the result of an in-place operator."""
        new = as_array(plain(result))
        if not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise DtypeError(at_user_line(f"{name} of {self.dtype} and {new.dtype}: NumPy does not write {new.dtype} "
                                          f"into an array of {self.dtype}. Make that one of {new.dtype}."))
        if not guard_equal_shapes(new._node.shape, self._node.shape):
            raise ShapeError(at_user_line(f"{name} of {self._node.type} with a result of {new._node.type}: an array "
                                          "keeps its shape"))
        self._write(..., new)
        return self

    def copy(self, order: str = "C") -> MutableArray:
        """Return a copy, in C's order."""
        return MutableArray(self.current().copy())

    def fill(self, value: object) -> None:
        """Set all elements to one value."""
        self[...] = value

    def sort(self, axis: int = -1, **options: object) -> None:
        """Sort the elements along an axis."""
        self[...] = applied(np.sort, (self, axis), options)

    def partition(self, kth: object, axis: int = -1, **options: object) -> None:
        """Bring the element of a rank to its place along an axis, smaller ones before it and larger ones behind."""
        self[...] = applied(np.partition, (self, kth, axis), options)

    def put(self, indices: object, values: object, mode: str = "raise") -> None:
        """Set elements by their places in C's order; values that are too few repeat."""
        if is_empty(indices) or is_empty(values):
            return
        size = len(self.flat)
        places = applied(ours.ravel, (indices,), {})
        if mode != "raise":
            wrapped = mode == "wrap"
            places = applied(np.mod if wrapped else np.clip, (places, size) if wrapped else (places, 0, size - 1), {})
        self.flat[places] = applied(np.resize, (values, cast(Array, places).shape), {})

    def view(self, dtype: object = None, *kind: object) -> object:
        """Return a view of all elements; one of their bytes, of known elements alone."""
        if dtype is None:
            return self[...]
        return _method("view")(self, dtype, *kind)

    def resize(self, *shape: object, **options: object) -> None:
        """Raise `TraceError`."""
        raise TraceError(at_user_line("resize of an array in place: its views would keep the old size. Make another "
                                      "one: y = np.zeros(n), y[:len(x)] = x"))

    def __copy__(self) -> MutableArray:
        return cast(MutableArray, applied(np.copy, (self,), {}))

    def __deepcopy__(self, memo: dict[int, object]) -> MutableArray:
        return self.__copy__()

    # -- reading -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: object) -> Array:
        key, known = plain(key), self.known()
        if known is not None and not holds_traced(key):
            found: object = known[cast("int", key)]
        elif self._root._elements is not None and not holds_traced(key):
            found = self._root._elements.read(self._places()[cast("int", key)])
        else:
            found = self.traced()[key]
        if not isinstance(found, (np.ndarray, Array)):
            return cast(Array, found)  # a number of NumPy
        if not found.ndim or not _is_basic(key):
            return MutableArray(found)
        return MutableArray(found, self, lambda x: cast(Either, x[cast("int", key)]))

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.current())

    def __contains__(self, x: object) -> bool:
        return bool(cast(Array, self == x).any())

    @property
    def shape(self) -> tuple[int | Size, ...]:
        return self._value.shape

    @shape.setter
    def shape(self, new: object) -> None:
        raise TraceError(at_user_line("assignment to the shape of an array: its views would keep the old one. Write "
                                      "x = x.reshape(shape)"))

    @property
    def flat(self) -> Flat:
        return Flat(self)

    @flat.setter
    def flat(self, value: object) -> None:
        self.flat[:] = applied(np.ravel, (value[:] if isinstance(value, Flat) else value,), {})

    @property
    def dtype(self) -> np.dtype:
        return self._value.dtype

    @property
    def ndim(self) -> int:
        return self._value.ndim

    def __repr__(self) -> str:
        return repr(self.current())

    def __str__(self) -> str:
        return str(self.current())

    def __format__(self, spec: str) -> str:
        return format(self.current(), spec)

    def __round__(self, digits: int = 0) -> Array:
        return cast(Array, applied(np.round, (self, digits), {}))

    def item(self, *place: object) -> object:
        """Return the only element, or one of them, as a number."""
        known = self.known()
        if known is not None:
            return known.item(*cast("tuple[int, ...]", place))
        return self.reshape(-1)[place or 0] if len(place) < 2 else self[place]

    def tolist(self) -> object:
        """Return the elements as numbers in nested lists."""
        known = self.known()
        if known is not None:
            return known.tolist()
        return [x.tolist() for x in self] if self.ndim else self

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.current(), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> object:
        def apply(*inputs: object, **options: object) -> object:
            array = next((x for x in inputs if isinstance(x, Array)), None)
            if array is None:
                return getattr(ufunc, method)(*inputs, **options)
            return Array.__array_ufunc__(array, ufunc, method, *inputs, **options)

        return (elementwise if method == "__call__" else applied)(apply, inputs, options)

    def __array_function__(self, func: Callable[..., object], types: object, args: object, options: object) -> object:
        def apply(*args: object, **options: object) -> object:
            if any_traced(args) or any_traced(options.values()):
                return Array.__array_function__(self, func, types, args, options)
            return func(*args, **options)

        return applied(apply, cast("tuple[object, ...]", args), cast("dict[str, object]", options), func.__name__)


class Flat:
    """The elements of an array in C's order, to read and to write."""

    def __init__(self, array: MutableArray):
        self._array = array

    def __getitem__(self, key: object) -> object:
        return self._array.copy().reshape(-1)[key]

    def __setitem__(self, key: object, value: object) -> None:
        array, key, new = self._array, plain(key), plain(value[:] if isinstance(value, Flat) else value)
        if holds_traced(key):
            flat = At[Array](array.traced().reshape(-1))[key].set(as_array(new))
            array[...] = flat.reshape(*array.shape)
            return
        shape = known_shape(array.current())
        array[np.unravel_index(np.arange(math.prod(shape))[cast("int", key)], shape)] = new

    def __len__(self) -> int:
        return math.prod(known_shape(self._array.current()))

    def __iter__(self) -> Iterator[object]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


# -- functions of mutable arrays -----------------------------------------------------------------------------------


def plain(x: object) -> object:
    """Return an argument with ndarrays, and traced values that never change, in the place of mutable arrays."""
    if isinstance(x, MutableArray):
        return x.current()
    if type(x) in (list, tuple):
        return type(cast("list[object]", x))(map(plain, cast("list[object]", x)))
    return x


def holds_traced(x: object) -> bool:
    """Return whether an argument is a traced value, or a list or slice that holds one."""
    if isinstance(x, slice):
        return any_traced((x.start, x.stop, x.step))
    if isinstance(x, (list, tuple)):
        return any(map(holds_traced, x))
    return any_traced((x,))


def mutable(x: object) -> object:
    """Return a result as NumPy code sees it: arrays can be written to."""
    if type(x) is Array or (type(x) is np.ndarray and x.dtype.kind in _NUMBERS):
        return MutableArray(x)
    if isinstance(x, MutableArray):  # a function of traced values may return one of them: they do not change
        value = x.current()
        return MutableArray(value.copy())
    if isinstance(x, (list, tuple)):
        made = [mutable(v) for v in x]
        return made if isinstance(x, list) else _tuple_of(x, made)
    return x


def _tuple_of(like: tuple[object, ...], values: list[object]) -> tuple[object, ...]:
    named: Callable[..., tuple[object, ...]] = type(like)
    return named(*values) if hasattr(like, "_fields") else tuple(values)


def applied(function: Callable[..., object], args: Sequence[object], options: dict[str, object], name: str = ""
            ) -> object:
    """Return the result of a function of NumPy, of arrays that can be written to.

    `name` is that of NumPy's function or method, if there is one.
    """
    given = [plain(x) for x in args]
    named = {k: plain(v) for k, v in options.items()}
    out = options.get("out")
    if out is not None and any(isinstance(x, MutableArray) for x in (out if isinstance(out, tuple) else (out,))):
        return _written(function, given, named, out)
    result = function(*given, **named)
    in_order = all(x.in_order() for x in args if isinstance(x, MutableArray))
    base = args[0] if args and isinstance(args[0], MutableArray) else None
    if base is None:
        return MutableArray(result, in_order=in_order) if type(result) is Array else mutable(result)

    def step(x: Either) -> object:
        return function(x, *given[1:], **named)

    if isinstance(result, (list, tuple)):
        def part(i: int) -> Step:
            return lambda x: cast("list[Either]", step(x))[i]

        made = [_result(x, base, part(i), name, in_order) for i, x in enumerate(result)]
        return made if isinstance(result, list) else _tuple_of(result, made)
    return _result(result, base, cast(Step, step), name, in_order)


def named_from_out(function: Callable[..., object], args: tuple[object, ...], options: dict[str, object]
                   ) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return the arguments of a function of a table, with ``out`` and those behind it by name."""
    names = positional_names(function)
    place = names.index("out") if "out" in names else len(args)
    return args[:place], {**dict(zip(names[place:], args[place:], strict=False)), **options}


def elementwise(function: Callable[..., object], args: Sequence[object], options: dict[str, object], name: str = ""
                ) -> object:
    """Return the result of a ufunc: with a mask ``where=``, the elements of ``out=`` stay where that is false."""
    out = plain(options.get("out"))
    own = out[0] if isinstance(out, tuple) and len(out) == 1 else out

    def masked(*args: object, where: object = True, **rest: object) -> object:
        if where is True or "out" in rest or not isinstance(own, (Array, np.ndarray)):
            return function(*args, where=where, **rest)
        return ours.where(where, function(*args, **rest), own)

    return applied(masked if "where" in options else function, args, options, name)


def is_empty(x: object) -> bool:
    """Return whether an array is known to have no elements."""
    return any(type(n) is int and not n for n in as_array(plain(x)).shape)


def _written(function: Callable[..., object], given: Sequence[object], named: dict[str, object], out: object) -> object:
    """Write the results of a function into the arrays `out`, and return these; None stands for an array of its own."""
    known = not holds_traced([*given, *named.values()])  # NumPy writes into the ndarrays that the arrays hold
    result = function(*given, **(named if known else {k: v for k, v in named.items() if k != "out"}))
    arrays, values = (out, result) if isinstance(out, tuple) and isinstance(result, tuple) else ((out,), (result,))
    made = []
    for place, x in zip(arrays, values, strict=True):
        array = place[0] if isinstance(place, tuple) else place
        made.append(mutable(x) if array is None else array)
        if not known and array is not None:
            _write_result(cast(MutableArray, array), as_array(x))
    return tuple(made) if isinstance(result, tuple) else made[0]


def _write_result(array: MutableArray, x: Array) -> None:
    if not np.can_cast(x.dtype, array.dtype, "same_kind"):
        raise DtypeError(at_user_line(f"out=: NumPy does not write {x.dtype} into an array of {array.dtype}. Make that "
                                      f"one of {x.dtype}."))
    array[...] = x


def _result(x: object, base: MutableArray, step: Step, name: str, in_order: bool) -> object:
    """Return a result of a function of `base`: `base` itself, a view of it, or an array of its own.

    `in_order` says whether all arguments surely lie in C's order: NumPy keeps the order of most.
    """
    own = base.current()
    if x is own and (isinstance(own, np.ndarray) or name in _ALIASES):
        return base
    if type(x) is np.ndarray and isinstance(own, np.ndarray):
        return MutableArray(x, base, step) if np.may_share_memory(x, own) else mutable(x)
    if type(x) is not Array:
        return mutable(x)
    if isinstance(own, Array) and name in _VIEWS and _is_view(base, step, name):
        return MutableArray(x, base, step)
    return MutableArray(x, in_order=in_order)


def _is_view(base: MutableArray, step: Step, name: str) -> bool:
    """Return whether NumPy's result would share the memory of `base`: a reshaped view of a view may not."""
    if name not in _RESHAPING or base.in_order():
        return True
    if not base._root.in_order():
        base._root._unsure = name
        return True
    return base.layout(lambda x: np.may_share_memory(cast(np.ndarray, step(x)), x))


def _is_basic(key: object) -> bool:
    """Return whether an index makes a view."""
    items = key if isinstance(key, tuple) else (key,)
    return all(isinstance(k, (int, np.integer, slice, EllipsisType, Size, type(None))) and not isinstance(k, bool)
               for k in items)


# -- operators and methods -----------------------------------------------------------------------------------------


def _method(name: str) -> Callable[..., object]:
    """Return a method of ndarrays: NumPy's own on the host, and that of traced arrays."""

    def apply(x: object, *args: object, **options: object) -> object:
        if isinstance(x, Array) or not holds_traced(args):
            owner = Array if isinstance(x, Array) else np.ndarray
            return getattr(owner, name)(x, *args, **options)
        return getattr(Array, name)(as_array(x), *args, **options)

    function = TABLE.get(getattr(np, name, _method))

    def method(self: MutableArray, *args: object, **options: object) -> object:
        given: tuple[object, ...] = (self, *args)
        if function is not None:
            given, options = named_from_out(function, given, options)
        return applied(apply, given, options, name)

    method.__name__ = name
    return method


def _attribute(name: str) -> property:
    def get(self: MutableArray) -> object:
        return applied(lambda x: getattr(x, name), (self,), {}, name)

    return property(get)


def _in_place(name: str, symbol: str) -> Callable[[MutableArray, object], object]:
    """Return an in-place operator: it writes to an array, and not to a number."""

    def method(self: MutableArray, other: object) -> object:
        value = plain(other)
        if not self.ndim:
            return getattr(self, f"__{name}__")(other)
        known = self.known()
        if known is not None and not holds_traced(value):
            getattr(operator, f"__i{name}__")(known, value)
            return self
        return self._update(getattr(self, f"__{name}__")(other), symbol)

    return method


for _name, _symbol in {"add": "+=", "sub": "-=", "mul": "*=", "truediv": "/=", "floordiv": "//=", "mod": "%=",
                       "pow": "**=", "matmul": "@=", "and": "&=", "or": "|=", "xor": "^=", "lshift": "<<=",
                       "rshift": ">>="}.items():
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(MutableArray, _form, _method(_form))
    setattr(MutableArray, f"__i{_name}__", _in_place(_name, _symbol))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert", "divmod", "rdivmod", "bool", "float",
              "int", "index", "complex"):
    setattr(MutableArray, f"__{_name}__", _method(f"__{_name}__"))
for _name in dir(np.ndarray):
    if not _name.startswith("_") and _name not in vars(MutableArray):
        _is_function = callable(getattr(np.ndarray, _name)) and hasattr(Array, _name)
        if _is_function or hasattr(Array, _name):
            setattr(MutableArray, _name, _method(_name) if _is_function else _attribute(_name))
MutableArray.__hash__ = Array.__hash__  # type: ignore[method-assign]

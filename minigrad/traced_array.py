"""The traced array: the values of NumPy code during a trace.

An `Array` wraps a node. Its methods call the functions of `minigrad.numpy`, which enters them in `TABLE` and `hooks`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

import numpy as np

from .errors import IntegerRangeError, TraceError, at_user_line
from .graph import Node, Table, dtype_of, full
from .immutable import Immutable
from .ops.constants import constant, size_scalar
from .sizes import Size, shown
from .symbolic import size_of
from .tracing import number, thread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ConstantLike

    import minigrad.numpy.updates

# Arguments of functions of arrays: traced values, sizes, and NumPy's array-likes, nested lists included.
ArrayLike: TypeAlias = "Array | Size | ConstantLike | Sequence[ArrayLike]"
R = TypeVar("R")

TABLE: Table[Callable[..., object], Callable[..., Array]] = Table()  # NumPy's function -> ours, maybe of several arrays
_LARGE = 1 << 16  # constants of more bytes are looked up by identity within a trace


class Hooks:
    """Functions that the methods of `Array` call, besides `TABLE`; `minigrad.numpy` sets them on import."""

    assigned: Callable[[Array], NoReturn]  # raises for ``x[i] = v``
    at: Callable[[Array], minigrad.numpy.updates.At[Array]]
    formatted: Callable[[Array, str], str]  # the text of a known array in a format, or raises; "": or its type
    converted: Callable[[object], Array | np.ndarray]  # from a list, or an array of another library
    foreign: Callable[[np.ufunc, Array, object], Array | None]  # an operator's value with no array
    function: Callable[..., object]  # __array_function__
    getitem: Callable[[Array, object], Array]
    missing: Callable[[Array, str], NoReturn]  # raises for an attribute that traced arrays do not have
    namespace: ModuleType
    python_number: Callable[[np.ufunc, Array, Sequence[Array]], Array]  # from a ufunc's result on Python's numbers
    ufunc: Callable[..., object]  # __array_ufunc__
    value: Callable[[Array, str], np.ndarray]  # that of an array without inputs, for the named method, or raises

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., object]:
            Table.complete()
            return object.__getattribute__(self, name)


hooks = Hooks()


def _binary(ufunc: np.ufunc, flipped: bool = False) -> Callable[[Array, ArrayLike], Array]:
    """Return an operator's method that applies a ufunc."""

    def method(self: Array, other: ArrayLike) -> Array:
        if not isinstance(other, _NUMBERS) and (answer := hooks.foreign(ufunc, self, other)) is not None:
            return answer
        xs = (as_array(other), self) if flipped else (self, as_array(other))
        out = TABLE[ufunc](*xs)
        return hooks.python_number(ufunc, out, xs) if xs[0]._weak and xs[1]._weak else out

    return method


def _operator(ufunc: np.ufunc) -> tuple[Callable[[Array, ArrayLike], Array], Callable[[Array, ArrayLike], Array]]:
    """Return an operator's methods, for the array on the left and on the right."""
    return _binary(ufunc), _binary(ufunc, flipped=True)


def _unary(ufunc: np.ufunc) -> Callable[[Array], Array]:
    def method(self: Array) -> Array:
        out = TABLE[ufunc](self)
        return hooks.python_number(ufunc, out, (self,)) if self._weak else out

    return method


def _method(function: Callable[..., object]) -> Callable[..., Array]:
    """Return a NumPy function as a method of its first argument."""

    @functools.wraps(function)
    def method(self: Array, *args: object, **options: object) -> Array:
        return TABLE[function](self, *args, **options)

    return method


def _conversion(name: str, convert: Callable[..., R]) -> Callable[..., R]:
    """Return a method that converts the value of an array; only arrays that depend on no input have one."""

    def method(self: Array, *args: object, **options: object) -> R:
        return convert(hooks.value(self, name), *args, **options)

    return method


class Array(Immutable):
    """A traced value, with the interface of a NumPy array; it records operations.

    Attributes
    ----------
    shape, dtype, ndim, size, T, mT : as in NumPy
        A size that is symbolic shows as a `Size`.
    at : At
        Functional updates: ``x.at[i].set(v)``.

    Examples
    --------
    >>> graph = mg.trace(lambda x: x.at[0].set(9.0).reshape(3, 1).mT)(mg.f32[3])
    >>> graph(np.ones(3, np.float32))
    array([[9., 1., 1.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_node", "_weak")
    __array_priority__ = 1000

    def __init__(self, node: Node, weak: bool = False):
        self._node = node
        if (values := thread.trace.values) is not None:
            values.append(node)
        self._weak = weak  # a Python scalar: its dtype yields to others (NEP 50)

    @property
    def shape(self) -> tuple[int | Size, ...]:
        return tuple(shown(n) for n in self._node.shape)

    @property
    def dtype(self) -> np.dtype:
        return self._node.dtype

    @property
    def ndim(self) -> int:
        return self._node.ndim

    @property
    def size(self) -> int | Size:
        return shown(size_of(self._node.shape))

    @property
    def T(self) -> Array:
        return TABLE[np.transpose](self)

    @property
    def mT(self) -> Array:
        return TABLE[np.matrix_transpose](self)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int | Size:
        return shown(size_of(self._node.shape) * self.dtype.itemsize)

    @property
    def real(self) -> Array:
        return self

    @property
    def imag(self) -> Array:
        return TABLE[np.zeros_like](self)

    @property
    def at(self) -> minigrad.numpy.updates.At[Array]:
        return hooks.at(self)

    @property
    def device(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return hooks.formatted(self, "")

    def __len__(self) -> int:
        if not self.ndim:
            raise TraceError(at_user_line("len() of a traced scalar"))
        return number(self._node.shape[0])

    def __iter__(self) -> Iterator[Array]:
        if not self.ndim:
            raise TraceError(at_user_line("iteration over a traced scalar"))
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> NoReturn:
        raise TraceError(at_user_line(
            f"pickle of a traced value ({self._node.type}, from {self._node.where}): its number is known only when the "
            "program runs. Return it from the traced function, and pickle what that returns."))

    def __setitem__(self, *args: object) -> NoReturn:
        hooks.assigned(self)

    __delitem__ = __setitem__

    if not TYPE_CHECKING:  # a type checker refuses other attributes itself

        def __getattr__(self, name: str) -> NoReturn:
            hooks.missing(self, name)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> object:
        return hooks.ufunc(ufunc, method, inputs, options)

    def __array_function__(self, func: Callable[..., object], types: object, args: object, options: object) -> object:
        return hooks.function(func, args, options)

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        return hooks.namespace

    def __format__(self, spec: str) -> str:
        return hooks.formatted(self, spec)

    __array__ = _conversion("__array__", np.asarray)
    __bool__ = _conversion("__bool__", bool)
    __complex__ = _conversion("__complex__", complex)
    __float__ = _conversion("__float__", float)
    __index__ = _conversion("__index__", operator.index)
    __int__ = _conversion("__int__", int)
    item = _conversion("item", np.ndarray.item)
    tolist = _conversion("tolist", np.ndarray.tolist)

    __add__, __radd__ = _operator(np.add)
    __sub__, __rsub__ = _operator(np.subtract)
    __mul__, __rmul__ = _operator(np.multiply)
    __truediv__, __rtruediv__ = _operator(np.divide)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide)
    __mod__, __rmod__ = _operator(np.remainder)
    _power, __rpow__ = _operator(np.power)
    __and__, __rand__ = _operator(np.bitwise_and)
    __or__, __ror__ = _operator(np.bitwise_or)
    __xor__, __rxor__ = _operator(np.bitwise_xor)
    __lshift__, __rlshift__ = _operator(np.left_shift)
    __rshift__, __rrshift__ = _operator(np.right_shift)
    __eq__, __ne__ = _binary(np.equal), _binary(np.not_equal)  # type: ignore[assignment]  # elementwise, no bool
    __lt__, __le__ = _binary(np.less), _binary(np.less_equal)
    __gt__, __ge__ = _binary(np.greater), _binary(np.greater_equal)
    __neg__, __pos__, __abs__ = _unary(np.negative), _unary(np.positive), _unary(np.absolute)
    __invert__, __round__ = _unary(np.invert), _method(np.round)

    def __hash__(self) -> int:
        return object.__hash__(self) if self.ndim else hash(hooks.value(self, "__hash__").item())

    def __pow__(self, other: ArrayLike) -> Array:
        if type(other) is int and other == 2 and self.dtype == np.bool_:
            return TABLE[np.square](self)  # int8, as NumPy has it
        return self._power(other)

    def __divmod__(self, other: ArrayLike) -> tuple[Array, Array]:
        return self // other, self % other

    def __rdivmod__(self, other: ArrayLike) -> tuple[Array, Array]:
        return self.__rfloordiv__(other), self.__rmod__(other)

    def __matmul__(self, other: ArrayLike) -> Array:
        if getattr(type(other), "__array_ufunc__", self) is None:  # `Sparse` multiplies from the right itself
            return NotImplemented
        return TABLE[np.matmul](self, other)

    def __rmatmul__(self, other: ArrayLike) -> Array:
        return TABLE[np.matmul](other, self)

    def __getitem__(self, key: object) -> Array:
        return hooks.getitem(self, key)

    all, any, argmax, argmin = _method(np.all), _method(np.any), _method(np.argmax), _method(np.argmin)
    argpartition, argsort, searchsorted = _method(np.argpartition), _method(np.argsort), _method(np.searchsorted)
    max, min, ptp, sum, prod = _method(np.max), _method(np.min), _method(np.ptp), _method(np.sum), _method(np.prod)
    mean, std, var = _method(np.mean), _method(np.std), _method(np.var)
    cumprod, cumsum = _method(np.cumprod), _method(np.cumsum)
    choose, diagonal, take, trace = _method(np.choose), _method(np.diagonal), _method(np.take), _method(np.trace)
    astype, clip, copy, round = _method(np.astype), _method(np.clip), _method(np.copy), _method(np.round)
    dot, ravel, flatten, repeat = _method(np.dot), _method(np.ravel), _method(np.ravel), _method(np.repeat)
    squeeze, swapaxes = _method(np.squeeze), _method(np.swapaxes)

    def compress(self, condition: ArrayLike, axis: int | None = None, out: None = None) -> Array:
        return TABLE[np.compress](condition, self, axis, out)

    def conj(self) -> Array:
        return self

    conjugate = conj

    def reshape(self, *shape: int | Size | Sequence[int | Size], order: str = "C", copy: bool | None = None) -> Array:
        return TABLE[np.reshape](self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape, order)

    def transpose(self, *axes: int | Sequence[int] | None) -> Array:
        permutation = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list, type(None))) else axes
        return TABLE[np.transpose](self, permutation or None)


def number_dtype(x: bool | int | float) -> np.dtype:
    """Return the dtype of a Python number: int64 for an int, or uint64 beyond its range."""
    dtype = np.asarray(x).dtype
    if dtype.kind == "O":
        raise IntegerRangeError(at_user_line(f"the integer {x} is too large for any dtype: use a float"))
    return dtype


def as_array(x: object) -> Array:
    """Return `x` as a traced value; numbers and arrays become constants.

    Raises
    ------
    DtypeError
        If it is complex, of objects, or no array.
    """
    if isinstance(x, Array):
        return x
    if isinstance(x, Size):
        return Array(size_scalar(x.dim, np.dtype(np.int64)), weak=True)
    if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
        return Array(full(x, (), number_dtype(x)), weak=not isinstance(x, bool))
    value = x if isinstance(x, np.ndarray) and x.dtype != object else hooks.converted(x)
    if isinstance(value, Array):
        return value
    dtype_of(value.dtype, lambda: f"a {type(x).__name__}: ")
    known = thread.trace.constants
    if known is None or value.nbytes <= _LARGE:
        return Array(constant(value))
    if id(x) not in known:
        known[id(x)] = (x, constant(value))
    return Array(known[id(x)][1])


_NUMBERS = Array, Size, float, int, np.ndarray, np.number, np.bool_
Size.lift, Size.__array_function__ = as_array, Array.__array_function__  # type: ignore[attr-defined]

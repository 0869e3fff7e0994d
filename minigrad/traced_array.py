"""The traced array: the values that NumPy code computes with during a trace.

An `Array` wraps a node. `minigrad.numpy` fills `TABLE` with what NumPy's functions do to traced arrays, and adds
operators, methods and NumPy's protocols to the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .errors import DtypeError, IntegerRangeError, ShapeError, TraceError, at_user_line
from .graph import Node, dtype_of, full
from .ops.constants import constant, size_scalar
from .primitive import on_host
from .sizes import Size, shown
from .tracing import number, thread

TABLE: dict[Callable[..., Any], Callable[..., Any]] = {}  # NumPy's function -> ours
_LARGE = 1 << 16  # constants of more bytes are looked up by identity within a trace


class Array:
    """A traced value: it has the interface of a NumPy array and records the operations on it.

    Attributes
    ----------
    shape, dtype, ndim, size, T, mT : as in NumPy
        A size that is symbolic shows as a `Size`.
    at : At
        Functional updates: ``x.at[i].set(v)``.
    """

    __slots__ = ("__weakref__", "_node", "_weak")
    __array_priority__ = 1000

    def __init__(self, node: Node, weak: bool = False):
        self._node = node
        if (values := thread.trace.values) is not None:
            values.append(node)
        self._weak = weak  # a Python scalar, whose dtype gives way to others (NEP 50)

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
        return shown(self._node.type.size)

    @property
    def T(self) -> Array:
        return TABLE[np.transpose](self)

    @property
    def mT(self) -> Array:
        return TABLE[np.matrix_transpose](self)

    @property
    def real(self) -> Array:
        return self

    @property
    def imag(self) -> Array:
        return TABLE[np.zeros_like](self)

    @property
    def device(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return f"<traced {self._node.type}: {self._node.prim.name} at {self._node.where}>"

    def __len__(self) -> int:
        if not self.ndim:
            raise TraceError(at_user_line("len() of a traced scalar"))
        return number(self._node.shape[0])

    def __iter__(self) -> Iterator[Array]:
        if not self.ndim:
            raise TraceError(at_user_line("iteration over a traced scalar"))
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __copy__(self) -> Array:  # it never changes
        return self

    def __deepcopy__(self, memo: dict) -> Array:
        return self

    def __reduce__(self) -> Any:
        raise TraceError(at_user_line(
            f"pickle of a traced value ({self._node.type}, from {self._node.where}): its number is known only when the "
            "program runs. Return it from the traced function, and pickle what that returns."))

    def __setitem__(self, *args: Any) -> None:
        raise TraceError(at_user_line(
            f"in-place assignment to a traced value ({self._node.type}, from {self._node.where}): traced arrays never "
            "change. Write x = x.at[i].set(new), or x = np.where(mask, new, x)."))

    __delitem__ = __setitem__


def any_traced(values: Any) -> bool:
    return any(isinstance(v, (Array, Size)) or (isinstance(v, (list, tuple)) and any_traced(v)) for v in values)


def number_dtype(x: bool | int | float) -> np.dtype:
    """Return the dtype of a Python number: an int is int64, or uint64 where it is too large for that."""
    dtype = np.asarray(x).dtype
    if dtype.kind == "O":
        raise IntegerRangeError(at_user_line(f"the integer {x} is too large for any dtype: use a float"))
    return dtype


def as_array(x: Any) -> Array:
    """Return `x` as a traced value: a constant where it is a number or an array.

    Raises
    ------
    DtypeError
        If it is complex, of objects, or not an array at all.
    """
    if isinstance(x, Array):
        return x
    if isinstance(x, Size):
        return Array(size_scalar(x.dim, np.dtype(np.int64)), weak=True)
    if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
        dtype = number_dtype(x)
        return Array(full(x, (), dtype), weak=not isinstance(x, bool))
    if isinstance(x, (list, tuple)) and any_traced(x):
        return TABLE[np.stack]([as_array(v) for v in x])
    if hasattr(x, "tocoo"):
        raise DtypeError(at_user_line(f"a {type(x).__name__} of SciPy with a traced value: write "
                                      "mg.Sparse.from_scipy(A), which multiplies traced values"))
    try:
        value = on_host(x)
        if value.dtype == object and all(isinstance(v, (int, float, Size, Array)) for v in value.flat):
            # What NumPy makes of sizes, in np.arange(x.shape[0]) or np.array(x.shape): numbers after all.
            listed = value.tolist()
            if any_traced([listed]):
                return as_array(listed)
            value = np.asarray(listed)
    except ValueError as error:
        raise ShapeError(at_user_line(f"a {type(x).__name__} that is no array: {error}")) from None
    dtype_of(value.dtype, lambda: f"a {type(x).__name__}: ")
    known = thread.trace.constants
    if known is None or value.nbytes <= _LARGE:
        return Array(constant(value))
    if id(x) not in known:
        known[id(x)] = (x, constant(value))
    return Array(known[id(x)][1])


Size.lift = as_array

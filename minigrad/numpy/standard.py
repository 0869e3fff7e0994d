"""Names of the array API standard, and what NumPy has around bits, signs and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import ArrayType
from ..ops import integer
from ..sizes import shown
from .array import Array, as_array, as_shape, broadcast_node, broadcast_shapes, implements
from .shaping import where
from .ufuncs import _enter, operands, refuse_where

# -- bits --------------------------------------------------------------------------------------------------

_enter(np.gcd, integer.gcd)
_enter(np.lcm, integer.lcm)
_enter(np.nextafter, integer.nextafter)



def _bitwise_count(n: Array) -> Array:
    # Bits are added up in ever wider fields.
    n = np.abs(n).astype(f"u{n.dtype.itemsize}").astype(np.uint64)  # the least integer is its own absolute value
    one, two, four = (np.uint64(v) for v in (1, 2, 4))
    n = n - ((n >> one) & np.uint64(0x5555555555555555))
    n = (n & np.uint64(0x3333333333333333)) + ((n >> two) & np.uint64(0x3333333333333333))
    n = (n + (n >> four)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    for k in (8, 16, 32):
        n = n + (n >> np.uint64(k))
    return (n & np.uint64(127)).astype(np.uint8)


def _ldexp(x: Array, n: Array) -> Array:
    # In two factors, so that neither overflows before the product does.
    half = n // 2
    return x * np.exp2(half.astype(x.dtype)) * np.exp2((n - half).astype(x.dtype))


def _spacing(x: Array) -> Array:
    return np.nextafter(x, np.copysign(x.dtype.type(np.inf), x)) - x


def _fmod(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        sign = np.copysign(x.dtype.type(1), x)  # and not abs and copysign of x, whose slopes at 0 are 0
        return np.remainder(x * sign, np.abs(y)) * sign
    out = np.remainder(x, y)  # of the sign of y: where that is not x's, one y too much
    return where((out != 0) & ((out < 0) != (x < 0)), out - y, out)


def _signbit(x: Array) -> Array:
    return np.copysign(x.dtype.type(1), x) < 0


def _modf(x: Array) -> tuple[Array, Array]:
    return _fmod(where(np.isinf(x), np.copysign(x.dtype.type(0), x), x), x.dtype.type(1)), np.trunc(x)


def _enter_written(ufunc: np.ufunc, function: Callable[..., Any]) -> None:
    """Enter what is written with other functions, on operands of one shape and the dtypes of the ufunc's loop."""

    def ours(*args: Any, dtype: Any = None, casting: str = "same_kind", **rest: Any) -> Any:
        refuse_where(ufunc.__name__, rest)
        xs = [as_array(a) for a in args]
        shape = broadcast_shapes(f"np.{ufunc.__name__}", [x._node.type for x in xs])
        return function(*(Array(broadcast_node(n, shape)) for n in operands(ufunc, xs, dtype, casting)))

    ours.__doc__ = f"Elementwise ``np.{ufunc.__name__}`` of traced values."
    implements(ufunc, name=ufunc.__name__)(ours)


for _ufunc, _function in ((np.bitwise_count, _bitwise_count), (np.ldexp, _ldexp), (np.spacing, _spacing),
                          (np.fmod, _fmod), (np.modf, _modf), (np.signbit, _signbit)):
    _enter_written(_ufunc, _function)

# -- what NumPy's functions say of numbers that are real ---------------------------------------------------


@implements(np.fix)
def fix(x, out=None):
    """Round towards zero."""
    return np.trunc(as_array(x))


@implements(np.real, np.real_if_close)
def real(val, tol=100):
    """The value itself: there are no complex arrays."""
    return as_array(val)


@implements(np.imag)
def imag(val):
    """Zeros: there are no complex arrays."""
    return np.zeros_like(as_array(val))


@implements(np.angle)
def angle(z, deg=False):
    """0 for what is positive, pi for what is negative."""
    x = as_array(z)
    out = np.arctan2(np.zeros_like(x), x)
    return np.degrees(out) if deg else out


@implements(np.isreal)
def isreal(x):
    """True everywhere."""
    return np.ones_like(as_array(x), dtype=bool)


@implements(np.iscomplex)
def iscomplex(x):
    """False everywhere."""
    return np.zeros_like(as_array(x), dtype=bool)


@implements(np.iscomplexobj)
def iscomplexobj(x):
    """False."""
    return False


@implements(np.isrealobj)
def isrealobj(x):
    """True."""
    return True


@implements(np.isposinf)
def isposinf(x, out=None):
    """Whether each element is inf."""
    return as_array(x) == np.inf


@implements(np.isneginf)
def isneginf(x, out=None):
    """Whether each element is -inf."""
    return as_array(x) == -np.inf


# -- equality, dtypes, shapes ------------------------------------------------------------------------------


@implements(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    """Whether shapes and elements are equal."""
    a, b = as_array(a1), as_array(a2)
    if a._node.shape != b._node.shape:
        return np.bool_(False)
    same = a == b
    if equal_nan and a.dtype.kind == b.dtype.kind == "f":
        same = same | (np.isnan(a) & np.isnan(b))
    return same.all()


@implements(np.array_equiv)
def array_equiv(a1, a2):
    """Whether the elements are equal after broadcasting."""
    a, b = as_array(a1), as_array(a2)
    try:
        broadcast_shapes("array_equiv", [a._node.type, b._node.type])
    except ValueError:
        return np.bool_(False)
    return (a == b).all()


@implements(np.can_cast)
def can_cast(from_, to, casting="safe"):
    """``np.can_cast`` of a traced value's dtype."""
    return np.can_cast(from_.dtype if isinstance(from_, Array) else from_, to, casting)


@implements(np.common_type)
def common_type(*arrays):
    """The floating dtype common to all arrays."""
    return np.common_type(*(np.empty(0, a.dtype) if isinstance(a, Array) else a for a in arrays))


def _dtype(x: Any) -> Any:
    return x.dtype if isinstance(x, (Array, np.ndarray, np.generic)) else x


@implements(name="finfo")
def finfo(type, /):
    """``np.finfo``, of an array too."""
    return np.finfo(_dtype(type))


@implements(name="iinfo")
def iinfo(type, /):
    """``np.iinfo``, of an array too."""
    return np.iinfo(_dtype(type))


@implements(name="broadcast_shapes")
def broadcast_shapes_(*shapes):
    """``np.broadcast_shapes``, of shapes with symbolic sizes too."""
    kind = np.dtype(float)
    types = [ArrayType(as_shape(s), kind) for s in shapes]
    return tuple(shown(n) for n in broadcast_shapes("broadcast_shapes", types)) if types else ()


@implements(np.asfortranarray, np.require)
def asfortranarray(a, dtype=None, *rest, **more):
    """A traced value as it is, which has no layout, or cast."""
    x = as_array(a)
    return x if dtype is None else x.astype(dtype)

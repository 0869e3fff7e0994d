"""NumPy's ufuncs on traced values: dtypes are resolved by the ufunc itself, shapes are broadcast."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, TraceError, at_user_line
from ..graph import Node, constant_of, dtype_of, full
from ..ops import elementwise as ew
from ..ops import integer, overflow
from ..primitive import Primitive
from .array import NAMES, TABLE, Array, as_array, broadcast_node, broadcast_shapes, held, implements

_BOOLEAN = {ew.add: ew.logical_or, ew.mul: ew.logical_and, ew.maximum: ew.logical_or, ew.minimum: ew.logical_and,
            ew.bitwise_and: ew.logical_and, ew.bitwise_or: ew.logical_or, ew.bitwise_xor: ew.logical_xor,
            ew.bitwise_not: ew.logical_not, ew.abs_: lambda x: x,
            ew.gt: lambda x, y: ew.logical_and(x, ew.logical_not(y)), ew.lt: lambda x, y: _BOOLEAN[ew.gt](y, x),
            ew.ge: lambda x, y: ew.logical_or(x, ew.logical_not(y)), ew.le: lambda x, y: _BOOLEAN[ew.ge](y, x)}


@functools.lru_cache(maxsize=4096)
def _resolve(ufunc: np.ufunc, kinds: tuple[Any, ...], dtype: np.dtype | None, casting: str) -> tuple[np.dtype, ...]:
    """Return the dtypes of the loop that NumPy itself would take."""
    kinds = (*kinds, *[None] * ufunc.nout)
    if dtype is None:
        return ufunc.resolve_dtypes(kinds, casting=casting)
    return ufunc.resolve_dtypes(kinds, signature=(*[None] * ufunc.nin, *[dtype] * ufunc.nout), casting=casting)


def _kind(x: Array) -> Any:
    return {"f": float, "i": int, "u": int}[x.dtype.kind] if x._weak else x.dtype


_COMPARISONS = frozenset({np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal})


def _fits(x: Array, dtype: np.dtype) -> bool:
    """Tell whether a Python int that is known now is a number of `dtype`."""
    if not x._weak or not x._node.is_constant or dtype.kind not in "iu":
        return True
    info = np.iinfo(dtype)
    return info.min <= x._node.params["value"] <= info.max


def _wider(dtypes: tuple[np.dtype, ...], xs: list[Array]) -> tuple[np.dtype, ...]:
    """Return dtypes in which integers of `dtypes` compare with any that a Python int may be."""
    if any(d.kind not in "iu" for d in dtypes[:2]):
        return dtypes
    return tuple(x.dtype if x._weak or d == np.uint64 else np.dtype(np.int64)
                 for d, x in zip(dtypes, xs, strict=False))


def operands(ufunc: np.ufunc, xs: list[Array], dtype: Any = None, casting: str = "same_kind") -> list[Node]:
    """Return the operands cast to the dtypes of the ufunc's loop: the one with results of `dtype`, where given."""
    # Of Python scalars alone, each is what an array of it would be.
    kinds = tuple(x.dtype for x in xs) if all(x._weak for x in xs) else tuple(map(_kind, xs))
    try:
        dtypes = _resolve(ufunc, kinds, None if dtype is None else dtype_of(dtype), casting)
    except (TypeError, OverflowError) as error:
        types = ", ".join(str(x._node.type) for x in xs)
        raise DtypeError(at_user_line(f"np.{ufunc.__name__}({types}): {error}")) from None
    if ufunc not in _COMPARISONS:
        return [held(x, d) for x, d in zip(xs, dtypes, strict=False)]
    if any(x._weak and not x._node.is_constant for x in xs):
        # A Python int that only a call knows: it may be out of the other's range.
        dtypes = _wider(dtypes, xs)
    if not all(map(_fits, xs, dtypes)):
        dtypes = (np.result_type(*(x.dtype for x in xs)),) * len(xs)
    return [ew.cast_to(x._node, d) for x, d in zip(xs, dtypes, strict=False)]


def apply(ufunc: np.ufunc, make: Callable[..., Node], xs: list[Array], dtype: Any = None,
          casting: str = "same_kind") -> Array:
    """Apply a function of nodes of one shape and the dtypes of `ufunc`'s loop."""
    nodes = operands(ufunc, xs, dtype, casting)
    if len(nodes) > 1:
        shape = broadcast_shapes(f"np.{ufunc.__name__}", [x._node.type for x in xs])
        nodes = [broadcast_node(n, shape) for n in nodes]
    return Array(make(*nodes))


def refuse_where(label: str, options: dict[str, Any]) -> None:
    """Refuse options of a ufunc that would leave elements of its result undefined, or that do not exist."""
    for name, value in options.items():
        if name == "where" and value is not True:
            raise TraceError(at_user_line(f"np.{label} with where=: write np.where(mask, np.{label}(...), x)"))
        if name not in ("where", "subok", "order"):
            raise TypeError(at_user_line(f"np.{label} on traced values has no option {name}="))


def _enter(ufunc: np.ufunc, make: Callable[..., Node], name: str | None = None) -> None:
    label = name or ufunc.__name__

    def function(*args: Any, dtype: Any = None, casting: str = "same_kind", **rest: Any) -> Array:
        refuse_where(label, rest)
        xs = [as_array(a) for a in args]
        if len(xs) != ufunc.nin:
            raise TypeError(f"np.{label} takes {ufunc.nin} arguments, got {len(xs)}")
        return apply(ufunc, make, xs, dtype, casting)

    function.__name__ = label
    function.__doc__ = f"Elementwise ``np.{ufunc.__name__}`` of traced values."
    implements(ufunc, name=label)(function)


def _of(prim: Primitive) -> Callable[..., Node]:
    boolean = _BOOLEAN.get(prim)

    def make(*nodes: Node) -> Node:
        if len({n.dtype for n in nodes}) > 1:
            return _mixed(prim, *nodes)
        return (boolean if boolean and nodes[0].dtype == np.bool_ else prim)(*nodes)

    return make


def _mixed(prim: Primitive, x: Node, y: Node) -> Node:
    """Compare integers of which one has a sign and the other has 64 bits: as such, where the first is not negative."""
    signed = x if x.dtype.kind == "i" else y
    negative = ew.lt(signed, full(0, signed.shape, signed.dtype))
    below = full(0, x.shape, np.dtype(np.int8)), full(1, x.shape, np.dtype(np.int8))
    unsigned = np.dtype(np.uint64)
    return ew.where(negative, prim(*(below if signed is x else below[::-1])),
                    prim(ew.cast_to(x, unsigned), ew.cast_to(y, unsigned)))


def _truth(prim: Primitive) -> Callable[..., Node]:
    """Return a logical function of anything: numbers are compared with zero first."""

    def make(*nodes: Node) -> Node:
        return prim(*(n if n.dtype == np.bool_ else ew.ne(n, full(0, n.shape, n.dtype)) for n in nodes))

    return make


def _power(x: Node, y: Node) -> Node:
    exponent = constant_of(y)
    if exponent == 1:
        return x
    if exponent == 2:
        return ew.square(x)
    if exponent == 0.5 and x.type.floating:
        return ew.sqrt(x)
    if exponent == -1 and x.type.floating:
        return 1.0 / x
    return ew.pow_(x, y)


def _float_test(prim: Primitive, otherwise: bool) -> Callable[..., Node]:
    return lambda x: prim(x) if x.type.floating else full(otherwise, x.shape, np.dtype(bool))


def _rounding(prim: Primitive) -> Callable[..., Node]:
    return lambda x: prim(x) if x.type.floating else x


def _copysign(x: Node, y: Node) -> Node:
    # A division tells -0.0 from 0.0, as NumPy's signbit does.
    negative = ew.lt(ew.where(ew.eq(y, full(0, y.shape, y.dtype)), 1.0 / y, y), full(0, y.shape, y.dtype))
    return ew.where(negative, -ew.abs_(x), ew.abs_(x))


def _heaviside(x: Node, at_zero: Node) -> Node:
    zero, one = full(0, x.shape, x.dtype), full(1, x.shape, x.dtype)
    step = ew.where(ew.eq(x, zero), at_zero, ew.where(ew.lt(x, zero), zero, one))
    return ew.where(ew.isnan(x), x, step)


def _fextreme(prim: Primitive) -> Callable[..., Node]:
    def make(x: Node, y: Node) -> Node:
        if not x.type.floating:
            return _of(prim)(x, y)
        return ew.where(ew.isnan(x), y, ew.where(ew.isnan(y), x, prim(x, y)))

    return make


for _prim in [p for p in vars(ew).values() if isinstance(p, Primitive) and p.ufunc is not None and p is not ew.norm_of]:
    _enter(_prim.ufunc, _of(_prim))
for _prim in (ew.logical_and, ew.logical_or, ew.logical_xor, ew.logical_not):
    _enter(_prim.ufunc, _truth(_prim))
for _prim in (ew.floor, ew.ceil, ew.trunc, ew.rint):
    _enter(_prim.ufunc, _rounding(_prim))
_enter(np.power, _power)
_enter(np.float_power, _power)
_enter(np.positive, lambda x: x)
_enter(np.conjugate, lambda x: x)
_enter(np.fabs, ew.abs_)
_enter(np.reciprocal, lambda x: 1 / x if x.type.floating else ew.floor_divide(full(1, x.shape, x.dtype), x))
_enter(np.isnan, _float_test(ew.isnan, False))
_enter(np.isinf, _float_test(ew.isinf, False))
_enter(np.isfinite, _float_test(ew.isfinite, True))
_enter(np.deg2rad, lambda x: x * (math.pi / 180))
_enter(np.rad2deg, lambda x: x * (180 / math.pi))
_enter(np.radians, lambda x: x * (math.pi / 180))
_enter(np.degrees, lambda x: x * (180 / math.pi))
_enter(np.left_shift, integer.left_shift, "bitwise_left_shift")
_enter(np.right_shift, integer.right_shift, "bitwise_right_shift")
_enter(np.logaddexp2, lambda x, y: ew.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2))
_enter(np.copysign, _copysign)
_enter(np.heaviside, _heaviside)
_enter(np.fmax, _fextreme(ew.maximum))
_enter(np.fmin, _fextreme(ew.minimum))


@implements(np.divmod, name="divmod")
def divmod_(x1: Any, x2: Any, /) -> tuple[Array, Array]:
    """Quotient, rounded down, and remainder."""
    return TABLE[np.floor_divide](x1, x2), TABLE[np.remainder](x1, x2)


def _matmul(self: Array, other: Any) -> Any:
    if getattr(type(other), "__array_ufunc__", self) is None:  # it multiplies from the right itself, as `Sparse` does
        return NotImplemented
    return NAMES["matmul"](self, other)


# What grows beyond the widest integers, as floats. Counting does not get there.
_GROWS = {np.multiply: operator.mul, np.power: ew.pow_, np.left_shift: lambda x, y: x * ew.exp2(y)}


def _of_python(ufunc: np.ufunc, out: Node, xs: list[Array]) -> Array:
    """Return the result of Python's arithmetic on Python's numbers, which is one, and whose integers have no bounds."""
    if ufunc in _GROWS and out.dtype.kind in "iu" and not out.is_constant:
        out = overflow.held(out, _GROWS[ufunc](*(ew.cast_to(x._node, np.dtype(float)) for x in xs)), out.dtype)
    return Array(out, weak=out.dtype != np.bool_)


def _operators() -> None:
    """Give `Array` Python's operators, each of which is the ufunc that NumPy gives it."""
    binary = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
              "floordiv": np.floor_divide, "mod": np.remainder, "and": np.bitwise_and, "or": np.bitwise_or,
              "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift}
    compare = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
               "ge": np.greater_equal}
    unary = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}

    def wrap(ufunc: np.ufunc, flipped: bool = False) -> Callable[..., Any]:
        function = TABLE[ufunc]

        def method(self: Array, *others: Any) -> Any:
            if any(x is None or isinstance(x, str) for x in others):
                return NotImplemented
            xs = [as_array(x) for x in ((*others, self) if flipped else (self, *others))]
            out = function(*xs)  # a ufunc, asked by name, gives NumPy's numbers
            return _of_python(ufunc, out._node, xs) if all(x._weak for x in xs) else out

        return method

    for name, ufunc in binary.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
        setattr(Array, f"__r{name}__", wrap(ufunc, flipped=True))
    for name, ufunc in compare.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
    for name, ufunc in unary.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
    power = Array.__pow__
    Array.__pow__ = lambda self, other: (  # NumPy's fast way for `** 2`, which of bools is int8
        TABLE[np.square](self) if type(other) is int and other == 2 and self.dtype == np.bool_ else power(self, other))
    Array.__hash__ = object.__hash__
    Array.__matmul__ = _matmul
    Array.__rmatmul__ = lambda self, other: NAMES["matmul"](other, self)
    Array.__divmod__ = lambda self, other: (operator.floordiv(self, other), operator.mod(self, other))
    Array.__rdivmod__ = lambda self, other: (operator.floordiv(other, self), operator.mod(other, self))
    Array.__round__ = lambda self, n=0: NAMES["round"](self, n)


_operators()
for _name, _from in {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
                     "atan2": "arctan2", "atanh": "arctanh", "pow": "power", "bitwise_invert": "invert",
                     "abs": "absolute", "mod": "remainder", "true_divide": "divide", "bitwise_not": "invert",
                     "conj": "conjugate"}.items():
    NAMES[_name] = NAMES[_from]

"""Elementwise functions: NumPy's ufuncs, and functions built from them.

The ufunc itself resolves the dtypes; shapes are broadcast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DtypeError, TraceError, at_user_line
from ..graph import Node, constant_of, dtype_of, full
from ..ops import elementwise as ew
from ..ops import integer, special
from ..primitive import Primitive
from ..traced_array import TABLE, Array, ArrayLike, as_array
from .arguments import Casting, as_int, broadcast_node, broadcast_shapes, checked_cast, given
from .data_types import result_type
from .dispatch import NAMES, implements

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- ufuncs --------------------------------------------------------------------------------------------------


_BOOLEAN: dict[Primitive, Callable[..., Node]] = {
            ew.add: ew.logical_or, ew.mul: ew.logical_and, ew.maximum: ew.logical_or, ew.minimum: ew.logical_and,
            ew.bitwise_and: ew.logical_and, ew.bitwise_or: ew.logical_or, ew.bitwise_xor: ew.logical_xor,
            ew.bitwise_not: ew.logical_not, ew.abs_: lambda x: x,
            ew.gt: lambda x, y: ew.logical_and(x, ew.logical_not(y)), ew.lt: lambda x, y: _BOOLEAN[ew.gt](y, x),
            ew.ge: lambda x, y: ew.logical_or(x, ew.logical_not(y)), ew.le: lambda x, y: _BOOLEAN[ew.ge](y, x)}


@functools.lru_cache(maxsize=4096)
def _resolve(ufunc: np.ufunc, kinds: tuple[type[float] | np.dtype, ...], dtype: np.dtype | None,
             casting: Casting) -> tuple[np.dtype, ...]:
    """Return the dtypes of the loop that NumPy itself would take."""
    operands_only = (*kinds, *[None] * ufunc.nout)
    if dtype is None:
        return ufunc.resolve_dtypes(operands_only, casting=casting)
    return ufunc.resolve_dtypes(operands_only, signature=(*[None] * ufunc.nin, *[dtype] * ufunc.nout), casting=casting)


def _kind(x: Array) -> type[float] | np.dtype:
    return {"f": float, "i": int, "u": int}[x.dtype.kind] if x._weak else x.dtype


_COMPARISONS = frozenset({np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal})


def _fits(x: Array, dtype: np.dtype) -> bool:
    """Return whether a dtype holds a Python int; True where the int is not known."""
    if not x._weak or not x._node.is_constant or dtype.kind not in "iu":
        return True
    info = np.iinfo(dtype)
    return bool(info.min <= x._node.params["value"] <= info.max)


def _wider(dtypes: tuple[np.dtype, ...], xs: list[Array]) -> tuple[np.dtype, ...]:
    """Return dtypes in which integers of `dtypes` compare with any that a Python int may be."""
    if any(d.kind not in "iu" for d in dtypes[:2]):
        return dtypes
    return tuple(x.dtype if x._weak or d == np.uint64 else np.dtype(np.int64)
                 for d, x in zip(dtypes, xs, strict=False))


def operands(ufunc: np.ufunc, xs: list[Array], dtype: DTypeLike | None = None,
             casting: Casting = "same_kind") -> list[Node]:
    """Return the operands cast to the dtypes of the ufunc's loop: the one with results of `dtype`, where given."""
    # Python scalars among themselves have the dtypes of arrays.
    kinds = tuple(x.dtype for x in xs) if all(x._weak for x in xs) else tuple(map(_kind, xs))
    try:
        dtypes = _resolve(ufunc, kinds, None if dtype is None else dtype_of(dtype), casting)
    except (TypeError, OverflowError) as error:
        types = ", ".join(str(x._node.type) for x in xs)
        raise DtypeError(at_user_line(f"np.{ufunc.__name__}({types}): {error}")) from None
    if ufunc not in _COMPARISONS:
        return [checked_cast(x, d) for x, d in zip(xs, dtypes, strict=False)]
    if any(x._weak and not x._node.is_constant for x in xs):
        # A Python int that only a call knows: it may be out of the other's range.
        dtypes = _wider(dtypes, xs)
    if not all(map(_fits, xs, dtypes)):
        dtypes = (np.result_type(*(x.dtype for x in xs)),) * len(xs)
    return [ew.cast_to(x._node, d) for x, d in zip(xs, dtypes, strict=False)]


def refuse_where(label: str, options: dict[str, object]) -> None:
    """Refuse options of a ufunc that would leave elements of its result undefined, or that do not exist."""
    for name, value in options.items():
        if name == "where" and value is not True:
            raise TraceError(at_user_line(f"np.{label} with where=: write np.where(mask, np.{label}(...), x)"))
        if name not in ("where", "subok", "order"):
            raise TypeError(at_user_line(f"np.{label} on traced values has no option {name}="))



def _enter(ufunc: np.ufunc, make: Callable[..., Node | Array | tuple[Array, ...]]) -> None:
    """Enter a function of nodes of one shape, in the dtypes of the ufunc's loop."""
    label = ufunc.__name__

    @implements(ufunc, doc=f"Return ``np.{label}`` of each element.")
    def function(*args: ArrayLike, dtype: DTypeLike | None = None, casting: Casting = "same_kind",
                 **options: object) -> Array | tuple[Array, ...]:
        refuse_where(label, options)
        xs = [as_array(a) for a in args]
        if len(xs) != ufunc.nin:
            raise TypeError(f"np.{label} takes {ufunc.nin} arguments, got {len(xs)}")
        nodes = operands(ufunc, xs, dtype, casting)
        if len(nodes) > 1:
            shape = broadcast_shapes(f"np.{label}", [x._node for x in xs])
            nodes = [broadcast_node(n, shape) for n in nodes]
        result = make(*nodes)
        return Array(result) if isinstance(result, Node) else result


def _typed(prim: Primitive) -> Callable[..., Node]:
    boolean = _BOOLEAN.get(prim)

    def make(*nodes: Node) -> Node:
        if len({n.dtype for n in nodes}) > 1:
            return _mixed(prim, *nodes)
        return (boolean if boolean and nodes[0].dtype == np.bool_ else prim)(*nodes)

    return make


def _mixed(prim: Primitive, x: Node, y: Node) -> Node:
    """Compare signed integers with unsigned integers of 64 bits.

    A negative number is below all unsigned ones; the others compare as unsigned numbers.
    """
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
            return _typed(prim)(x, y)
        return ew.where(ew.isnan(x), y, ew.where(ew.isnan(y), x, prim(x, y)))

    return make


_PRIMITIVES = {p.ufunc: p for p in vars(ew).values()
               if isinstance(p, Primitive) and p.ufunc is not None and p is not ew.norm_of}
_LOGICAL = (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
_ROUNDING = (np.floor, np.ceil, np.trunc, np.rint)
for _ufunc, _prim in _PRIMITIVES.items():
    _enter(_ufunc, _truth(_prim) if _ufunc in _LOGICAL else _rounding(_prim) if _ufunc in _ROUNDING else _typed(_prim))
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
_enter(np.left_shift, integer.left_shift)
_enter(np.right_shift, integer.right_shift)
_enter(np.logaddexp2, lambda x, y: ew.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2))
_enter(np.copysign, _copysign)
_enter(np.heaviside, _heaviside)
_enter(np.fmax, _fextreme(ew.maximum))
_enter(np.fmin, _fextreme(ew.minimum))
_enter(np.gcd, integer.gcd)
_enter(np.lcm, integer.lcm)
_enter(np.nextafter, integer.nextafter)


# -- choice --------------------------------------------------------------------------------------------------


@implements(np.where)
def where(condition: ArrayLike, x: ArrayLike | None = None, y: ArrayLike | None = None, /) -> Array:
    """Choose elementwise; no gradient flows into the branch not taken.

    That holds also where the branch not taken has an infinite slope, ``np.where(x > 0, np.sqrt(x), 0.0)``: the
    choice is made after the products with the slopes, through all work that keeps elements apart. Behind work that
    mixes them (a matrix product) zero times infinity is nan, as anywhere: there guard the argument, too.

    Parameters
    ----------
    condition : array
        Bools; other numbers count as true unless they are 0.
    x, y : array
        The values where the condition holds, and where it does not. All three broadcast. Without both, the result
        is ``np.nonzero(condition)``.

    Returns
    -------
    array
        Of the promoted dtype of `x` and `y`.

    Raises
    ------
    TraceError
        With one of `x` and `y` alone.

    Examples
    --------
    >>> mg.grad(lambda x: mg.where(x > 0, np.sqrt(x), 0.0))(0.0)
    np.float64(0.0)
    """
    if x is None and y is None:
        positions: Array = TABLE[np.nonzero](condition)
        return positions
    if x is None or y is None:
        raise TraceError(at_user_line("np.where: give both branches, or none for the positions of true elements"))
    c = as_array(condition)._node
    if c.dtype != np.bool_:
        c = ew.ne(c, full(0, c.shape, c.dtype))
    values = [as_array(x), as_array(y)]
    dtype = result_type(*values)
    nodes = [ew.cast_to(v._node, dtype) for v in values]  # of a Python int, as NumPy does it, in range or not
    result = broadcast_shapes("np.where", [c, *nodes])
    return Array(ew.where(*(broadcast_node(n, result) for n in (c, *nodes))))


# -- ufuncs written with other functions ---------------------------------------------------------------------


def _bitwise_count(n: Array) -> Array:
    # Bits are added up in ever wider fields.
    size = TABLE[np.absolute](n)  # the least integer is its own absolute value
    n = size.astype(f"u{n.dtype.itemsize}").astype(np.uint64)
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
    return TABLE[np.nextafter](x, TABLE[np.copysign](x.dtype.type(np.inf), x)) - x


def _fmod(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        sign = TABLE[np.copysign](x.dtype.type(1), x)  # abs and copysign of x would have slope 0 at 0
        return TABLE[np.remainder](x * sign, np.abs(y)) * sign
    out = TABLE[np.remainder](x, y)  # it has y's sign: subtract one y where x has the other
    return where((out != 0) & ((out < 0) != (x < 0)), out - y, out)


def _signbit(x: Array) -> Array:
    return TABLE[np.copysign](x.dtype.type(1), x) < 0


def _modf(x: Array) -> tuple[Array, Array]:
    return _fmod(where(np.isinf(x), np.copysign(x.dtype.type(0), x), x), x.dtype.type(1)), TABLE[np.trunc](x)


def _of_arrays(function: Callable[..., Array | tuple[Array, ...]]) -> Callable[..., Array | tuple[Array, ...]]:
    return lambda *nodes: function(*map(Array, nodes))


for _ufunc, _function in ((np.bitwise_count, _bitwise_count), (np.ldexp, _ldexp), (np.spacing, _spacing),
                          (np.fmod, _fmod), (np.modf, _modf), (np.signbit, _signbit)):
    _enter(_ufunc, _of_arrays(_function))


@implements(np.divmod)
def divmod_(x1: ArrayLike, x2: ArrayLike, /) -> tuple[Array, Array]:
    """Return the quotient, rounded down, and the remainder."""
    return TABLE[np.floor_divide](x1, x2), TABLE[np.remainder](x1, x2)


for _name, _ufunc in vars(np).items():
    if isinstance(_ufunc, np.ufunc) and _ufunc in TABLE:
        NAMES.setdefault(_name, NAMES[_ufunc.__name__])  # a second name, such as acos of arccos


# -- rounding, limits, special values ------------------------------------------------------------------------


@implements(np.clip)
def clip(a: ArrayLike, a_min: ArrayLike | None = None, a_max: ArrayLike | None = None, out: None = None, *,
         min: ArrayLike | None = None, max: ArrayLike | None = None, dtype: DTypeLike | None = None,
         **options: object) -> Array:
    """Limit values to an interval; a bound halves the gradient."""
    refuse_where("clip", options)
    x = Array(as_array(a)._node)  # NumPy makes an array of a number of Python
    x = x if dtype is None else x.astype(dtype)
    low, high = (v if v is not None else w for v, w in ((a_min, min), (a_max, max)))
    bounds = (0 if type(v) is int else as_array(v) for v in (low, high) if given(v))  # an int of any size
    x = x.astype(result_type(x, *bounds))  # one bound and a Python number would promote further than both bounds
    if given(low):
        x = TABLE[np.maximum](x, _bound(low, x.dtype, lower=True))
    if given(high):
        x = TABLE[np.minimum](x, _bound(high, x.dtype, lower=False))
    return x


def _bound(value: ArrayLike, dtype: np.dtype, lower: bool) -> ArrayLike:
    """Return a bound of values of `dtype`; the limit of an integer dtype replaces a Python int beyond it."""
    if dtype.kind not in "iu":
        return value
    info = np.iinfo(dtype)
    limit = info.min if lower else info.max
    if type(value) is int:
        return max(value, limit) if lower else min(value, limit)
    bound = as_array(value)
    if not bound._weak or bound.dtype.kind not in "iu" or not np.can_cast(np.min_scalar_type(limit), bound.dtype):
        return bound
    return Array(TABLE[np.maximum if lower else np.minimum](bound, limit)._node, weak=True)


@implements(np.round, np.around)
def round_(a: ArrayLike, decimals: int = 0, out: None = None) -> Array:
    """Round half to even."""
    x, decimals = as_array(a), as_int(decimals, "round", "decimals")
    if x.dtype.kind != "f":
        if decimals < 0:
            raise TraceError(at_user_line("np.round of integers to tens: write np.floor_divide yourself"))
        return x
    rint = TABLE[np.rint]
    return rint(x) if not decimals else rint(x * 10.0 ** decimals) / 10.0 ** decimals


@implements(np.fix)
def fix(x: ArrayLike, out: None = None) -> Array:
    """Round towards zero."""
    return TABLE[np.trunc](x)


@implements(np.nan_to_num)
def nan_to_num(x: ArrayLike, copy: bool | None = True, nan: ArrayLike = 0.0, posinf: ArrayLike | None = None,
               neginf: ArrayLike | None = None) -> Array:
    """Replace NaN and infinities by numbers."""
    x = as_array(x)
    if x.dtype.kind != "f":
        return x
    info = np.finfo(x.dtype)
    low, high = (float(end) if v is None else v for v, end in ((neginf, info.min), (posinf, info.max)))
    out = x
    for place, v in ((np.isnan(x), nan), (x == np.inf, high), (x == -np.inf, low)):
        out = where(place, as_array(v).astype(x.dtype), out)  # NumPy writes them into a copy of x
    return out


@implements(np.sinc)
def sinc(x: ArrayLike) -> Array:
    """Return sin(pi x) / (pi x), 1 at 0."""
    x = as_array(x)
    return Array(special.sinc((x if x.dtype.kind == "f" else x.astype(float))._node))


@implements(np.isposinf)
def isposinf(x: ArrayLike, out: None = None) -> Array:
    """Return whether each element is inf."""
    return as_array(x) == np.inf


@implements(np.isneginf)
def isneginf(x: ArrayLike, out: None = None) -> Array:
    """Return whether each element is -inf."""
    return as_array(x) == -np.inf


# -- real numbers as complex ones ----------------------------------------------------------------------------


@implements(np.real, np.real_if_close)
def real(val: ArrayLike, tol: ArrayLike | None = 100) -> Array:
    """Return the array itself: traced arrays are real."""
    return as_array(val)


@implements(np.imag)
def imag(val: ArrayLike) -> Array:
    """Return zeros: traced arrays are real."""
    return TABLE[np.zeros_like](val)


@implements(np.angle)
def angle(z: ArrayLike, deg: int = False) -> Array:
    """Return 0 for positive numbers, pi for negative ones."""
    x = as_array(z)
    out = TABLE[np.arctan2](0, x)
    return TABLE[np.degrees](out) if deg else out


@implements(np.isreal)
def isreal(x: ArrayLike) -> Array:
    """Return True for each element."""
    return TABLE[np.ones_like](x, dtype=bool)


@implements(np.iscomplex)
def iscomplex(x: ArrayLike) -> Array:
    """Return False for each element."""
    return TABLE[np.zeros_like](x, dtype=bool)


# -- equality ------------------------------------------------------------------------------------------------


@implements(np.isclose)
def isclose(a: ArrayLike, b: ArrayLike, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Array:
    """Return whether each pair of elements is close."""
    a, b = as_array(a), as_array(b)
    b = b if b.dtype.kind == "f" else b * 1.0  # bools have no difference, and unsigned ones wrap around
    absolute = TABLE[np.absolute]
    near = (absolute(a - b) <= atol + rtol * absolute(b)) & TABLE[np.isfinite](b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@implements(np.allclose)
def allclose(a: ArrayLike, b: ArrayLike, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Array:
    """Return whether all elements are close."""
    return isclose(a, b, rtol, atol, equal_nan).all()


@implements(np.array_equal)
def array_equal(a1: ArrayLike, a2: ArrayLike, equal_nan: bool = False) -> Array | np.bool_:
    """Return whether shapes and elements are equal."""
    a, b = as_array(a1), as_array(a2)
    if a._node.shape != b._node.shape:
        return np.bool_(False)
    same = a == b
    if equal_nan and a.dtype.kind == b.dtype.kind == "f":
        same = same | (np.isnan(a) & np.isnan(b))
    return same.all()


@implements(np.array_equiv)
def array_equiv(a1: ArrayLike, a2: ArrayLike) -> Array | np.bool_:
    """Return whether the elements are equal after broadcasting."""
    a, b = as_array(a1), as_array(a2)
    try:
        broadcast_shapes("array_equiv", [a._node, b._node])
    except ValueError:
        return np.bool_(False)
    return (a == b).all()

"""Elementwise primitives: arithmetic, comparison, functions, `where` and casts.

The family derives type rule, batching and both derivatives from one list of partial derivatives; a
member declares its evaluation, its kernel expression and its partials.

Where a derivative does not exist: at a kink (``abs`` at 0, a tie of ``maximum``) it is the mean of both
sides (also of a cone: ``hypot`` and norms at the origin, a standard deviation of 0); at a jump (``floor``,
``sign``, ``mod`` at a multiple) it is that of the pieces, as if there were no jump; at a vertical tangent
(``sqrt`` and ``cbrt`` at 0) it is inf; where the value itself depends on the direction (``arctan2`` at the
origin) it is nan.

Where a derivative exists, its formula is exact to all orders: a constant in one branch of a `where` would be
right at that order and lose the next one. So a removable singularity is hidden inside of a primitive, whose
partials are primitives again (`over_or_zero`, `exp_share`), and differences that cancel are factorised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from ..axes import POINTWISE
from ..errors import DtypeError, at_user_line
from ..families import elementwise, uniform
from ..graph import PRIMITIVES, ArrayType, Node, Params, constant_of, full, zeros_like
from ..primitive import FIRST, ArrayNamespace, Laws, Primitive, Rewriter, Sample, fail, free
from ..tracing import guard_equal_shapes

_C = "biuf"  # every dtype
_N = "iuf"  # every number
Inputs = tuple[Node, ...]


_STANDARD = {"absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
             "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "invert": "bitwise_invert", "power": "pow",
             "rint": "round"}  # names that the array API standard and kernels write in another way than NumPy


def of_ufunc(ufunc: np.ufunc, kernel: str = "", *, name: str = "", **attributes: Any) -> Primitive:
    """Declare the elementwise primitive of a ufunc that the array API standard has, too.

    `name` and `kernel` are by default the ufunc's name, and the call of the function that the standard has.
    """
    standard = _STANDARD.get(ufunc.__name__, ufunc.__name__)
    call = f"{standard}({', '.join(f'{{{i}}}' for i in range(ufunc.nin))})"
    return elementwise(name or ufunc.__name__, lambda xp, *xs: getattr(xp, standard)(*xs), kernel or call, ufunc=ufunc,
                       **attributes)


# -- arithmetic --------------------------------------------------------------------------------------


def power_of_two(c: float | None) -> TypeGuard[float]:
    """Tell whether a constant is a power of two of moderate size, by which a product is exact."""
    return (c is not None and c != 0 and math.isfinite(c) and abs(math.frexp(c)[0]) == 0.5
            and abs(math.frexp(c)[1]) <= 24)


def _like(s: Rewriter, value: float, x: Node) -> Node:
    return s.full(value, x.shape, x.dtype)


def _simpler_add(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    if x is y:
        return s("mul", x, _like(s, 2, x))
    if y.prim is neg:
        return s("sub", x, y.inputs[0])
    return s("sub", y, x.inputs[0]) if x.prim is neg else None


def _simpler_mul(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """A constant factor stands second, and exact ones are multiplied; signs go out."""
    x, y = xs
    if x is y:
        return s("square", x)
    if constant_of(x) is not None:
        x, y = y, x
    c = constant_of(y)
    if c is not None:
        if c == -1 and t.dtype.kind in "if":
            return s("neg", x)
        if x.prim is neg:
            return s("mul", x.inputs[0], _like(s, -c, y)) if t.dtype.kind == "f" else None
        if x.prim is mul and t.dtype.kind == "f":
            inner = constant_of(x.inputs[1])
            if inner is not None and (power_of_two(c) or power_of_two(inner)):
                return s("mul", x.inputs[0], _like(s, c * inner, y))
        return s("mul", x, y) if (x, y) != xs else None
    for row, z in (xs, xs[::-1]) if t.dtype.kind == "f" else ():
        # A factor for each row takes the constant one: there are fewer rows than elements.
        if row.prim is PRIMITIVES["expand"] and z.prim is mul and power_of_two(c := constant_of(z.inputs[1])):
            factor = s("mul", row.inputs[0], _like(s, c, row.inputs[0]))
            return s("mul", z.inputs[0], s("expand", factor, **row.params))
    if x.prim is neg:
        return s("mul", x.inputs[0], y.inputs[0]) if y.prim is neg else s("neg", s("mul", x.inputs[0], y))
    return s("neg", s("mul", x, y.inputs[0])) if y.prim is neg else None


def _simpler_div(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    if power_of_two(c := constant_of(y)):
        return s("mul", x, _like(s, 1 / c, y))
    return s("neg", s("div", x.inputs[0], y)) if x.prim is neg and t.dtype.kind == "f" else None


def _simpler_neg(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    (x,) = xs
    if x.prim is mul and t.dtype.kind == "f" and (c := constant_of(x.inputs[1])) is not None:
        return s("mul", x.inputs[0], _like(s, -c, x))
    return None


add = of_ufunc(np.add, "{0} + {1}", d=lambda out, x, y: (1, 1), domain=_N, linear="jointly",
               laws=Laws(commutative=True, neutral={1: 0, 0: 0}), simplify=_simpler_add, symbol="+")
sub = of_ufunc(np.subtract, "{0} - {1}", name="sub", d=lambda out, x, y: (1, -1), domain=_N, linear="jointly",
               laws=Laws(neutral={1: 0}),
             simplify=lambda s, t, xs, p: s("add", xs[0], xs[1].inputs[0]) if xs[1].prim is neg else None, symbol="−")
mul = of_ufunc(np.multiply, "{0} * {1}", name="mul", d=lambda out, x, y: (y, x), domain=_N, linear="separately",
               laws=Laws(commutative=True, neutral={1: 1, 0: 1}), simplify=_simpler_mul, symbol="×")
div = of_ufunc(np.divide, "{0} / {1}", name="div", d=lambda out, x, y: (1.0 / y, -(out / y)),
               vjp=lambda g, out, x, y: (over := g / y, -(over * out)), linear="first", laws=Laws(neutral={1: 1}),
               simplify=_simpler_div, symbol="÷")
neg: Primitive = of_ufunc(np.negative, "-{0}", name="neg", d=lambda out, x: (-1,), domain=_N, linear="jointly",
               laws=Laws(involution=True), simplify=_simpler_neg, symbol="negate")
abs_ = of_ufunc(np.absolute, name="abs", d=lambda out, x: (sign(x),), domain=_N)
sign: Primitive = of_ufunc(np.sign, domain=_N)
square = of_ufunc(np.square, "{0} * {0}", d=lambda out, x: (2.0 * x,), domain=_N)
floor_divide = of_ufunc(np.floor_divide, "floor({0} / {1})", domain=_N, raises="iu", symbol="//")
mod = of_ufunc(np.remainder, "mod({0}, {1})", name="mod", d=lambda out, x, y: (1, -floor_divide(x, y)), domain=_N,
               raises="iu", symbol="mod",
               samples=lambda: [Sample((np.array([5.3, -2.2, 7.9]), np.array([2.0, 1.5, -3.1]))),
                                Sample((np.array([5, 7]), np.array([2, 3])), order=0)])


def _pow_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    # 0 ** 0 is 1 for every base nearby, so its slope in x is 0 and not 0 * inf. The test is of both x and y:
    # y * x ** (y - 1) is right wherever x is not 0, and so is its own derivative by y there. The slope in y
    # does not exist for a base that is not positive; it is 0 there, as it is for 0 ** positive.
    one, zero = full(1, y.shape, y.dtype), zeros_like(y)
    if (power := constant_of(y)) is not None:
        dx = y * pow_(x, full(power - 1, y.shape, y.dtype)) if power else zero
    else:
        both_zero = logical_and(eq(x, zero), eq(y, zero))
        dx = where(both_zero, zero, y * pow_(where(both_zero, one, x), y - 1.0))
    positive = gt(x, zero)
    dy = where(positive, out * log(where(positive, x, one)), zero)
    return dx, dy


def _simpler_pow(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    c = constant_of(y)
    if c == 2:
        return s("square", x)
    if c == 0:
        return s.full(1, t.shape, t.dtype)
    if t.dtype.kind != "f":
        return None
    if c == 3:
        return s("mul", x, s("square", x))
    if c == 4:
        return s("square", s("square", x))
    return s("div", s.full(1, t.shape, t.dtype), x) if c == -1 else None


pow_ = of_ufunc(np.power, name="pow", d=_pow_partials, domain=_N, raises="iu", laws=Laws(neutral={1: 1}),
                simplify=_simpler_pow, symbol="^")

# -- exponentials, roots, trigonometry ---------------------------------------------------------------


def _or_inf(x: Node) -> Node:
    """Return `x` with inf for 0: quotients by it and their derivatives vanish there."""
    return where(eq(x, zeros_like(x)), full(math.inf, x.shape, x.dtype), x)


# 1 - x * x without cancellation, near 1 in its value and near 0 in its derivative.
one_minus_square = elementwise("one_minus_square", lambda xp, x: (1 - x) * (1 + x), "(1 - {0}) * (1 + {0})",
                               d=lambda out, x: (x * -2.0,))


def _reciprocal_hypot_eval(xp: ArrayNamespace, x: np.ndarray) -> np.ndarray:
    square = xp.square(x)
    out = 1 / xp.sqrt(1 + square)
    if xp is np and _between(square, -1, np.inf):
        return out
    return xp.where(xp.isinf(square), 1 / xp.abs(x), out)


# 1 / sqrt(1 + x * x), where the square may overflow.
_NO_SQUARE = 1073741824.0
reciprocal_hypot = elementwise(
    "reciprocal_hypot", _reciprocal_hypot_eval,
    f"abs({{0}}) > {_NO_SQUARE} ? 1 / abs({{0}}) : 1 / sqrt(1 + {{0}} * {{0}})",
    d=lambda out, x: (-(x * out * out * out),))


def _tanh_slope_eval(xp: ArrayNamespace, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    if xp is np:
        return tanh_slope_into(y, x, np.empty_like(y))
    return xp.where(xp.abs(y) < _SATURATED, 1 - y * y, 2 / (1 + xp.cosh(x + x)))


def tanh_slope_into(y: np.ndarray, x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write the derivative of ``y = tanh(x)`` into `out`, which may be one of the operands."""
    # The rare elements are found first, and without a mask: `out` may be y or x.
    rare = y.size and not -_SATURATED < y.item(y.argmin()) <= y.item(y.argmax()) < _SATURATED
    if rare:
        places = np.flatnonzero(np.broadcast_to(np.abs(y) >= _SATURATED, out.shape))
        beyond = np.take(np.broadcast_to(x, out.shape), places)
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    if rare:
        np.put(out, places, 2 / (1 + np.cosh(beyond + beyond)))
    return out


# The derivative of y = tanh(x), of both: 1 - y * y costs nothing, but cancels for large x, which are rare. y comes
# first, as it is always read: the result takes the memory of the first operand, and that of x is not in the cache.
_SATURATED = 0.99995
tanh_slope = elementwise(
    "tanh_slope", _tanh_slope_eval, "seldom(abs({1}) > 3, 1 - {0} * {0}, 2 / (1 + cosh({1} + {1})))", order=0,
    d=lambda out, y, x: (None, y * out * -2.0))


def _between(x: np.ndarray, low: float, high: float) -> bool:
    """Tell whether all elements are between two numbers; nan is not."""
    return not x.size or bool(np.minimum.reduce(x, axis=None) > low and np.maximum.reduce(x, axis=None) < high)


def arctan2_slope_into(x: np.ndarray, y: np.ndarray, squares: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write ``x / squares`` into `out`, or its limit where the squares over- or underflow."""
    limits = np.finfo(out.dtype)
    if _between(squares, limits.tiny / limits.eps, limits.max):
        np.divide(x, squares, out=out)
        return out
    np.copyto(out, _careful_arctan2_slope(np, x, y))
    return out


def _arctan2_slope_eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray, squares: np.ndarray) -> np.ndarray:
    return arctan2_slope_into(x, y, squares, np.empty_like(x)) if xp is np else _careful_arctan2_slope(xp, x, y)


def _careful_arctan2_slope(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    steep = xp.abs(x) >= xp.abs(y)
    large = xp.where(steep, x, y)
    ratio = xp.where(steep, y, x) / large
    slope = xp.where(steep, xp.ones_like(ratio), ratio) / (large * (1 + ratio * ratio))
    return xp.where(large == 0, xp.zeros_like(slope), slope)


def _arctan2_slope_partials(out: Node, x: Node, y: Node, squares: Node) -> tuple[Node, Node, None]:
    other = arctan2_slope(y, x, squares)
    return square(other) - square(out), out * other * -2.0, None


def _with_squares() -> list[Sample]:
    x, y = np.array([[0.3, -2.0], [0.0, 1.5], [1e-9, 4.0]]), np.array([[0.5, 1.0], [3.0, 0.0], [2.0, -4.0]])
    return [Sample((x, y, x * x + y * y), order=0)]


# x / (x * x + y * y), of all three, where the squares may overflow or vanish: then both are divided by the larger one.
# At the origin it is the mean of all sides, 0.
_STEEP = "abs({0}) >= abs({1})"
_LARGE, _RATIO = f"({_STEEP} ? {{0}} : {{1}})", f"(({_STEEP} ? {{1}} : {{0}}) / ({_STEEP} ? {{0}} : {{1}}))"
arctan2_slope = elementwise(
    "arctan2_slope", _arctan2_slope_eval, "seldom(!({2} > 1.0e-30 && {2} < 1.0e38), {0} / {2}, "
    f"{_LARGE} == 0 ? 0 : ({_STEEP} ? 1 : {_RATIO}) / ({_LARGE} * (1 + {_RATIO} * {_RATIO})))",
    d=_arctan2_slope_partials, samples=_with_squares)


def _arctan2_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    squares = square(x) + square(y)
    return arctan2_slope(y, x, squares), -arctan2_slope(x, y, squares)


def arccosh_slope_into(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write the derivative of ``arccosh(x)`` into `out`."""
    less = x - 1
    np.add(x, 1, out=out)
    if not _between(out, 0, _SQUARED):  # x itself may be what `out` was
        np.sqrt(less, out=less)
        np.sqrt(out, out=out)
        np.multiply(less, out, out=out)
    else:
        np.sqrt(np.multiply(less, out, out=out), out=out)
    np.divide(1, out, out=out)
    return out


def _arccosh_slope_eval(xp: ArrayNamespace, x: np.ndarray) -> np.ndarray:
    return arccosh_slope_into(x, np.empty_like(x)) if xp is np else 1 / (xp.sqrt(x - 1) * xp.sqrt(x + 1))


# 1 / sqrt(x * x - 1) without cancellation, and where the square may overflow.
_SQUARED = 1e18
arccosh_slope = elementwise(
    "arccosh_slope", _arccosh_slope_eval, "seldom(!({0} > 0 && {0} < 1.0e18), 1 / sqrt(({0} - 1) * ({0} + 1)), "
    "1 / (sqrt({0} - 1) * sqrt({0} + 1)))", d=lambda out, x: (-(x * out * out * out),), samples=uniform(1.5, 3.0))


def _hypot_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    radius = _or_inf(out)
    return x / radius, y / radius


exp = of_ufunc(np.exp, d=lambda out, x: (out,))
exp2 = elementwise("exp2", lambda xp, x: xp.exp2(x) if hasattr(xp, "exp2") else xp.exp(x * math.log(2)), "exp2({0})",
                   d=lambda out, x: (out * math.log(2),), ufunc=np.exp2)
expm1 = of_ufunc(np.expm1, d=lambda out, x: (exp(x),))
log = of_ufunc(np.log, d=lambda out, x: (1.0 / x,), vjp=lambda g, out, x: (g / x,))
log1p = of_ufunc(np.log1p, d=lambda out, x: (1.0 / (x + 1.0),))
log2 = of_ufunc(np.log2, d=lambda out, x: (1 / math.log(2) / x,))
log10 = of_ufunc(np.log10, d=lambda out, x: (1 / math.log(10) / x,))
sqrt = of_ufunc(np.sqrt, d=lambda out, x: (0.5 / out,))
# The square root of a sum of squares: a norm, whose slope at the tip of its cone is the mean of all sides.
norm_of = of_ufunc(np.sqrt, name="norm_of", d=lambda out, x: (0.5 / _or_inf(out),))
cbrt = elementwise("cbrt", lambda xp, x: xp.cbrt(x) if hasattr(xp, "cbrt") else
                   xp.sign(x) * xp.pow(xp.abs(x), 1 / 3), "cbrt({0})", d=lambda out, x: (1.0 / (3.0 * square(out)),),
                   ufunc=np.cbrt)
sin = of_ufunc(np.sin, d=lambda out, x: (cos(x),))
cos: Primitive = of_ufunc(np.cos, d=lambda out, x: (-sin(x),))
tan = of_ufunc(np.tan, d=lambda out, x: (1.0 + square(out),))
arcsin = of_ufunc(np.arcsin, d=lambda out, x: (1.0 / sqrt(one_minus_square(x)),))
arccos = of_ufunc(np.arccos, d=lambda out, x: (-1.0 / sqrt(one_minus_square(x)),))
arctan = of_ufunc(np.arctan, d=lambda out, x: (1.0 / (1.0 + square(x)),))
sinh = of_ufunc(np.sinh, d=lambda out, x: (cosh(x),))
cosh: Primitive = of_ufunc(np.cosh, d=lambda out, x: (sinh(x),))
tanh = of_ufunc(np.tanh, d=lambda out, x: (tanh_slope(out, x),))
arcsinh = of_ufunc(np.arcsinh, d=lambda out, x: (reciprocal_hypot(x),))
arccosh = of_ufunc(np.arccosh, d=lambda out, x: (arccosh_slope(x),), samples=uniform(1.5, 3.0))
arctanh = of_ufunc(np.arctanh, d=lambda out, x: (1.0 / one_minus_square(x),))
arctan2 = of_ufunc(np.arctan2, d=_arctan2_partials)
hypot = of_ufunc(np.hypot, d=_hypot_partials, laws=Laws(commutative=True))


def _where_equal(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray, value: float, out: np.ndarray) -> np.ndarray:
    """Return `out` with `value` where x equals y: of infinities, `out` is nan there."""
    if xp is not np:
        return xp.where(x == y, xp.full_like(out, value), out)
    if out.size and np.isnan(out.max()):
        np.copyto(out, value, where=x == y)
    return out


def _exp_share_eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _where_equal(xp, x, y, 0.5, xp.asarray(1 / (1 + xp.exp(y - x))))


def _exp_share_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    slope = out * exp_share(y, x)
    return slope, -slope


# exp(x) / (exp(x) + exp(y)); one half where both are the same infinity, as log-probabilities of nothing are.
exp_share = elementwise("exp_share", _exp_share_eval, "{0} == {1} ? 0.5 : 1 / (1 + exp({1} - {0}))",
                        d=_exp_share_partials)
logaddexp = of_ufunc(np.logaddexp, d=lambda out, x, y: (exp_share(x, y), exp_share(y, x)),
                     laws=Laws(commutative=True))
# exp(x - y), and 1 where both are the same infinity: the terms of logsumexp.
exp_of_difference = elementwise(
    "exp_of_difference", lambda xp, x, y: _where_equal(xp, x, y, 1, xp.asarray(xp.exp(x - y))),
    "{0} == {1} ? 1 : exp({0} - {1})", d=lambda out, x, y: (out, -out))

# -- quotients with a limit ---------------------------------------------------------------------------

# x / y, and 0 where x is 0, for every y.
over_or_zero: Primitive = elementwise(
    "over_or_zero", lambda xp, x, y: xp.where(x == 0, xp.zeros_like(x), x / y), "{0} == 0 ? 0 : {0} / {1}",
    d=lambda out, x, y: (1.0 / y, -over_or_zero(out, y)))

# -- rounding: zero derivative ----------------------------------------------------------------------

floor = of_ufunc(np.floor)
ceil = of_ufunc(np.ceil)
trunc = of_ufunc(np.trunc)
rint = of_ufunc(np.rint, "rint({0})")

# -- comparison, logic, choice ------------------------------------------------------------------------


def _simpler_not(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Negate ``==`` and ``!=``; because of NaN, ``not x < y`` is not ``x >= y``."""
    (x,) = xs
    opposite = "ne" if x.prim is eq else "eq" if x.prim is ne else None
    return s(opposite, *x.inputs) if opposite else None


eq = of_ufunc(np.equal, "{0} == {1}", name="eq", result="bool", domain=_C, laws=Laws(commutative=True), symbol="=")
ne = of_ufunc(np.not_equal, "{0} != {1}", name="ne", result="bool", domain=_C, laws=Laws(commutative=True),
              symbol="≠")
lt = of_ufunc(np.less, "{0} < {1}", name="lt", result="bool", domain=_N, symbol="<")
le = of_ufunc(np.less_equal, "{0} <= {1}", name="le", result="bool", domain=_N, symbol="≤")
gt = of_ufunc(np.greater, "{0} > {1}", name="gt", result="bool", domain=_N, symbol=">")
ge = of_ufunc(np.greater_equal, "{0} >= {1}", name="ge", result="bool", domain=_N, symbol="≥")
logical_and = of_ufunc(np.logical_and, "{0} && {1}", domain="b", laws=Laws(commutative=True, idempotent=True),
                       symbol="∧")
logical_or = of_ufunc(np.logical_or, "{0} || {1}", domain="b", laws=Laws(commutative=True, idempotent=True),
                      symbol="∨")
logical_xor = of_ufunc(np.logical_xor, "{0} ^ {1}", domain="b", laws=Laws(commutative=True), symbol="⊻")
logical_not = of_ufunc(np.logical_not, "!{0}", domain="b", laws=Laws(involution=True), simplify=_simpler_not,
                       symbol="not")
bitwise_and = of_ufunc(np.bitwise_and, "{0} & {1}", domain="iu", symbol="&", laws=Laws(commutative=True))
bitwise_or = of_ufunc(np.bitwise_or, "{0} | {1}", domain="iu", symbol="|", laws=Laws(commutative=True))
bitwise_xor = of_ufunc(np.bitwise_xor, "{0} ^ {1}", domain="iu", symbol="^", laws=Laws(commutative=True))
bitwise_not = of_ufunc(np.invert, "~{0}", name="bitwise_not", domain="iu", symbol="~")
isnan = of_ufunc(np.isnan, result="bool")
isinf = of_ufunc(np.isinf, result="bool")
isfinite = of_ufunc(np.isfinite, result="bool")


def _extreme(name: str, better: Primitive, on_bools: str, kernel: str) -> Primitive:
    """Declare maximum or minimum: the partial of the better operand is 1, of ties 1/2."""

    def evaluate(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        function: Callable[..., np.ndarray] = getattr(xp, on_bools if x.dtype == xp.bool else name)
        return function(x, y)

    def partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
        zero, half, one = (full(v, x.shape, x.dtype) for v in (0, 0.5, 1))
        shared = where(eq(x, y), half, zero)
        return where(better(x, y), one, shared), where(better(y, x), one, shared)

    # Not declared commutative: of 0.0 and -0.0 NumPy's takes one by its place.
    return elementwise(name, evaluate, kernel, d=partials, domain=_C, ufunc=getattr(np, name))


maximum = _extreme("maximum", gt, "logical_or", "max({0}, {1})")
minimum = _extreme("minimum", lt, "logical_and", "min({0}, {1})")


def _where_type(c: ArrayType, x: ArrayType, y: ArrayType) -> ArrayType:
    if c.dtype != np.bool_ or x.dtype != y.dtype:
        raise DtypeError(at_user_line(f"where({c}, {x}, {y}): needs a bool condition and equal dtypes"))
    if not (guard_equal_shapes(c.shape, x.shape) and guard_equal_shapes(x.shape, y.shape)):
        raise fail("where", "shapes differ", c, x, y)
    return x


def _where_vjp(g: Node, out: Node, c: Node, x: Node, y: Node) -> tuple[Node | None, ...]:
    # A choice, not a product: inf and nan of the other branch never enter. Both cotangents have the form of a mask
    # and a value, which reverse mode takes through the branch separately.
    zero = zeros_like(g)
    return None, where(c, g, zero), where(logical_not(c), g, zero)


def _where_jvp(ts: Sequence[Node | None], out: Node, c: Node, x: Node, y: Node) -> Node:
    return where(c, *(zeros_like(out) if t is None else t for t in ts[1:]))


def _simpler_where(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    c, x, y = xs
    known = constant_of(c)
    if known is not None:
        return x if known else y
    if x is y:
        return x
    # The partial of maximum is 1, 1/2 (a tie) or 0: half the sum of two comparisons, in one byte each.
    top, strict = constant_of(x), "ge" if c.prim is gt else "le" if c.prim is lt else None
    if top and strict and t.dtype.kind == "f" and y.prim is where:
        tie, half, bottom = y.inputs
        if (tie.prim is eq and tie.inputs in (c.inputs, c.inputs[::-1]) and constant_of(half) == top / 2
                and constant_of(bottom) == 0):
            ones = (s("cast", b, dtype=np.dtype(np.int8)) for b in (c, s(strict, *c.inputs)))
            return s("mul", s("cast", s("add", *ones), dtype=t.dtype), half)
    return None


where = Primitive(
    "where", _where_type, lambda xp, c, x, y: xp.where(c, x, y), _where_vjp, _where_jvp,
    axes=POINTWISE, kind="elementwise", kernel="{0} ? {1} : {2}", simplify=_simpler_where, overwrites=(2,),
    picks=slice(1, None),
    samples=lambda: [Sample((np.array([True, False, True]), np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])))])

# -- casts, and identities with a meaning ------------------------------------------------------------


def _cast_vjp(g: Node, out: Node, x: Node, *, dtype: np.dtype) -> list[Node | None]:
    return [cast_to(g, x.dtype) if x.type.floating else None]


def _simpler_cast(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    (x,), to = xs, p["dtype"]
    if x.dtype == to:
        return x
    if x.prim is cast:
        first = x.inputs[0]
        # NumPy calls the cast of 64-bit integers to float64 safe, which does not hold all of them.
        long = first.dtype.itemsize == 8 and first.dtype.kind in "iu"
        exact = np.can_cast(first.dtype, x.dtype, "safe") and not long
        return s("cast", first, dtype=to) if exact else None
    if x.prim is where and all(map(_chooses_constant, x.inputs[1:])):
        return s("where", x.inputs[0], *(s("cast", i, dtype=to) for i in x.inputs[1:]))
    if x.prim is mul and x.inputs[0].prim is cast and x.dtype.kind == to.kind == "f":
        # A factor times a small count: exact in either precision where the factor is a power of two.
        count, c = x.inputs[0].inputs[0], constant_of(x.inputs[1])
        if power_of_two(c) and count.dtype.itemsize == 1:
            return s("mul", s("cast", count, dtype=to), s.full(c, t.shape, to))
    return None


def _chooses_constant(x: Node) -> bool:
    return constant_of(x) is not None or (x.prim is where and all(constant_of(i) is not None for i in x.inputs[1:]))


cast = Primitive(
    "cast", lambda t, *, dtype: ArrayType(t.shape, dtype),
    lambda xp, x, *, dtype: x.astype(dtype) if xp is np else xp.astype(x, getattr(xp, dtype.name)), _cast_vjp,
    lambda ts, out, x, *, dtype: cast_to(ts[0], dtype), axes=POINTWISE, kind="elementwise",
    kernel="({T}){0}", params={"dtype": np.dtype}, simplify=_simpler_cast, picks=FIRST,
    samples=lambda: [Sample((np.array([1.5, -2.5]),), {"dtype": np.dtype("f8")}),
                     Sample((np.array([1, 0, 3]),), {"dtype": np.dtype("f4")}, order=0),
                     Sample((np.array([1.0, 0.0]),), {"dtype": np.dtype("?")}, order=0)])


def cast_to(x: Node, dtype: np.dtype) -> Node:
    """Return `x` as `dtype`; a constant is converted at once."""
    if x.dtype == dtype:
        return x
    if (value := constant_of(x)) is not None:
        with np.errstate(all="ignore"):
            value = np.asarray(value).astype(x.dtype).astype(dtype).item()
        return full(value, x.shape, dtype)
    return cast(x, dtype=dtype)


stop_gradient = elementwise("stop_gradient", lambda xp, x: x, "{0}", domain=_C, order=0, flops=free,
                            simplify=lambda s, t, xs, p: xs[0], symbol="stop gradient", picks=FIRST)

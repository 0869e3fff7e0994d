"""Special functions: error, gamma and Bessel functions, and their relatives.

`expit`, `log_expit`, `xlogy` and `sinc` are arithmetic. The others are evaluated by SciPy, which is an optional
package that only evaluation needs.

Formulas such as ``i1' = i0 - i1 / x`` or ``dawsn' = 1 - 2 x dawsn`` lose their derivative at 0, or all digits far out.
Derivatives are therefore members of families that are closed under differentiation (hypergeometric functions,
repeated integrals of erfc), each evaluated without cancellation: they are exact to all orders.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..errors import MinigradError
from ..families import elementwise, uniform
from ..graph import Graph, Node, Params, full, zeros_like
from ..locks import importing
from ..primitive import ArrayNamespace, Primitive, Sample, on_host, placeholder
from .broadcast import broadcast_along
from .control import parts
from .custom import custom
from .elementwise import abs_, eq, exp, log, log1p, lt, over_or_zero, reciprocal_hypot, sign, square, tanh, where
from .reduce import greatest, sum_

Evaluation: TypeAlias = Callable[..., Any]  # of a namespace, arrays and parameters: an array

_ROOT = math.sqrt(math.pi)


def by_scipy(name: str, *arrays: np.ndarray, **params: float) -> Any:
    """Evaluate a function of ``scipy.special`` on NumPy arrays.

    Raises
    ------
    MinigradError
        If SciPy is not installed.
    """
    try:
        with importing:
            import scipy.special as special
    except ImportError:
        raise MinigradError(f"{name} is evaluated by SciPy, which is not installed: pip install scipy") from None
    return getattr(special, name)(*params.values(), *arrays).astype(arrays[0].dtype, copy=False)


def _library(name: str) -> Evaluation:
    """Return the evaluation by SciPy's function, or CuPy's."""
    def evaluate(xp: ArrayNamespace, *xs: np.ndarray, **params: float) -> Any:
        if xp is np:
            return by_scipy(name, *xs, **params)
        if hasattr(xs[0], "__cuda_array_interface__"):
            import cupyx.scipy.special as special  # CuPy's own, which has most of them

            if hasattr(special, name):
                own = map(xp.asarray, params.values())  # CuPy's polygamma takes no Python number
                return getattr(special, name)(*own, *xs).astype(xs[0].dtype, copy=False)
        return xp.asarray(np.asarray(by_scipy(name, *map(on_host, xs), **params)))

    return evaluate


def _declare(name: str, d: Callable[..., Any], samples: Callable[[], list[Sample]], kernel: str = "",
             arity: int = 1, params: Params = MappingProxyType({}), evaluate: Evaluation | None = None) -> Primitive:
    kernel = kernel or f"{name}({', '.join(f'{{{i}}}' for i in range(arity))})"
    return elementwise(name, evaluate or _library(name), kernel, d=d, samples=samples, params=params)


# -- logistic function, products with logarithms ------------------------------------------------------------


def _expit_eval(xp: ArrayNamespace, x: np.ndarray) -> Any:
    e = xp.exp(-xp.abs(x))  # at most 1: nothing overflows
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)


def _xlogy_eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(x), x * xp.log(y))


expit = elementwise("expit", _expit_eval, "1 / (1 + exp(-{0}))", d=lambda out, x: (expit_slope(x),),
                    samples=uniform(-2, 2))
# expit(x) * expit(-x), whose derivative has no difference of products.
expit_slope: Primitive = elementwise("expit_slope", lambda xp, x: 0.5 / (1 + xp.cosh(x)), "0.5 / (1 + cosh({0}))",
                                     d=lambda out, x: (-(out * tanh(x * 0.5)),), samples=uniform(-2, 2))
log_expit = elementwise("log_expit", lambda xp, x: xp.where(x < 0, x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x))),
                        "min({0}, 0) - log1p(exp(-abs({0})))", d=lambda out, x: (expit(-x),), samples=uniform(-2, 2))
xlogy = elementwise("xlogy", _xlogy_eval, "{0} == 0 && {1} == {1} ? 0 : {0} * log({1})",
                    d=lambda out, x, y: (log(y), over_or_zero(x, y)), samples=uniform(0.2, 2, 2))
xlog1py = elementwise("xlog1py", lambda xp, x, y: xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(x), x * xp.log1p(y)),
                      "{0} == 0 && {1} == {1} ? 0 : {0} * log1p({1})",
                      d=lambda out, x, y: (log1p(y), over_or_zero(x, y + 1.0)), samples=uniform(0.2, 2, 2))

# log(x / y), each of whose slopes depends on one operand alone.
_log_ratio = elementwise("log_ratio", lambda xp, x, y: xp.log(x / y), "log({0} / {1})",
                         d=lambda out, x, y: (1.0 / x, -1.0 / y), samples=uniform(0.2, 2, 2))
xlog_ratio = elementwise("xlog_ratio", lambda xp, x, y: xp.where(x == 0, xp.zeros_like(x), x * xp.log(x / y)),
                         "{0} == 0 ? 0 : {0} * log({0} / {1})", samples=uniform(0.2, 2, 2),
                         d=lambda out, x, y: (_log_ratio(x, y) + 1.0, -(x / y)))

# -- sin(pi x) / (pi x) ------------------------------------------------------------------------------------

# sinc'(z) / z in powers of z ** 2, for sin(z) / z: (cos(pi x) - sinc(x)) / x cancels near 0.
_SINC_SERIES = [(-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10)]
_SINC_NEAR = 0.35


Value = TypeVar("Value", np.ndarray, Node)


def _polynomial(coefficients: Sequence[float], x: Value) -> Value:
    total = x * coefficients[-1] + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        total = total * x + c
    return total


def _sinc_eval(xp: ArrayNamespace, x: np.ndarray) -> np.ndarray:
    z = x * math.pi
    out = xp.asarray(xp.sin(z) / z)
    if xp is np and not (out.size and np.isnan(out.max())):
        return out
    return xp.where(x == 0, xp.ones_like(x), out)


def _sinc_slope_eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def series(x: np.ndarray) -> np.ndarray:
        slope: np.ndarray = _polynomial(_SINC_SERIES, xp.square(x * math.pi)) * x * math.pi ** 2
        return slope

    far, near = (xp.cos(x * math.pi) - y) / x, xp.abs(x) < _SINC_NEAR
    return _with_tail(far, near, x, series) if xp is np else xp.where(near, series(x), far)


def _sinc_slope_partials(out: Node, x: Node, y: Node) -> tuple[Node, None]:
    near = lt(abs_(x), full(_SINC_NEAR, x.shape, x.dtype))
    inside, outside = where(near, x, zeros_like(x)), where(near, full(1, x.shape, x.dtype), x)
    bends = [c * (2 * k + 1) * math.pi ** 2 for k, c in enumerate(_SINC_SERIES)]
    return where(near, _polynomial(bends, square(inside * math.pi)), y * -math.pi ** 2 - out * 2.0 / outside), None


def _series_text() -> str:
    text, *lower = [f"{c * math.pi ** (2 * k)!r}" for k, c in reversed([*enumerate(_SINC_SERIES, 1)])]
    for c in lower:
        text = f"({text} * ({{0}} * {{0}}) + {c})"
    return f"{text} * {{0}}"


sinc = elementwise("sinc", _sinc_eval, f"{{0}} == 0 ? 1 : sin({{0}} * {math.pi}) / ({{0}} * {math.pi})",
                   d=lambda out, x: (sinc_slope(x, out),), samples=uniform(-2, 2))
# The derivative of y = sinc(x), of both.
sinc_slope: Primitive = elementwise(
    "sinc_slope", _sinc_slope_eval,
    f"seldom(abs({{0}}) < {_SINC_NEAR}, (cos({{0}} * {math.pi}) - {{1}}) / {{0}}, {_series_text()})",
    d=_sinc_slope_partials, order=0)

# -- Huber's loss without a kink --------------------------------------------------------------------------------

# x / sqrt(1 + x²), whose derivative is the third power of 1 / sqrt(1 + x²).
_sine_of_slope = elementwise(
    "sine_of_slope", lambda xp, x: xp.where(xp.isinf(x), xp.sign(x), x / xp.hypot(x, xp.ones_like(x))),
    "isinf({0}) ? sign({0}) : {0} / hypot({0}, 1)",
    d=lambda out, x: (_cubed(reciprocal_hypot(x)),), samples=uniform(-2, 2))


def _cubed(x: Node) -> Node:
    return x * x * x


def _huber_by_scale(d: Node, r: Node) -> Node:
    """Return the derivative of `pseudo_huber` by its scale, as a product without cancellation."""
    sine = _sine_of_slope(r / d)
    return r * sine * square(sine / (reciprocal_hypot(r / d) + 1.0))


# d² (sqrt(1 + (r / d)²) - 1), of a scale d > 0, and its derivative by r.
pseudo_huber = elementwise(
    "pseudo_huber", lambda xp, d, r: xp.where(xp.isinf(r / d), d * xp.abs(r), r * (
        r / (1 + xp.hypot(r / d, xp.ones_like(r))))),
    "isinf({1} / {0}) ? {0} * abs({1}) : {1} * ({1} / (1 + hypot({1} / {0}, 1)))",
    d=lambda out, d, r: (_huber_by_scale(d, r), _huber_slope(d, r)), samples=uniform(0.5, 3, 2))
_huber_slope: Primitive = elementwise(
    "huber_slope", lambda xp, d, r: xp.where(xp.isinf(r / d), d * xp.sign(r), r / xp.hypot(r / d, xp.ones_like(r))),
    "isinf({1} / {0}) ? {0} * sign({1}) : {1} / hypot({1} / {0}, 1)",
    d=lambda out, d, r: (_cubed(_sine_of_slope(r / d)), _cubed(reciprocal_hypot(r / d))), samples=uniform(0.5, 3, 2))


# -- compositions with a derivative rule that takes fewer passes over the data ------------------------------


def _with_rule(name: str, x: Node, function: Callable[[Node], Node], rule: Callable[..., Node]) -> Node:
    """Return ``function(x)``, whose cotangent is ``rule(g, out, x)``."""
    inner, g, out, again = (placeholder(x.types[0]) for _ in range(4))
    body = Graph((inner,), (function(inner),), name=name)
    return parts(custom(x, graph=body, vjp=Graph((g, out, again), (rule(g, out, again),), name=name), jvp=None))[0]


def log_of_sum(total: Node) -> Node:
    """Return the logarithm of a sum: -inf for the sum 0, with no gradient there."""

    def rule(g: Node, out: Node, x: Node) -> Node:
        # One factor per sum: a choice between cotangents would be repeated for each term.
        none = eq(x, zeros_like(x))
        return g * where(none, zeros_like(x), 1.0 / where(none, full(1, x.shape, x.dtype), x))

    return _with_rule("log_of_sum", total, log, rule)


def softmax(x: Node, axes: tuple[int, ...]) -> Node:
    """Return exponentials over their sum, of nothing as well; the cotangent needs only the result."""

    def function(x: Node) -> Node:
        e = exp(x - broadcast_along(greatest(x, axes), x.shape, axes))
        return e / broadcast_along(sum_(e, axes=axes), x.shape, axes)

    def rule(g: Node, out: Node, x: Node) -> Node:
        return out * (g - broadcast_along(sum_(g * out, axes=axes), x.shape, axes))

    return _with_rule("softmax", x, function, rule)


# -- the error function and the normal distribution --------------------------------------------------------


def _bell(x: Node) -> Node:
    return exp(-square(x)) * (2 / _ROOT)


def _density(x: Node) -> Node:
    return exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))


erf = _declare("erf", lambda out, x: (_bell(x),), uniform(-2, 2))
erfc = _declare("erfc", lambda out, x: (-_bell(x),), uniform(-2, 2))
erfcx = _declare("erfcx", lambda out, x: (out * erfcx_ratio(x) * -2.0,), uniform(-1, 2))
erfinv = _declare("erfinv", lambda out, x: (exp(square(out)) * (_ROOT / 2),), uniform(-0.8, 0.8))
erfcinv = _declare("erfcinv", lambda out, x: (exp(square(out)) * (-_ROOT / 2),), uniform(0.2, 1.8))
ndtr = _declare("ndtr", lambda out, x: (_density(x),), uniform(-2, 2), "0.5 * erfc(-{0} * 0.70710678118654752)")
log_ndtr = _declare("log_ndtr", lambda out, x: (log_ndtr_slope(x, out),), uniform(-3, 2))
ndtri = _declare("ndtri", lambda out, x: (exp(square(out) * 0.5) * math.sqrt(2 * math.pi),), uniform(0.1, 0.9))
dawsn = _declare("dawsn", lambda out, x: (dawsn_slope(x),), uniform(-2, 2))


_LOG_ROOT = 0.5 * math.log(2 * math.pi)


def _log_ndtr_slope_eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def tail(x: np.ndarray) -> np.ndarray:
        slope: np.ndarray = math.sqrt(2 / math.pi) / by_scipy("erfcx", x * -math.sqrt(0.5))
        return slope

    x, y = on_host(x), on_host(y)
    usual = np.exp(np.square(x) * -0.5 - y - _LOG_ROOT)
    out = _with_tail(usual, x < -2, x, tail)
    return out if xp is np else xp.asarray(out)


def _log_ndtr_slope_partials(out: Node, x: Node, y: Node) -> tuple[Node, None]:
    below = lt(x, zeros_like(x))
    left, right = where(below, x, zeros_like(x)) * -math.sqrt(0.5), where(below, zeros_like(x), x)
    return where(below, -1.0 - _ratio_slope(erfcx_ratio(left), left, 1), -(out * (right + out))), None


# The density over the distribution function, the derivative of y = log_ndtr(x), of both. For negative x that is
# log(erfcx(t) / 2) - t ** 2 with t = -x / sqrt(2), and the square cancels.
log_ndtr_slope: Primitive = elementwise(
    "log_ndtr_slope", _log_ndtr_slope_eval,
    f"seldom({{0}} < -2, exp({{0}} * {{0}} * -0.5 - {{1}} - {_LOG_ROOT}), "
    f"{math.sqrt(2 / math.pi)} / erfcx({{0}} * -{math.sqrt(0.5)}))",
    d=_log_ndtr_slope_partials, order=0)


# The n-th repeated integral of erfc over that of n - 1 comes from the one before by a recurrence, which loses digits
# for large x, or from the one after by a continued fraction (W. Gautschi, 1961), which is slow for small x. The first
# one, which is in every gradient, loses least and changes over late.
_CUT, _DEPTH, _FIRST_CUT, _FIRST_DEPTH = 3.0, 24, 6.0, 9


def _erfcx_ratios(x: np.ndarray, n: int) -> np.ndarray:
    """Return the n-th repeated integral of erfc from x to infinity over that of n - 1."""
    cut, depth = (_FIRST_CUT, _FIRST_DEPTH) if n == 1 else (_CUT, _DEPTH)
    out = 1 / _ROOT / by_scipy("erfcx", x) - x
    for k in range(2, n + 1):
        out = (1 / out - 2 * x) / (2 * k)
    return _with_tail(out, x >= cut, x, lambda far: _continued_fraction(far, n, depth))


def _continued_fraction(x: np.ndarray, n: int, depth: int) -> np.ndarray:
    out: np.ndarray = 1 / (x + np.sqrt(x * x + 2 * (n + depth + 2)))  # the limit, where neighbouring ratios are equal
    for k in range(n + depth, n - 1, -1):
        out = 1 / (2 * x + 2 * (k + 1) * out)
    return out


def _ratio_text() -> str:
    text = f"({{0}} + sqrt({{0}} * {{0}} + {2.0 * (_FIRST_DEPTH + 3)}))"
    for k in range(_FIRST_DEPTH + 2, 1, -1):
        text = f"(2.0 * {{0}} + {2.0 * k} / {text})"
    return f"1 / {text}"


def _with_tail(values: np.ndarray, far: np.ndarray, x: np.ndarray, function: Callable[..., np.ndarray]) -> np.ndarray:
    """Overwrite `values` where `far` by a more expensive function of `x`."""
    places = np.flatnonzero(far)  # reading and writing by an irregular mask takes several times as long
    if places.size:
        values = np.asarray(values)
        np.put(values, places, function(np.take(x, places)))
    return values


def _on_host(xp: ArrayNamespace, function: Callable[..., np.ndarray], *xs: np.ndarray, **params: float) -> np.ndarray:
    """Evaluate a function of NumPy arrays in double precision."""
    values = [on_host(x) for x in xs]
    out = function(*(v.astype(np.float64) for v in values), **params).astype(values[0].dtype)
    return out if xp is np else xp.asarray(out)


def _ratio_slope(out: Node, x: Node, n: int) -> Node:
    return out * (out * (2.0 * n) - erfcx_ratios(x, n=n + 1) * (2.0 * (n + 1)))


erfcx_ratio: Primitive = elementwise(
    "erfcx_ratio", lambda xp, x: _on_host(xp, _erfcx_ratios, x, n=1),
    f"{{0}} < {_FIRST_CUT} ? {1 / _ROOT} / erfcx({{0}}) - {{0}} : {_ratio_text()}",
    d=lambda out, x: (_ratio_slope(out, x, 1),), samples=uniform(-1, 4))
erfcx_ratios = elementwise(
    "erfcx_ratios", lambda xp, x, *, n: _on_host(xp, _erfcx_ratios, x, n=n), "erfcx_ratios({0})",
    d=lambda out, x, *, n: (_ratio_slope(out, x, n),),
    samples=lambda: [Sample((np.array([-0.4, 1.3, 2.9, 3.1, 8.0]),), {"n": n}) for n in (2, 3)], params={"n": int})

# -- the gamma function ------------------------------------------------------------------------------------

# SciPy's gammaln cancels beside its roots 1 and 2, its digamma takes the cotangent of numbers near multiples of pi, and
# its other polygammas add up |x| terms for a negative x.


@functools.cache
def _gammaln_series() -> tuple[float, ...]:
    """Return the coefficients of gammaln(2 + z) / z (NIST Digital Library of Mathematical Functions, 5.7.3)."""
    rest = by_scipy("zetac", np.arange(2.0, 19.0))  # zeta(k) - 1
    return (1 - np.euler_gamma, *((-1) ** k * float(r) / k for k, r in enumerate(rest, 2)))


def _gammaln_near_roots(x: np.ndarray) -> np.ndarray:
    """Return gammaln of x within 1/4 of 1 or 2, by the series around 2, and from there to 1 by the recurrence."""
    below = x < 1.5
    z = x - np.where(below, 1.0, 2.0)
    series: np.ndarray = z * _polynomial(_gammaln_series(), z)
    return series - np.log1p(np.where(below, z, 0.0))


_EXACT = 150  # the last derivative whose values between all poles, n! * 2 ** n, are finite


def _reflected_polygamma(x: np.ndarray, n: int = 0) -> np.ndarray:
    """Return the n-th derivative of digamma at negative x, by that at 1 - x and the cotangent's (DLMF 5.5.4)."""
    if n > _EXACT:
        return _polygamma(x, n)
    derivative = [1, 0]  # of the cotangent, a polynomial of it, highest power first
    for _ in range(n):
        slope = [c * k for k, c in zip(range(len(derivative) - 1, 0, -1), derivative, strict=False)]
        derivative = [-a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]  # of one sign
    past = x - np.rint(x)  # of the pole
    beside = np.copysign(np.tan(np.pi * (0.5 - np.abs(past))), past)  # exact beside the root between two poles
    cotangent = np.where(np.abs(past) < 0.25, 1 / np.tan(np.pi * past), beside)
    out: np.ndarray = (-1) ** n * _polygamma(1 - x, n) - np.pi ** (n + 1) * np.polyval(derivative, cotangent)
    return out


def _polygamma(x: np.ndarray, n: int) -> np.ndarray:
    """Return the n-th derivative of digamma at x: SciPy's computes both its formulas for all x.

    The factors of one beyond float32 may be so, and n! is infinite from n = 171 on.
    """
    if n == 0:
        psi: np.ndarray = by_scipy("digamma", x)
        return psi
    factor = (-1) ** (n + 1) * by_scipy("gamma", np.array(n + 1.0))
    slope: np.ndarray = factor * by_scipy("zeta", x.astype(np.float64), n=n + 1.0)
    return slope.astype(x.dtype)


def _amended(library: Evaluation, places: Callable[[np.ndarray], np.ndarray],
             function: Callable[..., np.ndarray]) -> Evaluation:
    """Return the evaluation by `library`, on the host by `function` of float64 where `places` says so."""
    def evaluate(xp: ArrayNamespace, x: np.ndarray, **params: int) -> Any:
        if xp is not np or not (own := places(x)).any():
            return library(xp, x, **params)
        out = library(xp, np.where(own, x.dtype.type(1), x), **params)
        return _with_tail(out, own, x, lambda x: function(x.astype(np.float64), **params))

    return evaluate


def _between_poles(x: np.ndarray) -> np.ndarray:
    """Return where x is negative and has values: SciPy's digamma is exact to its first root, -0.504."""
    between: np.ndarray = (x < -0.75) & (x != np.rint(x))
    return between


gammaln = _declare("gammaln", lambda out, x: (digamma(x),), uniform(0.5, 4), "lgamma({0})", evaluate=_amended(
    _library("gammaln"), lambda x: np.abs(np.abs(x - 1.5) - 0.5) < 0.25, _gammaln_near_roots))
gamma = _declare("gamma", lambda out, x: (out * digamma(x),), uniform(0.5, 3), "tgamma({0})")
digamma: Primitive = _declare("digamma", lambda out, x: (trigamma(x),), uniform(0.5, 4), evaluate=_amended(
    _library("digamma"), _between_poles, _reflected_polygamma))
trigamma: Primitive = elementwise("trigamma", lambda xp, x: polygamma.eval(xp, x, n=1), "trigamma({0})",
                                  d=lambda out, x: (polygamma(x, n=2),), samples=uniform(0.5, 4))
polygamma: Primitive = _declare("polygamma", lambda out, x, *, n: (polygamma(x, n=n + 1),),
                                lambda: [Sample((np.array([0.7, 1.6, 3.1]),), {"n": n}) for n in (1, 2)],
                                params={"n": int}, evaluate=_amended(
    lambda xp, x, *, n: _polygamma(x, n) if xp is np else _library("polygamma")(xp, x, n=n),
    _between_poles, _reflected_polygamma))


def digamma_slope(x: Node, n: int) -> Node:
    """Return the n-th derivative of digamma, by the primitive of its own that the first ones have."""
    return polygamma(x, n=n) if n > 1 else trigamma(x) if n else digamma(x)


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
_ASYMPTOTIC = 20  # from where on their series has all digits


def _polygamma_drop_eval(x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Return the n-th derivative of digamma at x minus that at x + y, by terms of one sign.

    Of negative numbers, the difference of both.
    """
    fine = (x > 0) & (x + y > 0) & np.isfinite(x) & np.isfinite(y)
    z, step = np.where(fine, x, 1.0), np.where(fine, y, 1.0)

    def drop(power: int) -> np.ndarray:
        """Return ``z ** -power - (z + step) ** -power``."""
        difference: np.ndarray = -np.expm1(-power * np.log1p(step / z)) / z ** power
        return difference

    total = np.zeros_like(z)
    for _ in range(_ASYMPTOTIC):
        total = total + math.factorial(n) * np.where(z < _ASYMPTOTIC, drop(n + 1), 0)
        z = np.where(z < _ASYMPTOTIC, z + 1, z)
    total = total + (math.factorial(n - 1) * drop(n) if n else np.log1p(step / z)) + math.factorial(n) / 2 * drop(n + 1)
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + b * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * drop(2 * k + n)
    psi = polygamma if n else digamma
    more = {"n": n} if n else {}
    difference: np.ndarray = psi.eval(np, x, **more) - psi.eval(np, x + y, **more)
    return np.where(fine, (-1) ** (n + 1) * total, difference)


polygamma_drop: Primitive = elementwise(
    "polygamma_drop", lambda xp, x, y, *, n: _on_host(xp, _polygamma_drop_eval, x, y, n=n),
    "polygamma_drop({0}, {1})", d=lambda out, x, y, *, n: (
        polygamma_drop(x, y, n=n + 1), -digamma_slope(x + y, n + 1)),
    samples=lambda: [Sample((np.array([0.7, 1.6, 3.1]), np.array([2.0, 0.01, 1.0])), {"n": n}) for n in (0, 1)],
    params={"n": int})


def _beta_slopes(x: Node, y: Node) -> tuple[Node, Node]:
    return polygamma_drop(x, y, n=0), polygamma_drop(y, x, n=0)


betaln = _declare("betaln", lambda out, x, y: _beta_slopes(x, y), uniform(0.5, 3, 2), arity=2)
beta = _declare("beta", lambda out, x, y: tuple(out * slope for slope in _beta_slopes(x, y)), uniform(0.5, 3, 2),
                arity=2)

# -- Bessel functions, integrals ---------------------------------------------------------------------------


# d/dx of a hypergeometric function has every parameter one higher.
hyp0f1: Primitive = _declare("hyp0f1", lambda out, x, *, b: (hyp0f1(x, b=b + 1) * (1 / b),),
                             lambda: [Sample((np.array([-1.3, 0.0, 2.2]),), {"b": 3.0})], params={"b": float})
hyp1f1: Primitive = elementwise(
    "hyp1f1", lambda xp, x, *, a, b: _on_host(xp, _hyp1f1, x, a=a, b=b), "hyp1f1({0})",
    d=lambda out, x, *, a, b: (hyp1f1(x, a=a + 1, b=b + 1) * (a / b),),
    samples=lambda: [Sample((np.array([-7.3, -0.2, 0.0]),), {"a": 1.5, "b": 2.0})], params={"a": float, "b": float})


def _hyp1f1(x: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.where(x == -np.inf, 0.0, by_scipy("hyp1f1", x, a=a, b=b))  # SciPy's is nan there




def _over_x(name: str, bessel: str, sign: int) -> Primitive:
    """Declare ``i1(x) / x`` or ``j1(x) / x``, which is one half of ``hyp0f1(±x² / 4, b=2)``."""

    def evaluate(xp: ArrayNamespace, x: np.ndarray) -> np.ndarray:
        def quotient(x: np.ndarray) -> np.ndarray:
            return np.where(x == 0, 0.5, by_scipy(bessel, x) / np.where(x == 0, 1, x))

        return _on_host(xp, quotient, x)

    return elementwise(name, evaluate, f"{name}({{0}})",
                       d=lambda out, x: (x * hyp0f1(square(x) * (sign / 4), b=3.0) * (sign / 8),),
                       samples=uniform(-3, 3))


i1_over_x = _over_x("i1_over_x", "i1", 1)
j1_over_x = _over_x("j1_over_x", "j1", -1)


def _i0e_slope_eval(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = by_scipy("i1e", x) - by_scipy("i0e", x)
    return _with_tail(near, x > 8, x, lambda far: -_hyp1f1(-2 * far, a=1.5, b=2.0))


def _i0e_bend(x: Node) -> Node:
    """Return the second derivative of ``i0e(|x|)`` by ``|x|``."""
    return hyp1f1(abs_(x) * -2.0, a=2.5, b=3.0) * 1.5


# The derivative of i0e(|x|) by |x|: i1e - i0e, which cancels, or by an integral of one sign, -hyp1f1(-2 |x|, 3/2, 2).
i0e_slope = elementwise("i0e_slope", lambda xp, x: _on_host(xp, _i0e_slope_eval, x), "i0e_slope({0})",
                        d=lambda out, x: (sign(x) * _i0e_bend(x),), samples=uniform(0.3, 2))


def _dawsn_slope_eval(x: np.ndarray) -> np.ndarray:
    near = 1 - 2 * x * by_scipy("dawsn", x)
    return _with_tail(near, ~(np.abs(x) < 3), x, lambda far: _hyp1f1(-far * far, a=1.0, b=0.5))


dawsn_slope: Primitive = elementwise(
    "dawsn_slope", lambda xp, x: _on_host(xp, _dawsn_slope_eval, x), "dawsn_slope({0})",
    d=lambda out, x: (x * hyp1f1(-square(x), a=2.0, b=1.5) * -4.0,), samples=uniform(-2, 2))
i0 = _declare("i0", lambda out, x: (i1(x),), uniform(-2, 2))
i1: Primitive = _declare("i1", lambda out, x: (i0(x) - i1_over_x(x),), uniform(-2, 2))
i0e = _declare("i0e", lambda out, x: (sign(x) * i0e_slope(x),), uniform(0.3, 2))
# For positive x it is the sum of i0e and its derivative.
i1e = _declare("i1e", lambda out, x: (i0e_slope(x) + _i0e_bend(x),), uniform(0.3, 2))
j0 = _declare("j0", lambda out, x: (-j1(x),), uniform(-3, 3))
j1: Primitive = _declare("j1", lambda out, x: (j0(x) - j1_over_x(x),), uniform(-3, 3))
expi = _declare("expi", lambda out, x: (exp(x) / x,), uniform(0.3, 2))
exp1 = _declare("exp1", lambda out, x: (-exp(-x) / x,), uniform(0.3, 2))
spence = _declare("spence", lambda out, x: (-log_quotient(x),), uniform(0.2, 0.8))


def _log_quotients(x: np.ndarray, n: int) -> np.ndarray:
    """Return the integral of ``t ** n / (1 + t (x - 1)) ** (n + 1)`` over t from 0 to 1."""
    near = (x > 0.5) & (x < 2)
    inside, outside = np.where(near, x, 1), np.where(near, 2, x)
    out = np.log(outside) / (outside - 1)
    for k in range(1, n + 1):
        out = (out - outside ** -k / k) / (outside - 1)
    integral: np.ndarray = by_scipy("hyp2f1", np.asarray(1 - inside), a=n + 1, b=n + 1, c=n + 2) / (n + 1)
    return np.where(near, integral, out)


# log(x) / (x - 1), and the other derivatives of spence.
log_quotient: Primitive = elementwise(
    "log_quotient", lambda xp, x: xp.where(x == 1, xp.ones_like(x), xp.log(x) / xp.where(x == 1, xp.ones_like(x),
                                                                                         x - 1)),
    "{0} == 1 ? 1 : log({0}) / ({0} - 1)", d=lambda out, x: (-log_quotients(x, n=1),), samples=uniform(0.2, 3))
log_quotients: Primitive = elementwise(
    "log_quotients", lambda xp, x, *, n: _on_host(xp, _log_quotients, x, n=n), "log_quotients({0})",
    d=lambda out, x, *, n: (log_quotients(x, n=n + 1) * -(n + 1.0),),
    samples=lambda: [Sample((np.array([0.3, 1.0, 1.2, 2.5]),), {"n": n}) for n in (1, 2)], params={"n": int})

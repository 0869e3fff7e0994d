"""Special functions: the error function's family, the gamma function's, and Bessel functions.

`expit`, `log_expit` and `xlogy` are arithmetic. The others are evaluated by SciPy, which is an optional package;
tracing and differentiating them needs none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..graph import Graph, Node, full, zeros_like
from ..primitive import Primitive, Sample, elementwise, on_host
from .control import parts, placeholder
from .custom import custom
from .elementwise import eq, exp, log, log1p, sign, square, where
from .spread import expand_to, max_, sum_

_ROOT = math.sqrt(math.pi)


def _uniform(low: float, high: float, arity: int = 1) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        rng = np.random.default_rng(9)
        return [Sample(tuple(rng.uniform(low, high, s) for _ in range(arity))) for s in ((3, 2), ())]

    return samples


def by_scipy(name: str, *arrays: Any, **params: Any) -> Any:
    """Evaluate a function of ``scipy.special`` on NumPy arrays.

    Raises
    ------
    MinigradError
        If SciPy is not installed.
    """
    try:
        import scipy.special as special
    except ImportError:
        raise MinigradError(f"{name} is evaluated by SciPy, which is not installed: pip install scipy") from None
    return getattr(special, name)(*params.values(), *arrays).astype(arrays[0].dtype, copy=False)


def _declare(name: str, d: Callable[..., Any], samples: Callable[[], list[Sample]], kernel: str = "",
             arity: int = 1, params: Mapping[str, Any] = MappingProxyType({})) -> Primitive:
    def evaluate(xp: Any, *xs: Any, **params: Any) -> Any:
        if xp is np:
            return by_scipy(name, *xs, **params)
        if hasattr(xs[0], "__cuda_array_interface__"):
            import cupyx.scipy.special as special  # CuPy's own, which has most of them

            if hasattr(special, name):
                return getattr(special, name)(*params.values(), *xs).astype(xs[0].dtype, copy=False)
        return xp.asarray(np.asarray(by_scipy(name, *map(on_host, xs), **params)))

    return elementwise(name, evaluate, kernel or f"{name}({', '.join(f'{{{i}}}' for i in range(arity))})", d=d,
                       samples=samples, params=params)


# -- logistic function, logarithms of what may be 0 --------------------------------------------------------


def _expit_eval(xp: Any, x: Any) -> Any:
    e = xp.exp(-xp.abs(x))  # at most 1: nothing overflows
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)


def _xlogy_eval(xp: Any, x: Any, y: Any) -> Any:
    return xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(x), x * xp.log(y))


def _over_log(x: Node, y: Node) -> Node:
    """Return ``x / y``, and 0 where x is 0, whatever y is."""
    none = eq(x, zeros_like(x))
    return where(none, zeros_like(x), x / where(none, full(1, y.shape, y.dtype), y))


expit = elementwise("expit", _expit_eval, "1 / (1 + exp(-{0}))", d=lambda out, x: (out * expit(-x),),
                    samples=_uniform(-2, 2))
log_expit = elementwise("log_expit", lambda xp, x: xp.where(x < 0, x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x))),
                        "min({0}, 0) - log1p(exp(-abs({0})))", d=lambda out, x: (expit(-x),), samples=_uniform(-2, 2))
xlogy = elementwise("xlogy", _xlogy_eval, "{0} == 0 ? 0 : {0} * log({1})",
                    d=lambda out, x, y: (log(y), _over_log(x, y)), samples=_uniform(0.2, 2, 2))
xlog1py = elementwise("xlog1py", lambda xp, x, y: xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(x), x * xp.log1p(y)),
                      "{0} == 0 ? 0 : {0} * log1p({1})", d=lambda out, x, y: (log1p(y), _over_log(x, y + 1.0)),
                      samples=_uniform(0.2, 2, 2))

# -- functions whose own rules take fewer passes over the data than those of what they are made of ---------


def _with_rule(name: str, x: Node, function: Callable[[Node], Node], rule: Callable[..., Node]) -> Node:
    """Return ``function(x)``, whose cotangent is ``rule(g, out, x)``."""
    inner, g, out, again = (placeholder(x.type) for _ in range(4))
    body = Graph((inner,), (function(inner),), name=name)
    return parts(custom(x, graph=body, vjp=Graph((g, out, again), (rule(g, out, again),), name=name), jvp=None))[0]


def log_of_sum(total: Node) -> Node:
    """Return the logarithm of a sum: -inf where nothing was added up, and there no gradient."""

    def rule(g: Node, out: Node, x: Node) -> Node:
        # A number per sum, and no choice between cotangents: that one would be made again for each term.
        none = eq(x, zeros_like(x))
        return g * where(none, zeros_like(x), 1.0 / where(none, full(1, x.shape, x.dtype), x))

    return _with_rule("log_of_sum", total, log, rule)


def softmax(x: Node, axes: tuple[int, ...]) -> Node:
    """Return exponentials divided by their sum over `axes`; what goes back needs the result alone."""

    def function(x: Node) -> Node:
        e = exp(x - expand_to(max_(x, axes=axes), x.shape, axes))
        return e / expand_to(sum_(e, axes=axes), x.shape, axes)

    def rule(g: Node, out: Node, x: Node) -> Node:
        return out * (g - expand_to(sum_(g * out, axes=axes), x.shape, axes))

    return _with_rule("softmax", x, function, rule)


# -- the error function and the normal distribution --------------------------------------------------------


def _bell(x: Node) -> Node:
    return exp(-square(x)) * (2 / _ROOT)


def _density(x: Node) -> Node:
    return exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))


erf = _declare("erf", lambda out, x: (_bell(x),), _uniform(-2, 2))
erfc = _declare("erfc", lambda out, x: (-_bell(x),), _uniform(-2, 2))
erfcx = _declare("erfcx", lambda out, x: (x * out * 2.0 - 2 / _ROOT,), _uniform(-1, 2))
erfinv = _declare("erfinv", lambda out, x: (exp(square(out)) * (_ROOT / 2),), _uniform(-0.8, 0.8))
erfcinv = _declare("erfcinv", lambda out, x: (exp(square(out)) * (-_ROOT / 2),), _uniform(0.2, 1.8))
ndtr = _declare("ndtr", lambda out, x: (_density(x),), _uniform(-2, 2), "0.5 * erfc(-{0} * 0.70710678118654752)")
# The quotient of two numbers that underflow together, as one exponential.
log_ndtr = _declare("log_ndtr", lambda out, x: (exp(square(x) * -0.5 - out - 0.5 * math.log(2 * math.pi)),),
                    _uniform(-3, 2))
ndtri = _declare("ndtri", lambda out, x: (exp(square(out) * 0.5) * math.sqrt(2 * math.pi),), _uniform(0.1, 0.9))
dawsn = _declare("dawsn", lambda out, x: (1.0 - x * out * 2.0,), _uniform(-2, 2))

# -- the gamma function ------------------------------------------------------------------------------------

gammaln = _declare("gammaln", lambda out, x: (digamma(x),), _uniform(0.5, 4), "lgamma({0})")
gamma = _declare("gamma", lambda out, x: (out * digamma(x),), _uniform(0.5, 3), "tgamma({0})")
digamma = _declare("digamma", lambda out, x: (polygamma(x, n=1),), _uniform(0.5, 4))
polygamma = _declare("polygamma", lambda out, x, *, n: (polygamma(x, n=n + 1),),
                     lambda: [Sample((np.array([0.7, 1.6, 3.1]),), {"n": n}) for n in (1, 2)], params={"n": int})
betaln = _declare("betaln", lambda out, x, y: tuple(digamma(v) - digamma(x + y) for v in (x, y)), _uniform(0.5, 3, 2),
                  arity=2)
beta = _declare("beta", lambda out, x, y: tuple(out * (digamma(v) - digamma(x + y)) for v in (x, y)),
                _uniform(0.5, 3, 2), arity=2)

# -- Bessel functions, integrals ---------------------------------------------------------------------------


def _ratio(x: Node, y: Node, at_zero: float) -> Node:
    """Return ``x / y``, and its limit where y is 0."""
    none = eq(y, zeros_like(y))
    return where(none, full(at_zero, x.shape, x.dtype), x / where(none, full(1, y.shape, y.dtype), y))


i0 = _declare("i0", lambda out, x: (i1(x),), _uniform(-2, 2))
i1 = _declare("i1", lambda out, x: (i0(x) - _ratio(out, x, 0.5),), _uniform(0.3, 2))
i0e = _declare("i0e", lambda out, x: (i1e(x) - sign(x) * out,), _uniform(0.3, 2))
i1e = _declare("i1e", lambda out, x: (i0e(x) - sign(x) * out - _ratio(out, x, 0.5),), _uniform(0.3, 2))
j0 = _declare("j0", lambda out, x: (-j1(x),), _uniform(-3, 3))
j1 = _declare("j1", lambda out, x: (j0(x) - _ratio(out, x, 0.5),), _uniform(0.3, 3))
expi = _declare("expi", lambda out, x: (exp(x) / x,), _uniform(0.3, 2))
exp1 = _declare("exp1", lambda out, x: (-exp(-x) / x,), _uniform(0.3, 2))
spence = _declare("spence", lambda out, x: (_ratio(log(x), 1.0 - x, -1.0),), _uniform(0.2, 0.8))

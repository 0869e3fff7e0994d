"""The namespace ``minigrad.special``: ``scipy.special`` on traced values.

SciPy's ufuncs find their way here by themselves when they meet a traced value. Its ordinary functions (`logsumexp`,
`softmax`, `polygamma` …) make an ndarray of their argument first, so these must be called by the names here, which
work on plain arrays too.

Examples
--------
>>> mg.grad(mg.special.logsumexp)(np.zeros(2))
array([0.5, 0.5])
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..errors import TraceError, at_user_line
from ..graph import Node
from ..ops import elementwise as ew
from ..ops import special as ops
from ..ops.broadcast import broadcast_along
from ..ops.reduce import greatest
from ..tracebacks import boundary
from ..traced_array import TABLE, Array, ArrayLike, as_array
from .arguments import Axes, as_axes, broadcast_node, broadcast_shapes
from .dispatch import SCIPY, accumulates, any_traced, implements
from .elementwise import where
from .manipulation import broadcast_arrays, expand_dims
from .protocols import known_value

NAMES: dict[str, Callable[..., Any]] = {}


def _enter(name: str, function: Callable[..., Array | tuple[Array, ...]]) -> Callable[..., Any]:
    @boundary
    @functools.wraps(function)
    def public(*args: ArrayLike, **kwargs: object) -> object:
        out = function(*args, **kwargs)
        if any_traced(args) or any_traced(kwargs.values()):
            return out
        return tuple(map(_number, out)) if isinstance(out, tuple) else _number(out)

    public.__name__ = public.__qualname__ = name
    NAMES[name] = public
    return public


def _number(x: Array) -> np.ndarray | np.generic:
    """Return the value of an array that depends on no input: a NumPy scalar where it has no axes."""
    value = known_value(x._node)
    assert value is not None
    return value[()]


def _named(function: Callable[..., Array | tuple[Array, ...]]) -> Callable[..., Any]:
    return _enter(function.__name__, function)


def _operands(name: str, *args: ArrayLike) -> list[Array]:
    """Return the operands in one shape and dtype: float32 for float32 and float16, float64 for all else.

    Where SciPy takes bools, small integers and float16 depends on its version.
    """
    xs = [as_array(a) for a in args]
    strong = [x.dtype for x in xs if not x._weak]
    single = strong and all(d in (np.float32, np.float16) for d in strong)
    dtype = np.dtype(np.float32 if single else np.float64)
    shape = broadcast_shapes(f"special.{name}", [x._node for x in xs])
    return [Array(broadcast_node(ew.cast_to(x._node, dtype), shape)) for x in xs]


def _ufunc(name: str, arity: int, make: Callable[..., Array], doc: str = "") -> None:
    def function(*args: ArrayLike, **kwargs: object) -> Array:
        if any(v is not None for v in kwargs.values()):
            raise TraceError(at_user_line(f"scipy.special.{name} with {', '.join(kwargs)}= of a traced value: use the "
                                          "result, and np.where"))
        if len(args) != arity:
            raise TypeError(f"{name} takes {arity} arguments, got {len(args)}")
        return make(*_operands(name, *args))

    function.__doc__ = doc or f"Return ``scipy.special.{name}`` of each element."
    SCIPY[name] = _enter(name, function)


def _lifted(prim: Callable[..., Node]) -> Callable[..., Array]:
    return lambda *xs: Array(prim(*(x._node for x in xs)))


for _name in ("expit", "log_expit", "erf", "erfc", "erfcx", "erfinv", "erfcinv", "ndtr", "log_ndtr", "ndtri", "dawsn",
              "gammaln", "gamma", "digamma", "i0", "i1", "i0e", "i1e", "j0", "j1", "expi", "exp1", "spence"):
    _ufunc(_name, 1, _lifted(getattr(ops, _name)))
for _name in ("xlogy", "xlog1py", "betaln", "beta"):
    _ufunc(_name, 2, _lifted(getattr(ops, _name)))
for _name in ("exp2", "expm1", "log1p", "cbrt"):
    _ufunc(_name, 1, getattr(np, _name))


def _relative_entropy(x: Array, y: Array) -> Array:
    fine = (x >= 0) & (y > 0)
    x_, y_ = where(fine, x, 1.0), where(fine, y, 1.0)
    otherwise = where(np.isnan(x) | np.isnan(y), np.nan, where((x == 0) & (y == 0), 0.0, np.inf))
    return where(fine, _lifted(ops.xlog_ratio)(x_, y_), otherwise).astype(x.dtype)


def _divergence(x: Array, y: Array) -> Array:
    out = _relative_entropy(x, y)
    return where((x >= 0) & (y > 0), out - x + y, out)


def _entropy(x: Array) -> Array:
    safe = where(x < 0, 1.0, x).astype(x.dtype)
    return where(x < 0, -np.inf, -_lifted(ops.xlogy)(safe, safe)).astype(x.dtype)


def _huber(delta: Array, r: Array) -> Array:
    size = np.abs(r)
    return where(delta < 0, np.inf, where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))).astype(r.dtype)


def _pseudo_huber(delta: Array, r: Array) -> Array:
    flat = where(delta == 0, 0.0, _lifted(ops.pseudo_huber)(where(delta <= 0, 1.0, delta).astype(r.dtype), r))
    return where(delta < 0, np.inf, flat).astype(r.dtype)


_ufunc("psi", 1, _lifted(ops.digamma))
_ufunc("logit", 1, lambda x: np.log(x) - np.log1p(-x))
_ufunc("entr", 1, _entropy)
_ufunc("rel_entr", 2, _relative_entropy)
_ufunc("kl_div", 2, _divergence)
_ufunc("huber", 2, _huber)
_ufunc("pseudo_huber", 2, _pseudo_huber)
_ufunc("exp10", 1, lambda x: 10.0 ** x)
_ufunc("cosm1", 1, lambda x: -2.0 * np.sin(0.5 * x) ** 2)


@_named
def polygamma(n: int, x: ArrayLike) -> Array:
    """Return the n-th derivative of the digamma function, for a known integer `n`.

    Examples
    --------
    >>> mg.special.polygamma(1, 1.0).round(4), round(np.pi**2 / 6, 4)
    (np.float64(1.6449), 1.6449)
    """
    if any_traced([n]) or np.ndim(n):
        raise TraceError(at_user_line("special.polygamma: n must be an ordinary int"))
    (x,) = _operands("polygamma", x)
    return Array(ops.digamma_slope(x._node, int(n)))


@_named
def multigammaln(a: ArrayLike, d: int) -> Array:
    """Return the logarithm of the multivariate gamma function of known dimension `d`.

    Examples
    --------
    >>> np.exp(mg.special.multigammaln(3.0, 1)).round(4)  # with d = 1, the gamma function
    np.float64(2.0)
    """
    (a,) = _operands("multigammaln", a)
    ln = _lifted(ops.gammaln)
    return sum((ln(a - 0.5 * j) for j in range(1, int(d))), ln(a)) + 0.25 * d * (d - 1) * math.log(math.pi)


@_named
def softplus(x: ArrayLike) -> Array:
    """Return ``log(1 + exp(x))``.

    Examples
    --------
    >>> mg.special.softplus(np.array([-1000.0, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    (x,) = _operands("softplus", x)
    return TABLE[np.logaddexp](x, 0.0)


@_named
@accumulates
def logsumexp(a: ArrayLike, axis: Axes = None, b: ArrayLike | None = None, keepdims: bool = False,
              return_sign: bool = False) -> Array | tuple[Array, Array]:
    """Return the logarithm of the sum of exponentials, with factors `b`: -inf for a sum without terms.

    Equal infinities share the gradient.

    Examples
    --------
    >>> mg.special.logsumexp(np.array([1000.0, 1000.0])) - np.log(2.0)
    np.float64(1000.0)
    """
    x = as_array(a)
    x = x if x.dtype.kind == "f" else x.astype(float)
    if b is not None:
        x, b = broadcast_arrays(x, as_array(b).astype(x.dtype))
    seen = x if b is None else where(b == 0, -np.inf, x)
    axes = as_axes(axis, x.ndim, "special.logsumexp")
    top = Array(ew.stop_gradient(greatest(seen._node, axes)))
    below = broadcast_along(top._node, x._node.shape, axes)
    if b is not None:
        x = where((b == 0) & (x - Array(below) > 700), -np.inf, x)  # an overflow times 0 would be nan
    terms = Array(ew.exp_of_difference(x._node, below))
    total = (terms if b is None else b * terms).sum(axis=axis)
    sign = TABLE[np.sign](total)
    if b is not None and return_sign:
        total = TABLE[np.absolute](total)
    out = Array(ops.log_of_sum(total._node)) + top
    if keepdims:
        out, sign = (expand_dims(v, axes) for v in (out, sign))
    return (out, sign) if return_sign else out


@_named
@accumulates
def softmax(x: ArrayLike, axis: Axes = None) -> Array:
    """Return exponentials divided by their sum.

    Examples
    --------
    >>> mg.special.softmax(np.array([0.0, 0.0, np.log(2.0)]))
    array([0.25, 0.25, 0.5 ])
    """
    x = as_array(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    return Array(ops.softmax(x._node, as_axes(axis, x.ndim, "special.softmax")))


@_named
@accumulates
def log_softmax(x: ArrayLike, axis: Axes = None) -> Array:
    """Return the logarithm of the softmax.

    Examples
    --------
    >>> np.exp(mg.special.log_softmax(np.array([1000.0, 1000.0])))
    array([0.5, 0.5])
    """
    x = as_array(x)
    return x - cast("Array", logsumexp(x, axis=axis, keepdims=True))


@implements(np.i0)
def i0(x: ArrayLike) -> Array:
    """Return the modified Bessel function of order 0."""
    x = as_array(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    return Array(ops.i0(_operands("i0", x)[0]._node)).astype(x.dtype)  # NumPy keeps float16, SciPy does not


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return NAMES[name]
    raise AttributeError(f"minigrad.special has no {name}; it has {', '.join(sorted(NAMES))}")


def __dir__() -> list[str]:
    return sorted(NAMES)

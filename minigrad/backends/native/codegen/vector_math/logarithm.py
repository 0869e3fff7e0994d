"""log and its relatives: the argument is 2**e (1 + f) with 1 + f in [√½, √2); a polynomial of f, and e ln 2."""

from __future__ import annotations

import math

from . import coefficients as c
from .double import difference, fast_sum
from .exponential import exp_of_negative, exp_of_negative_with_error
from .lanes import BIAS, MANTISSA, SMALLEST_NORMAL, Lanes, fma, maximum, minimum, polynomial, power_of_two, select

_INFINITY = float("inf")
_NAN = float("nan")
_NO_SQUARE = {32: 2.0**30, 64: 2.0**60}  # above, x + 1, sqrt(x**2 + 1) and x are the same float


def _exponent(x: Lanes, low: float = math.sqrt(0.5)) -> Lanes:
    """Return the integer e for which x / 2**e is in [low, 2 low), of a positive normal x."""
    return x.bits() - x.const(low).bits() >> MANTISSA[x.width]


def _divide_by_power(x: Lanes, e: Lanes) -> Lanes:
    """Return x / 2**e, by its exponent's bits; the result must be normal, or e 0."""
    return (x.bits() - (e << MANTISSA[x.width])).floats()


def split(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return f, and e as a float, of a positive finite x."""
    width = x.width
    small = x < SMALLEST_NORMAL[width]
    lift = MANTISSA[width] + 1
    x = select(small, x * 2.0**lift, x)
    e = _exponent(x)
    f = _divide_by_power(x, e) - 1.0
    return f, (e - select(small, e.const(lift), 0)).to_float()


def rest(f: Lanes) -> Lanes:
    """Return log(1 + f) - f."""
    return f * f * polynomial(f, c.LOG[f.width])


def _combine(f: Lanes, e: Lanes, small: Lanes) -> Lanes:
    """Return e ln 2 + f + small."""
    high, low = c.LN2[f.width]
    return fma(e, high, f + fma(e, low, small))


def _at_the_ends(x: Lanes, result: Lanes, low: float = 0.0) -> Lanes:
    """Return `result`, with a logarithm's values at `low`, below that, at infinity and NaN."""
    below = select(x == low, x.const(-_INFINITY), _NAN)
    return select(x < _INFINITY, select(x > low, result, below), x)


def log(x: Lanes) -> Lanes:
    f, e = split(x)
    return _at_the_ends(x, _combine(f, e, rest(f)))


def log_with_error(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return log x of a positive finite x, and its error: both together are right to 0.4 last places."""
    f, e = split(x)
    high, low = c.LN2[x.width]
    total, error = fast_sum(e * high, f)
    return fast_sum(total, error + fma(e, low, rest(f)))


def _log_with_base(x: Lanes, factor: tuple[float, float], e_high: float, e_low: float) -> Lanes:
    """Return the logarithm whose slope at 1 is `factor`, in two parts; one of 2 is e_high + e_low."""
    f, e = split(x)
    high, low = factor
    small = fma(e, e_low, fma(f, low, rest(f) * high)) if e_low else fma(f, low, rest(f) * high)
    return _at_the_ends(x, fma(e, e_high, fma(f, high, small)))


def log2(x: Lanes) -> Lanes:
    return _log_with_base(x, c.LOG2_E[x.width], 1.0, 0.0)


def log10(x: Lanes) -> Lanes:
    return _log_with_base(x, c.LOG10_E[x.width], *c.LOG10_2[x.width])


def log1p_finite(x: Lanes, low: Lanes | float = 0.0, twice: Lanes | None = None) -> Lanes:
    """Return log(1 + x + low) for finite x > -1, and ln 2 more where `twice`; `low` is x's rounding error.

    With 2**e near 1 + x, f = x / 2**e + (1 / 2**e - 1): rounded once, and just x where e is 0. The error counts where
    f and e ln 2 cancel.
    """
    e = _exponent(x + 1.0)
    power = select(e < BIAS[x.width] // 2, (x.const(1.0).bits() - (e << MANTISSA[x.width])).floats(), 0.0)
    scaled, offset = _divide_by_power(x, e), power - 1.0
    f = scaled + offset
    error = scaled - (f - offset)
    if isinstance(low, Lanes):
        error = fma(low, power, error)
    if twice is not None:
        e = e + select(twice, e.const(1), 0)
    return _combine(f, e.to_float(), rest(f) + error)


def log1p(x: Lanes) -> Lanes:
    return _at_the_ends(x, log1p_finite(x).with_sign(x.sign_bit()), -1.0)


def log_expit(x: Lanes) -> Lanes:
    """Return log(1 / (1 + exp(-x))) = min(x, 0) - log1p(exp(-|x|))."""
    return minimum(x.const(0.0), x) - log1p_finite(exp_of_negative(-abs(x)))


def logaddexp(x: Lanes, y: Lanes) -> Lanes:
    """Return max + log1p(exp(-|x - y|)), with the rounding errors of the difference and of exp.

    Where the two terms cancel, near the curve exp(x) + exp(y) = 1, the error is one of the terms' last places, not of
    the result's; float32 is computed in float64, so that its results have many places to lose.
    """
    if x.width == 32:
        return logaddexp(x.double(), y.double()).single()
    high = maximum(x, y)
    down, error = difference(minimum(x, y), high)
    ratio, low = exp_of_negative_with_error(select(x == y, 0.0, down))  # of equal infinities the difference is NaN
    result = high + log1p_finite(ratio, fma(ratio, select(down > -_INFINITY, error, 0.0), low))
    return select(x.isnan() | y.isnan(), x + y, result)


def asinh(x: Lanes) -> Lanes:
    """Return log1p(|x| + x**2 / (1 + sqrt(1 + x**2))), signed; log(2 |x|) where the square might overflow."""
    size = abs(x)
    large = size > _NO_SQUARE[x.width]
    square = select(large, 0.0, x * x)
    more, low = fast_sum(size, square / ((square + 1.0).sqrt() + 1.0))
    result = log1p_finite(more, low, twice=large)
    return select(size < _INFINITY, result, size).with_sign(x.sign_bit())


def acosh(x: Lanes) -> Lanes:
    """Return log1p(t + sqrt(t**2 + 2 t)) with t = x - 1; log(2 x) where the square might overflow."""
    large = x > _NO_SQUARE[x.width]
    t = x - 1.0
    root = fma(t, t, t + t).sqrt()
    more, low = fast_sum(select(large, t, root), select(large, 0.0, t))
    result = log1p_finite(more, low, twice=large)
    return select(x < _INFINITY, select(x >= 1.0, result, _NAN), x)


def atanh(x: Lanes) -> Lanes:
    """Return log((1 + |x|) / (1 - |x|)) / 2, signed.

    With 2**e near the quotient that is e ln(2) / 2 + atanh(s), where s = (1 + x - 2**e (1 - x)) / (1 + x + 2**e (1 -
    x)): small, and x itself where e is 0.
    """
    size = abs(x)
    over, under = size + 1.0, 1.0 - size
    e = _exponent(over / under, 0.8)
    near, power = e == 0, power_of_two(e)
    scaled = under * power
    errors = (size - (over - 1.0)) - ((1.0 - under) - size) * power
    s = select(near, size, ((over - scaled) + errors) / (over + scaled))
    high, low = c.LN2[x.width]
    n, z = e.to_float() * 0.5, s * s
    result = fma(n, high, s + fma(n, low, s * z * polynomial(z, c.ATANH[x.width])))
    at_1 = select(size == 1.0, size.const(_INFINITY), _NAN)
    return select(size < 1.0, result, at_1).with_sign(x.sign_bit())

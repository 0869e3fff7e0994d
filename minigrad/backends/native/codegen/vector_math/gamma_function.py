"""The logarithm of the gamma function and its first two derivatives: lgamma, digamma and trigamma.

From 4.75 on by Stirling's series (NIST Digital Library of Mathematical Functions, 5.11.1 and 5.11.2), its coefficients
fitted. Around the roots 1 and 2 (of digamma 1.4616) a polynomial has the roots as factors. The recurrence (DLMF 5.5.1,
5.5.2) leads other positive arguments to these, in the direction in which terms add up. Negative arguments are
reflected (DLMF 5.5.3, 5.5.4): near their roots between the poles the terms of lgamma and digamma cancel, so that the
error is one of the terms' last places, not of the result's. Float32 is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...llvm import ir, values
from . import coefficients as c
from .double import fast_sum, product, product_error, sum_with_error
from .lanes import MANTISSA, Lanes, fma, polynomial, select
from .logarithm import log_with_error

_FAR = 4.75  # from where on Stirling's series has all digits
_GREATEST = 2.5563481638716906e305  # of greater numbers lgamma is infinite
_TINY = 1e-20  # of smaller numbers the functions are those of the pole at 0
_INFINITY, _NAN = float("inf"), float("nan")


def _value(x: Lanes, positive: Callable[[Lanes], Lanes], reflected: Callable[[Lanes, Lanes, Lanes], Lanes]) -> Lanes:
    """Return ``positive(|x|)``, or for negative x ``reflected(|x|, r, that)``: r is |x| less the nearest integer."""
    if x.width == 32:
        return _value(x.double(), positive, reflected).single()
    size, negative = abs(x), x.bits() < 0
    usual = positive(size)

    def rare() -> list[ir.Value]:
        whole = 2.0 ** MANTISSA[64]
        r = size - select(size < whole, (size + whole) - whole, size)
        return [select(negative, reflected(size, r, usual), usual).value]

    return x.of(values.rarely(x.builder, negative.value, [usual.value], rare)[0])


def _near(t: Lanes, name: str) -> tuple[Lanes, Lanes]:
    """Return first + t * polynomial(t), and its error."""
    first, first_low = getattr(c, f"{name}_FIRST")[64]
    rise, rise_low = product(t, polynomial(t, getattr(c, name)[64]))
    p, low = fast_sum(t.const(first), rise)
    return p, low + (first_low + rise_low)


def _product(x: Lanes, x_low: Lanes, y: Lanes, y_low: Lanes) -> Lanes:
    """Return (x + x_low) * (y + y_low), rounded once."""
    return fma(x, y, fma(x, y_low, x_low * y))


def _sine(r: Lanes) -> tuple[Lanes, Lanes]:
    """Return sin(pi r) for |r| <= 1/2, and its error."""
    pi, pi_low = c.PI[64]
    z, z_low = product(r, r)
    first, *others = c.SIN_PI[64]
    slope, slope_low = fast_sum(z.const(first), z * polynomial(z, others))
    rise, rise_low = product(z, slope)
    p, p_low = fast_sum(r.const(pi), rise)
    sine, low = product(r, p)
    return sine, fma(r, p_low + (pi_low + fma(z_low, slope, fma(z, slope_low, rise_low))), low)


def _over_sine(r: Lanes) -> tuple[Lanes, Lanes]:
    """Return pi / sin(pi r) for |r| <= 1/2, and its error."""
    pi, pi_low = c.PI[64]
    sine, low = _sine(r)
    quotient = pi / sine
    back, back_low = product(quotient, sine)
    return quotient, (((pi - back) - back_low) + (pi_low - quotient * low)) / sine


def _reduced(x: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """Return t = y - 7/4 with y in [7/8, 11/4], and whether y is x + 1; x - 1 or x - 2; and x - 2."""
    below, above, twice = x < 0.875, x > 2.75, x > 3.75
    return x - select(twice, x.const(3.75), select(above, x.const(2.75), select(below, x.const(0.75), 1.75))), \
        below, above, twice


def _lgamma(x: Lanes) -> Lanes:
    """Return lgamma of x >= 0: y's of _reduced, and the logarithm of a quotient of gamma functions."""
    t, below, above, twice = _reduced(x)
    a, b, far = x - 1.0, x - 2.0, x >= _FAR
    pair = a * b
    quotient = select(far | below, x, select(twice, pair, select(above, a, 1.0)))
    high, low = log_with_error(quotient)
    r = 1.0 / x
    factor, (log, log_low) = x - 0.5, fast_sum(high, high.const(-1.0))
    p, p_low = product(factor, log)
    series = fma(r, polynomial(r * r, c.STIRLING[64]), 0.5 * math.log(2 * math.pi) - 0.5)
    stirling = p + (series + fma(factor, log_low + low, p_low))
    u, v = t + 0.75, t - 0.25
    roots, roots_low = product(u, v)
    error = low + select(twice, product_error(a, b, pair), 0.0) / quotient
    near = select(below, -high, high) + (_product(roots, roots_low, *_near(t, "LGAMMA")) + select(below, -low, error))
    result = select(x == 0.0, _INFINITY, select(far, stirling, near))
    return select(x <= _GREATEST, result, x * _INFINITY)


def _reflected_lgamma(size: Lanes, r: Lanes, positive: Lanes) -> Lanes:
    """Return log(pi / |x sin(pi x)|) - lgamma(|x|)."""
    over, over_low = _over_sine(r)
    quotient = over / size
    back, back_low = product(quotient, size)
    high, low = log_with_error(abs(quotient))
    error = low + (((over - back) - back_low) + over_low) / over
    result = select(r == 0.0, _INFINITY, (high - positive) + error)
    return select(size < _TINY, positive, select(size == _INFINITY, -_INFINITY, result))


def _digamma(x: Lanes) -> Lanes:
    """Return digamma of x >= 0: y's of _reduced, and the sum of the recurrence's fractions as one."""
    t, below, above, twice = _reduced(x)
    a, b, far = x - 1.0, x - 2.0, x >= _FAR
    recurrence = select(twice, a + b, select(above, x.const(1.0), select(below, x.const(-1.0), 0.0)))
    over = select(far, -0.5, recurrence)
    fraction = over / select(far | below, x, select(twice, a * b, select(above, a, 1.0)))
    high, low = log_with_error(x)
    z = fraction * fraction * 4.0
    stirling = high + (low + fma(z, -polynomial(z, c.STIRLING_SLOPE[64]), fraction))
    root, root_low = c.DIGAMMA_ROOT[64]
    distance, distance_low = sum_with_error(t, t.const(-root))
    near = fraction + _product(distance, distance_low - root_low, *_near(t, "DIGAMMA"))
    return select(x < _INFINITY, select(far, stirling, near), x)


def _reflected_digamma(size: Lanes, r: Lanes, positive: Lanes) -> Lanes:
    """Return digamma(|x|) + 1 / |x| + pi cot(pi |x|)."""
    (quotient, low), (cosine, cosine_low) = _over_sine(r), _sine(0.5 - abs(r))
    total, total_low = sum_with_error(positive, 1.0 / size)
    error = fma(quotient, cosine_low, fma(low, cosine, total_low))
    result = fma(quotient, cosine, total) + error
    return select(size < _TINY, -positive, select(r == 0.0, _NAN, result))


def _trigamma(x: Lanes) -> Lanes:
    """Return trigamma of x >= 0; the recurrence adds 1 / x**2 below 2, and 1 / (x + 1)**2 below 1."""
    once, twice = x < 2.0, x < 1.0
    r, after = 1.0 / x, x + 1.0
    z = r * r
    stirling = r + fma(z * r, polynomial(z, c.STIRLING_BEND[64]), z * 0.5)
    p, low = _near(x - select(twice, x.const(1.375), select(once, x.const(2.375), 3.375)), "TRIGAMMA")
    near = select(once, r / x, 0.0) + (select(twice, 1.0 / (after * after), 0.0) + (p + low))
    return select(x >= _FAR, stirling, near)


def _reflected_trigamma(size: Lanes, r: Lanes, positive: Lanes) -> Lanes:
    """Return (pi / sin(pi x))**2 + 1 / x**2 - trigamma(|x|)."""
    root, low = _over_sine(r)
    result = fma(root, root, fma(root * 2.0, low, (1.0 / size) / size - positive))
    return select(size < _TINY, positive, select((r == 0.0) | (size == _INFINITY), _INFINITY, result))


def lgamma(x: Lanes) -> Lanes:
    """Return log |gamma(x)|: infinite at the poles."""
    return _value(x, _lgamma, _reflected_lgamma)


def digamma(x: Lanes) -> Lanes:
    """Return the derivative of lgamma; at 0 infinite with the sign of -x, at the other poles NaN."""
    return _value(x, _digamma, _reflected_digamma)


def trigamma(x: Lanes) -> Lanes:
    """Return the second derivative of lgamma: infinite at the poles."""
    return _value(x, _trigamma, _reflected_trigamma)

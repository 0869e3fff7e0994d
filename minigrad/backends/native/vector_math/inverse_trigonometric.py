"""asin, acos and atan by polynomials near 0; the rest of their domain is led there by a root or by a quotient."""

from __future__ import annotations

from . import coefficients as c
from .lanes import Lanes, fabs, flip_sign, fma, maximum, minimum, polynomial, select, sign_bit, sqrt, with_sign


def _asin_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return whether |x| > 1/2; s, which is |x| or else sqrt((1 - |x|) / 2); and asin(s) - s."""
    size = fabs(x)
    large = size > 0.5
    half = (1.0 - size) * 0.5
    z = select(large, half, x * x)
    s = select(large, sqrt(half), size)
    return large, s, s * z * polynomial(z, c.ASIN[x.width])


def asin(x: Lanes) -> Lanes:
    """Return s + rest, or pi/2 - 2 (s + rest), signed."""
    large, s, rest = _asin_parts(x)
    high, low, _ = c.HALF_PI[x.width]
    far = high - ((s + s) + fma(rest, 2.0, -low))
    return with_sign(select(large, far, s + rest), sign_bit(x))


def acos(x: Lanes) -> Lanes:
    """Return pi/2 - asin(x) where |x| is small; else 2 asin(s), or for negative x pi less that."""
    large, s, rest = _asin_parts(x)
    high, low, _ = c.HALF_PI[x.width]
    sign = sign_bit(x)
    near = high - (flip_sign(s, sign) + (flip_sign(rest, sign) - low))
    right = (s + rest) * 2.0
    left = 2.0 * high - ((s + s) + fma(rest, 2.0, -2.0 * low))
    return select(large, select(x < 0.0, left, right), near)


def _atan_of_quotient(top: Lanes, bottom: Lanes) -> tuple[Lanes, Lanes]:
    """Return atan(top / bottom) as a sum of two, for 0 <= top, bottom; 0/0 counts as 0 and inf/inf as 1."""
    low, high = minimum(top, bottom), maximum(top, bottom)
    q = select(low == high, select(high == 0.0, high, 1.0), low / high)
    z = q * q
    rest = q * z * polynomial(z, c.ATAN[q.width])
    swapped = top > bottom
    first, second, _ = c.HALF_PI[q.width]
    return select(swapped, first - q, q), select(swapped, second - rest, rest)


def atan(x: Lanes) -> Lanes:
    size = fabs(x)
    large = size > 1.0
    q = select(large, -1.0, size) / select(large, size, 1.0)
    z = q * q
    rest = q * z * polynomial(z, c.ATAN[x.width])
    high, low, _ = c.HALF_PI[x.width]
    result = select(large, high, 0.0 * size.const(0.0)) + (q + (rest + select(large, size.const(low), 0.0)))
    return with_sign(result, sign_bit(x))

"""asin, acos and atan by polynomials near 0; a root or a quotient maps other arguments there."""

from __future__ import annotations

from . import coefficients as c
from .lanes import Lanes, fma, polynomial, select


def _asin_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return whether |x| > 1/2; s, which is |x| or else sqrt((1 - |x|) / 2); and asin(s) - s."""
    size = abs(x)
    large = size > 0.5
    half = (1.0 - size) * 0.5
    z = select(large, half, x * x)
    s = select(large, half.sqrt(), size)
    return large, s, s * z * polynomial(z, c.ASIN[x.width])


def asin(x: Lanes) -> Lanes:
    """Return s + tail, or pi/2 - 2 (s + tail), signed."""
    large, s, tail = _asin_parts(x)
    high, low, _ = c.HALF_PI[x.width]
    far = high - ((s + s) + fma(tail, 2.0, -low))
    return select(large, far, s + tail).with_sign(x.sign_bit())


def acos(x: Lanes) -> Lanes:
    """Return pi/2 - asin(x) where |x| is small; else 2 asin(s), or for negative x pi less that."""
    large, s, tail = _asin_parts(x)
    high, low, _ = c.HALF_PI[x.width]
    sign = x.sign_bit()
    near = high - (s.flip_sign(sign) + (tail.flip_sign(sign) - low))
    right = (s + tail) * 2.0
    left = 2.0 * high - ((s + s) + fma(tail, 2.0, -2.0 * low))
    return select(large, select(x < 0.0, left, right), near)


def _atan_near_0(q: Lanes) -> Lanes:
    """Return atan(q) - q for |q| <= 1."""
    z = q * q
    return q * z * polynomial(z, c.ATAN[q.width])


def atan(x: Lanes) -> Lanes:
    """Return atan(q), or for |x| > 1 pi/2 + atan(-1 / |x|), signed."""
    size = abs(x)
    large = size > 1.0
    q = select(large, -1.0, size) / select(large, size, 1.0)
    high, low, _ = c.HALF_PI[x.width]
    small = _atan_near_0(q) + select(large, q.const(low), 0.0)
    return (select(large, q.const(high), 0.0) + (q + small)).with_sign(x.sign_bit())


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """Return the angle of (x, y): that of the lesser coordinate over the greater, and multiples of pi/2."""
    height, width = abs(y), abs(x)
    steep = height > width
    lesser, greater = select(steep, width, height), select(steep, height, width)
    q = select(lesser == greater, select(lesser == 0.0, lesser, 1.0), lesser / greater)
    left = x.sign_bit()
    back = left != 0
    # pi/2 - atan q, pi/2 + atan q, pi - atan q or atan q
    sign = left ^ select(steep, left.const(1 << x.width - 1), 0)
    high, low, _ = c.HALF_PI[x.width]

    def base(half: float) -> Lanes:
        return select(steep, half, select(back, q.const(2.0 * half), 0.0))

    angle = base(high) + (q.flip_sign(sign) + (_atan_near_0(q).flip_sign(sign) + base(low)))
    return select(x.isnan() | y.isnan(), x + y, angle.with_sign(y.sign_bit()))

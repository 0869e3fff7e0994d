"""erf, erfc and erfcx by one approximation: erfcx(x) = q P(q), where q = 1 / (x + shift); and erf near 0 by another."""

from __future__ import annotations

from . import coefficients as c
from .double import product_error
from .exponential import expm1_near_0
from .lanes import Lanes, clamp, fabs, fma, polynomial, round_to_integer, scale, select, sign_bit, with_sign

_SHIFT = {32: 2.0, 64: 4.0}
_END = {32: 10.1, 64: 27.3}  # where erfc is less than half the smallest number


def erfcx_positive(x: Lanes) -> Lanes:
    """Return exp(x**2) erfc(x) for x >= 0."""
    shift = _SHIFT[x.width]
    q = 1.0 / (x + shift)
    return q * polynomial(fma(q, shift, -0.5), c.ERFCX[x.width])


def _exp_of_square(x: Lanes, sign: float, factor: Lanes) -> Lanes:
    """Return factor * exp(sign * x**2): with the square's rounding error, and one rounding at the end."""
    square = x * x
    n, integer = round_to_integer(square, sign * c.LOG2_E[x.width][0])
    high, low = c.LN2[x.width]
    r = fma(n, -low, fma(n, -high, square * sign) + product_error(x, x, square) * sign)
    return scale(fma(factor, expm1_near_0(r), factor), integer)


def _erfc_positive(x: Lanes) -> Lanes:
    """Return exp(-x**2) erfcx(x) for x >= 0."""
    x = clamp(x, high=_END[x.width])
    return _exp_of_square(x, -1.0, erfcx_positive(x))


def erfcx(x: Lanes) -> Lanes:
    """Return exp(x**2) erfc(x); for negative x 2 exp(x**2) - erfcx(-x)."""
    size = fabs(x)
    y = erfcx_positive(size)
    grown = _exp_of_square(clamp(size, high={32: 9.5, 64: 26.7}[x.width]), 1.0, x.const(2.0))
    return select(x < 0.0, grown - y, y)


def erfc(x: Lanes) -> Lanes:
    y = _erfc_positive(fabs(x))
    return select(x < 0.0, 2.0 - y, y)


def erf(x: Lanes) -> Lanes:
    size = fabs(x)
    z = x * x
    near = fma(size, polynomial(z, c.ERF[x.width]), size)
    far = 1.0 - _erfc_positive(size)
    return with_sign(select(size < 1.0, near, far), sign_bit(x))

"""erf, erfc and erfcx by one approximation: erfcx(x) = q P(q), where q = 1 / (x + shift); and erf near 0 by another."""

from __future__ import annotations

import math

from . import coefficients as c
from .double import product, product_error, sum_with_error
from .exponential import expm1_near_0
from .lanes import Lanes, fma, polynomial, round_to_integer, scale, select

_SHIFT = {32: 2.0, 64: 4.0}
_END = {32: 10.1, 64: 27.3}  # where erfc is less than half the smallest number
_SLOPE_AT_0 = 2.0 / math.sqrt(math.pi)


def _erfcx_positive(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return exp(x**2) erfc(x) for x >= 0, and an estimate of its error.

    The relative error e of q moves the argument of P, too, so that it counts up to fivefold. Its effect is -(x + shift)
    e times the derivative, which is 2 x y - 2 / sqrt(pi); far out, where that would cancel, e y.
    """
    shift = _SHIFT[x.width]
    bottom, bottom_low = sum_with_error(x, x.const(shift))
    q = 1.0 / bottom
    t = fma(q, shift, -0.375)
    first, first_low = c.ERFCX_FIRST[x.width]
    slope = polynomial(t, c.ERFCX[x.width][3:])
    for coefficient in c.ERFCX[x.width][2::-1]:  # the last steps one by one: Estrin's round at full size
        slope = fma(slope, t, coefficient)
    rise, rise_low = product(slope, t)
    p, p_low = sum_with_error(rise, x.const(first))
    y, y_low = product(q, p)
    back, back_low = product(q, bottom)
    e = select(x < float("inf"), ((1.0 - back) - back_low) - q * bottom_low, 0.0)
    effect = select(x < 32.0, bottom * fma(x * -2.0, y, _SLOPE_AT_0), y)
    return y, fma(e, effect, fma(q, p_low + (rise_low + first_low), y_low))


def _exp_of_square(x: Lanes, sign: float, factor: Lanes, low: Lanes | float = 0.0) -> Lanes:
    """Return (factor + low) * exp(sign * x**2): with the square's rounding error, and one rounding at the end."""
    square = x * x
    n, integer = round_to_integer(square, sign * c.LOG2_E[x.width][0])
    ln2, ln2_low = c.LN2[x.width]
    r = fma(n, -ln2_low, fma(n, -ln2, square * sign) + product_error(x, x, square) * sign)
    p = expm1_near_0(r)
    return scale(factor + fma(factor, p, fma(p, low, low) if isinstance(low, Lanes) else low), integer)


def _erf_near_0(size: Lanes) -> Lanes:
    """Return erf(size) for 0 <= size < 1."""
    return fma(size, polynomial(size * size, c.ERF[size.width]), size)


def erfcx(x: Lanes) -> Lanes:
    """Return exp(x**2) erfc(x); for negative x exp(x**2) (1 + erf |x|), or 2 exp(x**2) - erfcx(|x|)."""
    size = abs(x)
    y, low = _erfcx_positive(size)
    y = y + low
    near = size < 1.0
    part = _erf_near_0(size)
    factor = select(near, part + 1.0, 2.0)
    low = select(near, part - (factor - 1.0), 0.0)  # what 1 + part was rounded by
    grown = _exp_of_square(size.clamp(high={32: 9.5, 64: 26.7}[x.width]), 1.0, factor, low)
    return select(x < 0.0, grown - select(near, y.const(0.0), y), y)


def erfc(x: Lanes) -> Lanes:
    """Return 1 - erf(|x|) while that is above 1/2, else exp(-x**2) erfcx(|x|); for negative x 2 less that."""
    size = abs(x).clamp(high=_END[x.width])
    far = _exp_of_square(size, -1.0, *_erfcx_positive(size))
    y = select(size < 0.477, 1.0 - _erf_near_0(size), far)
    return select(x < 0.0, 2.0 - y, y)


def erf(x: Lanes) -> Lanes:
    """Return a polynomial for |x| < 1, else 1 - erfc(|x|), signed; erfc is then below 1/6, and computed plainly."""
    size = abs(x).clamp(high=_END[x.width])
    shift = _SHIFT[x.width]
    q = 1.0 / (size + shift)
    t = fma(q, shift, -0.375)
    far = 1.0 - _exp_of_square(size, -1.0, q * polynomial(t, (c.ERFCX_FIRST[x.width][0], *c.ERFCX[x.width])))
    return select(size < 1.0, _erf_near_0(size), far).with_sign(x.sign_bit())

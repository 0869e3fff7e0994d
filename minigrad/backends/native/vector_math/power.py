"""pow, sqrt."""

from __future__ import annotations

from . import coefficients as c
from . import lanes
from .lanes import Lanes, clamp, fabs, flip_sign, fma, polynomial, power_of_two, round_to_integer, select, sign_bit


def sqrt(x: Lanes) -> Lanes:
    return lanes.sqrt(x)


def _pow_of_singles(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y of positive doubles that were float32, to more than float32's bits."""
    e = x.bits() - x.const(2 / 3).bits() >> 52
    f = (x.bits() - (e << 52)).floats() - 1.0
    factor = c.LOG2_E[64][0]
    log2 = fma(fma(f * f, polynomial(f, c.LOG_OF_SINGLE[64]), f), factor, e.to_float())
    power = clamp(y * log2, -200.0, 200.0)
    n, integer = round_to_integer(power)
    r = power - n
    return fma(r, polynomial(r, c.EXP2_OF_SINGLE[64]), 1.0) * power_of_two(integer)


def pow(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y as C has it: 1 for x = 1 or y = 0 even with NaN, NaN for negative x unless y is an integer."""
    size = fabs(x)
    positive = _pow_of_singles(size.double(), y.double()).single() if x.width == 32 else _pow_of_doubles(size, y)
    return _with_special_cases(x, y, positive)


def _pow_of_doubles(x: Lanes, y: Lanes) -> Lanes:
    return x


def _with_special_cases(x: Lanes, y: Lanes, positive: Lanes) -> Lanes:
    infinity = float("inf")
    size = fabs(x)
    last = 2.0 ** lanes.MANTISSA[x.width]
    # Whether y is an integer, and an odd one; from 2**24 (2**53) on all floats are even.
    magnitude = fabs(y)
    whole = (magnitude + last) - last
    integer = (whole == magnitude) | (magnitude >= last)
    half = magnitude * 0.5
    odd = integer & (magnitude < 2.0 * last) & (((half + last) - last) != half)
    # 0 and infinity to any power, and 1 to an infinite one.
    grows = (size > 1.0) == (y > 0.0)
    end = select((size > 1.0) ^ (y > 0.0), 0.0, x.const(infinity))
    ended = (size == 0.0) | (size == infinity) | (magnitude == infinity)
    result = select(ended, end, positive)
    result = flip_sign(result, select(odd, sign_bit(x), 0))
    result = select((x < 0.0) & ~integer & (size < infinity), float("nan"), result)
    result = select(x.isnan() | y.isnan(), x + y, result)
    del grows
    return select((x == 1.0) | (y == 0.0) | ((x == -1.0) & (magnitude == infinity)), 1.0, result)

"""pow, sqrt, cbrt and hypot."""

from __future__ import annotations

import math

from . import coefficients as c
from . import lanes
from .double import fast_sum, product
from .exponential import expm1_near_0
from .lanes import Lanes, fma, maximum, minimum, polynomial, power_of_two, round_to_integer, scale, select
from .logarithm import split


def sqrt(x: Lanes) -> Lanes:
    return x.sqrt()


def _pow_of_singles(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y of positive doubles that were float32, to more than float32's bits."""
    e = x.bits() - x.const(math.sqrt(0.5)).bits() >> 52
    f = (x.bits() - (e << 52)).floats() - 1.0
    factor = c.LOG2_E[64][0]
    log2 = fma(fma(f * f, polynomial(f, c.LOG_OF_SINGLE[64]), f), factor, e.to_float())
    power = (y * log2).clamp(-200.0, 200.0)
    n, integer = round_to_integer(power)
    r = power - n
    return fma(r, polynomial(r, c.EXP2_OF_SINGLE[64]), 1.0) * power_of_two(integer)


def pow(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y as C has it: 1 for x = 1 or y = 0 even with NaN, NaN for negative x unless y is an integer."""
    size = abs(x)
    positive = _pow_of_singles(size.double(), y.double()).single() if x.width == 32 else _pow_of_doubles(size, y)
    return _with_special_cases(x, y, positive)


def _pow_of_doubles(x: Lanes, y: Lanes) -> Lanes:
    """Return exp(y log x) of doubles, x positive, with the logarithm and the product in two doubles each."""
    high, low = _log_in_two(x)
    y = y.clamp(-(2.0**70), 2.0**70)  # any log x but 0 is so large that the result is 0 or infinity there
    power, error = product(y, high)
    power = power.clamp(-750.0, 750.0)
    remainder = fma(y, low, error).clamp(-1e-9, 1e-9)  # it is less unless `power` was far beyond
    n, integer = round_to_integer(power, c.LOG2_E[64][0])
    ln2, ln2_low = c.LN2[64]
    r = fma(n, -ln2, power) + fma(n, -ln2_low, remainder)
    return scale(expm1_near_0(r) + 1.0, integer)


def _log_in_two(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return log x of a positive finite x as a sum of two doubles, right to about 2**-64 of it.

    x = 2**e (1 + f); log(1 + f) = 2 atanh(s) with s = f / (2 + f), and atanh(s) = s + s**3 (1/3 + s**2 P(s**2)).
    """
    f, e = split(x)
    bottom, bottom_low = fast_sum(f.const(2.0), f)
    inverse = 1.0 / bottom
    s = f * inverse
    back, back_low = product(s, bottom)
    s_low = (((f - back) - back_low) - s * bottom_low) * inverse
    z, z_low = product(s, s)
    z_low = fma(s + s, s_low, z_low)
    third, third_low = c.THIRD[64]
    u, u_low = fast_sum(z.const(third), z * polynomial(z, c.ATANH_TAIL[64]))
    cube, cube_low = product(s, z)
    cube_low = cube_low + fma(s, z_low, s_low * z)
    p, p_low = product(cube, u)
    p_low = p_low + fma(cube, u_low + third_low, cube_low * u)
    t, t_low = fast_sum(s, p)
    high, low = fast_sum(e * c.LN2[64][0], t + t)
    return fast_sum(high, low + fma(e, c.LN2[64][1], (t_low + (s_low + p_low)) * 2.0))


def _with_special_cases(x: Lanes, y: Lanes, positive: Lanes) -> Lanes:
    infinity = float("inf")
    size = abs(x)
    last = 2.0 ** lanes.MANTISSA[x.width]
    # Whether y is an integer, and an odd one; from 2**24 (2**53) on all floats are even.
    magnitude = abs(y)
    whole = (magnitude + last) - last
    integer = (whole == magnitude) | (magnitude >= last)
    half = magnitude * 0.5
    odd = integer & (magnitude < 2.0 * last) & (((half + last) - last) != half)
    # 0 and infinity to any power, and 1 to an infinite one.
    end = select((size > 1.0) ^ (y > 0.0), 0.0, x.const(infinity))
    ended = (size == 0.0) | (size == infinity) | (magnitude == infinity)
    result = select(ended, end, positive)
    result = result.flip_sign(select(odd, x.sign_bit(), 0))
    result = select((x < 0.0) & ~integer & (size < infinity), float("nan"), result)
    result = select(x.isnan() | y.isnan(), x + y, result)
    return select((x == 1.0) | (y == 0.0) | ((x == -1.0) & (magnitude == infinity)), 1.0, result)


def cbrt(x: Lanes) -> Lanes:
    """Return the cube root: of 2**(3 q + k) (1 + f), k among -1, 0, 1, by a polynomial for the inverse root of 1 + f.

    One step of third order makes the inverse r precise, and the root a r**2 is corrected by its own cube's error.
    """
    width = x.width
    f, e = split(abs(x))
    q, integer = round_to_integer(e, 1.0 / 3.0)
    k = fma(q, -3.0, e)
    root_2 = 2.0 ** (1 / 3)
    a = (f + 1.0) * select(k > 0.0, 2.0, select(k < 0.0, f.const(0.5), 1.0))
    r = polynomial(f, c.CBRT_INVERSE[width]) * select(k > 0.0, 1.0 / root_2, select(k < 0.0, f.const(root_2), 1.0))
    error = fma(r * r * a, -r, 1.0)
    r = fma(r * error, fma(error, 2.0 / 9.0, 1.0 / 3.0), r)
    square = r * r
    y = a * square
    y_square, y_low = product(y, y)
    cube, cube_low = product(y, y_square)
    left = (a - cube) - fma(y, y_low, cube_low)
    y = fma(left * square, 1.0 / 3.0, y) * power_of_two(integer)
    regular = (x != 0.0) & (abs(x) < float("inf"))
    return select(regular, y.with_sign(x.sign_bit()), x)


def hypot(x: Lanes, y: Lanes) -> Lanes:
    """Return sqrt(x**2 + y**2), of float32 in float64, where nothing overflows; of float64 scaled by a power of two."""
    width, height = abs(x), abs(y)
    if x.width == 32:
        a, b = x.double(), y.double()
        result = fma(a, a, b * b).sqrt().single()
    else:
        large, small = maximum(width, height), minimum(width, height)
        exponent = large.bits() >> 52
        exponent = select(exponent < 1, 1, select(exponent > 2045, 2045, exponent))
        down = ((2046 - exponent) << 52).floats()
        a, b = large * down, small * down
        result = fma(a, a, b * b).sqrt() * (exponent << 52).floats()
    infinity = float("inf")
    return select((width == infinity) | (height == infinity), infinity, select(x.isnan() | y.isnan(), x + y, result))

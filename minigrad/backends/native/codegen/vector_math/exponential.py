"""exp and its relatives: the argument is n ln 2 + r with |r| <= ln(2) / 2; polynomials of r, powers of two of n."""

from __future__ import annotations

from . import coefficients as c
from .double import fast_sum
from .lanes import Lanes, fma, polynomial, power_of_two, round_to_integer, scale, select

# Beyond these exp is 0 or infinity; a clamped argument still overflows or vanishes in the last step.
_LOW, _HIGH = {32: -104.5, 64: -746.0}, {32: 89.5, 64: 710.5}


def reduce(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return r, its rounding error and the integer n with x = n ln 2 + r.

    ln 2 has two parts, the first short (Cody and Waite).
    """
    n, integer = round_to_integer(x, c.LOG2_E[x.width][0])
    high, low = c.LN2[x.width]
    left = fma(n, -high, x)
    r = fma(n, -low, left)
    return r, fma(n, -low, left - r), integer


def expm1_near_0(r: Lanes) -> Lanes:
    """Return exp(r) - 1 for |r| <= ln(2) / 2."""
    return fma(r * r, polynomial(r, c.EXP[r.width]), r)


def exp(x: Lanes) -> Lanes:
    r, _, n = reduce(x.clamp(_LOW[x.width], _HIGH[x.width]))
    return scale(expm1_near_0(r) + 1.0, n)


def exp2(x: Lanes) -> Lanes:
    x = x.clamp({32: -151.0, 64: -1076.0}[x.width], {32: 129.0, 64: 1025.0}[x.width])
    n, integer = round_to_integer(x)
    r = x - n
    return scale(fma(r, polynomial(r, c.EXP2[x.width]), 1.0), integer)


def expm1(x: Lanes) -> Lanes:
    r, error, n = reduce(x.clamp({32: -20.0, 64: -40.0}[x.width], {32: 89.0, 64: 710.0}[x.width]))
    p = r + fma(r * r, polynomial(r, c.EXP[x.width]), error)
    # exp(x) - 1 = 2**n * p + (2**n - 1), as twice the half, because 2**n alone may overflow.
    half = power_of_two(n - 1)
    grown = fma(half, p, half - 0.5) * 2.0
    return select(n == 0, p, grown).with_sign(x.sign_bit())


def exp_of_negative(x: Lanes) -> Lanes:
    """Return exp(x) for x <= 0, NaN included."""
    r, _, n = reduce(x.clamp(_LOW[x.width]))
    return scale(expm1_near_0(r) + 1.0, n)


def exp_of_negative_with_error(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return exp(x) for x <= 0, and the error of its last addition."""
    r, _, n = reduce(x.clamp(_LOW[x.width]))
    y, low = fast_sum(x.const(1.0), expm1_near_0(r))
    return scale(y, n), scale(low, n)


def expit(x: Lanes) -> Lanes:
    """Return 1 / (1 + e), or for negative x e / (1 + e), with e = exp(-|x|) = 2**n (1 + p).

    Both are a power of two times 1 + q, and q is at most 1/2, so that its rounding errors hardly count.
    """
    r, _, n = reduce((-abs(x)).clamp(_LOW[x.width]))
    p = expm1_near_0(r)
    power = power_of_two(select(n > -100, n, -100))
    e = fma(power, p, power)
    negative = x < 0.0
    q = (select(negative, p, 0.0) - e) / (fma(power, p, power + 1.0))
    return scale(q + 1.0, select(negative, n, 0))


def tanh(x: Lanes) -> Lanes:
    """Return tanh(|x|), signed, by the addition theorem: 2 |x| = n ln 2 + r, and h = tanh(r / 2).

    tanh(n ln 2 / 2) is (s - 1) / (s + 1) with s = 2**n, so that the result is ((s + 1) h + (s - 1)) / ((s - 1) h +
    (s + 1)). The quotient is taken with h cut to so few bits that both terms are exact; its slope adds the remainder.
    """
    y = abs(x).clamp(high={32: 10.0, 64: 22.0}[x.width])
    r, _, n = reduce(y + y)
    z = r * r
    h = fma(r * z, polynomial(z, c.HALF_TANH[x.width]), r * 0.5)
    s = power_of_two(n)
    up, down = s + 1.0, s - 1.0
    cut = s * 3.0
    first = (h + cut) - cut
    remainder = h - first
    q = fma(up, first, down) / fma(down, first, up)
    # The slope is (1 - q**2) / (1 - h**2); far out, where `remainder` is not small, it falls by 1 - q remainder.
    return fma(fma(remainder, fma(-remainder, q, z * 0.25), remainder), fma(-q, q, 1.0), q).with_sign(x.sign_bit())


def _sinh_cosh_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """Return sinh r, cosh r - 1, 2**(n - 2) and 2**(-n - 2) for |x| = n ln 2 + r.

    The sum and the difference of the powers are cosh(n ln 2) / 2 and sinh(n ln 2) / 2; halves do not overflow.
    """
    r, _, n = reduce(abs(x).clamp(high={32: 89.6, 64: 710.6}[x.width]))
    z = r * r
    s = fma(r * z, polynomial(z, c.SINH[x.width]), r)
    t = z * polynomial(z, c.EXP[x.width][::2])  # the even terms
    most = {32: 60, 64: 120}[x.width]
    return s, t, power_of_two(n - 2), power_of_two(-2 - select(n < most, n, most))


def sinh(x: Lanes) -> Lanes:
    """Return sinh(n ln 2) cosh r + cosh(n ln 2) sinh r, signed; for n = 0 that is sinh r."""
    s, t, up, down = _sinh_cosh_parts(x)
    a, b = up + down, up - down
    result = (b + fma(a, s, b * t)) * 2.0
    return select(b == 0.0, s, result).with_sign(x.sign_bit())


def cosh(x: Lanes) -> Lanes:
    """Return cosh(n ln 2) cosh r + sinh(n ln 2) sinh r."""
    s, t, up, down = _sinh_cosh_parts(x)
    a, a_low = fast_sum(up, down)
    return (a + fma(up - down, s, fma(a, t, a_low))) * 2.0

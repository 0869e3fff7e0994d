"""sin, cos and tan: the argument is n pi/2 + r with |r| <= pi/4; polynomials of r, chosen and signed by n modulo 4."""

from __future__ import annotations

from . import coefficients as c
from .double import fast_sum
from .lanes import Lanes, fma, polynomial, select
from .remainder import half_pi_remainder


def _sin(r: Lanes, low: Lanes) -> Lanes:
    """Return sin(r + low) for |r| <= pi/4."""
    z = r * r
    return r + fma(r * z, polynomial(z, c.SIN[r.width]), low)


def _cos(r: Lanes, low: Lanes) -> Lanes:
    """Return cos(r + low) for |r| <= pi/4."""
    z = r * r
    half = z * 0.5
    w = 1.0 - half
    return w + (((1.0 - w) - half) + fma(z * z, polynomial(z, c.COS[r.width]), -(r * low)))


def _top_bit(n: Lanes, place: int) -> Lanes:
    """Return the integer whose sign bit is bit `place` of n."""
    return n << n.width - 1 - place & 1 << n.width - 1


def sin(x: Lanes) -> Lanes:
    r, low, n = half_pi_remainder(x)
    result = select((n & 1) == 0, _sin(r, low), _cos(r, low)).flip_sign(_top_bit(n, 1))
    return select(x == 0.0, x, result)  # with its sign


def cos(x: Lanes) -> Lanes:
    r, low, n = half_pi_remainder(x)
    return select((n & 1) == 0, _cos(r, low), _sin(r, low)).flip_sign(_top_bit(n + 1, 1))


def tan(x: Lanes) -> Lanes:
    """Return t = tan r for even n, else -1 / t: with the rounding error of t, which the quotient could double."""
    r, low, n = half_pi_remainder(x)
    z = r * r
    t, t_low = fast_sum(r, fma(r * z, polynomial(z, c.TAN[r.width]), fma(z, low, low)))
    q = -1.0 / t
    return select(x == 0.0, x, select((n & 1) == 0, t, fma(q * q, t_low, q)))

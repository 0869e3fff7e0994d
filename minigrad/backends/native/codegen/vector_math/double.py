"""Sums and products with their rounding errors (Dekker, "A floating-point technique ...", 1971)."""

from __future__ import annotations

from .lanes import MANTISSA, Lanes, fma


def product_error(a: Lanes, b: Lanes, product: Lanes) -> Lanes:
    """Return a * b - product exactly, where product is a * b rounded."""
    if a.fused:
        return fma(a, b, -product)
    a_high, a_low = _halves(a)
    b_high, b_low = (a_high, a_low) if b is a else _halves(b)
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return two numbers of half as many bits whose sum is x."""
    drop = MANTISSA[x.width] // 2 + 1
    high = (x.bits() & -(1 << drop)).floats()
    return high, x - high


def product(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a * b rounded, and the error."""
    p = a * b
    return p, product_error(a, b, p)


def fast_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a + b rounded, and the error, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def sum_with_error(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a + b rounded, and the error."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def difference(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a - b rounded, and the error."""
    return sum_with_error(a, -b)

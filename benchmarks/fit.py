"""The polynomials of the native backend's vector math, fitted: ``python -m benchmarks.fit`` writes coefficients.py.

Each is the polynomial of least squares over Chebyshev's points, in 80 digits (mpmath). That is within a small factor of
the polynomial whose greatest error is least, and needs no iteration. The coefficients are rounded one after the other,
constant first; the rest is fitted anew to the remainder, so that later coefficients take up the roundings
of earlier ones.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

OUT = Path(__file__).parents[1] / "minigrad" / "backends" / "native" / "codegen" / "vector_math" / "coefficients.py"
Function = Callable[[Any], Any]
mp.mp.dps = 80


def rounded(value: Any, width: int) -> float:
    """Return the nearest float of `width` bits."""
    return float(mp.mpf(value)) if width == 64 else float(_float32(mp.mpf(value)))


def _float32(value: Any) -> np.float32:
    """Round once: a double between two float32 could round to the wrong side."""
    if value == 0:
        return np.float32(0)
    _, exponent = mp.frexp(value)
    return np.float32(float(mp.nint(mp.ldexp(value, 24 - exponent))) * 2.0 ** float(exponent - 24))


def fit(f: Function, low: Any, high: Any, n: int, width: int) -> tuple[float, ...]:
    """Return n coefficients, rounded to `width` bits, of a polynomial near `f` on [low, high]."""
    low, high = mp.mpf(low), mp.mpf(high)
    m = 4 * n  # an even number, so that none is 0, where the functions are quotients 0 / 0
    points = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * m)) for k in range(m)]
    powers = [[x**k for x in points] for k in range(n)]
    rest = [f(x) for x in points]
    kept: list[float] = []
    for k in range(n):
        free = powers[k:]
        system = mp.matrix([[mp.fdot(a, b) for b in free] for a in free])
        solution = mp.lu_solve(system, mp.matrix([mp.fdot(a, rest) for a in free]))
        kept.append(rounded(solution[0], width))
        rest = [r - mp.mpf(kept[-1]) * p for r, p in zip(rest, powers[k], strict=True)]
    return tuple(kept)


def worst(f: Function, coefficients: tuple[float, ...], low: Any, high: Any) -> float:
    """Return the greatest |f - polynomial| at many points."""
    cs = [mp.mpf(c) for c in reversed(coefficients)]
    points = (mp.mpf(low) + (mp.mpf(high) - mp.mpf(low)) * k / 400 for k in range(1, 400))
    return float(max(abs(f(x) - mp.polyval(cs, x)) for x in points if x != 0))


def parts(value: Any, width: int, keep: tuple[int | None, ...]) -> tuple[float, ...]:
    """Return floats that sum to `value`; `keep` says how many bits each has (None: all of them)."""
    found, rest = [], mp.mpf(value)
    for bits in keep:
        if bits is None:
            part = rounded(rest, width)
        else:
            _, exponent = mp.frexp(rest)
            part = float(mp.ldexp(mp.floor(mp.ldexp(rest, bits - exponent)), exponent - bits))
        found.append(part)
        rest -= mp.mpf(part)
    return tuple(found)


def precise(f: Function) -> Function:
    """Return `f` computed in 120 digits, for quotients that cancel near 0."""
    def g(x: Any) -> Any:
        with mp.workdps(150):
            return f(mp.mpf(x))
    return g


def scaled_erfc(shift: int) -> Function:
    """Return u -> (x + shift) exp(x**2) erfc(x), where u = shift / (x + shift) - 3/8 leads x from infinity to 0."""
    def f(u: Any) -> Any:
        x = shift / (u + mp.mpf(3) / 8) - shift
        if x < 1000:
            return mp.exp(x * x) * mp.erfc(x) * (x + shift)
        total, term = mp.mpf(0), mp.mpf(1)  # the asymptotic series, divided by x
        for k in range(1, 12):
            total += term
            term *= -(2 * k - 1) / (2 * x * x)
        return total * (1 + shift / x) / mp.sqrt(mp.pi)
    return f


def reduced_gamma(f: Function, *roots: Any) -> Function:
    """Return t -> f(x) / product of (x - root), where x = t + 7/4."""
    def g(t: Any) -> Any:
        x = mp.mpf(t) + mp.mpf(7) / 4
        return f(x) / mp.fprod(x - root for root in roots)
    return g


def in_inverse_square(f: Function) -> Function:
    """Return z -> f(1 / sqrt(z))."""
    return lambda z: f(1 / mp.sqrt(z))


def slope_from_0(f: Function) -> Function:
    """Return u -> (f(u) - f(0)) / u."""
    first = f(mp.mpf(0))
    return lambda u: (f(u) - first) / u


SCALED_ERFC = {32: scaled_erfc(2), 64: scaled_erfc(4)}
DIGAMMA_ROOT = mp.findroot(mp.digamma, 1.46)
GAMMA: dict[str, Function] = {
    "LGAMMA": reduced_gamma(mp.loggamma, 1, 2), "DIGAMMA": reduced_gamma(mp.digamma, DIGAMMA_ROOT),
    "TRIGAMMA": lambda t: mp.polygamma(1, mp.mpf(t) + mp.mpf(27) / 8)}
HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.01")  # how far rounding to a multiple of ln 2 leaves an argument from 0
FROM_1 = (mp.sqrt(0.5) - 1, mp.sqrt(2) - 1)  # the range of a number without its power of two, less 1
QUARTER_PI = mp.pi / 4 * mp.mpf("1.01")
ALMOST_1 = mp.mpf("1.001")
FAR = 1 / mp.mpf("4.75") ** 2

# name: (function, low, high, coefficients in float32, in float64)
POLYNOMIALS: dict[str, tuple[Function | dict[int, Function], Any, Any, int, int]] = {
    # exp(r) = 1 + r + r**2 * EXP(r)
    "EXP": (precise(lambda r: (mp.expm1(r) - r) / r**2), -HALF_LN2, HALF_LN2, 5, 11),
    # exp2(r) = 1 + r * EXP2(r)
    "EXP2": (precise(lambda r: mp.expm1(r * mp.log(2)) / r), -0.505, 0.505, 6, 12),
    # log(1 + f) = f + f**2 * LOG(f)
    "LOG": (precise(lambda f: (mp.log1p(f) - f) / f**2), *FROM_1, 9, 21),
    # sinh(r) = r + r**3 * SINH(r**2); cosh(r) has the even terms of EXP
    "SINH": (precise(lambda z: (mp.sinh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, HALF_LN2**2, 3, 6),
    # tanh(r / 2) = r / 2 + r**3 * HALF_TANH(r**2)
    "HALF_TANH": (precise(lambda z: (mp.tanh(mp.sqrt(z) / 2) / mp.sqrt(z) - mp.mpf(1) / 2) / z), 0, HALF_LN2**2, 3, 6),
    # sin(r) = r + r**3 * SIN(r**2), cos(r) = 1 - r**2 / 2 + r**4 * COS(r**2)
    "SIN": (precise(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, QUARTER_PI**2, 3, 6),
    "COS": (precise(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2), 0, QUARTER_PI**2, 3, 6),
    # tan(r) = r + r**3 * TAN(r**2)
    "TAN": (precise(lambda z: (mp.tan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, QUARTER_PI**2, 7, 15),
    # asin(x) = x + x**3 * ASIN(x**2), |x| <= 1/2
    "ASIN": (precise(lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, 0.25, 5, 13),
    # atan(x) = x + x**3 * ATAN(x**2), |x| <= 1
    "ATAN": (precise(lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, 1, 9, 21),
    # atanh(x) = x + x**3 * ATANH(x**2), |x| <= 0.23
    "ATANH": (precise(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z), 0, 0.0535, 3, 9),
    # atanh(s) = s + s**3 / 3 + s**5 * ATANH_TAIL(s**2), |s| <= 0.172
    "ATANH_TAIL": (precise(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3) / z**2), 0, 0.0298, 0, 9),
    # (1 + f)**(-1/3)
    "CBRT_INVERSE": (lambda f: mp.cbrt(1 / (1 + f)), *FROM_1, 5, 6),
    # erf(x) = x + x * ERF(x**2), |x| < 1
    "ERF": (precise(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1), 0, 1, 7, 14),
    # erfcx(x) = q * (ERFCX_FIRST + t * ERFCX(t)), t = shift * q - 3/8, q = 1 / (x + shift), x >= 0
    "ERFCX": ({width: slope_from_0(f) for width, f in SCALED_ERFC.items()}, -0.375, 0.625, 12, 24),
    # lgamma(x) = (x - 1) (x - 2) (LGAMMA_FIRST + t * LGAMMA(t)) and
    # digamma(x) = (x - root) (DIGAMMA_FIRST + t * DIGAMMA(t)), t = x - 7/4, |t| <= 1
    "LGAMMA": (slope_from_0(GAMMA["LGAMMA"]), -ALMOST_1, ALMOST_1, 0, 31),
    "DIGAMMA": (slope_from_0(GAMMA["DIGAMMA"]), -ALMOST_1, ALMOST_1, 0, 33),
    # trigamma(x) = TRIGAMMA_FIRST + t * TRIGAMMA(t), t = x - 27/8, |t| <= 11/8
    "TRIGAMMA": (slope_from_0(GAMMA["TRIGAMMA"]), -1.376, 1.376, 0, 26),
    # lgamma(x) = (x - 1/2) log(x) - x + log(2 pi) / 2 + STIRLING(1 / x**2) / x for x >= 4.75, and its derivatives
    "STIRLING": (in_inverse_square(lambda x: x * (
        mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)), 0, FAR, 0, 9),
    "STIRLING_SLOPE": (in_inverse_square(lambda x: x * x * (mp.log(x) - 1 / (2 * x) - mp.digamma(x))), 0, FAR, 0, 10),
    "STIRLING_BEND": (in_inverse_square(lambda x: x**3 * (mp.polygamma(1, x) - 1 / x - 1 / (2 * x * x))),
                      0, FAR, 0, 11),
    # sin(pi r) = r * (pi + z * SIN_PI(z)), z = r**2, |r| <= 1/2
    "SIN_PI": (precise(lambda z: (mp.sinpi(mp.sqrt(z)) / mp.sqrt(z) - mp.pi) / z), 0, 0.2501, 0, 10),
    # within float64, for float32 results: as LOG and EXP2
    "LOG_OF_SINGLE": (precise(lambda f: (mp.log1p(f) - f) / f**2), *FROM_1, 0, 14),
    "EXP2_OF_SINGLE": (precise(lambda r: mp.expm1(r * mp.log(2)) / r), -0.505, 0.505, 0, 7),
}

CONSTANTS: dict[str, tuple[Any, dict[int, tuple[int | None, ...]]]] = {
    # the first part times any exponent is exact
    "LN2": (mp.log(2), {32: (15, None), 64: (41, None)}),
    "LOG2_E": (1 / mp.log(2), {32: (None, None), 64: (None, None)}),
    "LOG10_E": (1 / mp.log(10), {32: (None, None), 64: (None, None)}),
    "LOG10_2": (mp.log10(2), {32: (15, None), 64: (41, None)}),
    "HALF_PI": (mp.pi / 2, {32: (None, None, None), 64: (None, None, None)}),
    # the products of the first three with integers below 2**20 are exact
    "HALF_PI_SHORT": (mp.pi / 2, {64: (33, 33, 33, None)}),
    "THIRD": (mp.mpf(1) / 3, {64: (None, None)}),
    # the root of digamma, less 7/4
    "DIGAMMA_ROOT": (DIGAMMA_ROOT - mp.mpf(7) / 4, {64: (None, None)}),
    "PI": (mp.pi, {64: (None, None)}),
    **{f"{name}_FIRST": (f(mp.mpf(0)), {64: (None, None)}) for name, f in GAMMA.items()},
}


def constants() -> dict[str, dict[int, tuple[float, ...]]]:
    """Return the tables of constants."""
    found = {name: {width: parts(value, width, k) for width, k in keep.items()}
             for name, (value, keep) in CONSTANTS.items()}
    return {**found, "ERFCX_FIRST": {w: parts(f(mp.mpf(0)), w, (None, None)) for w, f in SCALED_ERFC.items()}}


def text() -> str:
    """Return the module of coefficients."""
    lines = ['"""Polynomials and constants of the vector math; written by ``python -m benchmarks.fit``.', "",
             "For each name the float32 and the float64 version; polynomials begin with the constant. "
             "``benchmarks/fit.py``", 'lists the functions and their domains.', '"""', ""]
    for name, table in constants().items():
        lines += _entry(name, table)
    for name, (f, low, high, *counts) in POLYNOMIALS.items():
        functions = f if isinstance(f, dict) else {32: f, 64: f}
        table = {width: fit(functions[width], low, high, n, width)
                 for width, n in zip((32, 64), counts, strict=True) if n}
        errors = ", ".join(f"2**{np.log2(worst(functions[w], c, low, high)):.1f}" for w, c in table.items())
        print(f"{name:16} {counts[0]:3} {counts[1]:3}   greatest error {errors}")
        lines += _entry(name, table)
    return "\n".join(lines)


def _entry(name: str, table: dict[int, tuple[float, ...]]) -> list[str]:
    entries = {width: ", ".join(map(repr, values)) + "," * (len(values) == 1) for width, values in table.items()}
    whole = f"{name} = {{{', '.join(f'{width}: ({numbers})' for width, numbers in entries.items())}}}"
    if len(whole) <= 120:
        return [whole, ""]
    lines = [line for width, numbers in entries.items() for line in textwrap.wrap(
        f"{numbers}),", 120, initial_indent=f"    {width}: (", subsequent_indent=" " * 9)]
    return [f"{name} = {{", *lines[:-1], lines[-1].removesuffix(",") + "}", ""]


if __name__ == "__main__":
    OUT.write_text(text())

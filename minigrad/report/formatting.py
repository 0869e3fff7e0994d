"""Formats of numbers: significant digits and units."""

from __future__ import annotations

import math


def _scaled(value: float, units: list[tuple[float, str]], digits: int = 3) -> str:
    """Return `value` in the largest fitting unit."""
    if not math.isfinite(value):
        return str(value)
    scale, unit = next(((s, u) for s, u in units if abs(value) >= 0.9995 * s), units[-1])
    return f"{significant(value / scale, digits)} {unit}".rstrip()


def significant(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, without an exponent: ``0.0123``, ``1,230``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    value = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(places, 0)}f}"


def seconds(value: float, digits: int = 3) -> str:
    """Return ``1.23 ms``."""
    return _scaled(value, [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")], digits)


def span(low: float, high: float) -> str:
    """Return ``1.23 – 4.56 ms``."""
    (a, unit), (b, other) = (seconds(v).split(" ") for v in (low, high))
    return f"{a} – {b} {unit}" if unit == other else f"{a} {unit} – {b} {other}"


def memory(value: float, digits: int = 3) -> str:
    """Return ``1.23 MB`` (powers of ten)."""
    return _scaled(value, [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")], digits)


def count(value: float, digits: int = 3) -> str:
    """Return ``1.23 G``."""
    if value == int(value) and abs(value) < 10_000:
        return f"{int(value):,}"
    return _scaled(value, [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")], digits)


def relative(value: float) -> str:
    """Return ``2.1e-07``, or ``0``."""
    return "0" if value == 0 else f"{value:.1e}"

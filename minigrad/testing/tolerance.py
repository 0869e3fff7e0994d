"""Tolerances of a check, and the first element outside of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def tolerance(roundoff: float, rtol: float | None, atol: float | None) -> tuple[float, float | None]:
    """Return the relative and the absolute tolerance; None is the relative one times the scale of the array."""
    return (roundoff * 1e4 if rtol is None else rtol), atol


@dataclass
class Seen:
    """The comparisons of a check so far.

    Attributes
    ----------
    tolerance : (float, float or None)
    comparisons : int
        The number of compared pairs of numbers.
    largest : float
        The largest difference of a pair, relative to the scale of its array.
    """

    tolerance: tuple[float, float | None]
    comparisons: int = 0
    largest: float = 0.0

    def first(self, actual: ArrayLike, expected: ArrayLike) -> tuple[int, ...] | None:
        """Return the index of the first element that differs, () for different shapes, or None; nan equals nan."""
        actual, expected = np.asarray(actual), np.asarray(expected)
        if actual.shape != expected.shape:
            return ()
        if not expected.size:
            return None
        exact = expected.dtype.kind != "f"
        actual, expected = actual.astype(float), expected.astype(float)
        finite = np.abs(expected[np.isfinite(expected)])
        scale = float(finite.max(initial=0.0))
        rtol, atol = self.tolerance
        atol = rtol * scale if atol is None else atol
        with np.errstate(invalid="ignore"):
            gap = np.abs(actual - expected)
            same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
            wrong = ~(same | ((gap <= atol + rtol * np.abs(expected)) & (not exact)))
        self.comparisons += expected.size
        if not wrong.any():
            self.largest = max(self.largest, float(np.where(same, 0.0, gap).max()) / (scale or 1.0))
            return None
        return tuple(map(int, np.unravel_index(int(np.argmax(wrong)), expected.shape)))

"""Tolerances of a check, and the first element outside of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        have, want = np.asarray(actual), np.asarray(expected)
        if have.shape != want.shape:
            return ()
        if not want.size:
            return None
        exact = want.dtype.kind != "f"
        have, want = have.astype(float), want.astype(float)
        finite = np.abs(want[np.isfinite(want)])
        scale = float(finite.max(initial=0.0))
        rtol, atol = self.tolerance
        atol = rtol * scale if atol is None else atol
        with np.errstate(invalid="ignore"):
            gap = np.abs(have - want)
            same = (have == want) | (np.isnan(have) & np.isnan(want))
            wrong = ~(same | ((gap <= atol + rtol * np.abs(want)) & (not exact)))
        self.comparisons += want.size
        if not wrong.any():
            self.largest = max(self.largest, float(np.where(same, 0.0, gap).max()) / (scale or 1.0))
            return None
        return tuple(map(int, np.unravel_index(int(np.argmax(wrong)), want.shape)))

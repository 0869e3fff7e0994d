"""What a check has compared, and the first element that differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def tolerance(roundoff: float, rtol: float | None, atol: float | None) -> tuple[float, float | None]:
    """Return the relative tolerance and the absolute one; None stands for the relative one times the scale."""
    return (roundoff * 1e4 if rtol is None else rtol), atol


@dataclass
class Seen:
    """What was compared so far."""

    tolerance: tuple[float, float | None]
    comparisons: int = 0
    largest: float = 0.0

    def first(self, have: Any, want: Any) -> tuple[int, ...] | None:
        """Return the index of the first element that differs; nan equals nan."""
        have, want = np.asarray(have), np.asarray(want)
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

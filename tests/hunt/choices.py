"""Random choices that a seed repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Choices:
    """Random choices drawn from one seed.

    Parameters
    ----------
    seed : int or sequence of int
    """

    def __init__(self, seed: int | Sequence[int]):
        self.rng = np.random.default_rng(seed)

    def integer(self, least: int, most: int) -> int:
        """Return an integer between the two, both included."""
        return int(self.rng.integers(least, most + 1))

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def shape(self, most: int = 3, side: int = 3, empty: float = 0.03) -> tuple[int, ...]:
        """Return a shape of at most `most` axes; an axis is empty with a small probability."""
        return tuple(0 if self.chance(empty) else self.integer(1, side) for _ in range(self.integer(0, most)))

    def floats(self, shape: tuple[int, ...], ties: bool = False) -> np.ndarray:
        """Return normal numbers, or numbers of a coarse grid, so that ties, zeros and edges occur."""
        if ties:
            return self.rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 2.0], shape)
        return self.rng.normal(size=shape)

"""The table of all numbers that a program computes from its sizes.

Each is a polynomial in the sizes' symbols, so that all of them are one matrix times the monomials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ....symbolic import Dim, Symbol


class SizeTable:
    """Sizes, each under a number that `add` gives it; formula 0 is the constant 0."""

    def __init__(self) -> None:
        self._index: dict[int | Dim, int] = {0: 0}

    def add(self, n: int | Dim) -> int:
        """Return the number of a formula."""
        return self._index.setdefault(n, len(self._index))

    def end(self) -> None:
        """Compile the table, once it has all formulas."""
        monomials: dict[tuple[Symbol, ...], int] = {(): 0}
        entries = [(row, monomials.setdefault(monomial, len(monomials)), factor)
                   for n, row in self._index.items()
                   for monomial, factor in (n.terms if isinstance(n, Dim) else [((), n)])]
        self._monomials = list(monomials)
        self._matrix = np.zeros((len(self._index), len(monomials)), np.int64)
        for row, column, factor in entries:
            self._matrix[row, column] = factor

    def values(self, sizes: Mapping[Symbol, int]) -> np.ndarray:
        """Return the values of the formulas for these sizes, as int64."""
        return self._matrix @ np.array([math.prod([sizes[s] for s in m]) for m in self._monomials], np.int64)

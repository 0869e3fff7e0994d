"""The steps of a packed scan: the examples that run at each step, and the places of their rows.

Examples run in the order of their lengths, the longest first. So those that run at a step come before all others, and a
value of the running examples is the beginning of the value of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..symbolic import Dim, Symbol, monomials
from .cuts import symbol_of

Size = int | Dim
Packed = tuple[tuple[Dim, Size, Size | None], ...]


class Steps:
    """The steps for one batch.

    Parameters
    ----------
    packed : tuple of (Dim, int or Dim, int or Dim or None)
        The sizes inside a step: the number of running examples, and their rows along each other axis; each with its
        value for the whole batch, and its sum over the steps.
    lengths : sequence of ndarray
        The steps of each example, and its rows along each other axis.
    once : bool
        Whether slices have rows for one step of each example.

    Attributes
    ----------
    lengths : ndarray
        The steps of each example.
    length : int
        The largest of them.
    order : ndarray
        The examples, the longest first.
    active : ndarray
        The number of examples that run at each step.
    """

    def __init__(self, packed: Packed, lengths: Sequence[np.ndarray], once: bool = False):
        steps = lengths[0]
        self._symbols = [symbol_of(n) for n, _, _ in packed]
        self._each: dict[Symbol, np.ndarray] = dict(zip(self._symbols, (np.ones_like(steps), *lengths[1:]),
                                                        strict=True))
        self.order = np.argsort(-steps, kind="stable")
        self.length = int(steps.max(initial=0))
        self.active = len(steps) - np.cumsum(np.bincount(steps, minlength=1))[:self.length]
        self.lengths = steps
        self._places = np.ones_like(steps) if once else steps  # the steps for which slices have rows
        self._rows = {s: np.concatenate([[0], np.cumsum(n[self.order])]) for s, n in self._each.items()}
        units = np.concatenate([[0], np.cumsum(self.active)])  # one for each step of each example, step by step
        self._units = units
        self._rank = np.arange(units[-1]) - np.repeat(units[:-1], self.active)
        self._time = np.repeat(np.arange(self.length), self.active)

    def sizes(self, active: int) -> dict[Symbol, int]:
        """Return the sizes inside a step with `active` examples."""
        return {s: int(rows[active]) for s, rows in self._rows.items()}

    def count(self, n: Size) -> np.ndarray:
        """Return the rows of each example along an axis that has `n` inside a step."""
        total = np.zeros_like(self.lengths)
        for monomial, factor in monomials(n):
            (symbol,) = monomial
            total = total + factor * self._each[symbol]
        return total

    def whole(self, n: Size) -> np.ndarray:
        """Return the rows of a value of all examples, in the order of the examples that run first."""
        if isinstance(n, Dim) and n.symbol is self._symbols[0]:
            return self.order
        rows = self.count(n)
        starts = np.cumsum(rows) - rows
        return _ranges(starts[self.order], rows[self.order])

    def sliced(self, n: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a value of all steps, step by step, and the first one of each step."""
        rows = self.count(n)
        total = rows * self._places
        examples = self.order[self._rank]
        own = rows[examples]
        starts = (np.cumsum(total) - total)[examples] + self._time * own
        if isinstance(n, Dim) and n.symbol is self._symbols[0]:
            return starts, self._units
        return _ranges(starts, own), np.concatenate([[0], np.cumsum(own)])[self._units]


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the integers of several ranges, one range after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def inside(packed: Packed) -> set[Symbol]:
    """Return the symbols of the sizes inside a step."""
    return {symbol_of(n) for n, _, _ in packed}


def of_batch(packed: Packed) -> Mapping[Symbol, Size]:
    """Return the size for the whole batch of each size inside a step."""
    return {symbol_of(n): whole for n, whole, _ in packed}


def of_steps(packed: Packed) -> Mapping[Symbol, Size]:
    """Return the sum over the steps of each size inside a step, of those that are known."""
    return {symbol_of(n): total for n, _, total in packed if total is not None}

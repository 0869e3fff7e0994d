"""Operands that count rows, which workers derive from the rows of their examples."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from .files import InFile


class Kind(Enum):
    """The numbers of an operand: the rows of each example, the rows before it, or the example of each row."""

    ROWS = "rows"
    STARTS = "starts"
    OWNERS = "owners"


class Derivation(NamedTuple):
    """An operand that follows from the rows of the examples.

    Attributes
    ----------
    kind : Kind
    counts : tuple of int
        The operands whose product is the number of rows of each example; none of them for one row each.
    """

    kind: Kind
    counts: tuple[int, ...]

    def of_part(self, examples: range, section: np.ndarray) -> Derived:
        """Return the recipe of an operand of a part, from its array."""
        return Derived(self, int(section[0]) if self.kind is Kind.STARTS else examples.start, len(examples))


class Derived(NamedTuple):
    """An operand on its way to a worker.

    Attributes
    ----------
    derivation : Derivation
    first : int
        The rows before its first example in the whole batch, or the number of this example.
    examples : int
        The number of examples of the part.
    """

    derivation: Derivation
    first: int
    examples: int

    def array(self, operands: Sequence[np.ndarray | InFile | Derived]) -> np.ndarray:
        """Return the operand, from all operands of the part."""
        kind, places = self.derivation
        numbers = np.arange(self.first, self.first + self.examples)
        if not places:
            return numbers
        rows = functools.reduce(operator.mul, (_opened(operands[k]) for k in places))
        if kind is Kind.ROWS:
            return rows
        return np.repeat(numbers, rows) if kind is Kind.OWNERS else self.first + np.cumsum(rows) - rows


def _opened(counts: np.ndarray | InFile | Derived) -> np.ndarray:
    assert not isinstance(counts, Derived)
    return counts.open() if isinstance(counts, InFile) else counts

"""Accumulators of sums: their dtype, and the number of terms in a chain of additions.

A sum of n terms in one chain loses up to n units in the last place; NumPy's pairwise sums lose about log n. Every
evaluation and every backend follows one rule:

- float16 adds up in float32 (`accumulator`), and counts and divisors stand beside it in float32: the result is rounded
  once. A compiled program says so in its graph (pass `lower_einsum`), so that code generators see float32 only.
- float32 and float64 add up in their own dtype, in chains of at most `RUN` terms, whose sums are terms of the next
  chain (`Chains`); or as NumPy adds them.
- Matrix products are BLAS's, or chains of 1 KiB of terms (`backends.native.kernels.gemm`), which cost no pass of their
  own; machine code adds up those of few multiplications per row as sums (`backends.native.plan.thin_products`).
- Sums by index cannot form such chains, as their terms come in no order. Where a place may get many of them
  (`crowded`), float32 adds up in float64 (`scattered`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from ..primitive import ArrayNamespace

RUN = 16  # terms of one chain
PAIRWISE = 128  # terms that NumPy's pairwise summation adds up without halving


def accumulator(dtype: np.dtype) -> np.dtype:
    """Return the dtype that numbers of `dtype` add up in."""
    return np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)


def scattered(dtype: np.dtype) -> np.dtype:
    """Return the dtype that numbers of `dtype` add up in where their places come in no order."""
    return np.dtype(np.float64) if dtype in (np.float16, np.float32) else np.dtype(dtype)


def crowded(terms: int, places: int) -> bool:
    """Tell whether places get so many terms that wider accumulators cost little."""
    return terms > PAIRWISE * max(places, 1)


def waiting(terms: int, limit: int = RUN) -> int:
    """Return the number of sums of chains kept beside a total of `limit` terms."""
    levels = 0
    while terms > limit:
        terms, levels = -(-terms // RUN), levels + 1
    return levels


def summed(xp: ArrayNamespace, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the sum over `axes` in the dtype of `x`, added up in its accumulator's."""
    dtype = numpy_dtype(x)
    if accumulator(dtype) == dtype:  # said, so that no namespace widens small ones behind the type rule's back
        return xp.sum(x, axis=axes, dtype=x.dtype)
    return xp.astype(xp.asarray(xp.sum(x, axis=axes, dtype=xp.float32)), x.dtype)


def running(xp: ArrayNamespace, x: np.ndarray, axis: int) -> np.ndarray:
    """Return the cumulative sum along an axis, added up in its accumulator's dtype."""
    add_up: Callable[..., np.ndarray] = np.cumsum if xp is np else xp.cumulative_sum
    if accumulator(numpy_dtype(x)) == numpy_dtype(x):
        return add_up(x, axis=axis, dtype=x.dtype)
    return xp.astype(add_up(x, axis=axis, dtype=xp.float32), x.dtype)


def numpy_dtype(x: np.ndarray) -> np.dtype:
    """Return NumPy's dtype of an array of any namespace."""
    return np.dtype(str(x.dtype).rsplit(".", 1)[-1])


T = TypeVar("T")


class Chains(Generic[T]):
    """A sum of terms that come one by one, in chains of `RUN`.

    Parameters
    ----------
    add : callable
        ``add(total, x)`` returns the sum; it may write it into `total`, which is the first term of a chain.
    """

    def __init__(self, add: Callable[[T, T], T]):
        self._add = add
        self._total: T | None = None  # of the open chain
        self._left = RUN  # terms that it takes yet
        self._next: Chains[T] | None = None  # whose terms are the sums of full chains

    def take(self, x: T) -> None:
        """Add a term."""
        self._total = x if self._total is None else self._add(self._total, x)
        self._left -= 1
        if not self._left:
            self._next = self._next or Chains(self._add)
            self._next.take(self._total)
            self._total, self._left = None, RUN

    def total(self) -> T | None:
        """Return the sum; None of no terms."""
        full = None if self._next is None else self._next.total()
        if full is None or self._total is None:
            return self._total if full is None else full
        return self._add(full, self._total)

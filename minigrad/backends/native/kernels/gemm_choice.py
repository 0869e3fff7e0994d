"""The choice between BLAS and generated code for a product of two matrices, by the number of its multiplications.

BLAS computes small products: it reads operands where they are, and wastes few lanes on narrow results. With 32
registers of 64 bytes, generated code is faster where the right operand is transposed and the result broad, and at all
products that it cuts for several threads; of narrow ones with a contiguous right operand, those that OpenBLAS copies
before it multiplies them. Without such registers BLAS is faster at large products, too. An OpenBLAS whose kernels leave
half of each register empty is slower at all products but those with a vector.

The defaults were measured on one CPU, with 32 registers of 64 bytes and without (``python -m benchmarks blas_choice``),
and on another one with such registers beside OpenBLAS's kernels for AVX2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from ....immutable import Frozen, Record

NARROW = 8  # rows or columns below which a product is narrow
_UNCOPIED = 10**6  # multiplications up to which OpenBLAS reads operands of small products where they are
NEVER = 1 << 62  # more multiplications than any product has


class Kind(NamedTuple):
    """Products that share cuts: of equal element size and layout, all narrow or none."""

    itemsize: int
    narrow: bool
    left_transposed: bool
    right_transposed: bool

    def __str__(self) -> str:
        operands = [f"{name}.T" if turned else name for name, turned in zip("xy", self[2:], strict=True)]
        return f"float{8 * self.itemsize}, {'narrow' if self.narrow else 'broad'} {' @ '.join(operands)}"


KINDS = tuple(itertools.starmap(Kind, itertools.product((4, 8), (False, True), (False, True), (False, True))))


class Cuts(NamedTuple):
    """The multiplications up to which BLAS computes a product, and those from which it does."""

    small: int
    large: int


class Gain(NamedTuple):
    """The time of generated code over BLAS's, as a geometric mean: of products up to, between and from the cuts."""

    small: float | None
    between: float | None
    large: float | None


class Choice(Frozen, Record):
    """The cuts of each kind of product."""

    cuts: Mapping[Kind, Cuts]


def uniform(cuts: Cuts) -> Choice:
    """Return the choice with the same cuts for all products."""
    return Choice(dict.fromkeys(KINDS, cuts))


def _avx512(kind: Kind) -> Cuts:
    small = (0, 1 << 18) if kind.right_transposed else (1 << 18, _UNCOPIED)
    return Cuts(small[kind.narrow], NEVER)


def _others(kind: Kind) -> Cuts:
    small, large = (16, 27) if kind.itemsize == 4 else (14, 28)
    return Cuts(1 << small, 1 << (large - 3 * kind.left_transposed))


AVX512, OTHERS = (Choice({kind: cuts(kind) for kind in KINDS}) for cuts in (_avx512, _others))
AVX512_ALONE = uniform(Cuts(0, NEVER))  # of generated code, beside a BLAS without it

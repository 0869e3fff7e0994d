"""Common factors of two shapes of equal size: the axis rule of a reshape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from ..axes import PERMUTED, Axes, Axis, Factor
from ..symbolic import Dim, Shape, Symbol, divide, monomials, polynomial, size_of


def factorised(before: Shape, after: Shape) -> tuple[Axes, Axes]:
    """Return the axes of two shapes of equal size, in row-major order, as common factors.

    Axes that have no common factor are permuted together.
    """
    bounds = [(0, 0), *_boundaries(before, after), (len(before), len(after))]
    sides: tuple[list[Axis], list[Axis]] = ([], [])
    for (i, j), (k, m) in itertools.pairwise(bounds):
        for side, axes in zip(sides, _common_factors(before[i:k], after[j:m]), strict=True):
            side += map(tuple, axes)
    return tuple(sides[0]), tuple(sides[1])


def _boundaries(before: Shape, after: Shape) -> Iterator[tuple[int, int]]:
    """Yield the numbers of leading axes of both shapes that have equally many elements."""
    counts: dict[int | Dim, int] = {}
    for j in range(1, len(after)):
        counts.setdefault(size_of(after[:j]), j)
    last = 0
    for i in range(1, len(before)):
        j = counts.get(size_of(before[:i]), 0)
        if j > last:
            yield i, j
            last = j


def _common_factors(before: Shape, after: Shape) -> tuple[list[list[Factor]], list[list[Factor]]]:
    shapes = (list(before), list(after))
    axes: tuple[list[list[Factor]], list[list[Factor]]] = ([[] for _ in before], [[] for _ in after])
    position = [0, 0]
    mixed = False

    def take(side: int, factor: Factor, size: int | Dim) -> None:
        axes[side][position[side]].append(factor)
        quotient = 1 if mixed else divide(shapes[side][position[side]], size)
        assert quotient is not None  # `size` divides it
        shapes[side][position[side]] = quotient
        position[side] += quotient == 1

    while position[0] < len(before) and position[1] < len(after) and not mixed:
        sizes = [shape[k] for shape, k in zip(shapes, position, strict=True)]
        shared = common_divisor(*sizes)
        if sizes[0] != sizes[1] and 1 in sizes:
            take(sizes.index(1), Factor(PERMUTED), 1)
        elif shared == 1 != sizes[0]:
            mixed = True
        else:
            factor = Factor()
            take(0, factor, shared)
            take(1, factor, shared)
    for side in (0, 1):
        while position[side] < len(shapes[side]):
            take(side, Factor(PERMUTED), shapes[side][position[side]])
    return axes


def common_divisor(a: int | Dim, b: int | Dim) -> int | Dim:
    """Return the greatest common divisor of two sizes; of sums of symbols, one of the two or 1."""
    if isinstance(a, int) and isinstance(b, int):
        return math.gcd(a, b)
    for x, y in ((a, b), (b, a)):
        if divide(x, y) is not None:
            return y
    both = [tuple(monomials(n)) for n in (a, b)]
    if any(len(terms) != 1 for terms in both):
        return 1
    ((left, p),), ((right, q),) = both
    shared: list[Symbol] = []
    for s in left:
        if shared.count(s) < right.count(s):
            shared.append(s)
    return polynomial({tuple(shared): math.gcd(p, q)})

"""Stacks of matrices: products, triangles, diagonals, and declarations of primitives.

Axes before the last two are batches, so `vmap` adds one more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..errors import DtypeError, at_user_line
from ..graph import ArrayType, Node, zeros_like
from ..primitive import Primitive, Sample, fail
from ..tracing import guard_equal
from .broadcast import broadcast_along
from .constants import iota
from .einsum import LETTERS, contract
from .elementwise import eq, where
from .reduce import sum_
from .shape import transpose


def product(a: Node, b: Node) -> Node:
    """Return the matrix product over equal leading axes."""
    lead = LETTERS[26:a.ndim + 24]
    return contract([(lead + "ij", a), (lead + "jk", b)], lead + "ik")


def inner(a: Node, b: Node) -> Node:
    """Return the sum of the products of two matrices' elements."""
    lead = LETTERS[26:a.ndim + 24]
    return contract([(lead + "ij", a), (lead + "ij", b)], lead)


def transposed(x: Node) -> Node:
    """Return the matrix with its last two axes swapped."""
    return transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def choose(relation: Primitive, x: Node, other: Node | None = None) -> Node:
    """Return `x` where ``relation(row, column)`` holds, and `other` (or 0) elsewhere."""
    shape = x.shape[-2:]
    mask = relation(*(broadcast_along(iota(size=n), shape, (1 - axis,)) for axis, n in enumerate(shape)))
    return where(broadcast_along(mask, x.shape, tuple(range(x.ndim - 2))), x, zeros_like(x) if other is None else other)


def diagonal(x: Node) -> Node:
    """Return the diagonal of a square matrix."""
    return sum_(choose(eq, x), axes=(x.ndim - 1,))


def by_row(v: Node, x: Node) -> Node:
    """Return the matrix like `x` whose row i is filled with ``v[i]``."""
    return broadcast_along(v, x.shape, (x.ndim - 1,))


def by_column(v: Node, x: Node) -> Node:
    """Return the matrix like `x` whose column j is filled with ``v[j]``."""
    return broadcast_along(v, x.shape, (x.ndim - 2,))


# -- declarations ------------------------------------------------------------------------------------------


def check_matrix(name: str, t: ArrayType, square: bool = True) -> ArrayType:
    """Return `t`, or raise unless it is of matrices that LAPACK takes, square ones by `square`."""
    if t.dtype not in (np.float32, np.float64):
        raise DtypeError(at_user_line(f"{name}({t}): LAPACK has float32 and float64. Cast with x.astype(float)."))
    if t.ndim < 2:
        raise fail(name, "expected a matrix (or a stack of them)", t)
    if square and not guard_equal(t.shape[-1], t.shape[-2]):
        raise fail(name, "the matrix is not square", t)
    return t


on_matrices = partial(Primitive, kind="matrix")  # works on the last two axes, and on each matrix of a stack alone


def leading_flops(terms: Callable[[int, int], float], operand: int = 0) -> Callable[..., float]:
    """Return the operation count from its leading terms for m x n matrices, m >= n.

    G. Golub and C. Van Loan, "Matrix Computations" (2013). Of the second operand: its rows and columns.
    """
    def flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
        *lead, m, n = map(value, node.inputs[operand].shape)
        return math.prod(lead) * (terms(m, n) if operand else terms(max(m, n), min(m, n)))

    return flops


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def matrix_samples(*shapes: tuple[int, ...], positive: bool = False) -> list[Sample]:
    xs = [normal(k, *s) for k, s in enumerate(shapes)]
    if positive:
        xs = [x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1]) + 0.1 * x for x in xs]
    return [Sample((x,)) for x in xs]

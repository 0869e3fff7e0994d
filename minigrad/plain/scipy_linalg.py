"""Functions of `scipy.linalg` on traced values."""

from __future__ import annotations

from collections.abc import Callable

from .. import numpy as ours
from ..traced_array import Array


def solve(a: object, b: object) -> object:
    return ours.linalg.solve(a, b)


def solve_triangular(a: object, b: object, lower: bool = False) -> object:
    return ours.linalg.solve((ours.tril if lower else ours.triu)(a), b)


def cholesky(a: object, lower: bool = False) -> object:
    root = ours.linalg.cholesky(a)
    return root if lower else ours.swapaxes(root, -1, -2)


def cho_factor(a: object, lower: bool = False) -> tuple[object, bool]:
    return ours.linalg.cholesky(a), True


def cho_solve(c_and_lower: tuple[Array, bool], b: object) -> object:
    root = c_and_lower[0]
    return ours.linalg.solve(ours.matmul(root, root.T), b)


NAMES: dict[str, Callable[..., object]] = {f.__name__: f for f in (
    ours.linalg.det, ours.linalg.expm, ours.linalg.inv, ours.linalg.norm, solve, solve_triangular, cholesky, cho_factor,
    cho_solve)}

"""Determinants and their first three derivatives, also of singular matrices."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import interpreters
from ..axes import subscripts
from ..graph import PRIMITIVES, ArrayType, Node, zeros_like
from ..primitive import ArrayNamespace, Sample, broadcast_leading, fail, move_axis, placeholder
from ..symbolic import Dim
from ..tracing import guard_equal_shapes
from .broadcast import broadcast_along
from .linalg import inv
from .matrices import check_matrix, inner, leading_flops, matrix_samples, normal, on_matrices, product, transposed
from .reduce import sum_
from .shape import concatenate, reshape, section


def _scalars(name: str, t: ArrayType) -> ArrayType:
    """Return the type of one number for each matrix."""
    return ArrayType(check_matrix(name, t).shape[:-2], t.dtype)


def last(x: Node, i: int) -> Node:
    """Return element `i` along the last axis."""
    return reshape(section(x, x.ndim - 1, i, 1), shape=x.shape[:-1])


def _times(scalar: Node, x: Node) -> Node:
    return x * broadcast_along(scalar, x.shape, (x.ndim - 2, x.ndim - 1))


def _signed_svd(xp: ArrayNamespace, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return det(U) det(V), U, the singular values as a row, and Vᵀ.

    The sign of a matrix with nan or inf is nan; LAPACK would raise for the whole stack.
    """
    finite = xp.all(xp.isfinite(a), axis=(-2, -1), keepdims=True)
    u, s, vh = xp.linalg.svd(xp.where(finite, a, xp.zeros_like(a)), full_matrices=False)
    sign = xp.reshape(xp.linalg.det(u) * xp.linalg.det(vh), finite.shape)
    return xp.where(finite, sign, xp.full_like(sign, math.nan)), u, xp.expand_dims(s, axis=-2), vh


def _without_one(xp: ArrayNamespace, row: np.ndarray) -> np.ndarray:
    """Return, as a row, the products of all numbers but the i-th."""
    others = xp.where(xp.eye(row.shape[-1], dtype=xp.bool), xp.ones_like(row), row)
    return xp.expand_dims(xp.prod(others, axis=-1), axis=-2)


def _without_two(xp: ArrayNamespace, row: np.ndarray) -> Any:
    """Return the matrix of the products of all but two numbers, 0 on its diagonal.

    The numbers fall, so that where the i-th is 0 all products are, but that of all before the last two.
    """
    n = row.shape[-1]
    column = xp.matrix_transpose(row)
    one = xp.ones_like(column)
    half = xp.where(column > 0, _without_one(xp, row) / xp.where(column > 0, column, one), xp.zeros_like(row))
    place = xp.reshape(xp.arange(n), (n, 1))
    last = (place == n - 2) & (xp.matrix_transpose(place) == n - 1)
    half = xp.where(last, xp.prod(row[..., :max(n - 2, 0)], axis=-1, keepdims=True), xp.triu(half, k=1))
    return half + xp.matrix_transpose(half)


def _cofactor_eval(xp: ArrayNamespace, a: np.ndarray) -> Any:
    # The formula holds for singular matrices too.
    sign, u, row, vh = _signed_svd(xp, a)
    return xp.matmul(u * _without_one(xp, row), vh) * sign


def _cofactor_slope_eval(xp: ArrayNamespace, g: np.ndarray, a: np.ndarray) -> Any:
    sign, u, row, vh = _signed_svd(xp, a)
    turned = xp.matmul(xp.matmul(xp.matrix_transpose(u), g), xp.matrix_transpose(vh))
    minors, eye = _without_two(xp, row), xp.eye(a.shape[-1], dtype=a.dtype)
    diagonal = xp.sum(turned * eye, axis=-1, keepdims=True)
    middle = eye * xp.matmul(minors, diagonal) - minors * xp.matrix_transpose(turned)
    return xp.matmul(xp.matmul(u, middle), vh) * sign


def _fitting(name: str, a: ArrayType, *directions: ArrayType) -> ArrayType:
    """Return the type of the directions, or raise `ShapeError` unless they are of one type and fit the matrices."""
    check_matrix(name, a)
    g = directions[0]
    if any(d.dtype != a.dtype or not guard_equal_shapes(d.shape, g.shape) for d in directions) or (
            not guard_equal_shapes(g.shape[g.ndim - a.ndim:], a.shape)):
        raise fail(name, "the directions do not fit the matrices", *directions, a)
    return g


def _directions_batch(name: str, size: int | Dim, mapped: Sequence[bool], *xs: Node) -> Node:
    *directions, a = xs  # one matrix for all directions is factorised once
    directions = [x if m else broadcast_leading(x, size) for x, m in zip(directions, mapped, strict=False)]
    more = directions[0].ndim - a.ndim if mapped[-1] else 0
    return move_axis(PRIMITIVES[name](*(move_axis(x, 0, more) for x in directions), a), more, 0)


def _cofactor_slope_by_division(g: Node, a: Node) -> Node:
    lead = _directions(g, a)
    c = broadcast_along(cofactor(a), g.shape, lead)
    d = broadcast_along(det(a), g.shape, (*lead, g.ndim - 2, g.ndim - 1))
    return (_times(inner(c, g), c) - product(product(c, transposed(g)), c)) / d


def _directions(g: Node, a: Node) -> tuple[int, ...]:
    """Return the axes of `g` in front of those of `a`: several directions for one matrix."""
    return tuple(range(g.ndim - a.ndim))


def _cofactor_slope_vjp(c: Node, out: Node, g: Node, a: Node) -> list[Node]:
    back, axes = cofactor_bend(c, g, a), _directions(g, a)
    return [cofactor_slope(c, a), sum_(back, axes=axes) if axes else back]


def _cofactor_slope_jvp(ts: Sequence[Node | None], out: Node, g: Node, a: Node) -> Node:
    moved = [] if ts[0] is None else [cofactor_slope(ts[0], a)]
    moved += [] if ts[1] is None else [cofactor_bend(g, broadcast_along(ts[1], g.shape, _directions(g, a)), a)]
    return functools.reduce(operator.add, moved)


# The second derivative of `det` in the direction `g`: linear in it and symmetric, so it is forward and reverse mode at
# once. It exists for singular matrices too.
cofactor_slope = on_matrices(
    "cofactor_slope", lambda g, a: _fitting("cofactor_slope", a, g), _cofactor_slope_eval, _cofactor_slope_vjp,
    _cofactor_slope_jvp, partial(_directions_batch, "cofactor_slope"), flops=leading_flops(lambda m, n: 28 * n**3),
    axes=subscripts("... m! n!, ... m! n! -> ... m! n!"),
    samples=lambda: [Sample((normal(1, *s), normal(2, *s))) for s in ((3, 3), (2, 2, 2), (1, 1), (4, 4))])


def _without_three(xp: ArrayNamespace, s: np.ndarray) -> Any:
    """Return the products of all but three numbers along three axes, 0 on diagonals.

    Nothing is divided: the numbers before, between and after the three are multiplied.
    """
    place = xp.arange(s.shape[-1])
    column, layer = xp.expand_dims(place, axis=-1), xp.expand_dims(place, axis=(-1, -2))

    def product(mask: np.ndarray) -> np.ndarray:
        wide = xp.expand_dims(s, axis=tuple(range(-mask.ndim, -1)))
        return xp.prod(xp.where(mask, wide, xp.ones_like(wide)), axis=-1)

    before, after = product(place < column), product(place > column)
    between = product((layer < place) & (place < column))
    rising = (layer < column) & (column < place)
    shown = [(before, (-1, -2)), (between, (-1,)), (between, (-3,)), (after, (-2, -3))]
    first = functools.reduce(operator.mul, (xp.expand_dims(x, axis=axes) for x, axes in shown)) * xp.astype(
        rising, s.dtype)
    lead = tuple(range(s.ndim - 1))
    return sum(xp.permute_dims(first, (*lead, *(len(lead) + k for k in order)))
               for order in itertools.permutations(range(3)))


def _cofactor_bend_eval(xp: ArrayNamespace, g: np.ndarray, h: np.ndarray, a: np.ndarray) -> Any:
    sign, u, row, vh = _signed_svd(xp, a)
    minors = _without_three(xp, row[..., 0, :])
    g, h = (xp.matmul(xp.matmul(xp.matrix_transpose(u), x), xp.matrix_transpose(vh)) for x in (g, h))
    n, eye = a.shape[-1], xp.eye(a.shape[-1], dtype=a.dtype)
    diagonals = [xp.sum(x * eye, axis=-1) for x in (g, h)]
    rows = []
    for i in range(n):  # the i-th row of the middle matrix
        own = minors[..., i, :, :]
        by_g, by_h = (xp.sum(own * xp.expand_dims(d, axis=-2), axis=-1) for d in diagonals)
        mixed = sum(xp.sum(own * x * xp.expand_dims(y[..., :, i], axis=-2), axis=-1) for x, y in ((g, h), (h, g)))
        corner = xp.sum(diagonals[0] * by_h, axis=-1, keepdims=True) - xp.sum(
            own * g * xp.matrix_transpose(h), axis=(-2, -1))[..., None]
        rows.append(corner * eye[i, :] + mixed - g[..., :, i] * by_h - h[..., :, i] * by_g)
    return xp.matmul(xp.matmul(u, xp.stack(rows, axis=-2)), vh) * sign


def _cofactor_bend_by_division(g: Node, h: Node, a: Node) -> Node:
    direction, matrix = (placeholder(x.types[0]) for x in (g, g))  # a matrix for each direction
    (moved,) = interpreters.forward([_cofactor_slope_by_division(direction, matrix)], {matrix: h})
    assert moved is not None
    return interpreters.substitute([moved], {direction: g, matrix: broadcast_along(a, g.shape, _directions(g, a))})[0]


def _cofactor_bend_vjp(c: Node, out: Node, g: Node, h: Node, a: Node) -> list[Node]:
    back = zeros_like(a)
    if a.shape[-1] not in (1, 2, 3):  # of these the third derivative is constant
        seeds = [placeholder(x.types[0]) for x in (c, g, h, a)]  # the directions may depend on `a`
        by_matrix = interpreters.backward([_cofactor_bend_by_division(*seeds[1:])], seeds[:1], seeds[3:])
        (back,) = interpreters.substitute(by_matrix, dict(zip(seeds, (c, g, h, a), strict=True)))
    return [cofactor_bend(c, h, a), cofactor_bend(c, g, a), back]


def _cofactor_bend_jvp(ts: Sequence[Node | None], out: Node, g: Node, h: Node, a: Node) -> Node:
    moved = [cofactor_bend(t, x, a) for t, x in zip(ts, (h, g), strict=False) if t is not None]
    if ts[2] is not None and a.shape[-1] not in (1, 2, 3):
        seeds = [placeholder(x.types[0]) for x in (g, h, a, a)]
        (by_matrix,) = interpreters.forward([_cofactor_bend_by_division(*seeds[:3])], {seeds[2]: seeds[3]})
        assert by_matrix is not None
        moved += interpreters.substitute([by_matrix], dict(zip(seeds, (g, h, a, ts[2]), strict=True)))
    return functools.reduce(operator.add, moved) if moved else zeros_like(out)


# The third derivative of `det` in two directions, for singular matrices too; its own derivative by the matrix divides
# by the determinant.
cofactor_bend = on_matrices(
    "cofactor_bend", lambda g, h, a: _fitting("cofactor_bend", a, g, h), _cofactor_bend_eval, _cofactor_bend_vjp,
    _cofactor_bend_jvp, partial(_directions_batch, "cofactor_bend"), flops=leading_flops(lambda m, n: 32 * n**4),
    axes=subscripts("... m! n!, ... m! n!, ... m! n! -> ... m! n!"),
    samples=lambda: [Sample((normal(1, *s), normal(2, *s), normal(3, *s))) for s in ((3, 3), (2, 2, 2), (4, 4))])

# The derivative of `det` by its matrix, also where that is singular.
cofactor = on_matrices(
    "cofactor", lambda a: check_matrix("cofactor", a), _cofactor_eval, vjp=lambda g, out, a: [cofactor_slope(g, a)],
    jvp=lambda ts, out, a: cofactor_slope(ts[0], a), flops=leading_flops(lambda m, n: 24 * n**3),
    axes=subscripts("... m! n! -> ... m! n!"),
    samples=partial(matrix_samples, (3, 3), (2, 2, 2), (1, 1)))

det = on_matrices(
    "det", lambda a: _scalars("det", a), lambda xp, a: xp.linalg.det(a), vjp=lambda g, out, a: [_times(g, cofactor(a))],
    jvp=lambda ts, out, a: inner(cofactor(a), ts[0]), flops=leading_flops(lambda m, n: 2 * n**3 / 3),
    axes=subscripts("... m! n! -> ..."),
    samples=partial(matrix_samples, (3, 3), (2, 2, 2), (1, 1)))


def _slogdet_jvp(ts: Sequence[Node], out: Node, a: Node) -> Node:
    log = inner(transposed(inv(a)), ts[0])
    return concatenate(*(reshape(x, shape=(*x.shape, 1)) for x in (zeros_like(log), log)), axis=out.ndim - 1)


# (sign, log of the absolute determinant) along a new last axis. The sign's derivative is zero.
slogdet = on_matrices(
    "slogdet", lambda a: ArrayType((*_scalars("slogdet", a).shape, 2), a.dtype),
    lambda xp, a: xp.stack(tuple(xp.linalg.slogdet(a)), axis=-1),
    vjp=lambda g, out, a: [_times(last(g, 1), transposed(inv(a)))], jvp=_slogdet_jvp,
    flops=leading_flops(lambda m, n: 2 * n**3 / 3), axes=subscripts("... m! n! -> ... k!"),
    samples=partial(matrix_samples, (3, 3), (2, 2, 2)))

"""Linear algebra on the last two axes; axes before them are batches, so `vmap` adds one and is done.

The derivatives are products and triangular solves of nodes, so they can be batched and differentiated
again. They follow M. Giles, "Collected matrix derivative results for forward and reverse mode AD" (2008);
for `cholesky` I. Murray, "Differentiation of the Cholesky decomposition" (2016); for `qr` S. Walter and
L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010); for `svd` J. Townsend,
"Differentiating the singular value decomposition" (2016).

Two conventions:

- `cholesky` and `eigh` read the lower triangle of A, as NumPy does, and take the upper one for its mirror
  image. Their gradient is that of what they read: zero above the diagonal.
- Eigenvectors of equal eigenvalues, and singular vectors of equal ones (or of a zero one, where the matrix
  is not square), have no derivative: what would flow through them is nan, not a number that looks right.
  Where nothing flows (a function of the eigenvalues alone) the derivative is exact.

An exactly singular matrix raises NumPy's LinAlgError where its inverse is needed, in derivatives too.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import interpreters
from ..axes import subscripts
from ..errors import DtypeError, at_user_line
from ..graph import PRIMITIVES, ArrayType, Node, TupleType, full, zeros_like
from ..primitive import Primitive, Sample, fail, placeholder, spread
from ..tracing import guard_equal, guard_equal_shapes, number
from .constants import iota
from .control import parts
from .einsum import contract
from .elementwise import eq, ge, gt, where
from .reduce import expand_to, sum_
from .shape import move_axis, reshape, transpose

# -- matrices of nodes ---------------------------------------------------------------------------------


def product(a: Node, b: Node) -> Node:
    """Return the matrix product over equal leading axes."""
    lead = string.ascii_uppercase[:a.ndim - 2]
    return contract([(lead + "ij", a), (lead + "jk", b)], lead + "ik")


def inner(a: Node, b: Node) -> Node:
    """Return the sum of the products of two matrices' elements."""
    lead = string.ascii_uppercase[:a.ndim - 2]
    return contract([(lead + "ij", a), (lead + "ij", b)], lead)


def transposed(x: Node) -> Node:
    """Return the matrix with its last two axes swapped."""
    return transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def choose(relation: Primitive, x: Node, other: Node | None = None) -> Node:
    """Return the elements of `x` whose ``relation(row, column)`` holds, and those of `other` (or 0) elsewhere."""
    shape = x.shape[-2:]
    mask = relation(*(expand_to(iota(size=n), shape, (1 - axis,)) for axis, n in enumerate(shape)))
    return where(expand_to(mask, x.shape, tuple(range(x.ndim - 2))), x, zeros_like(x) if other is None else other)


def diagonal(x: Node) -> Node:
    """Return the diagonal of a square matrix."""
    return sum_(choose(eq, x), axes=(x.ndim - 1,))


def by_row(v: Node, x: Node) -> Node:
    """Return the matrix like `x` whose row i is filled with ``v[i]``."""
    return expand_to(v, x.shape, (x.ndim - 1,))


def by_column(v: Node, x: Node) -> Node:
    """Return the matrix like `x` whose column j is filled with ``v[j]``."""
    return expand_to(v, x.shape, (x.ndim - 2,))


def _over(x: Node, gap: Node) -> Node:
    """Return ``x / gap``; where the gap is 0: nothing of nothing, and nan of anything else."""
    none = eq(gap, zeros_like(gap))
    lost = where(eq(x, zeros_like(x)), zeros_like(x), full(float("nan"), x.shape, x.dtype))
    return where(none, lost, x / where(none, full(1, gap.shape, gap.dtype), gap))


def _gaps(v: Node, x: Node) -> Node:
    return by_column(v, x) - by_row(v, x)


# -- type rules, batching --------------------------------------------------------------------------------


def _check(name: str, t: ArrayType, square: bool = True) -> None:
    if t.dtype not in (np.float32, np.float64):
        raise DtypeError(at_user_line(f"{name}({t}): LAPACK has float32 and float64. Cast with x.astype(float)."))
    if t.ndim < 2:
        raise fail(name, "expected a matrix (or a stack of them)", t)
    if square and not guard_equal(t.shape[-1], t.shape[-2]):
        raise fail(name, "the matrix is not square", t)


_on_matrices = partial(Primitive, kind="matrix")  # works on the last two axes, and on each matrix of a stack alone


def _leading(terms: Callable[[int, int], float], operand: int = 0) -> Callable[..., float]:
    """Return the operation count of a factorization from its leading terms for m x n matrices, m >= n.

    G. Golub and C. Van Loan, "Matrix Computations" (2013). Of the second operand: its rows and columns.
    """
    def flops(node: Node, value: Callable[..., int], count: Any) -> float:
        *lead, m, n = map(value, node.inputs[operand].shape)
        return math.prod(lead) * (terms(m, n) if operand else terms(max(m, n), min(m, n)))

    return flops


def _square(name: str) -> Callable[[ArrayType], ArrayType]:
    def type_rule(t: ArrayType) -> ArrayType:
        _check(name, t)
        return t

    return type_rule


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _samples(*shapes: tuple[int, ...], positive: bool = False) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        xs = [_normal(k, *s) for k, s in enumerate(shapes)]
        if positive:
            xs = [x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1]) + 0.1 * x for x in xs]
        return [Sample((x,)) for x in xs]

    return samples


# -- systems of equations --------------------------------------------------------------------------------


def _solve_type(name: str) -> Callable[..., ArrayType]:
    def type_rule(a: ArrayType, b: ArrayType, **params: Any) -> ArrayType:
        _check(name, a)
        _check(name, b, square=False)
        if a.dtype != b.dtype:
            raise DtypeError(at_user_line(f"{name}({a}, {b}): dtypes differ"))
        if not guard_equal_shapes(a.shape[:-1], b.shape[:-1]):
            raise fail(name, "the right-hand side does not have the matrix's rows", a, b)
        return b

    return type_rule


def _solve_batch(name: str) -> Callable[..., Node]:
    def batch(size: Any, mapped: Sequence[bool], a: Node, b: Node, **params: Any) -> Node:
        prim = PRIMITIVES[name]
        if mapped[0]:
            return prim(a, b if mapped[1] else spread(b, size), **params)
        # One matrix for all examples is factorised once: their right-hand sides are columns of one.
        wide = move_axis(b, 0, b.ndim - 2)
        x = prim(a, reshape(wide, shape=(*wide.shape[:-2], wide.shape[-2] * wide.shape[-1])), **params)
        return move_axis(reshape(x, shape=wide.shape), b.ndim - 2, 0)

    return batch


def _solve_vjp(g: Node, x: Node, a: Node, b: Node) -> list[Node]:
    back = solve(transposed(a), g)
    return [-product(back, transposed(x)), back]


def _solve_jvp(ts: Sequence[Node | None], x: Node, a: Node, b: Node) -> Node:
    return solve(a, _moved(ts[1], None if ts[0] is None else product(ts[0], x)))


def _moved(db: Node | None, da_x: Node | None) -> Node:
    """Return ``db - dA x``, of which one may be missing."""
    if da_x is None:
        return db
    return -da_x if db is None else db - da_x


solve = _on_matrices(
    "solve", _solve_type("solve"), lambda xp, a, b: xp.linalg.solve(a, b), _solve_vjp, _solve_jvp,
    _solve_batch("solve"), flops=_leading(lambda n, k: 2 * n**3 / 3 + 2 * n * n * k, 1),
    axes=subscripts("... m! n!, ... m! k -> ... m! k"), params={},
    samples=lambda: [Sample((_normal(1, 3, 3), _normal(2, 3, 2))), Sample((_normal(3, 2, 2, 2), _normal(4, 2, 2, 1)))])


def _triangle(x: Node, lower: bool) -> Node:
    return choose(ge, x) if lower else transposed(choose(ge, transposed(x)))


def _triangular_eval(xp: Any, a: Any, b: Any, *, lower: bool) -> Any:
    return xp.linalg.solve(xp.tril(a) if lower else xp.triu(a), b)


def _triangular_vjp(g: Node, x: Node, a: Node, b: Node, *, lower: bool) -> list[Node]:
    back = triangular_solve(transposed(a), g, lower=not lower)
    return [-_triangle(product(back, transposed(x)), lower), back]


def _triangular_jvp(ts: Sequence[Node | None], x: Node, a: Node, b: Node, *, lower: bool) -> Node:
    da_x = None if ts[0] is None else product(_triangle(ts[0], lower), x)
    return triangular_solve(a, _moved(ts[1], da_x), lower=lower)


# Reads one triangle of its matrix and takes the other for zeros.
triangular_solve = _on_matrices(
    "triangular_solve", _solve_type("triangular_solve"), _triangular_eval, _triangular_vjp, _triangular_jvp,
    _solve_batch("triangular_solve"), flops=_leading(lambda n, k: n * n * k, 1),
    axes=subscripts("... m! n!, ... m! k -> ... m! k"), params={"lower": bool},
    samples=lambda: [Sample((_normal(5, 3, 3) + 2 * np.eye(3), _normal(6, 3, 2)), {"lower": True}),
                     Sample((_normal(7, 2, 3, 3) + 2 * np.eye(3), _normal(8, 2, 3, 1)), {"lower": False})])

inv = _on_matrices(
    "inv", _square("inv"), lambda xp, a: xp.linalg.inv(a),
    vjp=lambda g, out, a: [-product(product(transposed(out), g), transposed(out))],
    jvp=lambda ts, out, a: -product(product(out, ts[0]), out), flops=_leading(lambda m, n: 2 * n**3),
    axes=subscripts("... m! n! -> ... n! m!"),
    samples=_samples((3, 3), (2, 2, 2), (1, 1)))


def _pinv_type(t: ArrayType, *, rcond: float) -> ArrayType:
    _check("pinv", t, square=False)
    return ArrayType((*t.shape[:-2], t.shape[-1], t.shape[-2]), t.dtype)


def _rest(x: Node, p: Node, a: Node) -> Node:
    """Return ``x - x p a``: what the projector ``p a`` leaves of the rows of `x`."""
    return x - product(product(x, p), a)


def _pinv_vjp(g: Node, p: Node, a: Node, *, rcond: float) -> list[Node]:
    pt, gt = transposed(p), transposed(g)
    left, right = product(gt, product(p, pt)), product(product(pt, p), gt)
    return [left - product(a, product(p, left)) + _rest(right, p, a) - product(product(pt, g), pt)]


def _pinv_jvp(ts: Sequence[Node | None], p: Node, a: Node, *, rcond: float) -> Node:
    t, tt, pt = ts[0], transposed(ts[0]), transposed(p)
    left, right = product(product(p, pt), tt), product(tt, product(pt, p))
    return _rest(left, a, p) + right - product(p, product(a, right)) - product(product(p, t), p)


# The pseudo-inverse, whose derivative (Golub and Pereyra, 1973) holds where the rank stays what it is.
pinv = _on_matrices(
    "pinv", _pinv_type, lambda xp, a, *, rcond: np.linalg.pinv(a, rcond=rcond) if xp is np else
    xp.linalg.pinv(a, rtol=rcond), _pinv_vjp, _pinv_jvp, flops=_leading(lambda m, n: 14 * m * n * n + 8 * n**3),
    axes=subscripts("... m! n! -> ... n! m!"),
    samples=lambda: [Sample((_normal(1, *s),), {"rcond": 1e-15}) for s in ((3, 3), (4, 2), (2, 2, 3), (1, 1))])

# -- determinants ----------------------------------------------------------------------------------------


def _scalar_type(name: str, count: int = 1) -> Callable[[ArrayType], ArrayType | TupleType]:
    def type_rule(t: ArrayType) -> ArrayType | TupleType:
        _check(name, t)
        result = ArrayType(t.shape[:-2], t.dtype)
        return result if count == 1 else TupleType((result,) * count)

    return type_rule


def _times(scalar: Node, x: Node) -> Node:
    return x * expand_to(scalar, x.shape, (x.ndim - 2, x.ndim - 1))


def _signed_svd(xp: Any, a: Any) -> tuple[Any, Any, Any, Any]:
    """Return det(U) det(V), U, the singular values as a row, and Vᵀ; the sign of a matrix with nan or inf is nan.

    LAPACK would raise for the whole stack.
    """
    finite = xp.all(xp.isfinite(a), axis=(-2, -1), keepdims=True)
    u, s, vh = xp.linalg.svd(xp.where(finite, a, xp.zeros_like(a)), full_matrices=False)
    sign = xp.reshape(xp.linalg.det(u) * xp.linalg.det(vh), finite.shape)
    return xp.where(finite, sign, xp.full_like(sign, math.nan)), u, xp.expand_dims(s, axis=-2), vh


def _without_one(xp: Any, row: Any) -> Any:
    """Return, as a row, the products of all numbers but the i-th."""
    others = xp.where(xp.eye(row.shape[-1], dtype=xp.bool), xp.ones_like(row), row)
    return xp.expand_dims(xp.prod(others, axis=-1), axis=-2)


def _without_two(xp: Any, row: Any) -> Any:
    """Return the matrix of the products of all numbers but the i-th and the j-th, and 0 on its diagonal.

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


def _cofactor_eval(xp: Any, a: Any) -> Any:
    # The formula holds for singular matrices too.
    sign, u, row, vh = _signed_svd(xp, a)
    return xp.matmul(u * _without_one(xp, row), vh) * sign


def _cofactor_slope_eval(xp: Any, g: Any, a: Any) -> Any:
    sign, u, row, vh = _signed_svd(xp, a)
    turned = xp.matmul(xp.matmul(xp.matrix_transpose(u), g), xp.matrix_transpose(vh))
    minors, eye = _without_two(xp, row), xp.eye(a.shape[-1], dtype=a.dtype)
    diagonal = xp.sum(turned * eye, axis=-1, keepdims=True)
    middle = eye * xp.matmul(minors, diagonal) - minors * xp.matrix_transpose(turned)
    return xp.matmul(xp.matmul(u, middle), vh) * sign


def _cofactor_slope_type(g: ArrayType, a: ArrayType) -> ArrayType:
    _check("cofactor_slope", a)
    if g.dtype != a.dtype or not guard_equal_shapes(g.shape[g.ndim - a.ndim:], a.shape):
        raise fail("cofactor_slope", "the directions do not fit the matrices", g, a)
    return g


def _cofactor_slope_batch(size: Any, mapped: Sequence[bool], g: Node, a: Node) -> Node:
    if not mapped[1]:
        return cofactor_slope(g, a)  # one matrix for all directions is factorised once
    g = g if mapped[0] else spread(g, size)
    more = g.ndim - a.ndim
    return move_axis(cofactor_slope(move_axis(g, 0, more), a), more, 0)


def _cofactor_slope_by_division(g: Node, a: Node) -> Node:
    lead = tuple(range(g.ndim - a.ndim))
    c, d = expand_to(cofactor(a), g.shape, lead), expand_to(det(a), g.shape, (*lead, g.ndim - 2, g.ndim - 1))
    return (_times(inner(c, g), c) - product(product(c, transposed(g)), c)) / d


def _directions(g: Node, a: Node) -> tuple[int, ...]:
    """Return the axes of `g` in front of those of `a`: several directions for one matrix."""
    return tuple(range(g.ndim - a.ndim))


def _cofactor_slope_vjp(c: Node, out: Node, g: Node, a: Node) -> list[Node]:
    return [cofactor_slope(c, a), _summed(cofactor_bend(c, g, a), _directions(g, a))]


def _cofactor_slope_jvp(ts: Sequence[Node | None], out: Node, g: Node, a: Node) -> Node:
    moved = [] if ts[0] is None else [cofactor_slope(ts[0], a)]
    moved += [] if ts[1] is None else [cofactor_bend(g, expand_to(ts[1], g.shape, _directions(g, a)), a)]
    return functools.reduce(operator.add, moved)


def _summed(x: Node, axes: tuple[int, ...]) -> Node:
    return sum_(x, axes=axes) if axes else x


# The second derivative of `det` in the direction `g`: linear in it and symmetric, so it is forward and reverse mode at
# once. It exists for singular matrices too.
cofactor_slope = _on_matrices(
    "cofactor_slope", _cofactor_slope_type, _cofactor_slope_eval, _cofactor_slope_vjp, _cofactor_slope_jvp,
    _cofactor_slope_batch, flops=_leading(lambda m, n: 28 * n**3),
    axes=subscripts("... m! n!, ... m! n! -> ... m! n!"),
    samples=lambda: [Sample((_normal(1, *s), _normal(2, *s))) for s in ((3, 3), (2, 2, 2), (1, 1), (4, 4))])


def _without_three(xp: Any, s: Any) -> Any:
    """Return the products of all numbers but the i-th, j-th and k-th, along three axes; 0 where two of these are one.

    Nothing is divided: the numbers before, between and after the three are multiplied.
    """
    place = xp.arange(s.shape[-1])
    column, layer = xp.expand_dims(place, axis=-1), xp.expand_dims(place, axis=(-1, -2))

    def product(mask: Any) -> Any:
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


def _cofactor_bend_eval(xp: Any, g: Any, h: Any, a: Any) -> Any:
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
        at = xp.sum(diagonals[0] * by_h, axis=-1, keepdims=True) - xp.sum(
            own * g * xp.matrix_transpose(h), axis=(-2, -1))[..., None]
        rows.append(at * eye[i, :] + mixed - g[..., :, i] * by_h - h[..., :, i] * by_g)
    return xp.matmul(xp.matmul(u, xp.stack(rows, axis=-2)), vh) * sign


def _cofactor_bend_type(g: ArrayType, h: ArrayType, a: ArrayType) -> ArrayType:
    if g.dtype != h.dtype or not guard_equal_shapes(g.shape, h.shape):
        raise fail("cofactor_bend", "the directions differ", g, h)
    return _cofactor_slope_type(g, a)


def _cofactor_bend_batch(size: Any, mapped: Sequence[bool], *xs: Node) -> Node:
    *pair, a = (x if m or k == 2 else spread(x, size) for k, (x, m) in enumerate(zip(xs, mapped, strict=True)))
    more = pair[0].ndim - a.ndim if mapped[2] else 0
    return move_axis(cofactor_bend(*(move_axis(x, 0, more) for x in pair), a), more, 0)


def _cofactor_bend_by_division(g: Node, h: Node, a: Node) -> Node:
    direction, matrix = (placeholder(x.type) for x in (g, g))  # a matrix for each direction
    found = interpreters.forward([_cofactor_slope_by_division(direction, matrix)], {matrix: h})
    return interpreters.substitute(found, {direction: g, matrix: expand_to(a, g.shape, _directions(g, a))})[0]


def _cofactor_bend_vjp(c: Node, out: Node, g: Node, h: Node, a: Node) -> list[Node]:
    back = zeros_like(a)
    if a.shape[-1] not in (1, 2, 3):  # of these the third derivative is constant
        seeds = [placeholder(x.type) for x in (c, g, h, a)]  # the directions may depend on `a`
        found = interpreters.backward([_cofactor_bend_by_division(*seeds[1:])], seeds[:1], seeds[3:])
        (back,) = interpreters.substitute(found, dict(zip(seeds, (c, g, h, a), strict=True)))
    return [cofactor_bend(c, h, a), cofactor_bend(c, g, a), back]


def _cofactor_bend_jvp(ts: Sequence[Node | None], out: Node, g: Node, h: Node, a: Node) -> Node:
    moved = [cofactor_bend(t, x, a) for t, x in zip(ts, (h, g), strict=False) if t is not None]
    if ts[2] is not None and a.shape[-1] not in (1, 2, 3):
        seeds = [placeholder(x.type) for x in (g, h, a, a)]
        found = interpreters.forward([_cofactor_bend_by_division(*seeds[:3])], {seeds[2]: seeds[3]})
        moved += interpreters.substitute(found, dict(zip(seeds, (g, h, a, ts[2]), strict=True)))
    return functools.reduce(operator.add, moved) if moved else zeros_like(out)


# The third derivative of `det` in two directions, for singular matrices too; its own derivative by the matrix divides
# by the determinant.
cofactor_bend = _on_matrices(
    "cofactor_bend", _cofactor_bend_type, _cofactor_bend_eval, _cofactor_bend_vjp, _cofactor_bend_jvp,
    _cofactor_bend_batch, flops=_leading(lambda m, n: 32 * n**4),
    axes=subscripts("... m! n!, ... m! n!, ... m! n! -> ... m! n!"),
    samples=lambda: [Sample((_normal(1, *s), _normal(2, *s), _normal(3, *s))) for s in ((3, 3), (2, 2, 2), (4, 4))])

# The derivative of `det` by its matrix, also where that is singular.
cofactor = _on_matrices(
    "cofactor", _square("cofactor"), _cofactor_eval, vjp=lambda g, out, a: [cofactor_slope(g, a)],
    jvp=lambda ts, out, a: cofactor_slope(ts[0], a), flops=_leading(lambda m, n: 24 * n**3),
    axes=subscripts("... m! n! -> ... m! n!"),
    samples=_samples((3, 3), (2, 2, 2), (1, 1)))

det = _on_matrices(
    "det", _scalar_type("det"), lambda xp, a: xp.linalg.det(a), vjp=lambda g, out, a: [_times(g, cofactor(a))],
    jvp=lambda ts, out, a: inner(cofactor(a), ts[0]), flops=_leading(lambda m, n: 2 * n**3 / 3),
    axes=subscripts("... m! n! -> ..."),
    samples=_samples((3, 3), (2, 2, 2), (1, 1)))

# (sign, log of the absolute determinant). The sign's derivative is zero.
slogdet = _on_matrices(
    "slogdet", _scalar_type("slogdet", 2), lambda xp, a: tuple(xp.linalg.slogdet(a)),
    vjp=lambda g, out, a: [_times(g[1], transposed(inv(a)))],
    jvp=lambda ts, out, a: (None, inner(transposed(inv(a)), ts[0])), flops=_leading(lambda m, n: 2 * n**3 / 3),
    axes=subscripts("... m! n! -> ..., ..."),
    samples=_samples((3, 3), (2, 2, 2)))

# -- factorisations --------------------------------------------------------------------------------------


def _half(x: Node) -> Node:
    """Return the lower triangle with half of the diagonal."""
    return (choose(ge, x) + choose(gt, x)) * 0.5


def mirrored(x: Node) -> Node:
    """Return the symmetric matrix whose lower triangle is that of `x`."""
    return choose(ge, x, transposed(x))


def _folded(x: Node) -> Node:
    """Return the adjoint of `mirrored`: the upper triangle added onto the lower one."""
    return _half(x + transposed(x))


def _cholesky_vjp(g: Node, out: Node, a: Node) -> list[Node]:
    upper = transposed(out)
    left = triangular_solve(upper, _half(product(upper, g)), lower=False)
    return [_folded(triangular_solve(upper, transposed(left), lower=False))]


def _cholesky_jvp(ts: Sequence[Node], out: Node, a: Node) -> Node:
    left = triangular_solve(out, mirrored(ts[0]), lower=True)
    return product(out, _half(triangular_solve(out, transposed(left), lower=True)))


cholesky = _on_matrices(
    "cholesky", _square("cholesky"), lambda xp, a: xp.linalg.cholesky(a), _cholesky_vjp,
    _cholesky_jvp, flops=_leading(lambda m, n: n**3 / 3),
    axes=subscripts("... m! n! -> ... m! n!"),
    samples=_samples((3, 3), (2, 2, 2), (1, 1), positive=True))


def _eigh_type(t: ArrayType) -> TupleType:
    _check("eigh", t)
    return TupleType((ArrayType(t.shape[:-1], t.dtype), t))


def _eigh_vjp(g: Sequence[Node], out: Node, a: Node) -> list[Node]:
    w, v = parts(out)
    inside = choose(eq, by_row(g[0], v), _over(product(transposed(v), g[1]), _gaps(w, v)))
    return [_folded(product(product(v, inside), transposed(v)))]


def _eigh_jvp(ts: Sequence[Node], out: Node, a: Node) -> tuple[Node, Node]:
    w, v = parts(out)
    inside = product(product(transposed(v), mirrored(ts[0])), v)
    turn = choose(eq, zeros_like(v), _over(inside, _gaps(w, v)))
    return diagonal(inside), product(v, turn)


eigh = _on_matrices(
    "eigh", _eigh_type, lambda xp, a: tuple(xp.linalg.eigh(a)), _eigh_vjp, _eigh_jvp,
    flops=_leading(lambda m, n: 9 * n**3),
    axes=subscripts("... m! n! -> ... n!, ... m! n!"), samples=_samples((3, 3), (2, 2, 2), (1, 1)))


def _qr_type(t: ArrayType) -> TupleType:
    _check("qr", t, square=False)
    m, n = t.shape[-2:]
    if not guard_equal(m, n) and number(m) < number(n):
        raise fail("qr", "the matrix has more columns than rows", t, hint="Factorise its first columns")
    return TupleType((t, ArrayType((*t.shape[:-2], n, n), t.dtype)))


def _right_solve(x: Node, r: Node) -> Node:
    """Return ``x R⁻ᵀ`` for an upper triangular R."""
    return transposed(triangular_solve(r, transposed(x), lower=False))


def _qr_vjp(g: Sequence[Node], out: Node, a: Node) -> list[Node]:
    q, r = parts(out)
    m = product(r, transposed(g[1])) - product(transposed(g[0]), q)
    mirrored = choose(ge, m) + transposed(choose(gt, m))
    return [_right_solve(g[0] + product(q, mirrored), r)]


def _qr_jvp(ts: Sequence[Node], out: Node, a: Node) -> tuple[Node, Node]:
    q, r = parts(out)
    c = transposed(triangular_solve(transposed(r), transposed(ts[0]), lower=True))
    w = product(transposed(q), c)
    turn = choose(gt, w) - transposed(choose(gt, w))
    return c + product(q, turn - w), product(w - turn, r)


# Reduced: Q has the matrix's shape, R is square. For matrices that are not wider than tall.
qr = _on_matrices(
    "qr", _qr_type, lambda xp, a: tuple(xp.linalg.qr(a, mode="reduced")), _qr_vjp, _qr_jvp,
    flops=_leading(lambda m, n: 4 * n * n * (m - n / 3)),
    axes=subscripts("... m! n! -> ... m! k!, ... k! n!"),
    samples=_samples((3, 3), (4, 2), (2, 3, 2), (1, 1)))


def _svd_type(t: ArrayType) -> TupleType:
    _check("svd", t, square=False)
    *lead, m, n = t.shape
    k = m if guard_equal(m, n) else min(number(m), number(n))
    return TupleType(tuple(ArrayType((*lead, *shape), t.dtype) for shape in ((m, k), (k,), (k, n))))


def _outside(basis: Node, x: Node) -> Node:
    """Return the part of the columns of `x` that the columns of `basis` do not span."""
    return x - product(basis, product(transposed(basis), x))


def _svd_gaps(s: Node, x: Node) -> Node:
    return _gaps(s, x) * (by_column(s, x) + by_row(s, x))


def _svd_vjp(g: Sequence[Node], out: Node, a: Node) -> list[Node]:
    u, s, vh = parts(out)
    gu, gs, gv = g[0], g[1], transposed(g[2])
    j, k = (product(transposed(u), gu), product(vh, gv))
    gaps = _svd_gaps(s, j)
    j, k = (choose(eq, zeros_like(x), _over(x, gaps)) for x in (j, k))
    middle = choose(eq, by_row(gs, j)) + (j + transposed(j)) * by_column(s, j) + by_row(s, k) * (k + transposed(k))
    left = product(u, middle)
    if not guard_equal(*u.shape[-2:]):
        left = left + _outside(u, _over(gu, by_column(s, gu)))
    back = product(left, vh)
    if not guard_equal(*vh.shape[-2:]):
        back = back + product(u, transposed(_outside(transposed(vh), _over(gv, by_column(s, gv)))))
    return [back]


def _svd_jvp(ts: Sequence[Node], out: Node, a: Node) -> tuple[Node, Node, Node]:
    u, s, vh = parts(out)
    v, t = transposed(vh), ts[0]
    to_u, to_v = product(t, v), product(transposed(t), u)
    p = product(transposed(u), to_u)
    pt, gaps = transposed(p), _svd_gaps(s, p)
    row, column = by_row(s, p), by_column(s, p)
    du = product(u, choose(eq, zeros_like(p), _over(p * column + row * pt, gaps)))
    dv = product(v, choose(eq, zeros_like(p), _over(row * p + pt * column, gaps)))
    if not guard_equal(*u.shape[-2:]):
        du = du + _outside(u, _over(to_u, by_column(s, to_u)))
    if not guard_equal(*vh.shape[-2:]):
        dv = dv + _outside(v, _over(to_v, by_column(s, to_v)))
    return du, diagonal(p), transposed(dv)


# Reduced: U (m, k), s (k) and Vᵀ (k, n), with k the smaller of m and n.
svd = _on_matrices(
    "svd", _svd_type, lambda xp, a: tuple(xp.linalg.svd(a, full_matrices=False)), _svd_vjp, _svd_jvp,
    flops=_leading(lambda m, n: 14 * m * n * n + 8 * n**3),
    axes=subscripts("... m! n! -> ... m! k!, ... k!, ... k! n!"),
    samples=_samples((3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1)))

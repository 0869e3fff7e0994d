"""Linear algebra on the last two axes: linear systems, inverses, factorisations.

Axes before the last two are batches.

The derivatives are products and triangular solves of nodes, so they can be batched and differentiated
again. They follow M. Giles, "Collected matrix derivative results for forward and reverse mode AD" (2008);
for `cholesky` I. Murray, "Differentiation of the Cholesky decomposition" (2016); for `qr` S. Walter and
L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010); for `svd` J. Townsend,
"Differentiating the singular value decomposition" (2016).

Two conventions:

- `cholesky` and `eigh` read the lower triangle of A, as NumPy does, and take the upper one for its mirror
  image. Their gradient is zero above the diagonal.
- Eigenvectors of equal eigenvalues, and singular vectors of equal ones (or of a zero one, where the matrix
  is not square), have no derivative: a cotangent through them becomes nan, not a number that looks right.
  A function of the eigenvalues alone has its exact derivative.

An exactly singular matrix raises NumPy's LinAlgError where its inverse is needed, in derivatives too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import blas
from ..axes import subscripts
from ..errors import DtypeError, at_user_line
from ..graph import PRIMITIVES, ArrayType, Node, Params, TupleType, full, zeros_like
from ..primitive import ArrayNamespace, Rewriter, Sample, broadcast_leading, fail, move_axis
from ..symbolic import Dim, differs
from ..tracing import guard_equal, guard_equal_shapes, number
from .broadcast import broadcast_along
from .constants import size_scalar
from .control import parts
from .elementwise import eq, ge, gt, le, where
from .matrices import (
    by_column,
    by_row,
    check_matrix,
    choose,
    diagonal,
    leading_flops,
    matrix_samples,
    normal,
    on_matrices,
    product,
    transposed,
)
from .shape import reshape, transpose


def _over(x: Node, gap: Node) -> Node:
    """Return ``x / gap``; where the gap is 0, 0 for a zero of `x` and nan for other elements."""
    none = eq(gap, zeros_like(gap))
    lost = where(eq(x, zeros_like(x)), zeros_like(x), full(float("nan"), x.shape, x.dtype))
    return where(none, lost, x / where(none, full(1, gap.shape, gap.dtype), gap))


def _gaps(v: Node, x: Node) -> Node:
    return by_column(v, x) - by_row(v, x)


# -- systems of equations --------------------------------------------------------------------------------


def _solve_type(name: str, a: ArrayType, b: ArrayType, **params: object) -> ArrayType:
    check_matrix(name, a)
    check_matrix(name, b, square=False)
    if a.dtype != b.dtype:
        raise DtypeError(at_user_line(f"{name}({a}, {b}): dtypes differ"))
    if not guard_equal_shapes(a.shape[:-1], b.shape[:-1]):
        raise fail(name, "the right-hand side does not have the matrix's rows", a, b)
    return b


def _solve_batch(name: str, size: int | Dim, mapped: Sequence[bool], a: Node, b: Node, **params: object) -> Node:
    prim = PRIMITIVES[name]
    if mapped[0]:
        return prim(a, b if mapped[1] else broadcast_leading(b, size), **params)
    # One matrix for all examples is factorised once: their right-hand sides are columns of one.
    wide = move_axis(b, 0, b.ndim - 2)
    x = prim(a, reshape(wide, shape=(*wide.shape[:-2], wide.shape[-2] * wide.shape[-1])), **params)
    return move_axis(reshape(x, shape=wide.shape), b.ndim - 2, 0)


def _solve_vjp(g: Node, x: Node, a: Node, b: Node) -> list[Node]:
    back = solve(transposed(a), g)
    return [-product(back, transposed(x)), back]


def _solve_jvp(ts: Sequence[Node | None], x: Node, a: Node, b: Node) -> Node:
    return solve(a, _moved(ts[1], None if ts[0] is None else product(ts[0], x)))


def _moved(db: Node | None, da_x: Node | None) -> Node:
    """Return ``db - dA x``, where None stands for zero; one of them is a node."""
    if db is None or da_x is None:
        present = db if da_x is None else -da_x
        assert present is not None
        return present
    return db - da_x


def _simpler_solve(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Solve by substitution where the matrix is a Cholesky factor, or one transposed."""
    a, b = xs
    swaps = a.prim is transpose and a.params["perm"] == (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
    factor = a.inputs[0] if swaps else a
    return s("triangular_solve", a, b, lower=not swaps) if factor.prim is cholesky else None


solve = on_matrices(
    "solve", partial(_solve_type, "solve"), lambda xp, a, b: xp.linalg.solve(a, b), _solve_vjp, _solve_jvp,
    partial(_solve_batch, "solve"), flops=leading_flops(lambda n, k: 2 * n**3 / 3 + 2 * n * n * k, 1),
    simplify=_simpler_solve,
    axes=subscripts("... m! n!, ... m! k -> ... m! k"), params={},
    samples=lambda: [Sample((normal(1, 3, 3), normal(2, 3, 2))), Sample((normal(3, 2, 2, 2), normal(4, 2, 2, 1)))])


_INT = np.dtype(np.int64)
_LARGE = 24  # rows from which a stack of systems is solved sooner by a call for each than by NumPy's elimination


def triangle(x: Node, lower: bool) -> Node:
    """Return one triangle of a matrix, with zeros in the other."""
    return choose(ge if lower else le, x)


def _triangular_eval(xp: ArrayNamespace, a: np.ndarray, b: np.ndarray, *, lower: bool) -> Any:
    if xp is np and (a.ndim == 2 or a.shape[-1] >= _LARGE) and (found := blas.find()[0]) is not None:
        return blas.solve_triangular(found, a, b, lower)
    return xp.linalg.solve(xp.tril(a) if lower else xp.triu(a), b)


def _triangular_vjp(g: Node, x: Node, a: Node, b: Node, *, lower: bool) -> list[Node]:
    back = triangular_solve(transposed(a), g, lower=not lower)
    return [-triangle(product(back, transposed(x)), lower), back]


def _triangular_jvp(ts: Sequence[Node | None], x: Node, a: Node, b: Node, *, lower: bool) -> Node:
    da_x = None if ts[0] is None else product(triangle(ts[0], lower), x)
    return triangular_solve(a, _moved(ts[1], da_x), lower=lower)


# Reads one triangle of its matrix and takes the other for zeros.
triangular_solve = on_matrices(
    "triangular_solve", partial(_solve_type, "triangular_solve"), _triangular_eval, _triangular_vjp, _triangular_jvp,
    partial(_solve_batch, "triangular_solve"), flops=leading_flops(lambda n, k: n * n * k, 1),
    axes=subscripts("... m! n!, ... m! k -> ... m! k"), params={"lower": bool},
    samples=lambda: [Sample((normal(5, 3, 3) + 2 * np.eye(3), normal(6, 3, 2)), {"lower": True}),
                     Sample((normal(7, 2, 3, 3) + 2 * np.eye(3), normal(8, 2, 3, 1)), {"lower": False})])

inv = on_matrices(
    "inv", lambda a: check_matrix("inv", a), lambda xp, a: xp.linalg.inv(a),
    vjp=lambda g, out, a: [-product(product(transposed(out), g), transposed(out))],
    jvp=lambda ts, out, a: -product(product(out, ts[0]), out), flops=leading_flops(lambda m, n: 2 * n**3),
    axes=subscripts("... m! n! -> ... n! m!"),
    samples=partial(matrix_samples, (3, 3), (2, 2, 2), (1, 1)))


def _pinv_type(t: ArrayType, *, rcond: float | None) -> ArrayType:
    check_matrix("pinv", t, square=False)
    return ArrayType((*t.shape[:-2], t.shape[-1], t.shape[-2]), t.dtype)


def _rest(x: Node, p: Node, a: Node) -> Node:
    """Return ``x - x p a``, the rows of `x` without their projection by ``p a``."""
    return x - product(product(x, p), a)


def _pinv_vjp(g: Node, p: Node, a: Node, *, rcond: float | None) -> list[Node]:
    pt, gt = transposed(p), transposed(g)
    left, right = product(gt, product(p, pt)), product(product(pt, p), gt)
    return [left - product(a, product(p, left)) + _rest(right, p, a) - product(product(pt, g), pt)]


def _pinv_jvp(ts: Sequence[Node], p: Node, a: Node, *, rcond: float | None) -> Node:
    t, tt, pt = ts[0], transposed(ts[0]), transposed(p)
    left, right = product(product(p, pt), tt), product(tt, product(pt, p))
    return _rest(left, a, p) + right - product(p, product(a, right)) - product(product(p, t), p)


# The pseudo-inverse, whose derivative (Golub and Pereyra, 1973) holds where the rank is constant. `rcond` is None for
# the round-off of the larger side.
pinv = on_matrices(
    "pinv", _pinv_type, lambda xp, a, *, rcond: xp.linalg.pinv(a, rtol=rcond), _pinv_vjp, _pinv_jvp,
    flops=leading_flops(lambda m, n: 14 * m * n * n + 8 * n**3), axes=subscripts("... m! n! -> ... n! m!"),
    samples=lambda: [Sample((normal(1, *s),), {"rcond": rcond})
                     for s, rcond in (((3, 3), 1e-15), ((4, 2), None), ((2, 2, 3), 1e-15), ((1, 1), None))])

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


cholesky = on_matrices(
    "cholesky", lambda a: check_matrix("cholesky", a), lambda xp, a: xp.linalg.cholesky(a), _cholesky_vjp,
    _cholesky_jvp, flops=leading_flops(lambda m, n: n**3 / 3), axes=subscripts("... m! n! -> ... m! n!"),
    samples=partial(matrix_samples, (3, 3), (2, 2, 2), (1, 1), positive=True))


def _eigh_vjp(g: Sequence[Node], out: Node, a: Node) -> list[Node]:
    w, v = parts(out)
    inside = choose(eq, by_row(g[0], v), _over(product(transposed(v), g[1]), _gaps(w, v)))
    return [_folded(product(product(v, inside), transposed(v)))]


def _eigh_jvp(ts: Sequence[Node], out: Node, a: Node) -> tuple[Node, Node]:
    w, v = parts(out)
    inside = product(product(transposed(v), mirrored(ts[0])), v)
    turn = choose(eq, zeros_like(v), _over(inside, _gaps(w, v)))
    return diagonal(inside), product(v, turn)


eigh = on_matrices(
    "eigh", lambda t: TupleType((ArrayType(check_matrix("eigh", t).shape[:-1], t.dtype), t)),
    lambda xp, a: tuple(xp.linalg.eigh(a)), _eigh_vjp, _eigh_jvp,
    flops=leading_flops(lambda m, n: 9 * n**3),
    axes=subscripts("... m! n! -> ... n!, ... m! n!"), samples=partial(matrix_samples, (3, 3), (2, 2, 2), (1, 1)))


def _qr_type(t: ArrayType) -> TupleType:
    check_matrix("qr", t, square=False)
    m, n = t.shape[-2:]
    if not (guard_equal(m, n) or differs(m) or differs(n)) and number(m) < number(n):
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
qr = on_matrices(
    "qr", _qr_type, lambda xp, a: tuple(xp.linalg.qr(a, mode="reduced")), _qr_vjp, _qr_jvp,
    flops=leading_flops(lambda m, n: 4 * n * n * (m - n / 3)),
    axes=subscripts("... m! n! -> ... m! k!, ... k! n!"),
    samples=partial(matrix_samples, (3, 3), (4, 2), (2, 3, 2), (1, 1)))


def _svd_type(t: ArrayType, *, size: int | Dim) -> TupleType:
    check_matrix("svd", t, square=False)
    *lead, m, n = t.shape
    return TupleType(tuple(ArrayType((*lead, *shape), t.dtype) for shape in ((m, size), (size,), (size, n))))


def _outside(basis: Node, x: Node, s: Node) -> Node | None:
    """Return the part of the columns of ``x / s`` that those of `basis` do not span; None for a square basis."""
    m, k = basis.shape[-2:]
    if guard_equal(m, k):
        return None
    rest = _over(x, by_column(s, x))
    if differs(m) or differs(k):  # a basis may be square in some examples
        wide, high = (broadcast_along(size_scalar(n, _INT), x.shape, tuple(range(x.ndim))) for n in (k, m))
        rest = where(gt(high, wide), rest, zeros_like(rest))
    return rest - product(basis, product(transposed(basis), rest))


def _sum(a: Node, b: Node | None) -> Node:
    return a if b is None else a + b


def _svd_gaps(s: Node, x: Node) -> Node:
    return _gaps(s, x) * (by_column(s, x) + by_row(s, x))


def _svd_vjp(g: Sequence[Node], out: Node, a: Node, *, size: int | Dim) -> list[Node]:
    u, s, vh = parts(out)
    gu, gs, gv = g[0], g[1], transposed(g[2])
    j, k = (product(transposed(u), gu), product(vh, gv))
    gaps = _svd_gaps(s, j)
    j, k = (choose(eq, zeros_like(x), _over(x, gaps)) for x in (j, k))
    middle = choose(eq, by_row(gs, j)) + (j + transposed(j)) * by_column(s, j) + by_row(s, k) * (k + transposed(k))
    back = product(_sum(product(u, middle), _outside(u, gu, s)), vh)
    beyond = _outside(transposed(vh), gv, s)
    return [_sum(back, None if beyond is None else product(u, transposed(beyond)))]


def _svd_jvp(ts: Sequence[Node], out: Node, a: Node, *, size: int | Dim) -> tuple[Node, Node, Node]:
    u, s, vh = parts(out)
    v, t = transposed(vh), ts[0]
    to_u, to_v = product(t, v), product(transposed(t), u)
    p = product(transposed(u), to_u)
    pt, gaps = transposed(p), _svd_gaps(s, p)
    row, column = by_row(s, p), by_column(s, p)
    du = product(u, choose(eq, zeros_like(p), _over(p * column + row * pt, gaps)))
    dv = product(v, choose(eq, zeros_like(p), _over(row * p + pt * column, gaps)))
    return _sum(du, _outside(u, to_u, s)), diagonal(p), transposed(_sum(dv, _outside(v, to_v, s)))


# Reduced: U (m, k), s (k) and Vᵀ (k, n), with `size` k the smaller of m and n.
svd = on_matrices(
    "svd", _svd_type, lambda xp, a, *, size: tuple(xp.linalg.svd(a, full_matrices=False)), _svd_vjp, _svd_jvp,
    flops=leading_flops(lambda m, n: 14 * m * n * n + 8 * n**3),
    axes=subscripts("... m! n! -> ... m! k!, ... k!, ... k! n!"), hidden_params=frozenset({"size"}),
    samples=lambda: [Sample(s.arrays, {"size": min(s.arrays[0].shape[-2:])})
                     for s in matrix_samples((3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1))])

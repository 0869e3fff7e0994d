"""Linear equations and functions of matrices: solutions, inverses, least squares, powers, the exponential."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy._globals import _NoValueType

from ..errors import ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node, full
from ..ops import linalg as la
from ..ops.elementwise import eq
from ..ops.matrices import choose, transposed
from ..sizes import shown
from ..symbolic import Dim, differs, size_of
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import guard_equal, number
from .arguments import as_int, broadcast_node, broadcast_shapes
from .creation import zeros_like
from .decompositions import cholesky, matrix_rank, operands, svdvals
from .dispatch import LINALG, any_traced, implements
from .elementwise import where
from .manipulation import at_least, broadcast_to, expand_dims, reshape, transpose
from .products import matmul

# -- equations -----------------------------------------------------------------------------------------------


@implements(np.linalg.solve)
def solve(a: ArrayLike, b: ArrayLike) -> Array:
    """Solve ``a x = b``; a vector `b` is one right-hand side."""
    m, r, vector = _system("np.linalg.solve", a, b)
    out = Array(la.solve(m, r))
    return reshape(out, out.shape[:-1]) if vector else out


def _system(name: str, a: ArrayLike, b: ArrayLike) -> tuple[Node, Node, bool]:
    """Return matrices and right-hand sides with equal leading axes, and whether `b` is one vector."""
    m, r = operands(name.removeprefix("np.linalg."), a, b)
    vector = r.ndim == 1
    if m.ndim < 2 or not r.ndim:
        raise ShapeError(at_user_line(f"{name}({m.type}, {r.type}): needs a matrix and right-hand sides"))
    if vector:
        r = expand_dims(Array(r), 1)._node
    lead = broadcast_shapes(name, [ArrayType(x.shape[:-2], x.dtype) for x in (m, r)])
    m, r = (broadcast_node(x, (*lead, *x.shape[-2:])) for x in (m, r))
    return m, r, vector


@implements(name="solve_triangular", namespace=LINALG)
def solve_triangular(a: ArrayLike, b: ArrayLike, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False
                     ) -> Array:
    """Solve ``a x = b`` for a triangular matrix, by substitution.

    It is the counterpart of ``scipy.linalg.solve_triangular``. One triangle of `a` is read.

    Parameters
    ----------
    a : array, shape (..., n, n)
    b : array, shape (..., n) or (..., n, k)
        A vector is one right-hand side.
    trans : {0, 1, 2, "N", "T", "C"}
        1, 2, "T" and "C" solve ``a.T x = b``.
    lower : bool
        Which triangle of `a` is read.
    unit_diagonal : bool
        Whether the diagonal is taken for ones, and not read.

    Raises
    ------
    LinAlgError
        If an element of the diagonal is 0.
    """
    if trans not in _TRANS:
        raise TraceError(at_user_line(f"solve_triangular: trans must be one of {', '.join(map(repr, _TRANS))}, got "
                                      f"{trans!r}"))
    m, r, vector = _system("solve_triangular", a, b)
    if unit_diagonal:
        m = choose(eq, full(1, m.shape, m.dtype), m)
    if _TRANS[trans]:
        m, lower = transposed(m), not lower
    out = Array(la.triangular_solve(m, r, lower=bool(lower)))
    return reshape(out, out.shape[:-1]) if vector else out


_TRANS = {0: False, 1: True, 2: True, "N": False, "T": True, "C": True}


@implements(name="cho_factor", namespace=LINALG)
def cho_factor(a: ArrayLike, lower: bool = False) -> tuple[Array, bool]:
    """Return the Cholesky factor of symmetric matrices, and `lower`, for `cho_solve`.

    It is the counterpart of ``scipy.linalg.cho_factor``. The triangle that `lower` names is read; the other triangle of
    the factor is zero.
    """
    return cholesky(a, upper=not lower), lower


@implements(name="cho_solve", namespace=LINALG)
def cho_solve(c_and_lower: tuple[ArrayLike, bool], b: ArrayLike) -> Array:
    """Solve ``a x = b`` from the Cholesky factor of `a` that `cho_factor` returns.

    It is the counterpart of ``scipy.linalg.cho_solve``.
    """
    c, lower = c_and_lower
    return solve_triangular(c, solve_triangular(c, b, int(not lower), lower), int(lower), lower)


@implements(np.linalg.inv)
def inv(a: ArrayLike) -> Array:
    """Return the inverse of square matrices."""
    return Array(la.inv(*operands("inv", a)))


@implements(np.linalg.pinv)
def pinv(a: ArrayLike, rcond: float | None = None, hermitian: bool = False, *,
         rtol: float | _NoValueType | None = np._NoValue) -> Array:
    """Return the pseudo-inverse; its derivative holds where the rank is constant."""
    (x,) = operands("pinv", a)
    if hermitian:
        x = la.mirrored(x)
    if any_traced([rcond, rtol]):
        raise TraceError(at_user_line("np.linalg.pinv with a traced tolerance: it must be a number"))
    if isinstance(rtol, _NoValueType):
        rtol = 1e-15 if rcond is None else rcond
    return Array(la.pinv(x, rcond=rtol if rtol is None else float(rtol)))


@implements(np.linalg.lstsq)
def lstsq(a: ArrayLike, b: ArrayLike, rcond: float | None = None) -> tuple[Array, Array, Array, Array]:
    """Return least-squares solution, residuals, rank and singular values.

    Residuals are there where the matrix has more rows than columns, also where its rank is not full, which is
    not known in time.
    """
    m, r = map(Array, operands("lstsq", a, b))
    if m.ndim != 2 or r.ndim not in (1, 2):
        raise ShapeError(at_user_line(f"np.linalg.lstsq({m._node.type}, {r._node.type}): needs a matrix"))
    rcond = None if rcond is None else max(float(rcond), 0.0)
    x = matmul(Array(la.pinv(m._node, rcond=rcond)), r)
    off = matmul(m, x) - r
    residuals, more = at_least(1, (off * off).sum(axis=0)), _more(*m._node.shape)
    if isinstance(more, Array):
        residuals = residuals[broadcast_to(more, residuals.shape)]
    elif not more:
        residuals = zeros_like(x, shape=(0,))
    return x, residuals, matrix_rank(m, rtol=rcond).astype(np.int32), svdvals(m)


def _more(rows: int | Dim, columns: int | Dim) -> bool | Array:
    """Return whether there are more rows than columns, a traced value if that differs between examples."""
    if differs(rows) or differs(columns):
        return as_array(shown(rows)) > as_array(shown(columns))
    return number(rows) > number(columns)


@implements(np.linalg.tensorinv)
def tensorinv(a: ArrayLike, ind: int = 2) -> Array:
    """Return the inverse of a tensor as a matrix with its first `ind` axes as rows."""
    x = as_array(a)
    shape = x._node.shape
    return reshape(inv(reshape(x, (number(size_of(shape[ind:])), -1))), (*shape[ind:], *shape[:ind]))


@implements(np.linalg.tensorsolve)
def tensorsolve(a: ArrayLike, b: ArrayLike, axes: Sequence[int] | None = None) -> Array:
    """Solve a tensor equation."""
    x, r = as_array(a), as_array(b)
    if axes is not None:
        others = [i for i in range(x.ndim) if i not in {int(j) % x.ndim for j in axes}]
        x = transpose(x, (*others, *axes))
    shape = x._node.shape[r.ndim:]
    n = number(size_of(shape))
    return reshape(solve(reshape(x, (n, n)), np.ravel(r)), shape)


# -- functions of a matrix -----------------------------------------------------------------------------------


@implements(np.linalg.matrix_power)
def matrix_power(a: ArrayLike, n: int) -> Array:
    """Return the integer power of square matrices, by squaring."""
    n = as_int(n, "linalg.matrix_power", "n")
    x = as_array(a) if n >= 0 else inv(a)
    result, square, left = None, x, abs(n)
    while left:
        if left & 1:
            result = square if result is None else matmul(result, square)
        left >>= 1
        square = matmul(square, square) if left else square
    if result is not None:
        return result
    return Array(broadcast_node(as_array(np.eye(int(x.shape[-1]), dtype=x.dtype))._node, x._node.shape))


_PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
         10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)
_REACH = 5.371920351148152  # the 1-norm up to which the approximant is exact to round-off
_SQUARINGS = 16


@implements(name="expm", namespace=LINALG)
def expm(a: ArrayLike) -> Array:
    """Return the matrix exponential by scaling and squaring (Higham, 2005).

    It is the counterpart of ``scipy.linalg.expm``.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Of a 1-norm of at most 350,000; beyond that the result is nan.
    """
    (node,) = operands("expm", a)
    x = Array(node)
    if x.ndim < 2 or not guard_equal(*node.shape[-2:]):
        raise ShapeError(at_user_line(f"expm of {node.type}: needs square matrices"))
    size = np.abs(x).sum(axis=-2).max(axis=-1)[..., None, None]
    times = np.maximum(np.ceil(np.log2(np.maximum(size, 1e-30) / _REACH)), 0.0)
    x = x * np.exp2(-times)
    one = as_array(np.eye(number(node.shape[-1]), dtype=x.dtype))
    c = _PADE
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x2 @ x4
    u = x @ (x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one)
    v = x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + c[0] * one
    out = solve(v - u, v + u)
    for k in range(_SQUARINGS):
        further = times > k
        safe = where(further, out, 0.0)  # the branch not taken must not overflow
        out = where(further, safe @ safe, out)
    return where(times > _SQUARINGS, np.nan, out)

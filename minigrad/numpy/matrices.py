"""The rest of ``np.linalg``: the array API's names, pseudo-inverses, least squares, the matrix exponential."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError, TraceError, at_user_line
from ..graph import ArrayType
from ..ops import linalg as la
from ..tracing import guard_equal, number
from .array import LINALG, Array, any_traced, as_array, broadcast_node, broadcast_shapes, implements
from .decompositions import _floating, inv, norm, solve, svd
from .indexing import diagonal as diagonal_
from .products import cross as cross_
from .products import matmul as matmul_
from .products import outer as outer_
from .products import tensordot as tensordot_
from .products import vecdot as vecdot_
from .shaping import matrix_transpose as matrix_transpose_
from .shaping import reshape, where

# -- the names that np.linalg and np share -----------------------------------------------------------------


@implements(np.linalg.diagonal)
def diagonal(x, /, *, offset=0):
    """The diagonal of the last two axes."""
    return diagonal_(x, offset, -2, -1)


@implements(np.linalg.trace)
def trace(x, /, *, offset=0, dtype=None):
    """Sum of the diagonal of the last two axes."""
    return np.trace(as_array(x), offset, -2, -1, dtype)


@implements(np.linalg.outer)
def outer(x1, x2, /):
    """Products of all pairs of elements of two vectors."""
    a, b = as_array(x1), as_array(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(at_user_line(f"np.linalg.outer of {a._node.type} and {b._node.type}: needs vectors"))
    return outer_(a, b)


@implements(np.linalg.cross)
def cross(x1, x2, /, *, axis=-1):
    """Cross product of vectors of three elements."""
    return cross_(x1, x2, axis=axis)


@implements(np.linalg.matmul)
def matmul(x1, x2, /):
    """Matrix product."""
    return matmul_(x1, x2)


@implements(np.linalg.tensordot)
def tensordot(x1, x2, /, *, axes=2):
    """Sum of products over given axes."""
    return tensordot_(x1, x2, axes)


@implements(np.linalg.vecdot)
def vecdot(x1, x2, /, *, axis=-1):
    """Dot products along an axis."""
    return vecdot_(x1, x2, axis=axis)


@implements(np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    """Swap the last two axes."""
    return matrix_transpose_(x)


def _need(name: str, x1: Any, x2: Any, *axes: int) -> None:
    types = [as_array(x)._node.type for x in (x1, x2)]
    if any(t.ndim < n for t, n in zip(types, axes, strict=True)):
        raise ShapeError(at_user_line(f"np.{name} of {types[0]} and {types[1]}: needs a matrix and a vector"))


if hasattr(np, "matvec"):  # NumPy 2.2
    @implements(np.matvec)
    def matvec(x1, x2, /, *, dtype=None):
        """Products of matrices and vectors."""
        _need("matvec", x1, x2, 2, 1)
        return matmul_(x1, as_array(x2)[..., None], dtype=dtype)[..., 0]

    @implements(np.vecmat)
    def vecmat(x1, x2, /, *, dtype=None):
        """Products of vectors and matrices."""
        _need("vecmat", x1, x2, 1, 2)
        return matmul_(as_array(x1)[..., None, :], x2, dtype=dtype)[..., 0, :]

# -- norms, ranks ------------------------------------------------------------------------------------------


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """Vector norm of every order, of the flattened array or along axes taken together."""
    x = as_array(x)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if not axes:
        return np.abs(x if x.dtype.kind == "f" else x.astype(float))
    moved = np.moveaxis(x, axes, tuple(range(-len(axes), 0)))
    out = norm(reshape(moved, (*moved._node.shape[:x.ndim - len(axes)], -1)), ord, -1)
    return np.expand_dims(out, axes) if keepdims else out


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """Matrix norm of the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.svdvals)
def svdvals(x, /):
    """Singular values."""
    return svd(x, full_matrices=False, compute_uv=False)


@implements(np.linalg.matrix_rank)
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    """Number of singular values that are not negligible; an integer, without a gradient."""
    x = as_array(A)
    if x.ndim < 2:
        return (x != 0).any().astype(int)
    s = svd(x, compute_uv=False, hermitian=hermitian)
    if tol is None:
        rtol = max(map(number, x._node.shape[-2:])) * np.finfo(s.dtype).eps if rtol is None else rtol
        tol = s.max(axis=-1, keepdims=True) * as_array(rtol).astype(s.dtype)[..., None]
    else:
        tol = as_array(tol)[..., None]
    return (s > tol).sum(axis=-1)


@implements(np.linalg.cond)
def cond(x, p=None):
    """Condition number in every norm; inf for singular matrices."""
    x = as_array(x)
    if p in (None, 2, -2):
        s = svdvals(x)
        top, bottom = s[..., 0], s[..., -1]
        return bottom / top if p == -2 else top / bottom
    return matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)


# -- systems of equations ----------------------------------------------------------------------------------


@implements(np.linalg.pinv)
def pinv(a, rcond=None, hermitian=False, *, rtol=np._NoValue):
    """Pseudo-inverse; its derivative holds where the rank does not change."""
    (x,) = _floating("pinv", a)
    if hermitian:
        x = la.mirrored(x)
    if any_traced([rcond, rtol]):
        raise TraceError(at_user_line("np.linalg.pinv with a traced tolerance: it must be a number"))
    if rtol is np._NoValue or rtol is None:
        largest = max(map(number, x.shape[-2:])) * float(np.finfo(x.dtype).eps)
        rtol = largest if rtol is None else 1e-15 if rcond is None else rcond
    return Array(la.pinv(x, rcond=float(rtol)))


@implements(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """Least-squares solution, residuals, rank and singular values.

    Residuals are there where the matrix has more rows than columns, also where its rank is not full, which is
    not known in time.
    """
    m, r = map(Array, _floating("lstsq", a, b))
    if m.ndim != 2 or r.ndim not in (1, 2):
        raise ShapeError(at_user_line(f"np.linalg.lstsq({m._node.type}, {r._node.type}): needs a matrix"))
    rows, columns = map(number, m._node.shape)
    rcond = float(np.finfo(m.dtype).eps) * max(rows, columns) if rcond is None else float(rcond)
    x = matmul_(Array(la.pinv(m._node, rcond=max(rcond, 0.0))), r)
    off = matmul_(m, x) - r
    residuals = np.atleast_1d((off * off).sum(axis=0)) if rows > columns else np.zeros_like(x, shape=(0,))
    return x, residuals, matrix_rank(m, rtol=rcond).astype(np.int32), svdvals(m)


@implements(np.linalg.tensorinv)
def tensorinv(a, ind=2):
    """Inverse of a tensor taken as a matrix: its first `ind` axes are rows."""
    x = as_array(a)
    shape = x._node.shape
    return reshape(inv(reshape(x, (int(np.prod(shape[ind:])), -1))), (*shape[ind:], *shape[:ind]))


@implements(np.linalg.tensorsolve)
def tensorsolve(a, b, axes=None):
    """Solve a tensor equation."""
    x, r = as_array(a), as_array(b)
    if axes is not None:
        rest = [i for i in range(x.ndim) if i not in {int(j) % x.ndim for j in axes}]
        x = np.transpose(x, (*rest, *axes))
    shape = x._node.shape[r.ndim:]
    n = int(np.prod(shape))
    return reshape(solve(reshape(x, (n, n)), np.ravel(r)), shape)


_PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
         10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)
_REACH = 5.371920351148152  # the 1-norm up to which the approximant is exact to round-off
_SQUARINGS = 16


@implements(name="expm", namespace=LINALG)
def expm(a):
    """Matrix exponential by scaling and squaring (Higham, 2005): the counterpart of ``scipy.linalg.expm``.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Of a 1-norm of at most 350,000; beyond that the result is nan.
    """
    (node,) = _floating("expm", a)
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
    out = _solve_stack(v - u, v + u)
    for k in range(_SQUARINGS):
        further = times > k
        safe = where(further, out, 0.0)  # so that what is not taken cannot overflow
        out = where(further, safe @ safe, out)
    return where(times > _SQUARINGS, np.nan, out)


def _solve_stack(a: Array, b: Array) -> Array:
    lead = broadcast_shapes("expm", [ArrayType(n._node.shape[:-2], n.dtype) for n in (a, b)])
    return Array(la.solve(*(broadcast_node(n._node, (*lead, *n._node.shape[-2:])) for n in (a, b))))

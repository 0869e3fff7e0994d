"""Decompositions: Cholesky, QR, eigenvalues, singular values, determinants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import Node
from ..ops import determinants
from ..ops import linalg as la
from ..ops.control import parts
from ..ops.matrices import check_matrix, product, transposed
from ..sizes import shown
from ..symbolic import Dim, differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import guard_equal, number
from .data_types import same_dtype
from .dispatch import implements
from .selections import sized


def operands(name: str, *values: ArrayLike) -> list[Node]:
    xs = [as_array(v) for v in values]
    nodes = same_dtype(xs if all(x.dtype.kind == "f" for x in xs) else [x.astype(float) for x in xs])
    if nodes[0].dtype == np.float16:
        raise DtypeError(at_user_line(f"np.linalg.{name} of float16: cast to float32 first, as in NumPy"))
    return nodes


def _tuple(name: str, nodes: Sequence[Node]) -> tuple[Array, ...]:
    """Return the results as NumPy's own named tuple."""
    results: tuple[Array, ...] = _RESULTS[name](*map(Array, nodes))
    return results


_RESULTS: dict[str, type[Any]] = {
    name: type(getattr(np.linalg, name)(np.eye(2))) for name in ("slogdet", "eigh", "qr", "svd")}


@implements(np.linalg.det)
def det(a: ArrayLike) -> Array:
    """Return the determinant of square matrices."""
    return Array(determinants.det(*operands("det", a)))


@implements(np.linalg.slogdet)
def slogdet(a: ArrayLike) -> tuple[Array, ...]:
    """Return sign and logarithm of the absolute value of the determinant."""
    out = determinants.slogdet(*operands("slogdet", a))
    return _tuple("slogdet", [determinants.last(out, i) for i in range(2)])


@implements(np.linalg.cholesky)
def cholesky(a: ArrayLike, /, *, upper: bool = False) -> Array:
    """Return the Cholesky factor of positive definite matrices.

    It is read from the lower triangle, with `upper` from the upper one.
    """
    (x,) = operands("cholesky", a)
    return Array(la.cholesky(transposed(x))).mT if upper else Array(la.cholesky(x))


@implements(np.linalg.eigh)
def eigh(a: ArrayLike, UPLO: str = "L") -> tuple[Array, ...]:
    """Return eigenvalues and eigenvectors of symmetric matrices.

    `UPLO` names the triangle that holds the matrix.
    """
    (x,) = operands("eigh", a)
    triangle = str(UPLO).upper()
    if triangle not in ("L", "U"):
        raise ShapeError(at_user_line(f"np.linalg.eigh with UPLO={UPLO!r}: it must be 'L' or 'U'"))
    return _tuple("eigh", parts(la.eigh(transposed(x) if triangle == "U" else x)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: ArrayLike, UPLO: str = "L") -> Array:
    """Return the eigenvalues of symmetric matrices.

    `UPLO` names the triangle that holds the matrix.
    """
    return eigh(a, UPLO)[0]


@implements(np.linalg.qr)
def qr(a: ArrayLike, mode: str = "reduced") -> tuple[Array, ...]:
    """Return the reduced QR decomposition."""
    if mode != "reduced":
        raise TraceError(at_user_line(f"np.linalg.qr with mode={mode!r}: only the reduced form is differentiable here"))
    x, size = _with_rank("qr", a)
    if size == x.shape[-1]:
        return _tuple("qr", parts(la.qr(x)))
    q, _ = parts(la.qr(Array(x)[..., :shown(size)]._node))  # of the first columns, which is that of all
    return _tuple("qr", [q, la.triangle(product(transposed(q), x), lower=False)])


def _with_rank(name: str, a: ArrayLike) -> tuple[Node, int | Dim]:
    """Return a stack of matrices and the smaller of their sides, which the program computes if it differs."""
    (x,) = operands(name, a)
    m, n = check_matrix(name, x.types[0], square=False).shape[-2:]
    if differs(m) or differs(n):
        return (x, m) if m == n else sized(x, TABLE[np.minimum](*(as_array(shown(k)) for k in (m, n))))
    return x, m if guard_equal(m, n) else min(number(m), number(n))


@implements(np.linalg.svd)
def svd(a: ArrayLike, full_matrices: bool = True, compute_uv: bool = True,
        hermitian: bool = False) -> Array | tuple[Array, ...]:
    """Return the thin singular value decomposition."""
    if compute_uv and full_matrices and as_array(a)._node.shape[-1] != as_array(a)._node.shape[-2]:
        raise TraceError(at_user_line("np.linalg.svd of a matrix that is not square: say full_matrices=False; the rest "
                                      "of the full basis has no derivative"))
    return _svd(a, hermitian) if compute_uv else _svd(a, hermitian)[1]


def _svd(a: ArrayLike, hermitian: bool = False) -> tuple[Array, ...]:
    x, size = _with_rank("svd", a)
    return _tuple("svd", parts(la.svd(la.mirrored(x) if hermitian else x, size=size)))


@implements(np.linalg.svdvals)
def svdvals(x: ArrayLike, /) -> Array:
    """Return the singular values."""
    return _svd(x)[1]


@implements(np.linalg.matrix_rank)
def matrix_rank(A: ArrayLike, tol: ArrayLike | None = None, hermitian: bool = False, *,
                rtol: ArrayLike | None = None) -> Array:
    """Return the number of singular values above a tolerance, without a gradient; 0 for an empty matrix."""
    x = as_array(A)
    if x.ndim < 2:
        return (x != 0).any().astype(int)
    s = _svd(x, hermitian)[1]
    if tol is None:
        if rtol is None:
            rtol = TABLE[np.maximum](*map(as_array, x.shape[-2:])) * float(np.finfo(s.dtype).eps)
        tol = s.max(axis=-1, keepdims=True, initial=0) * as_array(rtol).astype(s.dtype)[..., None]
    else:
        tol = as_array(tol)[..., None]
    return (s > tol).sum(axis=-1)

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
from ..ops.matrices import transposed
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import number
from .data_types import same_dtype
from .dispatch import implements


def operands(name: str, *values: ArrayLike) -> list[Node]:
    nodes = same_dtype([as_array(v) for v in values])
    if nodes[0].dtype.kind != "f":
        nodes = [as_array(Array(n).astype(float))._node for n in nodes]
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
    return _tuple("qr", parts(la.qr(*operands("qr", a))))


@implements(np.linalg.svd)
def svd(a: ArrayLike, full_matrices: bool = True, compute_uv: bool = True,
        hermitian: bool = False) -> Array | tuple[Array, ...]:
    """Return the thin singular value decomposition."""
    if compute_uv and full_matrices and as_array(a)._node.shape[-1] != as_array(a)._node.shape[-2]:
        raise TraceError(at_user_line("np.linalg.svd of a matrix that is not square: say full_matrices=False; the rest "
                                      "of the full basis has no derivative"))
    return _svd(a, hermitian) if compute_uv else _svd(a, hermitian)[1]


def _svd(a: ArrayLike, hermitian: bool = False) -> tuple[Array, ...]:
    (x,) = operands("svd", a)
    return _tuple("svd", parts(la.svd(la.mirrored(x) if hermitian else x)))


@implements(np.linalg.svdvals)
def svdvals(x: ArrayLike, /) -> Array:
    """Return the singular values."""
    return _svd(x)[1]


@implements(np.linalg.matrix_rank)
def matrix_rank(A: ArrayLike, tol: ArrayLike | None = None, hermitian: bool = False, *,
                rtol: float | None = None) -> Array:
    """Return the number of singular values above a tolerance, without a gradient."""
    x = as_array(A)
    if x.ndim < 2:
        return (x != 0).any().astype(int)
    s = _svd(x, hermitian)[1]
    if tol is None:
        rtol = max(map(number, x._node.shape[-2:])) * float(np.finfo(s.dtype).eps) if rtol is None else rtol
        tol = s.max(axis=-1, keepdims=True) * as_array(rtol).astype(s.dtype)[..., None]
    else:
        tol = as_array(tol)[..., None]
    return (s > tol).sum(axis=-1)

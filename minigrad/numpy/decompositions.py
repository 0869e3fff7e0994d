"""``np.linalg`` on traced values: solving, factorising, determinants, norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node
from ..ops import elementwise as ew
from ..ops import linalg as la
from ..ops.control import parts
from .array import Array, accumulates, as_array, as_axes, as_int, broadcast_node, broadcast_shapes, implements
from .products import dot, matmul
from .shaping import _same_dtype, expand_dims, moveaxis, reshape, where


def _floating(name: str, *values: Any) -> list[Node]:
    nodes = _same_dtype([as_array(v) for v in values])
    if nodes[0].dtype.kind != "f":
        nodes = [as_array(Array(n).astype(float))._node for n in nodes]
    if nodes[0].dtype == np.float16:
        raise DtypeError(at_user_line(f"np.linalg.{name} of float16: cast to float32 first, as in NumPy"))
    return nodes


@implements(np.linalg.solve)
def solve(a, b):
    """Solve ``a x = b``; a vector `b` is one right-hand side."""
    m, r = _floating("solve", a, b)
    vector = r.ndim == 1
    if m.ndim < 2 or not r.ndim:
        raise ShapeError(at_user_line(f"np.linalg.solve({m.type}, {r.type}): needs a matrix and right-hand sides"))
    if vector:
        r = expand_dims(Array(r), 1)._node
    lead = broadcast_shapes("np.linalg.solve", [ArrayType(x.shape[:-2], x.dtype) for x in (m, r)])
    m, r = (broadcast_node(x, (*lead, *x.shape[-2:])) for x in (m, r))
    out = Array(la.solve(m, r))
    return reshape(out, out.shape[:-1]) if vector else out


@implements(np.linalg.inv)
def inv(a):
    """Inverse of square matrices."""
    return Array(la.inv(*_floating("inv", a)))


@implements(np.linalg.det)
def det(a):
    """Determinant of square matrices."""
    return Array(la.det(*_floating("det", a)))


def _tuple(name: str, node: Node) -> tuple[Array, ...]:
    """Return the results as NumPy's own named tuple."""
    return _RESULTS[name](*(Array(p) for p in parts(node)))


_RESULTS = {name: type(getattr(np.linalg, name)(np.eye(2))) for name in ("slogdet", "eigh", "qr", "svd")}


@implements(np.linalg.slogdet)
def slogdet(a):
    """Sign and logarithm of the absolute value of the determinant."""
    return _tuple("slogdet", la.slogdet(*_floating("slogdet", a)))


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """Cholesky factor of positive definite matrices, read from the lower (with `upper`: the upper) triangle."""
    (x,) = _floating("cholesky", a)
    return Array(la.cholesky(la.transposed(x))).mT if upper else Array(la.cholesky(x))


@implements(np.linalg.eigh)
def eigh(a, UPLO="L"):
    """Eigenvalues and eigenvectors of symmetric matrices, read from the triangle that `UPLO` names."""
    (x,) = _floating("eigh", a)
    triangle = str(UPLO).upper()
    if triangle not in ("L", "U"):
        raise ShapeError(at_user_line(f"np.linalg.eigh with UPLO={UPLO!r}: it must be 'L' or 'U'"))
    return _tuple("eigh", la.eigh(la.transposed(x) if triangle == "U" else x))


@implements(np.linalg.eigvalsh)
def eigvalsh(a, UPLO="L"):
    """Eigenvalues of symmetric matrices, read from the triangle that `UPLO` names."""
    return eigh(a, UPLO)[0]


@implements(np.linalg.qr)
def qr(a, mode="reduced"):
    """Reduced QR factorisation."""
    if mode != "reduced":
        raise TraceError(at_user_line(f"np.linalg.qr with mode={mode!r}: only the reduced form is differentiable here"))
    return _tuple("qr", la.qr(*_floating("qr", a)))


@implements(np.linalg.svd)
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    """Thin singular value decomposition."""
    if compute_uv and full_matrices and as_array(a)._node.shape[-1] != as_array(a)._node.shape[-2]:
        raise TraceError(at_user_line("np.linalg.svd of a matrix that is not square: say full_matrices=False; the rest "
                                      "of the full basis has no derivative"))
    (x,) = _floating("svd", a)
    out = _tuple("svd", la.svd(la.mirrored(x) if hermitian else x))
    return out if compute_uv else out[1]


@implements(np.linalg.matrix_power)
def matrix_power(a, n):
    """Integer power of square matrices, by squaring."""
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


@implements(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """Product of several matrices, the first and last of which may be vectors."""
    result, *rest = map(as_array, arrays)
    for k, x in enumerate((result, *rest)):
        if len(rest) > 1 and x.ndim != 2 and not (x.ndim == 1 and k in (0, len(rest))):
            raise ShapeError(at_user_line(f"np.linalg.multi_dot: operand {k} is {x._node.type}, not a matrix"))
    for x in rest:
        result = dot(result, x)
    return result


def _matrix_norm(a: Array, ord: Any, axes: tuple[int, int], keepdims: bool) -> Array:
    if len(axes) != 2 or ord not in (1, -1, 2, -2, np.inf, -np.inf, "nuc"):
        raise ShapeError(at_user_line(f"np.linalg.norm({a._node.type}) with ord={ord!r} over {len(axes)} axes: there "
                                      "is no such norm. Say axis=, or flatten it for a vector norm"))
    m = moveaxis(a, axes, (-2, -1))
    if ord in (1, -1, np.inf, -np.inf):
        values = np.abs(m).sum(axis=-2 if abs(ord) == 1 else -1)
    else:
        values = svd(m, full_matrices=False, compute_uv=False)
    out = values.sum(axis=-1) if ord == "nuc" else values.max(axis=-1) if ord > 0 else values.min(axis=-1)
    return expand_dims(out, tuple(i % a.ndim for i in axes)) if keepdims else out


@implements(np.linalg.norm, name="norm")
@accumulates
def norm(x, ord=None, axis=None, keepdims=False):
    """Vector norms of every order along an axis, and the Frobenius norm; their gradient at 0 is 0."""
    a = as_array(x)
    if a.dtype.kind != "f":
        a = a.astype(float)
    axes = as_axes(axis, a.ndim, "norm")
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return Array(ew.norm_of((a * a).sum(axis=axes, keepdims=keepdims)._node))
    if len(axes) != 1:
        return _matrix_norm(a, ord, axes if axis is None else axis, keepdims)
    size = np.abs(a)
    if ord == np.inf:
        return size.max(axis=axes, keepdims=keepdims)
    if ord == -np.inf:
        return size.min(axis=axes, keepdims=keepdims)
    if ord == 0:
        return (a != 0).sum(axis=axes, keepdims=keepdims).astype(a.dtype)
    if ord == 1:
        return size.sum(axis=axes, keepdims=keepdims)
    total = (size ** ord).sum(axis=axes, keepdims=keepdims)
    if ord <= 1:
        return total ** (1 / ord)
    tip = total == 0  # of a cone, where the slope is 0
    return where(tip, 0.0, where(tip, 1.0, total) ** (1 / ord)).astype(a.dtype)

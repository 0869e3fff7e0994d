"""Norms of vectors and matrices, ranks, condition numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError, at_user_line
from ..ops import elementwise as ew
from ..symbolic import differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from .arguments import Axes, as_axes, as_sequence
from .decompositions import svdvals
from .dispatch import accumulates, implements
from .elementwise import where
from .linear_equations import inv
from .manipulation import expand_dims, moveaxis, reshape


@implements(np.linalg.norm)
@accumulates
def norm(x: ArrayLike, ord: float | str | None = None, axis: Axes = None, keepdims: bool = False) -> Array:
    """Return vector norms along an axis, or matrix norms; their gradient at 0 is 0."""
    a = as_array(x)
    if a.dtype.kind != "f":
        a = a.astype(float)
    axes = as_axes(axis, a.ndim, "norm")
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return Array(ew.norm_of((a * a).sum(axis=axes, keepdims=keepdims)._node))
    if len(axes) != 1:
        return _matrix_norm(a, ord, axes if axis is None else as_sequence(axis), keepdims)
    size = TABLE[np.absolute](a)
    if ord == np.inf:
        return _largest(size, axes, keepdims)
    if ord == -np.inf:
        return size.min(axis=axes, keepdims=keepdims)
    if ord == 0:
        return (a != 0).sum(axis=axes, keepdims=keepdims).astype(a.dtype)
    if ord == 1:
        return size.sum(axis=axes, keepdims=keepdims)
    if isinstance(ord, str):
        raise ShapeError(at_user_line(f"np.linalg.norm({a._node.type}) with ord={ord!r}: this is a norm of matrices"))
    total = (size ** ord).sum(axis=axes, keepdims=keepdims)
    if 0 < ord < 1:
        return total ** (1 / ord)
    tip = total == (0 if ord > 0 else np.inf)  # the tip of a cone has slope 0
    return where(tip, 0.0, where(tip, 1.0, total) ** (1 / ord)).astype(a.dtype)


def _largest(sizes: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the largest of numbers that are not negative; 0 of none, as in NumPy."""
    may_be_none = any(n == 0 or differs(n) for n in (sizes._node.shape[a] for a in axes))
    return sizes.max(axis=axes, keepdims=keepdims, **({"initial": 0} if may_be_none else {}))


def _matrix_norm(a: Array, ord: float | str | None, axes: Sequence[int], keepdims: bool) -> Array:
    if len(axes) != 2 or ord is None or ord not in (1, -1, 2, -2, np.inf, -np.inf, "nuc"):
        raise ShapeError(at_user_line(f"np.linalg.norm({a._node.type}) with ord={ord!r} over {len(axes)} axes: this "
                                      "norm does not exist. Give axis=, or flatten it for a vector norm"))
    m = moveaxis(a, axes, (-2, -1))
    if ord in (1, -1, np.inf, -np.inf):
        values = TABLE[np.absolute](m).sum(axis=-2 if ord in (1, -1) else -1)
    else:
        values = svdvals(m)
    out = values.sum(axis=-1) if isinstance(ord, str) else _largest(values, (-1,)) if ord > 0 else values.min(axis=-1)
    return expand_dims(out, tuple(i % a.ndim for i in axes)) if keepdims else out


@implements(np.linalg.vector_norm)
def vector_norm(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False, ord: float | str | None = 2) -> Array:
    """Return the vector norm of the flattened array, or along axes together."""
    x = as_array(x)
    axes = tuple(range(x.ndim)) if axis is None else as_sequence(axis)
    if not axes:
        return TABLE[np.absolute](x if x.dtype.kind == "f" else x.astype(float))
    moved = moveaxis(x, axes, tuple(range(-len(axes), 0)))
    out = norm(reshape(moved, (*moved._node.shape[:x.ndim - len(axes)], -1)), ord, -1)
    return expand_dims(out, axes) if keepdims else out


@implements(np.linalg.matrix_norm)
def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Array:
    """Return the matrix norm of the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.cond)
def cond(x: ArrayLike, p: float | str | None = None) -> Array:
    """Return the condition number; inf for singular matrices."""
    x = as_array(x)
    if p in (None, 2, -2):
        s = svdvals(x)
        top, bottom = s[..., 0], s[..., -1]
        return bottom / top if p == -2 else top / bottom
    return matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)

"""``gather ⇄ scatter_add``: indexing with integer arrays, and its adjoint, the segment sum.

Both index the leading axes with as many index arrays, all of one shape, as NumPy's ``x[i, j]`` does.
An index may be negative, as in NumPy; one that is out of range raises when the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dims import Shape, same_shape
from ..errors import DtypeError, at_user_line
from ..graph import ArrayType, Node
from ..primitive import Sample, fail, linear, spread
from .constants import iota
from .spread import expand_to

FEW = 4096  # numbers that are added one by one as fast as in any other way


def _check_indices(name: str, x: ArrayType, indices: Sequence[ArrayType]) -> None:
    if not indices:
        raise fail(name, "no index", x)
    for i in indices:
        if i.dtype.kind not in "iu":
            raise DtypeError(at_user_line(f"{name}: an index must be an integer array, got {i}"))
        if not same_shape(i.shape, indices[0].shape):
            raise fail(name, "index arrays of different shape", x, *indices)


def _gather_type(x: ArrayType, *indices: ArrayType) -> ArrayType:
    _check_indices("gather", x, indices)
    if len(indices) > x.ndim:
        raise fail("gather", "more indices than axes", x, *indices)
    return ArrayType(indices[0].shape + x.shape[len(indices):], x.dtype)


def _gather_eval(xp: Any, x: Any, *indices: Any) -> Any:
    if xp is np:
        return x[indices]
    # The standard takes along one axis: index the flattened leading axes instead.
    k = len(indices)
    rows = xp.reshape(x, (math.prod(x.shape[:k]), *x.shape[k:]))
    flat = xp.reshape(_flat_index(xp, indices, x.shape), (-1,))
    return xp.reshape(xp.take(rows, flat, axis=0), indices[0].shape + x.shape[k:])


def _flat_index(xp: Any, indices: Sequence[Any], shape: Shape) -> Any:
    """Return the one index into the flattened leading axes that `indices` amount to."""
    flat = xp.zeros(indices[0].shape, dtype=xp.int64)
    for i, n in zip(indices, shape[:len(indices)], strict=True):
        i = xp.astype(i, xp.int64)
        flat = flat * n + xp.where(i < 0, i + n, i)
    return flat


def _gather_batch(size: Any, mapped: Sequence[bool], x: Node, *indices: Node) -> Node:
    if not mapped[0]:
        return gather(x, *(i if m else spread(i, size) for i, m in zip(indices, mapped[1:], strict=True)))
    return gather(x, *_lockstep(size, mapped[1:], indices))


def _lockstep(size: Any, mapped: Sequence[bool], indices: Sequence[Node]) -> list[Node]:
    """Return the indices of a batch: example b of each index goes with example b of the array."""
    spread_out = [i if m else spread(i, size) for i, m in zip(indices, mapped, strict=True)]
    shape = spread_out[0].shape
    return [expand_to(iota(size=size), shape, tuple(range(1, len(shape)))), *spread_out]


def _index_samples(adjoint: bool):
    def samples() -> list[Sample]:
        rng = np.random.default_rng(2)
        i, j = np.array([[0, 2], [2, -1]]), np.array([[1, 1], [0, 3]])
        if adjoint:
            return [Sample((rng.normal(size=(2, 2, 4)), i), {"shape": (3, 4)}),
                    Sample((rng.normal(size=(2, 2)), i, j), {"shape": (3, 4)})]
        return [Sample((rng.normal(size=(3, 4)), i)), Sample((rng.normal(size=(3, 4)), i, j))]

    return samples


gather = linear("gather", _gather_type, _gather_eval,
                lambda g, x, *indices: scatter_add(g, *indices, shape=x.shape), _gather_batch,
                samples=_index_samples(adjoint=False))


def _scatter_type(u: ArrayType, *indices: ArrayType, shape: Shape) -> ArrayType:
    _check_indices("scatter_add", u, indices)
    if not same_shape(u.shape, indices[0].shape + tuple(shape[len(indices):])):
        raise fail("scatter_add", f"updates do not fit an array of shape {shape}", u, *indices)
    return ArrayType(tuple(shape), u.dtype)


def _scatter_eval(xp: Any, u: Any, *indices: Any, shape: Shape) -> Any:
    if xp is np:
        return sum_rows(u, indices, np.empty(shape, u.dtype))
    # Without a scatter in the standard: a product with the indices' one-hot rows.
    k = len(indices)
    flat = _flat_index(xp, indices, shape)
    rows = xp.arange(math.prod(shape[:k]), dtype=xp.int64)
    hot = xp.astype(xp.reshape(flat, (1, -1)) == xp.expand_dims(rows, axis=1), u.dtype)
    return xp.reshape(xp.matmul(hot, xp.reshape(u, (math.prod(flat.shape), math.prod(shape[k:])))), shape)


def sum_rows(rows: np.ndarray, indices: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray:
    """Write into `out` the sums of the rows that go to each place, added in their order, and return it.

    That is ``np.add.at`` on zeros, which is several times slower where a row is more than one number. SciPy's product
    with a sparse matrix of ones is the fastest, where SciPy is installed.

    Parameters
    ----------
    rows : ndarray
    indices : sequence of int array
        One for each leading axis of `out`; all of one shape, which is that of the leading axes of `rows`.
    out : ndarray

    Raises
    ------
    IndexError
        If an index is out of range.
    """
    k = len(indices)
    n, width = math.prod(out.shape[:k]), math.prod(out.shape[k:])
    if width == 1 or rows.size < FEW or not out.flags.c_contiguous:
        out[...] = 0
        np.add.at(out, tuple(indices), rows)
        return out
    for axis, (i, size) in enumerate(zip(indices, out.shape, strict=False)):
        if i.min() < -size or i.max() >= size:
            bad = i.min() if i.min() < -size else i.max()
            raise IndexError(f"index {bad} is out of bounds for axis {axis} with size {size}")
    flat = np.ravel(_flat_index(np, indices, out.shape))
    flat_out, flat_rows = out.reshape(n, width), rows.reshape(-1, width)
    if rows.dtype.kind in "fc" and rows.dtype.itemsize >= 4:
        try:
            from scipy.sparse import csc_array
        except ModuleNotFoundError:
            pass
        else:  # column e has a single 1, in the row that e goes to
            ones, begins = np.ones(len(flat), rows.dtype), np.arange(len(flat) + 1)
            np.copyto(flat_out, csc_array((ones, flat, begins), shape=(n, len(flat))) @ flat_rows)
            return out
    out[...] = 0
    np.add.at(out.reshape(-1), np.ravel(flat[:, None] * width + np.arange(width)), flat_rows.reshape(-1))
    return out


def _scatter_batch(size: Any, mapped: Sequence[bool], u: Node, *indices: Node, shape: Shape) -> Node:
    u = u if mapped[0] else spread(u, size)
    return scatter_add(u, *_lockstep(size, mapped[1:], indices), shape=(size, *shape))


scatter_add = linear("scatter_add", _scatter_type, _scatter_eval,
                     lambda g, u, *indices, shape: gather(g, *indices), _scatter_batch,
                     hidden_params=frozenset({"shape"}), samples=_index_samples(adjoint=True))


def take_along_axis(x: Node, index: Node, axis: int) -> Node:
    """Return ``x[.., index[..], ..]``: a gather whose other axes count along."""
    grid = [index if a == axis else
            expand_to(iota(size=n), index.shape, tuple(b for b in range(x.ndim) if b != a))
            for a, n in enumerate(x.shape)]
    return gather(x, *grid)

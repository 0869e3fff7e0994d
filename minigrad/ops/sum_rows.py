"""Sums of rows by index, and gathered rows, of NumPy arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..locks import importing
from ..primitive import ArrayNamespace
from . import strict_index
from .accumulators import PAIRWISE, RUN, Chains, accumulator, crowded, scattered
from .strict_index import Reading

FEW = 4096  # numbers that are added one by one as fast as in any other way
_PIECE = 1 << 12  # rows that are added up at a time, at least


def flat_index(xp: ArrayNamespace, indices: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Return `indices` as one index into the flattened leading axes of `shape`."""
    flat = xp.zeros(indices[0].shape, dtype=xp.int64)
    for i, n in zip(indices, shape[:len(indices)], strict=True):
        i = xp.astype(i, xp.int64)
        flat = flat * n + xp.where(i < 0, i + n, i)
    return flat


def as_read(indices: Sequence[np.ndarray], shape: Sequence[int], read: Sequence[Reading]) -> tuple[np.ndarray, ...]:
    """Return indices for NumPy by the readings `read`, or raise `IndexError`."""
    if not any(read):
        return tuple(indices)
    return tuple([strict_index.read(i, n, reading) if reading else i
                  for i, n, reading in zip(indices, shape, read, strict=False)])


def sum_rows(rows: np.ndarray, indices: Sequence[np.ndarray], out: np.ndarray, read: Sequence[Reading] = ()
             ) -> np.ndarray:
    """Write the sums of the rows that go to each place into `out`, and return it.

    That is ``np.add.at`` on zeros, which is several times slower where a row is more than one number. SciPy's product
    with a sparse matrix of ones is the fastest, where SciPy is installed. Where places get many rows, these add up as
    `accumulators` says.

    Parameters
    ----------
    rows : ndarray
    indices : sequence of int array
        One for each leading axis of `out`; all of one shape, which is that of the leading axes of `rows`.
    out : ndarray
    read : sequence of Reading, optional
        How each index is read; in NumPy's way by default.

    Raises
    ------
    IndexError
        If an index is out of range.
    """
    k, wide = len(indices), accumulator(out.dtype)
    if wide != out.dtype:
        out[...] = sum_rows(rows.astype(wide), indices, np.empty(out.shape, wide), read)
        return out
    n, width = math.prod(out.shape[:k]), math.prod(out.shape[k:])
    if width == 1 and scattered(out.dtype) != out.dtype and (
            crowded(rows.size, n) or (k == 1 and _has_long_run(np.ravel(indices[0])))):
        out[...] = _counted(np.ravel(rows), _flat(indices, out.shape, read), n).reshape(out.shape)
    elif rows.size < FEW or not out.flags.c_contiguous:
        out[...] = 0
        np.add.at(out, as_read(indices, out.shape, read), rows)
    else:
        _add_rows(rows.reshape(-1, width), None, _flat(indices, out.shape, read), out.reshape(n, width))
    return out


def _flat(indices: Sequence[np.ndarray], shape: Sequence[int], read: Sequence[Reading]) -> np.ndarray:
    """Return the places that indices name, counted from the first."""
    in_range = [_in_range(i, size, axis, reading) for axis, (i, size, reading) in enumerate(
        zip(indices, shape, read or itertools.repeat(None), strict=False))]
    return np.ravel(in_range[0] if len(indices) == 1 else flat_index(np, in_range, shape))


def _counted(x: np.ndarray, to: np.ndarray, n: int) -> np.ndarray:
    """Return the sums of many numbers by place: pairwise if ordered, else in float64."""
    if not (to[1:] >= to[:-1]).all():
        return np.bincount(to, x, n)
    starts = np.concatenate([[0], np.flatnonzero(to[1:] != to[:-1]) + 1])
    out = np.zeros(n, x.dtype)
    out[to[starts]] = np.add.reduceat(x, starts)
    return out


def _has_long_run(index: np.ndarray) -> bool:
    """Tell whether sorted indices name one place many times, however many places there are."""
    some = index[::PAIRWISE]
    return bool((some[2:] == some[:-2]).any() and all((i[1:] >= i[:-1]).all() for i in (some, index)))


def sum_gathered(x: np.ndarray, source: np.ndarray, to: np.ndarray, out: np.ndarray,
                 read: Sequence[Reading] = (None, None)) -> np.ndarray:
    """Write the sums of the rows ``x[source]`` by place into `out`, without a copy of them."""
    width = math.prod(out.shape[1:])
    if (width == 1 or len(to) * width < FEW or accumulator(out.dtype) != out.dtype
            or not (out.flags.c_contiguous and x.flags.c_contiguous)):
        return sum_rows(x[as_read((source,), x.shape, read)], (to,), out, read[1:])
    x, source, to = (x.reshape(-1, width), _in_range(source, len(x), 0, read[0]), _in_range(to, len(out), 0, read[1]))
    _add_rows(x, source, to, out.reshape(-1, width))
    return out


def take_rows(x: np.ndarray, index: np.ndarray, out: np.ndarray, read: Reading = None) -> np.ndarray:
    """Write ``x[index]`` into `out`; the mode `wrap` spares `np.take` a second copy.

    An index that is the same along some axes may have one element there.

    Raises
    ------
    IndexError
        If an index is out of range.
    """
    index = np.broadcast_to(_in_range(index, len(x), 0, read), out.shape[:index.ndim])
    return np.take(x, index, axis=0, out=out, mode="wrap")


def _in_range(index: np.ndarray, size: int, axis: int, read: Reading = None) -> np.ndarray:
    """Return an index as int64 counted from the front, or raise where it is out of range."""
    if read:
        return strict_index.read(index, size, read).astype(np.int64, copy=False)
    if strict_index.all_below(index, size):
        return index.astype(np.int64, copy=False)
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        raise IndexError(f"index {low if low < -size else high} is out of bounds for axis {axis} with size {size}")
    index = index.astype(np.int64, copy=False)
    return np.where(index < 0, index + size, index) if low < 0 else index


def _add_rows(x: np.ndarray, source: np.ndarray | None, to: np.ndarray, out: np.ndarray) -> None:
    """Write the sums of the rows of `x`, or of ``x[source]``, at the places `to` into `out`."""
    if scattered(x.dtype) != x.dtype and len(to) > _PIECE and crowded(len(to), len(out)):
        out[...] = _chained(x, source, to, len(out))
    else:
        out[...] = 0
        _add_to(x, source, to, out)


def _chained(x: np.ndarray, source: np.ndarray | None, to: np.ndarray, n: int) -> np.ndarray:
    """Return the same sums of many rows, made of sums of some rows at a time."""
    sums: Chains[np.ndarray] = Chains(lambda total, part: np.add(total, part, out=total))
    x, step = np.ascontiguousarray(x), max(RUN * n, _PIECE)
    source = np.arange(len(to)) if source is None else source
    for low in range(0, len(to), step):
        part = slice(low, low + step)
        out = np.zeros((n, x.shape[1]), x.dtype)
        _add_to(x, source[part], to[part], out)
        sums.take(out)
    total = sums.total()
    assert total is not None
    return total


def _add_to(x: np.ndarray, source: np.ndarray | None, to: np.ndarray, out: np.ndarray) -> None:
    width = out.shape[1]
    if x.dtype.kind in "fiu" and x.dtype.itemsize >= 4 and len(to):
        try:
            with importing:
                from scipy.sparse._sparsetools import coo_matmat_dense, coo_matvec
        except ImportError:
            pass
        else:  # element e of the sparse matrix is a 1, in row to[e] and column source[e]
            to = np.ascontiguousarray(to)
            if width == 1 and source is None:  # here it is x[e], and each column is read as 1
                coo_matvec(len(to), to, to, np.ravel(x), np.ones(len(out), x.dtype), out.reshape(-1))
                return
            source = np.arange(len(to)) if source is None else source
            coo_matmat_dense(len(to), width, to, np.ascontiguousarray(source), np.ones(len(to), x.dtype), np.ravel(x),
                             out.reshape(-1))
            return
    rows = x if source is None else x[source]
    places = to if width == 1 else np.ravel(to[:, None] * width + np.arange(width))
    np.add.at(out.reshape(-1), places, rows.reshape(-1))

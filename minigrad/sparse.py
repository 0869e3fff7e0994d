"""`Sparse`: sparse matrices with products. In a batch, one matrix per example is block-diagonal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optree

from .errors import DtypeError, ShapeError, at_user_line
from .graph import PyTree
from .locks import importing
from .ragged.schema import EVERYWHERE
from .segment import segment_sum
from .sizes import Size, shown, unwrap
from .symbolic import Dim
from .traced_array import Array


class Sparse:
    """A sparse matrix: ``data[e]`` in row ``row[e]`` and column ``col[e]``; duplicate entries add up.

    It is a pytree of `data`, `row` and `col`. A traced function may build one from fields of an example,
    ``Sparse(g.w, g.dst, g.src, (n, n)) @ g.x`` with ``n = g.x.shape[0]``; over a batch that is one product with the
    block-diagonal matrix of all examples.

    Parameters
    ----------
    data : array (E,)
    row, col : int array (E,)
    shape : (int, int)
        Sizes such as ``x.shape[0]`` are allowed.

    Examples
    --------
    >>> A = mg.Sparse(np.array([2.0, 3.0, 4.0]), np.array([0, 1, 1]), np.array([0, 0, 2]), (2, 3))
    >>> A
    <Sparse [2, 3]: 3 entries>
    >>> A @ np.ones(3)
    array([2., 7.])
    >>> A.toarray()
    array([[2., 0., 0.],
           [3., 0., 4.]])
    """

    __slots__ = ("col", "data", "row", "shape")

    def __init__(self, data: Array | np.ndarray, row: Array | np.ndarray, col: Array | np.ndarray,
                 shape: Sequence[int | Size]):
        if not (np.ndim(data) == np.ndim(row) == np.ndim(col) == 1) or len(shape) != 2:
            raise ShapeError(at_user_line("Sparse: data, row and col are vectors with an element per entry, and the "
                                          "shape is (rows, columns)"))
        for name, index in (("row", row), ("col", col)):
            if index.dtype.kind not in "iu" and np.size(index):
                raise DtypeError(at_user_line(f"Sparse: {name} must be of integers, got {index.dtype}"))
        self.data, self.row, self.col, self.shape = data, row, col, tuple(shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Sparse:
        """Return a `scipy.sparse` matrix or array as a `Sparse`."""
        coo = matrix.tocoo()
        return cls(coo.data, coo.row.astype(np.int64), coo.col.astype(np.int64), coo.shape)

    def to_scipy(self) -> Any:
        """Return the matrix as a `scipy.sparse.coo_array`."""
        with importing:
            from scipy.sparse import coo_array

        return coo_array((self.data, (self.row, self.col)), shape=self.shape)

    @property
    def T(self) -> Sparse:
        return Sparse(self.data, self.col, self.row, self.shape[::-1])

    def __matmul__(self, x: Any) -> Any:
        """Return the product with a vector, or with a matrix."""
        if np.ndim(x) not in (1, 2):
            raise ShapeError(at_user_line(f"Sparse @ an array of {np.ndim(x)} axes: it multiplies vectors and "
                                          "matrices"))
        if x.shape[0] != self.shape[1]:
            raise ShapeError(at_user_line(f"Sparse{list(self.shape)} @ {list(x.shape)}: inner sizes differ "
                                          f"({self.shape[1]}, {x.shape[0]})"))
        rows = x[self.col]
        return segment_sum((self.data if np.ndim(x) == 1 else self.data[:, None]) * rows, self.row, self.shape[0])

    def __rmatmul__(self, x: Any) -> Any:
        return (self.T @ x.T).T

    __array_ufunc__ = None  # an ndarray then leaves the product to this class

    def toarray(self) -> Any:
        """Return the matrix as a dense array."""
        return self @ np.eye(int(self.shape[1]), dtype=self.data.dtype)

    def __repr__(self) -> str:
        return f"<Sparse {list(self.shape)}: {self.data.shape[0]} entries>"


def _flatten(a: Sparse) -> tuple[tuple[PyTree, PyTree, PyTree], tuple[int | Dim, ...], tuple[str, str, str]]:
    return (a.data, a.row, a.col), tuple(map(unwrap, a.shape)), ("data", "row", "col")


def _unflatten(shape: Iterable[int | Dim], values: Iterable[PyTree]) -> Sparse:
    matrix = object.__new__(Sparse)
    matrix.data, matrix.row, matrix.col = values
    matrix.shape = tuple(map(shown, shape))
    return matrix


optree.register_pytree_node(Sparse, _flatten, _unflatten, namespace=EVERYWHERE)  # type: ignore[arg-type]  # no Collection

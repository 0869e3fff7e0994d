"""Functions of NumPy that write into their first argument."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.plain.writers import WRITERS

from .test_mutable_array import agrees


def test_methods_that_write():
    def f(x):
        y = x.copy()
        y.sort()
        z = np.empty((2, 3))
        z.fill(y[0])
        np.fill_diagonal(z, y[1])
        np.copyto(z[:, 2], x[:2])
        np.put(z, [4], x[0])
        w = np.zeros(3)
        np.multiply(x, 2.0, out=w)
        np.subtract.at(w, [0, 0, 2], x)
        np.put_along_axis(w, np.array([1]), x[:1], 0)
        return y, z, w

    agrees(f, np.array([3.0, -1.0, 2.0]))


UFUNCS = [np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum]


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_ufuncs_at_traced_and_known_places(ufunc):
    name = ufunc.__name__

    def f(x, i):
        y, z = np.ones(4), np.ones((2, 3))
        getattr(np, name).at(y, [0, 2, 0], x)
        getattr(np, name).at(y, i, x[0])
        getattr(np, name).at(z[1], slice(0, 2), x[1])
        known = np.ones(3)
        getattr(np, name).at(known, [0, 0], 2.0)
        return y, z, known * x

    agrees(f, np.array([3.0, -1.0, 2.0]), 3)


def test_known_arrays_are_written_by_numpy_itself():
    def f(x):
        A = np.zeros((2, 2))
        np.fill_diagonal(A, 3.0)
        np.place(A, A == 0, [5.0, 6.0])
        np.put(A, [1], 7.0)
        return A * x

    agrees(f, np.array([1.0, 2.0]))


def test_arrays_outside_are_left_to_numpy():
    """With ndarrays alone, in NumPy code or not, each is NumPy's own function."""
    outside = np.zeros((2, 2))

    def f(x):
        np.fill_diagonal(outside, 1.0)
        return outside @ x

    np.testing.assert_allclose(mg.trace(mg.numpy_code(f))(np.ones(2))(np.ones(2)), [1.0, 1.0])
    assert outside.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert set(WRITERS) == {np.fill_diagonal, np.copyto, np.put, np.put_along_axis, np.putmask, np.place}

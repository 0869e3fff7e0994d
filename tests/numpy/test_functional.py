"""Functions of functions: by pieces, along an axis, over axes."""

import numpy as np
import pytest

import minigrad as mg

X = np.array([[-2.0, 0.0, 3.0], [1.0, -1.0, 4.0]])


def test_the_last_condition_decides_a_piece():
    f = mg.compile(lambda x: np.piecewise(x, [x < 2, x < 0], [lambda v: v, lambda v: v**2, 7.0]))
    np.testing.assert_array_equal(f(X), [[4, 0, 7], [1, 1, 7]])
    np.testing.assert_array_equal(mg.grad(lambda x: f(x).sum())(X), [[-4, 1, 0], [1, -2, 0]])


def test_pieces_need_a_function_each():
    with pytest.raises(mg.ShapeError, match="1 conditions for 3 functions"):
        mg.trace(lambda x: np.piecewise(x, [x < 0], [1, 2, 3]))(X)


def test_a_function_of_vectors_runs_along_an_axis_without_a_loop():
    f = mg.compile(lambda x: np.apply_along_axis(lambda v: np.stack([v[0], v.sum()]), 1, x))
    np.testing.assert_array_equal(f(X), [[-2, 1], [1, 4]])
    graph = mg.trace(lambda x: np.apply_along_axis(np.cumsum, 0, x))(X)
    assert graph.count("scan") == 0


def test_a_reduction_over_axes_keeps_them():
    out = mg.compile(lambda x: np.apply_over_axes(np.sum, x, [0, 1]))(X)
    np.testing.assert_array_equal(out, [[5.0]])

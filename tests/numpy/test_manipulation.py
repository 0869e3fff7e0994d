"""Shapes, the order of axes and repetition, with known results."""

import numpy as np
import pytest

import minigrad as mg

M = np.arange(6.0).reshape(2, 3)


def test_an_unknown_size_follows_from_the_others():
    assert mg.trace(lambda x: np.reshape(x, (3, -1)))(M).outputs[0].shape == (3, 2)
    with pytest.raises(mg.ShapeError, match=r"reshape\(f64\[2, 3\]\): cannot become"):
        mg.trace(lambda x: np.reshape(x, (4, -1)))(M)
    np.testing.assert_array_equal(mg.compile(lambda x: np.reshape(x, (3, 2), order="F"))(M), [[0, 4], [3, 2], [1, 5]])


def test_axes_move_to_their_destinations():
    graph = mg.trace(lambda x: np.moveaxis(x, (0, 1), (-1, 0)))(np.ones((2, 3, 4)))
    assert graph.outputs[0].shape == (3, 4, 2)
    with pytest.raises(mg.ShapeError, match="no axis 3 in an array of 3 axes"):
        mg.trace(lambda x: np.moveaxis(x, 3, 0))(np.ones((2, 3, 4)))


def test_quarter_turns():
    for k, want in ((1, [[2, 5], [1, 4], [0, 3]]), (2, [[5, 4, 3], [2, 1, 0]]), (-1, [[3, 0], [4, 1], [5, 2]])):
        np.testing.assert_array_equal(mg.compile(lambda x, k=k: np.rot90(x, k))(M), want)


def test_repetition_adds_the_gradients_of_the_copies():
    np.testing.assert_array_equal(mg.grad(lambda x: np.tile(x, (2, 2)).sum())(M), np.full((2, 3), 4))
    np.testing.assert_array_equal(mg.grad(lambda x: np.repeat(x, [1, 0, 3], axis=1).sum())(M), [[1, 0, 3]] * 2)


def test_windows_count_each_element_once_per_window():
    slope = mg.grad(lambda x: np.lib.stride_tricks.sliding_window_view(x, 2).sum())(np.zeros(4))
    np.testing.assert_array_equal(slope, [1, 2, 2, 1])


def test_resize_repeats_or_cuts():
    np.testing.assert_array_equal(mg.compile(lambda x: np.resize(x, (2, 4)))(M), [[0, 1, 2, 3], [4, 5, 0, 1]])
    assert mg.compile(lambda x: np.resize(x, 2))(np.zeros(0)).tolist() == [0, 0]


def test_new_axes_of_low_ranks():
    for ndim, function, want in ((0, np.atleast_3d, (1, 1, 1)), (1, np.atleast_3d, (1, 3, 1)),
                                 (2, np.atleast_3d, (3, 3, 1)), (1, np.atleast_2d, (1, 3)), (0, np.atleast_1d, (1,))):
        assert mg.trace(function)(np.ones((3,) * ndim)).outputs[0].shape == want

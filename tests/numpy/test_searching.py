"""Places in an order, extreme positions and membership, with known results."""

import numpy as np
import pytest

import minigrad as mg

EDGES = np.array([0.0, 1.0, 1.0, 2.0])


def test_bisection_finds_both_sides_of_ties():
    v = np.array([-1.0, 1.0, 1.5, 2.0, np.nan])
    left = mg.compile(np.searchsorted)(EDGES, v)
    right = mg.compile(lambda a, v: np.searchsorted(a, v, side="right"))(EDGES, v)
    np.testing.assert_array_equal(left, [0, 1, 3, 3, 4])
    np.testing.assert_array_equal(right, [0, 3, 3, 4, 4])


def test_bins_may_fall():
    x = np.array([0.5, 1.5, 3.0])
    for bins in ([0.0, 1.0, 2.0], [2.0, 1.0, 0.0]):
        want = [1, 2, 3] if bins[0] == 0 else [2, 1, 0]
        np.testing.assert_array_equal(mg.compile(lambda x, b=bins: np.digitize(x, b))(x), want)
        np.testing.assert_array_equal(mg.compile(np.digitize)(x, np.array(bins)), want)
    with pytest.raises(mg.ShapeError, match="monotonically"):
        mg.trace(lambda x: np.digitize(x, [0.0, 2.0, 1.0]))(x)


def test_extreme_positions_are_the_first():
    x = np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -1.0]])
    np.testing.assert_array_equal(mg.compile(lambda x: np.argmax(x, axis=1))(x), [1, 0])
    assert mg.compile(np.argmin)(x) == 4
    assert mg.compile(lambda x: np.argmax(x, axis=0, keepdims=True))(x).tolist() == [[0, 0, 0]]


def test_membership_and_counts():
    x = np.array([[1, 2], [3, 0]])
    np.testing.assert_array_equal(mg.compile(lambda x: np.isin(x, [0, 1]))(x), [[True, False], [False, True]])
    np.testing.assert_array_equal(mg.compile(lambda x: np.count_nonzero(x, axis=0))(x), [2, 1])

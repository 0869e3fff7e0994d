"""Sorted arrays and the indices that sort, with known results and gradients."""

import numpy as np
import pytest

import minigrad as mg

X = np.array([3.0, 1.0, np.nan, 1.0])


def test_nan_comes_last_and_ties_keep_their_order():
    np.testing.assert_array_equal(mg.compile(np.sort)(X), [1, 1, 3, np.nan])
    np.testing.assert_array_equal(mg.compile(np.argsort)(X), [1, 3, 0, 2])


def test_gradients_follow_the_elements():
    weights = np.array([1.0, 10.0, 100.0])
    slope = mg.grad(lambda x: np.sort(x) @ weights)(np.array([5.0, 2.0, 7.0]))
    np.testing.assert_array_equal(slope, [10, 1, 100])


def test_the_last_key_counts_first():
    second, first = np.array([2, 1, 3, 0]), np.array([1, 1, 0, 1])
    np.testing.assert_array_equal(mg.compile(lambda a, b: np.lexsort(np.stack([a, b])))(second, first), [2, 3, 1, 0])


def test_partitions_are_sorted():
    x = np.array([4.0, 2.0, 9.0, 0.0])
    np.testing.assert_array_equal(mg.compile(lambda x: np.partition(x, 1))(x), [0, 2, 4, 9])
    with pytest.raises(mg.DtypeError, match=r"np\.argpartition: kth must be an integer"):
        mg.trace(lambda x: np.argpartition(x, 1.5))(x)

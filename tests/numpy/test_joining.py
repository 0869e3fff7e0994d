"""Joining, splitting, insertion and padding, with known results and gradients."""

import numpy as np
import pytest

import minigrad as mg

V = np.array([1.0, 2.0, 3.0])


def test_parts_get_back_the_cotangents_of_the_joined_array():
    weights = np.arange(1.0, 7.0)
    a, b = mg.grad(lambda a, b: np.concatenate([a, b]) @ weights, (0, 1))(V[:2], np.ones(4))
    np.testing.assert_array_equal(a, [1, 2])
    np.testing.assert_array_equal(b, [3, 4, 5, 6])


def test_blocks_of_lists_make_a_matrix():
    out = mg.compile(lambda x: np.block([[x, x * 10], [x * 100, x * 1000]]))(np.array([[1.0]]))
    np.testing.assert_array_equal(out, [[1, 10], [100, 1000]])


def test_uneven_parts_are_larger_in_front():
    parts = mg.compile(lambda x: np.array_split(x, 3))(np.arange(7.0))
    assert [p.tolist() for p in parts] == [[0, 1, 2], [3, 4], [5, 6]]
    with pytest.raises(mg.ShapeError, match="an axis of 7 cannot be cut into 3 equal parts"):
        mg.trace(lambda x: np.split(x, 3))(np.arange(7.0))


def test_insertion_and_deletion_at_known_places():
    out = mg.compile(lambda x: np.insert(x, [0, 2], [8.0, 9.0]))(V)
    np.testing.assert_array_equal(out, [8, 1, 2, 9, 3])
    np.testing.assert_array_equal(mg.compile(lambda x: np.delete(x, -1))(V), [1, 2])
    with pytest.raises(mg.TraceError, match=r"np\.delete at traced places"):
        mg.trace(lambda x: np.delete(x, np.argmax(x)))(V)
    assert mg.compile(lambda x, i: np.delete(x, i))(V, 1).tolist() == [1, 3]


def test_reflected_padding_sends_its_cotangents_inside():
    np.testing.assert_array_equal(mg.compile(lambda x: np.pad(x, (1, 2), "reflect"))(V), [2, 1, 2, 3, 2, 1])
    np.testing.assert_array_equal(mg.grad(lambda x: np.pad(x, (1, 2), "reflect").sum())(V), [2, 3, 1])


def test_roll_by_a_traced_shift():
    f = mg.compile(np.roll)
    for shift in (-4, 0, 1, 5):
        np.testing.assert_array_equal(f(V, shift), [V[(i - shift) % 3] for i in range(3)])

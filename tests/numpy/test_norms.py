"""Norms of vectors and matrices."""

import numpy as np

import minigrad as mg


def test_vector_norm_of_integers_over_no_axis_is_a_float():
    assert mg.compile(np.linalg.vector_norm)(np.int64(-3)).dtype == np.float64
    same = mg.compile(lambda x: np.linalg.vector_norm(x, axis=()))(np.array([-3, 4]))
    np.testing.assert_array_equal(same, np.array([3.0, 4.0]), strict=True)

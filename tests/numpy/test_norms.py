"""Norms of vectors and matrices."""

import numpy as np
import pytest

import minigrad as mg


def test_vector_norm_of_integers_over_no_axis_is_a_float():
    assert mg.compile(np.linalg.vector_norm)(np.int64(-3)).dtype == np.float64
    same = mg.compile(lambda x: np.linalg.vector_norm(x, axis=()))(np.array([-3, 4]))
    np.testing.assert_array_equal(same, np.array([3.0, 4.0]), strict=True)


@pytest.mark.parametrize("ord", [-0.5, -1, -2])
def test_norms_of_negative_order_have_slope_0_where_an_element_is_0(ord):
    """They are 0 there, as the least size is; first and second derivatives, forwards and backwards."""
    def f(x):
        return np.linalg.norm(x, ord, axis=1)

    x, t = np.array([[0.0, 0.9, -1.2], [0.5, 0.9, -1.2]]), np.ones((2, 3))
    h = 1e-5
    slope = (np.linalg.norm(x[1] + h, ord) - np.linalg.norm(x[1] - h, ord)) / (2 * h)
    np.testing.assert_allclose(mg.jvp(f, (x,), (t,))[1], [0, slope], rtol=1e-8)
    gradient = mg.compile(mg.grad(lambda x: f(x).sum()))(x)
    np.testing.assert_allclose(gradient.sum(axis=1), [0, slope], rtol=1e-8)
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.isfinite(mg.hessian(lambda x: f(x).sum())(x)).all()

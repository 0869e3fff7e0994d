"""Polynomials with known values, derivatives and zeros."""

import numpy as np
import pytest

import minigrad as mg

P = np.array([2.0, -3.0, 1.0])  # 2 x^2 - 3 x + 1 = (2 x - 1) (x - 1)


def test_values_and_slopes():
    assert mg.compile(np.polyval)(P, 3.0) == 10
    coefficients, x = mg.grad(np.polyval, (0, 1))(P, 3.0)
    np.testing.assert_array_equal(coefficients, [9, 3, 1])
    assert x == 9  # 4 x - 3


def test_antiderivative_inverts_the_derivative():
    np.testing.assert_array_equal(mg.compile(lambda p: np.polyder(np.polyint(p)))(P), P)
    np.testing.assert_array_equal(mg.compile(lambda p: np.polyder(p, 2))(P), [4])


def test_coefficients_from_zeros():
    np.testing.assert_array_equal(mg.compile(np.poly)(np.array([0.5, 1.0])), P / 2)
    with pytest.raises(mg.TraceError, match="eigenvalues may be complex"):
        mg.trace(np.poly)(np.eye(2))


def test_products_keep_leading_zeros():
    np.testing.assert_array_equal(mg.compile(np.polymul)(np.array([0.0, 1.0]), P), [0, 2, -3, 1])


def test_fit_through_exact_points():
    x = np.array([-1.0, 0.0, 2.0, 3.0])
    np.testing.assert_allclose(mg.compile(lambda x, y: np.polyfit(x, y, 2))(x, 2 * x**2 - 3 * x + 1), P, atol=1e-12)

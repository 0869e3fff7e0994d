"""`check_primitive`: correct rules pass; wrong types, derivatives and batches are named."""

import numpy as np
import pytest

import minigrad as mg

X = np.array([0.5, -1.0, 2.0])


def test_correct_rules_pass():
    @mg.custom_vjp(lambda g, out, x, y: (g * y, g * x))
    def product(x, y):
        return x * y

    checked = mg.check_primitive(product, X, X[::-1].copy())
    assert checked.largest < 1e-5
    assert str(checked).startswith("check_primitive(product): type, order 2 and batches: ")


def test_a_wrong_derivative_is_named():
    @mg.custom_vjp(lambda g, out, x: (3 * g * x,))
    def square(x):
        return x ** 2

    with pytest.raises(mg.CheckError, match=r"the derivative of the result.* in reverse mode and .* by finite diff"):
        mg.check_primitive(square, X)


def test_a_function_without_derivatives_is_checked_at_order_0():
    checked = mg.check_primitive(lambda i: i + 1, np.array([1, 2]), order=0)
    assert checked.comparisons > 0
    assert checked.largest == 0

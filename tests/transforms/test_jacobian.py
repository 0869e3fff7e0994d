"""Jacobians and Hessians against derivatives by hand: both modes, pytrees, several arguments, errors."""

import numpy as np
import pytest

import minigrad as mg

from .common import close

W, V = np.array([0.5, -1.0, 2.0]), np.array([3.0, 0.25, -0.5])


@pytest.mark.parametrize("shape", [(2, 3), (5, 3), (3, 3)], ids=["reverse", "forward", "square"])
def test_jacobian_of_a_linear_map_is_its_matrix(shape):
    A = np.arange(np.prod(shape), dtype=float).reshape(shape) - 4
    close(mg.jacobian(lambda w: A @ w)(W), A)


def test_jacobian_puts_result_axes_before_argument_axes():
    M = np.arange(6.0).reshape(2, 3)
    J = mg.jacobian(lambda M: M.T * 2)(M)
    expected = np.zeros((3, 2, 2, 3))
    for i in range(2):
        for j in range(3):
            expected[j, i, i, j] = 2
    close(J, expected)


def test_jacobian_of_pytrees():
    J = mg.jacobian(lambda p, q: {"o": p["a"] * q, "s": [np.sum(p["a"]), p["b"]]}, (0, 1))({"a": W, "b": V}, V)
    close(J["o"], ({"a": np.diag(V), "b": np.zeros((3, 3))}, np.diag(W)))
    close(J["s"][0], ({"a": np.ones(3), "b": np.zeros(3)}, np.zeros(3)))
    close(J["s"][1], ({"a": np.zeros((3, 3)), "b": np.eye(3)}, np.zeros((3, 3))))


def test_unused_argument_has_a_zero_jacobian():
    close(mg.jacobian(lambda a, b: a, (0, 1))(W, V), (np.eye(3), np.zeros((3, 3))))


def test_hessian_of_a_quadratic_form_is_its_symmetric_part():
    A = np.array([[1.0, 2.0, 0.0], [4.0, 3.0, -1.0], [5.0, 0.0, 2.0]])
    close(mg.hessian(lambda w: w @ A @ w)(W), A + A.T)


def test_hessian_of_pytrees_and_several_arguments():
    H = mg.hessian(lambda p: np.sum(p["a"] ** 2 * p["b"]))({"a": W, "b": V})
    close(H, {"a": {"a": 2 * np.diag(V), "b": 2 * np.diag(W)}, "b": {"a": 2 * np.diag(W), "b": np.zeros((3, 3))}})


def test_hessian_of_two_arguments_has_a_block_for_each_pair():
    H = mg.hessian(lambda a, b: np.sum(a ** 2 * b), (0, 1))(W, V)
    close(H, ((2 * np.diag(V), 2 * np.diag(W)), (2 * np.diag(W), np.zeros((3, 3)))))


def test_jacobian_keeps_the_dtype_of_the_result():
    assert mg.jacobian(lambda w: w * 2)(W.astype("f4")).dtype == np.float32


def test_errors_name_the_transform_and_the_argument():
    with pytest.raises(mg.GradError, match=r"jacobian of .*: its result i64\[3\] is not floating"):
        mg.jacobian(lambda w: np.argsort(w))(W)
    with pytest.raises(mg.GradError, match="no argument is called 'x'; there are w"):
        mg.jacobian(lambda w: w, "x")(W)
    with pytest.raises(mg.GradError, match="argnums 1, but there are 1 positional arguments"):
        mg.jacobian(lambda w: w, 1)(W)

"""Faults of native steps: the errors of NumPy, and a program that runs again after one."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.native.kernels.faults import ERRORS, INDEFINITE, OUT_OF_RANGE, SINGULAR

FAULTS = {
    OUT_OF_RANGE: (lambda a, i: a[i], (np.eye(3), np.array([0, 3])), (np.eye(3), np.array([0, 2]))),
    SINGULAR: (lambda a, b: np.linalg.solve(a, b), (np.zeros((3, 3)), np.ones((3, 1))), (np.eye(3), np.ones((3, 1)))),
    INDEFINITE: (lambda a, b: np.linalg.cholesky(a) @ b, (-np.eye(3), np.ones(3)), (4 * np.eye(3), np.ones(3)))}


def test_each_fault_has_a_case():
    assert FAULTS.keys() == ERRORS.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_raises_the_error_of_numpy_once(fault):
    f, bad, good = FAULTS[fault]
    step = mg.compile(f, backend="native")
    expected = f(*good)
    np.testing.assert_allclose(step(*good), expected)
    for _ in range(2):
        with pytest.raises(ERRORS[fault][0]) as of_numpy:
            f(*bad)
        with pytest.raises(type(of_numpy.value)):
            step(*bad)
        np.testing.assert_allclose(step(*good), expected)

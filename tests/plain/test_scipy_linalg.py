"""Functions of SciPy on traced values, each against itself."""

import numpy as np
import pytest

import minigrad as mg

V = np.array([0.5, 1.5, 2.5])


def test_functions_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    special = pytest.importorskip("scipy.special")
    A = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.0]])

    def f(v):
        M = A + np.diag(v)
        L = linalg.cholesky(M, lower=True)
        solved = linalg.cho_solve(linalg.cho_factor(M), v) + linalg.solve_triangular(L, v, lower=True)
        solved = solved + linalg.solve_triangular(linalg.cholesky(M), v) + linalg.solve(M, v)
        return (special.logsumexp(M, axis=1) @ solved + special.softmax(v)[0] + special.erf(v[0]) + linalg.det(M)
                + linalg.norm(linalg.inv(M)) + linalg.expm(0.1 * M)[0, 1] + special.gammaln(v).sum())

    traced = mg.numpy_code(f)
    np.testing.assert_allclose(mg.compile(traced)(V), f(V))
    mg.check_grads(traced, (V,), order=1)

"""Decompositions of matrices with known factors."""

import numpy as np
import pytest

import minigrad as mg

A = np.array([[4.0, 2.0], [2.0, 10.0]])  # = L L^T of the matrix below
L = np.array([[2.0, 0.0], [1.0, 3.0]])


def test_cholesky_reads_one_triangle():
    lower, upper = np.tril(A), np.triu(A)
    np.testing.assert_allclose(mg.compile(np.linalg.cholesky)(lower), L)
    np.testing.assert_allclose(mg.compile(lambda a: np.linalg.cholesky(a, upper=True))(upper), L.T)


def test_determinants_and_their_gradients():
    assert mg.compile(np.linalg.det)(A) == pytest.approx(36)
    np.testing.assert_allclose(mg.grad(np.linalg.det)(A), [[10, -2], [-2, 4]])  # the cofactors
    sign, logarithm = mg.compile(np.linalg.slogdet)(-A[::-1])
    assert sign == -1
    assert logarithm == pytest.approx(np.log(36))


def test_eigenvalues_of_a_rotated_diagonal():
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.array([[c, -s], [s, c]])
    matrix = turn @ np.diag([-1.0, 5.0]) @ turn.T
    np.testing.assert_allclose(mg.compile(np.linalg.eigvalsh)(matrix), [-1, 5])
    x, y = turn[:, 1]  # the slope of an eigenvalue is its vector's outer product, in the lower triangle alone
    slope = mg.grad(lambda a: np.linalg.eigvalsh(a)[1])(matrix)
    np.testing.assert_allclose(slope, [[x * x, 0], [2 * x * y, y * y]])


def test_rank_counts_singular_values_above_the_tolerance():
    x = np.diag([3.0, 1e-3, 0.0])
    assert mg.compile(np.linalg.matrix_rank)(x) == 2
    assert mg.compile(lambda x: np.linalg.matrix_rank(x, tol=0.1))(x) == 1
    np.testing.assert_allclose(mg.compile(np.linalg.svdvals)(x), [3, 1e-3, 0], atol=1e-15)


def test_qr_of_a_wide_matrix_is_that_of_its_first_columns():
    x = np.array([[3.0, 0.0, 5.0], [4.0, 5.0, 10.0]])
    q, r = mg.compile(lambda x: tuple(np.linalg.qr(x)))(x)
    np.testing.assert_allclose(np.abs(q), [[0.6, 0.8], [0.8, 0.6]])
    np.testing.assert_allclose(np.abs(r), [[5, 4, 11], [0, 3, 2]], atol=1e-15)
    mg.check_grads(lambda x: np.sum(np.linalg.qr(x)[1] ** 3) + np.sum(np.linalg.qr(x)[0] ** 3), (x,))


def test_a_full_basis_is_refused():
    with pytest.raises(mg.TraceError, match="full_matrices=False"):
        mg.trace(np.linalg.svd)(np.ones((2, 3)))

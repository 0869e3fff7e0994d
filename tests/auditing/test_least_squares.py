"""The least-squares solutions against NumPy's, and the null spaces of known matrices."""

import numpy as np
import pytest

from minigrad.auditing.least_squares import components, conjugate_gradients, dependent, solve_gram, solve_rows

EPS = 2.0**-52


def system(n, p, seed=0):
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(n, p)) * rng.uniform(0.1, 10, (n, 1)), rng.normal(size=n)
    return rows, weights


@pytest.mark.parametrize(("n", "p"), [(1, 5), (8, 8), (20, 50)])
def test_both_ways_solve(n, p):
    rows, weights = system(n, p)
    by_rows = solve_rows(rows, weights @ rows, EPS)
    by_gram = solve_gram(rows @ rows.T, weights @ rows, rows.__matmul__, lambda w: w @ rows, EPS)
    for solution in (by_rows, by_gram):
        np.testing.assert_allclose(solution.weights, weights, rtol=1e-6)
        assert solution.residual < 1e-8 * np.linalg.norm(weights @ rows)
        assert not solution.undetermined
    assert by_rows.rank == n
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert by_rows.condition == pytest.approx(np.linalg.cond(unit), rel=1e-9)


def test_a_residual_is_the_distance_from_the_combinations():
    rows, weights = system(4, 30)
    away = np.random.default_rng(1).normal(size=30)
    away -= np.linalg.lstsq(rows.T, away, rcond=None)[0] @ rows
    solution = solve_rows(rows, weights @ rows + away, EPS)
    assert solution.residual == pytest.approx(np.linalg.norm(away))
    np.testing.assert_allclose(solution.weights, weights, rtol=1e-10)


def test_sets_of_dependent_rows():
    rows, _ = system(7, 30)
    rows[4] = -2 * rows[1]  # parallel
    rows[6] = rows[2] + rows[3]  # three that depend on each other
    rows[0] = 0
    solution = solve_rows(rows, rows.sum(axis=0), EPS)
    assert [s.tolist() for s in solution.undetermined] == [[0], [1, 4], [2, 3, 6]]
    assert solution.rank == 4
    assert solution.residual < 1e-12 * np.linalg.norm(rows)


def test_parallel_rows_show_in_the_gram_matrix():
    rows, _ = system(5, 30)
    rows[3], rows[4] = 2 * rows[0], 0
    solution = solve_gram(rows @ rows.T, rows.sum(axis=0), rows.__matmul__, lambda w: w @ rows, EPS)
    assert [s.tolist() for s in solution.undetermined] == [[0, 3], [4]]
    assert solution.rank is None
    np.testing.assert_allclose(solution.weights @ rows, rows.sum(axis=0), rtol=1e-8, atol=1e-8)


def test_noise_bounds_the_error_of_a_weight():
    rows, weights = system(10, 40)
    solution = solve_rows(rows, weights @ rows, EPS)
    for direction in np.random.default_rng(2).normal(size=(50, 40)):
        direction /= np.linalg.norm(direction)
        moved = solve_rows(rows, weights @ rows + direction, EPS).weights - solution.weights
        assert (np.abs(moved) <= solution.noise * (1 + 1e-9)).all()
    inverse = np.linalg.pinv(rows.T)
    np.testing.assert_allclose(solution.noise, np.linalg.norm(inverse, axis=1), rtol=1e-9)


def test_conjugate_gradients_see_the_extreme_eigenvalues():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    a, b = q @ np.diag(np.linspace(1, 9, 30)) @ q.T, rng.normal(size=30)
    x, low, high, converged = conjugate_gradients(a, b, 1e-14)
    assert converged
    np.testing.assert_allclose(a @ x, b, rtol=1e-10)
    assert (low, high) == pytest.approx((1, 9), rel=1e-6)
    assert conjugate_gradients(a, np.zeros(30), 1e-14)[0].tolist() == [0] * 30


def test_components():
    assert [c.tolist() for c in components({3: {1}, 1: {3, 5}, 5: {1}, 4: {4}})] == [[1, 3, 5], [4]]
    assert dependent(np.eye(4)) == []
    assert [c.tolist() for c in dependent(np.eye(4)[:2])] == [[2], [3]]
    assert [c.tolist() for c in dependent(np.full((1, 4), 0.5))] == [[0, 1, 2, 3]]


def test_many_units_of_few_elements():
    """More units than elements: the norm of the least solution, and one set, by the row space alone."""
    rows, weights = system(2_000, 12)
    solution = solve_rows(rows, weights @ rows, EPS)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    least = np.linalg.lstsq(unit.T, weights @ rows, rcond=None)[0]
    np.testing.assert_allclose(solution.weights * np.linalg.norm(rows, axis=1), least, atol=1e-10)
    assert solution.rank == 12
    assert [s.tolist() for s in solution.undetermined] == [list(range(2_000))]

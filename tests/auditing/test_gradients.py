"""The equations of `audit` by all ways: rows, a sketch, and products without rows."""

import numpy as np
import pytest

from minigrad.auditing import gradients
from minigrad.auditing.gradients import Rows, stacked
from minigrad.errors import GradError

from .steps import PARTS, N, W, X, Y, loss, run, singles, weighted

OF_PARTS = np.concatenate([np.full(len(m), 1 / (3 * len(m))) for m in PARTS])


def black_box(w, x, y):
    return singles(w, x[None], y[None])[0]


def test_a_sketch_recovers_the_weights(monkeypatch):
    monkeypatch.setattr(gradients, "IN_MEMORY", 100)
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=5000), rng.normal(size=(N, 5000)) / 9
    report = run(weighted(OF_PARTS), None, w, (x, Y), gradients=black_box, seed=3)
    assert report.method == "a sketch of the gradients, 5,000 elements into 2,000 (seed 3)"
    np.testing.assert_allclose(report.weights, OF_PARTS, rtol=1e-10)
    np.testing.assert_allclose(report.norms, np.linalg.norm(singles(w, x, Y), axis=1), rtol=1e-12)


def test_products_recover_the_weights_without_rows(monkeypatch):
    monkeypatch.setattr(gradients, "IN_MEMORY", 100)
    monkeypatch.setattr(gradients, "_CHUNK", 5)
    report = run(weighted(OF_PARTS), extra={"l2": lambda w: w})
    assert "Gram matrix" in report.method
    np.testing.assert_allclose(report.weights, OF_PARTS, rtol=1e-9)
    np.testing.assert_allclose(report.norms, np.linalg.norm(singles(W, X, Y), axis=1), rtol=1e-10)
    assert report.extra["l2"] == pytest.approx(0, abs=1e-9)
    assert "micro-batches of 5, 5, 2" in report.verdict


def test_products_name_the_example_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(gradients, "IN_MEMORY", 100)
    x = X.copy()
    x[8, 1] = np.inf
    with pytest.raises(GradError, match="the gradient of example 8 is not finite"):
        run(lambda w, x, y: w, loss, W, (x, Y))


def test_too_many_units_are_refused(monkeypatch):
    monkeypatch.setattr(gradients, "_MOST", 5)
    with pytest.raises(GradError, match="12 units are too many"):
        run(weighted(OF_PARTS))


def test_rows_of_large_condition_are_solved_by_singular_values(monkeypatch):
    """The conjugate gradient method takes more steps than it has for a Gram matrix of condition 1e10."""
    monkeypatch.setattr(gradients, "_BY_SINGULAR_VALUES", 50)
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 200)))[0] for n in (200, 300))
    rows, w = left @ np.diag(np.logspace(0, -5, 200)) @ right.T, np.repeat([0.01, 0.02], 100)
    gram = gradients.solve_gram(rows @ rows.T, w @ rows, rows.__matmul__, lambda v: v @ rows, 2.0**-52)
    assert not gram.converged
    solution = Rows(rows, w @ rows, np.linalg.norm(rows, axis=1), "").solve(2.0**-52)
    assert solution.rank == 200
    np.testing.assert_allclose(solution.weights, w, rtol=1e-8)


def test_points_are_stacked_with_one_scale():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 2)), 1e6 * rng.normal(size=(3, 2))
    w = np.array([1.0, 2.0, 3.0])
    both = stacked([Rows(r, w @ r, np.linalg.norm(r, axis=1), "") for r in (a, b)])
    np.testing.assert_allclose(both.combine(w), both.gradient)
    assert np.abs(both.rows).max() <= 1

"""The sentences of verdicts that other tests do not read."""

import numpy as np

import minigrad as mg

from .steps import W, X, Y, loss, mean, run, weighted


def test_a_step_of_zeros():
    assert run(lambda w, x, y: 0 * w).verdict == "The step returns zeros."


def test_examples_without_a_gradient():
    x = X.copy()
    x[[2, 5]] = 0
    report = run(mean, loss, W, (x, Y))
    assert "Examples 2, 5 have no gradient, so that no weight shows." in report.verdict
    assert report.right


def test_nearly_dependent_gradients_leave_doubts():
    x = X.copy().astype(np.float32)
    x[1] = x[0] * np.float32(1 + 1e-4)
    y = Y.copy().astype(np.float32)
    y[1] = y[0]
    w = W.astype(np.float32)
    step = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))
    report = run(step, loss, w, (x, y))
    assert report.right
    assert "nearly dependent" in report.verdict or report.undetermined


def test_weights_that_change_without_a_known_pattern():
    def step(w, x, y):
        return weighted(1 / (1 + np.abs(x @ w)))(w, x, y)

    report = run(step)
    assert "match no known pattern. The weights change with the parameters." in report.verdict


def test_one_example_is_no_plural():
    assert run(lambda w, x, y: mean(w, x[:1], y[:1])).verdict.startswith("The step returns the mean over 1 example; ")
    text = run(lambda w, x, y: np.cos(w), loss, W, (X[:1], Y[:1])).verdict
    assert text.startswith("This is not the gradient of this loss")
    assert "tried" not in text


def test_low_precision_is_no_dependence():
    text = run(lambda w, x, y: mean(w, x, y).astype(np.float16)).verdict
    assert "returns the mean over 12 examples" in text
    assert "dependent" not in text

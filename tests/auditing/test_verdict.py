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


def test_optimizers_that_scale_elements_are_no_mixing():
    def adam(w, x, y):
        g = mean(w, x, y)
        return -1e-3 * g / (np.abs(g) + 1e-8)

    for step in (adam, lambda w, x, y: np.clip(mean(w, x, y), -0.1, 0.1)):
        report = run(step)
        assert report.elementwise
        assert not report.right
        assert "its elements rise with those of the mean, or fall with them" in report.verdict


def test_a_step_with_parameters_of_its_own():
    """It shows where further values of the parameters are drawn; the weights at the given ones stand."""
    w, x = W[:3].copy(), X[:, :3]
    report = run(lambda _, x, y: mean(w, x, y), loss, W[:3], (x, Y))
    assert "it does not compute with those that it is given" in report.verdict
    assert "change with the parameters" not in report.verdict


def test_a_regulariser_along_the_mean_is_not_told_apart():
    """The gradient of l2 is the mean gradient at all parameters: any split of their sum explains the step."""
    along = {"l2": lambda w: mean(w, X, Y)}
    assert run(lambda w, x, y: 2 * mean(w, x, y), extra=along).right
    report = run(mean, extra=along)
    assert abs(report.extra["l2"]) < 1e-12
    assert not report.right
    assert report.entangled["l2"].tolist() == list(range(12))
    assert ("The gradient of l2 is a combination of those of examples 0–11, so that their factors cannot be told apart."
            in report.verdict)
    assert "dependent gradients" not in report.verdict

"""Training by each method: the steps, and the first one against its formula."""

import numpy as np
import pytest

from minigrad.report import training
from minigrad.report.digits import Digits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
LABELS = (X[:, 0] > 0).astype(int)
DATA = Digits((X[:32], LABELS[:32]), (X[32:], LABELS[32:]))


def scores(w, x):
    return np.stack([x @ w * 0, x @ w])


def loss(w, x, label):
    return np.log(1 + np.exp(x @ w)) - label * (x @ w)


def test_runs_of_all_methods():
    steps = []
    result = training.train(loss, scores, np.zeros(2), DATA, epochs=2, advance=steps.append)
    assert [(r.name, r.batch, r.steps) for r in result.runs] == [
        ("batch", 32, 1), ("mini-batch", 32, 1), ("stochastic", 1, 32)]
    assert steps[:2] == ["batch, epoch 1", "batch, epoch 2"]
    assert (result.train, result.held_out, result.epochs) == (32, 8, 2)
    for run in result.runs:
        assert len(run.losses) == len(run.accuracies) == 3
        assert run.losses[0] == pytest.approx(np.log(2))
        assert run.losses[2] < run.losses[0]
    assert len(result.cells()) == 3
    assert result.as_dict()["runs"][0]["name"] == "batch"


def test_a_step_of_batch_gradient_descent():
    run = training.train(loss, scores, np.zeros(2), DATA, epochs=1)["batch"]
    w = 0.2 * np.mean((LABELS[:32] - 0.5)[:, None] * X[:32], axis=0)
    z = X[:32] @ w
    assert run.losses[1] == pytest.approx(np.mean(np.log(1 + np.exp(z)) - LABELS[:32] * z))

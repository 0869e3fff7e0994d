"""The readings of weights, with doubts among them."""

import numpy as np
import pytest

from minigrad.auditing.evidence import Evidence, Fit, Scheme
from minigrad.auditing.readings import read

from .evidence import ONES, evidence


@pytest.mark.parametrize(("weights", "name", "factor"), [
    (ONES / 6, "mean", 1), (ONES, "sum", 6), (ONES / 3, "scaled", 2), ([0.2] * 5 + [0], "multiples", 1),
    ([1 / 4] * 4 + [1 / 2] * 2, "micro-batch means", 2)])
def test_names(weights, name, factor):
    reading = read(evidence(weights))[0]
    assert (reading.name, reading.factor) == (name, pytest.approx(factor))


def test_a_name_needs_the_gradient_not_only_the_weights():
    """Uncertain weights are near the mean, but the gradient is not."""
    off = evidence([1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 5], uncertainty=1.0)
    assert not any(r.name == "mean" for r in read(off))


def test_an_uncertain_weight_does_not_connect_others():
    """Unit 3 has so small a gradient that its weight could belong to either micro-batch."""
    true = np.array([1 / 8] * 4 + [1 / 4] * 2)
    weights, norms = true.copy(), ONES.copy()
    weights[3], norms[3] = 0.17, 1e-12

    def fit(pattern):
        factor = float((pattern * norms) @ (weights * norms) / ((pattern * norms) @ (pattern * norms)))
        return Fit(factor, np.zeros(0), np.linalg.norm((weights - factor * pattern) * norms) < 1e-9)

    uncertainty = np.where(norms < 1, 0.02, 1e-12)
    found = Evidence(weights, uncertainty, norms, [Scheme("example", ONES, ONES)], fit, lambda w: 1.0)
    reading = read(found)[0]
    assert reading.name == "micro-batch means"
    assert [m.tolist() for m in reading.microbatches] == [[0, 1, 2, 3], [4, 5]]

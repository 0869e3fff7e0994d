"""The words for numbers, and the readings of weights with doubts."""

import numpy as np
import pytest

from minigrad.auditing.readings import Evidence, Fit, Scheme, named_units, ranges, read

ONES = np.ones(6)


def evidence(weights, uncertainty=1e-12, norms=ONES):
    """Return the evidence of orthogonal gradients of length one."""
    weights = np.asarray(weights, float)

    def fit(pattern):
        factor = float(pattern @ weights / (pattern @ pattern))
        return Fit(factor, np.zeros(0), np.linalg.norm(weights - factor * pattern) < 1e-9)

    return Evidence(weights, np.full(len(weights), uncertainty), norms, [Scheme("example", ONES, ONES)], fit,
                    lambda w: float(np.linalg.norm(w * norms)))


def test_ranges():
    assert ranges([0, 1, 2, 3, 7]) == "0–3, 7"
    assert ranges([4, 5]) == "4, 5"
    assert ranges([]) == ""
    assert ranges(np.arange(0, 60, 2)).endswith("… (30 in all)")
    assert named_units(np.array([2]), "token") == "token 2"


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


def test_clipping_needs_two_clipped():
    norms = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    clipped = read(evidence(np.minimum(1, 4.5 / norms) / 6, norms=norms))
    assert (clipped[0].name, clipped[0].bound) == ("clipped", pytest.approx(4.5))
    assert not any(r.name == "clipped" for r in read(evidence([1 / 6] * 5 + [0.1], norms=norms)))

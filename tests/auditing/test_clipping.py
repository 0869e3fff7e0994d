"""Clipping needs more than one clipped gradient, and the products of weights and norms."""

import numpy as np
import pytest

from minigrad.auditing.readings import read

from .evidence import evidence


def test_clipping_needs_two_clipped():
    norms = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    clipped = read(evidence(np.minimum(1, 4.5 / norms) / 6, norms=norms))
    assert (clipped[0].name, clipped[0].bound) == ("clipped", pytest.approx(4.5))
    assert not any(r.name == "clipped" for r in read(evidence([1 / 6] * 5 + [0.1], norms=norms)))


def test_bound_does_not_rest_on_the_weight_of_a_small_gradient():
    """The weight of the smallest gradient is the largest one by round-off; the bound is that of the others."""
    norms = np.array([1e-3, 0.2, 0.4, 0.8, 2.0, 3.0])
    weights = np.minimum(1, 0.5 / norms) / 6
    weights[0] *= 1 + 1e-9
    (reading,) = read(evidence(weights, norms=norms))
    assert (reading.name, reading.bound) == ("clipped", pytest.approx(0.5, rel=1e-13))


def test_clipped_gradients_with_a_factor_are_no_micro_batches():
    """The four clipped examples, and a batch of the two others, would explain the weights by another factor."""
    norms = np.array([0.1, 0.2, 0.6, 0.8, 2.0, 3.0])
    (reading,) = read(evidence(1.25 * np.minimum(1, 0.5 / norms) / 6, norms=norms))
    assert (reading.name, reading.bound, reading.factor) == ("clipped", pytest.approx(0.5), pytest.approx(1.25))

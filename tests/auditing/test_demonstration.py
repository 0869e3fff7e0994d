"""The default step of `minigrad audit` has the fault that it is said to have."""

import importlib.util

import numpy as np
import pytest

import minigrad as mg
from minigrad.auditing.demonstration import EXAMPLES, mean_of_means
from minigrad.report import digits

pytestmark = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")


def test_the_last_microbatch_has_eight_times_the_weight():
    images, labels = (x[:EXAMPLES] for x in digits.load().all)
    params = digits.init()
    each = mg.per_example_grad(digits.loss, in_axes=(None, 0, 0))(params, images, labels)
    weights = np.repeat([1 / 128, 1 / 16], [96, 4])
    found = mean_of_means(params, images, labels)
    for name, gradients in each.items():
        np.testing.assert_allclose(found[name], np.tensordot(weights, gradients, 1), rtol=1e-4, atol=1e-6)

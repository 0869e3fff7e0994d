"""Ragged programs of every kind on the device: NumPy's numbers."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.primitive import on_host

from ...features import FEATURES, arguments


@pytest.mark.parametrize("feature", FEATURES)
def test_ragged_programs(feature, on_device):
    (params, examples, *more), axes = arguments(FEATURES[feature])
    f = mg.value_and_grad(mg.mean_loss(FEATURES[feature], in_axes=axes))
    step = mg.compile(f, backend="cupy")
    for batch in (examples, examples[:3]):
        for have, want in zip(step(params, batch, *more), f(params, batch, *more), strict=True):
            np.testing.assert_allclose(on_host(have), want, rtol=1e-9, atol=1e-12)
    assert len(step.entries) == 1

"""Fourier transforms as primitives; as functions they are tested in tests/numpy/test_additions.py."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import full
from minigrad.ops.fourier import rfft


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_a_transform_needs_points(shape):
    with pytest.raises(mg.ShapeError, match=r"rfft.*needs an axis that is not empty"):
        rfft(full(0.0, shape, np.dtype(float)))

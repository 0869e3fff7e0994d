"""Fourier transforms as primitives; as functions they are tested in tests/numpy/test_fft.py."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import ArrayType, Graph, full
from minigrad.ops.control import placeholder
from minigrad.ops.fourier import irfft, rfft
from minigrad.report.flops import count_operations


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_a_transform_needs_points(shape):
    with pytest.raises(mg.ShapeError, match=r"rfft.*needs an axis that is not empty"):
        rfft(full(0.0, shape, np.dtype(float)), size=1)


def test_the_number_of_frequencies_follows_from_the_points():
    with pytest.raises(mg.ShapeError, match=r"rfft.*has no 4 frequencies"):
        rfft(full(0.0, (8,), np.dtype(float)), size=4)


def test_operations_of_transforms_are_counted():
    """A real transform of 8 points takes half of the 5 n log2 n operations of a complex one."""
    x = placeholder(ArrayType((3, 8), np.dtype(float)))
    graph = Graph((x,), (irfft(rfft(x, size=5), n=8),))
    assert count_operations(graph) == 2 * 3 * 2.5 * 8 * 3

"""Copies of strided views, concatenations and padding, against the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigrad.graph import full
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node

from .checks import any_view, random_array, same


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8", "?", "i2", "f2", "u1"]))
def test_concatenate_and_pad_views(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, rng.integers(1, 5)).tolist())
    x = input_(*shape, dtype=dtype)
    a, b = any_view(rng, x), any_view(rng, x)
    axis = int(rng.integers(0, a.ndim))
    low, high, interior = (tuple(rng.integers(0, 3, a.ndim).tolist()) for _ in range(3))
    outputs = [node("concatenate", a, a, axis=axis), node("pad", a, low=low, high=high, interior=interior)]
    if a.shape == b.shape:
        outputs.append(node("concatenate", a, b, full(1, a.shape, a.dtype), axis=axis))
    same([x], outputs, [random_array(rng, shape, "u1").astype(dtype)], native=dtype != "f2")


@pytest.mark.usefixtures("finely_cut")
@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_large_copies(dtype):
    rng = np.random.default_rng(0)
    x, y = input_(30, 40, 7, dtype=dtype), input_(30, 40, 600, dtype=dtype)
    outputs = [node("concatenate", x, y, x, axis=2), node("concatenate", x, x, axis=0),
               node("concatenate", x, x, axis=1), node("pad", y, low=(1, 2, 3), high=(3, 2, 1), interior=(0, 0, 0)),
               node("pad", x, low=(0, 0, 0), high=(0, 0, 0), interior=(1, 2, 3))]
    same([x, y], outputs, [random_array(rng, s, dtype) for s in ((30, 40, 7), (30, 40, 600))])


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_copies_of_a_batch(batch):
    size = Dim.new("B")
    x, y = input_(size, 3), input_(2 * size, 3)
    outputs = [node("concatenate", x, y, x, axis=0), node("pad", x, low=(0, 1), high=(0, 2), interior=(0, 1)),
               node("concatenate", x, x, axis=1)]
    arrays = [np.ones((batch, 3)), np.zeros((2 * batch, 3))]
    same([x, y], outputs, arrays, {size.symbol: batch})

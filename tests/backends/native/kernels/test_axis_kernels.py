"""Cumulative sums and extremes, argmax and argmin, against the reference, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.graph import Graph
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node

from .checks import NUMBERS, any_view, random_array, same


def test_cumsum_of_a_flipped_broadcast():
    x = input_()
    turned = node("transpose", node("expand", x, shape=(2, 3), axes=(0, 1)), perm=(1, 0))
    same([x], [node("cumsum", turned, axis=0), node("argmax", turned, axis=1)], [np.array(2.0)])


@given(st.integers(0, 2**31), st.sampled_from([*NUMBERS, "?"]))
def test_along_an_axis(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, rng.integers(1, 4)).tolist())
    x = input_(*shape, dtype=dtype)
    view = any_view(rng, x)
    array = (random_array(rng, shape, "f4") * 3).round().astype(dtype)  # with many equal ones
    if array.dtype.kind == "f" and rng.random() < 0.5:
        array[rng.random(shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
    names = ["argmax", "argmin", "cummax", "cummin"]
    names += ["cumsum"] * (dtype != "?") + ["cumfmax", "cumfmin"] * (array.dtype.kind == "f")
    same([x], [node(name, v, axis=a) for name in names for v in (x, view) for a in range(v.ndim)], [array])


@pytest.mark.parametrize("n", [1, 31, 32, 47, 48, 49, 64, 200, 1001])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
def test_argmax_of_ties_and_nans(n, dtype):
    x = input_(3, n, dtype=dtype)
    outputs = [node(name, x, axis=1) for name in ("argmax", "argmin")]
    for at in {0, n // 3, n // 2, n - 1}:
        array = np.ones((3, n), dtype)
        array[0, at:] = 2
        array[1, at:] = 0
        array[2, at:] = np.nan if dtype[0] == "f" else 5
        same([x], outputs, [array])


def test_argmax_of_an_empty_axis():
    size = Dim.new("B")
    x = input_(3, size)
    program = backends.build(Graph((x,), (node("argmax", x, axis=1),)), "native")
    with pytest.raises(ValueError, match="empty"):
        program([np.zeros((3, 0))], {size.symbol: 0})
    same([x], [node("argmax", x, axis=0), *(node(name, x, axis=a) for name in ("cumsum", "cummax") for a in (0, 1))],
         [np.zeros((3, 0))], {size.symbol: 0})

"""Random bits and running totals."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.program import Program

from . import programs
from .programs import close


def test_random_bits_equal_cpu_bits(device):
    key = np.array([[5, 9], [1, 2]], np.uint32)
    graph, arrays, sizes = programs.optimized(mg.vmap(lambda k: mg.random.bits(k, (1001,))), key)
    (have,) = programs.call(Program(graph, device=device), arrays, sizes)
    np.testing.assert_array_equal(have, interpreters.evaluate(graph, arrays, sizes)[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_long_cumulative_sums(device, axis):
    x = np.random.default_rng(0).normal(size=(3, 1000, 2)).swapaxes(1, axis)
    graph, arrays, sizes = programs.optimized(lambda x: np.cumsum(np.sin(x), axis), x)
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "i8", "f2", "f4", "f8"])
def test_long_cumulative_extremes(device, axis, dtype):
    x = np.random.default_rng(0).normal(size=(700, 2)).swapaxes(0, axis) * 30
    if dtype[0] == "f":
        x[(slice(None),) * axis + (slice(0, 300),)] = np.nan
        x[(slice(None),) * axis + (290,)] = [-np.inf, 5]
        x = x * (x != 0)
    x = np.abs(x).astype(dtype) if dtype == "u4" else (x > 20) if dtype == "?" else x.astype(dtype)
    def f(x):
        return [u.accumulate(x, axis) for u in (np.maximum, np.minimum, np.fmax, np.fmin)]

    graph, arrays, sizes = programs.optimized(f, x)
    for have, want in zip(programs.call(Program(graph, device=device), arrays, sizes), f(x), strict=True):
        np.testing.assert_array_equal(have, want, strict=True)

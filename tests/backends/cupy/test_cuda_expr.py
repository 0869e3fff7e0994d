"""Kernel expressions and dtypes."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.backends.cupy.program import Program

from . import programs
from .programs import close


def test_half_precision_is_rounded_after_each_operation(device):
    x = np.random.default_rng(0).normal(size=(40, 30)).astype("f2")
    graph, arrays, sizes = programs.optimized(lambda x: (np.tanh(x) * x + 1, np.exp(x).sum(1), x @ x[:30]), x)
    have, want = (
        programs.call(Program(graph, device=device), arrays, sizes),
        interpreters.evaluate(graph, arrays, sizes),
    )
    np.testing.assert_array_equal(have[0], want[0])
    close(have[1:], want[1:], 3e-3)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u4", "i8", "u8"])
def test_integers_are_numpys(device, dtype):
    low, high = max(np.iinfo(dtype).min, -100), 100
    x, y = np.random.default_rng(1).integers(low, high, (2, 500)).astype(dtype)
    y[:9] = 0
    shift = y % np.asarray(70, dtype)

    def f(x, y, s):
        return [x // y, x % y, x * y, x - y, np.abs(x), np.sign(x), np.gcd(x, y), np.lcm(x % 10, y % 10),
                np.left_shift(x, s), np.right_shift(x, s), x & y, x | y, x ^ y, ~x, np.maximum(x, y), x < y,
                x.reshape(50, 10).sum(1, dtype=x.dtype), x.reshape(50, 10).max(1)]

    graph, arrays, sizes = programs.optimized(f, x, y, shift)
    with np.errstate(all="ignore"):
        want = interpreters.evaluate(graph, arrays, sizes)
    for have, w in zip(programs.call(Program(graph, device=device), arrays, sizes), want, strict=True):
        np.testing.assert_array_equal(have, w)

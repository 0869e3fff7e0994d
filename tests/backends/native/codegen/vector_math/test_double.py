"""Sums and products with their rounding errors."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import double
from minigrad.backends.native.codegen.vector_math.lanes import Lanes

FUSED = pytest.mark.parametrize("fused", [True, False], ids=["fused", "split"])
TINY = 2.0**-60


def results(function, a, b, fused=True):
    """Return the rounded result and its error for two doubles."""
    def emitter(part):
        return lambda builder, *xs: function(*(Lanes(builder, x, fused) for x in xs))[part].value

    return tuple(compiled(emitter(k), 2, np.float64, 2)(np.full(2, a), np.full(2, b))[0] for k in (0, 1))


@FUSED
@pytest.mark.parametrize(("a", "b", "want"), [
    (1 + 2.0**-30, 1 + 2.0**-30, (1 + 2.0**-29, TINY)),
    (1 + 2.0**-30, 1 - 2.0**-30, (1.0, -TINY)),
    (3.0, 5.0, (15.0, 0.0)),
])
def test_products(a, b, want, fused):
    assert results(double.product, a, b, fused) == want


@pytest.mark.parametrize(("function", "a", "b", "want"), [
    (double.fast_sum, 1.0, TINY, (1.0, TINY)),
    (double.sum_with_error, 1.0, TINY, (1.0, TINY)),
    (double.sum_with_error, TINY, 1.0, (1.0, TINY)),
    (double.sum_with_error, 0.1, 0.2, (0.30000000000000004, -2.0**-55)),
    (double.difference, 1.0, TINY, (1.0, -TINY)),
    (double.difference, TINY, 1.0, (-1.0, TINY)),
])
def test_sums_and_differences(function, a, b, want):
    assert results(function, a, b) == want

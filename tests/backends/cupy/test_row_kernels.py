"""Reductions within rows."""

import numpy as np
import pytest

from minigrad.backends.cupy.program import Program

from . import programs


@pytest.mark.parametrize("width", [5, 3000, 20000])
def test_sums_that_need_an_earlier_reduction_of_a_row(device, width):
    """The loop of the largest elements tries the sum first, and must forget the accumulator of that attempt."""
    x = np.random.default_rng(0).normal(size=(300, width))
    graph, arrays, sizes = programs.optimized(lambda x: np.exp(x - x.max(1, keepdims=True)).sum(1), x)
    program = Program(graph, device=device)
    (have,) = programs.call(program, arrays, sizes)
    np.testing.assert_allclose(have, [np.exp(row - row.max()).sum() for row in x], rtol=1e-12)

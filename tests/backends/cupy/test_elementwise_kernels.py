"""Sweeps over elements, columns and tiles."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.prelude import PRELUDE
from minigrad.backends.cupy.program import Program
from minigrad.primitive import on_host

from . import programs
from .programs import close


@pytest.mark.parametrize("shape", [(3, 100_000), (100_000, 3), (300_000,)])
def test_long_sums_add_in_short_chains(device, shape):
    """As `minigrad.ops.accumulators` says: equal terms one after the other lose a bit with every doubling."""
    axis = int(np.argmax(shape))
    x = np.full(shape, 0.1, "f4")
    graph, arrays, sizes = programs.optimized(lambda x: (x * 1).sum(axis), x)
    (have,) = programs.call(Program(graph, device=device), arrays, sizes)
    np.testing.assert_allclose(have, shape[axis] * float(np.float32(0.1)), rtol=4 * np.finfo("f4").eps)


@pytest.mark.parametrize("dtype", ["?", "f2", "i4", "f8"])
def test_aligned_elements_are_loaded_four_at_a_time(device, dtype):
    x, y = (np.random.default_rng(0).normal(size=(2, 5010)) * 9).astype(dtype)
    graph, _, sizes = programs.optimized(mg.vmap(lambda x, y: np.where(x > y, x, y)), x, y)
    program = Program(graph, device=device)
    assert "ld_pack" in program.source.replace(PRELUDE, "")
    for n, first in ((1, 0), (3, 0), (4, 0), (5, 1), (1024, 3), (5000, 0), (5000, 1), (5001, 2)):
        arrays = [program.asarray(a, a.dtype)[first:first + n] for a in (x, y)]
        (have,) = program(arrays, dict.fromkeys(sizes, n))
        np.testing.assert_array_equal(on_host(have), np.where(x > y, x, y)[first:first + n], strict=True)


def test_few_long_rows_are_shared_by_blocks(device):
    x = np.random.default_rng(0).normal(size=(2, 40_000))
    x[1, 33_333] = np.nan

    def f(x):
        top = x[:1].max(1)
        return x.sum(1), x.max(1), x.argmax(1), x[0].argmin(), np.exp(x[:1] - top[:, None]).sum(1), (x > 4).any(1)

    graph, arrays, sizes = programs.optimized(f, x)
    program = Program(graph, device=device)
    assert any(n["blocks"] > 4 and n["partial"] for n in (op.numbers(sizes) for op in program.plan.ops))
    close(programs.call(program, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12)


@pytest.mark.parametrize("dtype", ["?", "f2", "f4", "f8"])
def test_transposed_operands_go_through_tiles(device, dtype):
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=s).astype(dtype) for s in ((40, 70), (70, 40), (3, 33, 45)))

    def f(x, y, z):
        flat = y == x.T, np.where(x.T > 0, y, x.T), x.T[:, :35] == y[::2, :35].repeat(2, 0)
        return *flat, z.transpose(0, 2, 1) > z[:, :1, :1], z.transpose(2, 1, 0) == z[0].T[:, :, None]

    graph, arrays, sizes = programs.optimized(f, x, y, z)
    program = Program(graph, device=device)
    assert sum("[32][33]" in op.body for op in program.plan.ops) == 3
    close(programs.call(program, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 0)

"""Reductions within rows."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.kernels import Launch
from minigrad.backends.cupy.program import Program

from . import programs
from .programs import close, plan_of


@pytest.mark.parametrize("width", [5, 3000, 20000])
def test_sums_that_need_an_earlier_reduction_of_a_row(device, width):
    """The loop of the largest elements tries the sum first, and must forget the accumulator of that attempt."""
    x = np.random.default_rng(0).normal(size=(300, width))
    graph, arrays, sizes = programs.optimized(lambda x: np.exp(x - x.max(1, keepdims=True)).sum(1), x)
    program = Program(graph, device=device)
    (have,) = programs.call(program, arrays, sizes)
    np.testing.assert_allclose(have, [np.exp(row - row.max()).sum() for row in x], rtol=1e-12)


def test_softmax_cross_entropy_is_one_launch():
    def loss(z, label):
        z = z - z.max()
        return np.log(np.exp(z).sum()) - z[label]

    z, y = np.zeros((32, 10), "f4"), np.zeros(32, int)
    made = plan_of(mg.value_and_grad(mg.mean_loss(loss, (0, 0))), z, y)
    together = [op for op in made.ops if isinstance(op, Launch) and {"max", "sum"} <= {n.prim.name for n in op.nodes}]
    assert len(together) == 1
    assert len(made.ops) <= 4


def test_a_row_of_one_is_read_in_its_loop_and_outside(device):
    def f(x):
        total = np.exp(x).sum(1)
        return total * x[:, 0], np.tanh(x)[:, 0] + total

    graph, arrays, sizes = programs.optimized(f, np.arange(6.0).reshape(6, 1))
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )

"""Merged launches."""

import minigrad as mg
from minigrad.backends.cupy.kernels import Launch

from . import programs
from .programs import plan_of


def test_copies_and_updates_share_launches():
    def step(params, x, y):
        value, gradient = mg.value_and_grad(mg.mean_loss(programs.softmax_loss, (None, 0, 0)))(params, x, y)
        return value, {k: params[k] - 0.1 * gradient[k] for k in params}

    made = plan_of(step, *programs.network(8))
    launches = [op for op in made.ops if isinstance(op, Launch)]
    updates = [op for op in launches if sum(n.prim.name == "sub" for n in op.nodes) >= 4]
    assert updates == [launches[-1]]
    assert sum(n.prim.name == "input" for n in launches[0].nodes) >= 2

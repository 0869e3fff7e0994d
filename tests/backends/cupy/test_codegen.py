"""Elements of leaves and views."""

import numpy as np

from minigrad import interpreters
from minigrad.backends.cupy.program import Program

from . import programs
from .programs import close


def test_leaves_and_views_as_results(device):
    x = np.arange(12.0).reshape(3, 4)

    def f(x):
        y = np.tanh(x)
        return {"same": x, "twice": (y, y), "turned": y.T, "flat": y.ravel(), "constant": np.full(3, 2.0) + 0 * x[:, 0],
                "own": np.ones(4) * 3, "counter": np.arange(5), "row": y[1], "back": y[::-1]}

    graph, arrays, sizes = programs.optimized(f, x)
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )

"""The program of a level, from that of a node."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.ops.tree_scan import level_of


def test_a_level_is_the_batch_of_its_nodes():
    child = mg.Dim.new("child", rows=True)
    graph = mg.trace(lambda w, x, kids: np.tanh(x * w + np.sum(kids, axis=0)))(mg.f64[2], mg.f64[2], mg.f64[child, 2])
    level, sizes = level_of(graph, child, (1, 1, 0, 1), (0, 0, 0), False)
    assert level_of(graph, child, (1, 1, 0, 1), (0, 0, 0), False)[0] is level
    rng = np.random.default_rng(0)
    w, x, kids = rng.normal(size=2), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    lengths, owners = np.array([2, 0, 1]), np.array([0, 0, 2])
    start = rng.normal(size=(3, 2))
    (have,) = interpreters.evaluate(level.check(), [lengths, owners, w, x, kids, start],
                                    {sizes["nodes"]: 3, sizes["children"]: 3})
    np.testing.assert_allclose(have, start + np.tanh(x * w + np.stack([kids[:2].sum(0), np.zeros(2), kids[2]])))

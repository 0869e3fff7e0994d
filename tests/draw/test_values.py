"""Values of all nodes of a graph."""

import numpy as np

import minigrad as mg
from minigrad.draw.values import input_sizes, node_values


def test_all_nodes_have_values():
    graph = mg.trace(mg.vmap(lambda x: np.exp(x) + 1.0))(np.zeros(3))
    arrays = [np.log([1.0, 2.0, 3.0])]
    values = node_values(graph, arrays, input_sizes(graph, arrays))
    np.testing.assert_allclose(values[graph.outputs[0]], [2, 3, 4])
    assert set(values) == set(graph.nodes)

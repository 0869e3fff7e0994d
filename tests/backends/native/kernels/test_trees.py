"""Heights of the nodes of trees, against levels of NumPy."""

import numpy as np
import pytest

from .checks import native, program_of


def parents(rng, nodes):
    """Return the parents of a forest, whose rows are in any order."""
    order = rng.permutation(nodes)
    parent = np.full(nodes, -1)
    for k in range(1, nodes):
        if rng.random() < 0.9:
            parent[order[k]] = order[rng.integers(0, k)]
    return parent


def by_recursion(parent):
    children = [np.flatnonzero(parent == i) for i in range(len(parent))]

    def height(i):
        return 1 + max((height(j) for j in children[i]), default=-1)

    return [height(i) for i in range(len(parent))]


@pytest.mark.parametrize("nodes", [1, 2, 9, 60])
def test_heights_are_those_of_the_deepest_leaf(nodes):
    parent = parents(np.random.default_rng(nodes), nodes)
    own = [parent, np.arange(nodes), np.zeros(nodes, np.int64)]
    np.testing.assert_array_equal(native("tree_heights", own), by_recursion(parent))


def test_cycles_and_parents_that_are_no_nodes_are_errors():
    good = [np.array([-1, 0, 0, 2]), np.arange(4), np.zeros(4, np.int64)]
    program = program_of("tree_heights", good)
    for bad in ([-1, 2, 3, 1], [3, 3, 3, 3]):
        with pytest.raises(ValueError, match=r"example 0: node [123] is its own ancestor"):
            program([np.array(bad), *good[1:]], {})
    for bad in ([-1, 4, 0, 0], [-2, 0, 0, 0]):
        with pytest.raises(IndexError, match=r"the parent of node [01] is (4|-2), which is not a node"):
            program([np.array(bad), *good[1:]], {})
    np.testing.assert_array_equal(program(good, {})[0], [2, 0, 1, 0])

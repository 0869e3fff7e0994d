"""Parents from lists of children, and their errors."""

import numpy as np
import pytest

import minigrad as mg

node = mg.axis("node")


def test_parents_of_random_trees():
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 30):
        parent = np.array([-1 if i == 0 else int(rng.integers(0, i)) for i in range(n)], np.int64)
        children = [np.flatnonzero(parent == i).tolist() for i in range(n)]
        found = mg.tree_parents(children)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, parent)


def test_a_batch_of_trees_from_lists_of_children():
    @mg.example
    class Tree:
        x: mg.f64[node]
        parent: mg.index(node, null=-1)[node]

    trees = [Tree(np.array([1.0, 2, 4, 8]), mg.tree_parents([(1, 2), (), iter([3]), ()])),
             Tree(np.zeros(0), mg.tree_parents([])), Tree(np.array([5.0]), mg.tree_parents([[]]))]
    sums = mg.vmap(lambda t: mg.tree_scan(lambda x, kids: x + np.sum(kids), t.parent, t.x, mg.f64[()]))(mg.batch(trees))
    np.testing.assert_array_equal(sums.values, [15, 2, 12, 8, 5])


@pytest.mark.parametrize(("children", "kind", "message"), [
    ([[1], [2], [1]], mg.GraphError, "node 1 is a child of node 0 and of node 2: a node of a tree has one parent"),
    ([[1, 1], []], mg.GraphError, "node 1 is a child of node 0 and of node 0"),
    ([[], [2], [3], [1]], mg.GraphError, "node [123] is its own ancestor"),
    ([[0]], mg.GraphError, "node 0 is its own ancestor"),
    ([[], [5]], mg.GraphError, "node 1 has the child 5, but the nodes are 0 to 1"),
    ([[-1]], mg.GraphError, "node 0 has the child -1"),
    ([[0.5]], mg.DtypeError, "the children of node 0 must be ints, got 0.5"),
    ([[True], []], mg.DtypeError, "must be ints, got True"),
    ([[], 0], mg.DtypeError, "the children of node 1 must be a list of ints, got 0. A leaf has the list"),
    ([None], mg.DtypeError, "node 0 must be a list of ints, got None"),
    (3, mg.DtypeError, "it takes the list of each node's children, got 3")])
def test_lists_that_are_no_tree_are_refused(children, kind, message):
    with pytest.raises(kind, match=rf"test_child_lists.py:\d+: tree_parents: .*{message}"):
        mg.tree_parents(children)

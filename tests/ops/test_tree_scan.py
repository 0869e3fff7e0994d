"""Levels of forests, and the heights that they have."""

import numpy as np
import pytest

from minigrad.ops.tree_scan import Levels, tree_heights

PARENTS = np.array([2, 2, 5, -1, 5, -1])


def heights(parent):
    return tree_heights.eval(np, parent, np.arange(len(parent)), np.zeros(len(parent), np.int64))


def test_heights_are_those_of_the_deepest_leaf():
    assert heights(PARENTS).tolist() == [0, 0, 1, 0, 0, 2]
    assert heights(np.array([1, 2, -1])).tolist() == [0, 1, 2]
    assert heights(np.zeros(0, np.int64)).tolist() == []


def test_levels_hold_nodes_with_their_children():
    levels = Levels(PARENTS, heights(PARENTS))
    assert [n.tolist() for n in levels.nodes] == [[0, 1, 3, 4], [2], [5]]
    assert [n.tolist() for n in levels.children] == [[], [0, 1], [2, 4]]
    assert [n.tolist() for n in levels.lengths] == [[0, 0, 0, 0], [2], [2]]
    assert [n.tolist() for n in levels.owners] == [[], [0, 0], [0, 0]]
    assert not Levels(np.zeros(0, np.int64), np.zeros(0, np.int64)).nodes


def test_cycles_name_a_node_on_them():
    with pytest.raises(ValueError, match=r"example 0: node [12] is its own ancestor"):
        heights(np.array([1, 2, 1]))
    with pytest.raises(IndexError, match="the parent of node 1 is -2"):
        heights(np.array([-1, -2]))

"""Static values as nodes of pytrees."""

import pickle

import numpy as np
import optree
import pytest

from minigrad.errors import format_structure
from minigrad.static import Static, static_parts, unmarked, without_static

TREE = (1.0, {"act": Static(np.tanh), "w": 2.0}, [Static("mean"), None])


@pytest.mark.parametrize(("a", "b"), [(1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), (np.sin, np.cos)], ids=repr)
def test_values_of_other_types_or_signs_differ(a, b):
    assert Static(a) != Static(b)
    assert optree.tree_structure(Static(a)) != optree.tree_structure(Static(b))


@pytest.mark.parametrize("value", ["mean", 2, (1, "a"), float("nan"), np.tanh], ids=repr)
def test_equal_values_make_equal_structures(value):
    a, b = (optree.tree_structure((0, Static(value))) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a


def test_static_nodes_are_no_leaves():
    assert optree.tree_leaves(TREE) == [1.0, 2.0]
    assert unmarked(TREE) == (1.0, {"act": np.tanh, "w": 2.0}, ["mean", None])
    assert without_static(TREE) == (1.0, {"act": None, "w": 2.0}, [None, None])
    assert list(static_parts(optree.tree_structure(TREE))) == [((1, "act"), np.tanh), ((2, 0), "mean")]


def test_a_printed_structure_shows_the_values():
    assert format_structure(optree.tree_structure((1, Static("mean")))) == "(*, 'mean')"

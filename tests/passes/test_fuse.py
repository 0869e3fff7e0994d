"""fuse: which statements form a group."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.passes.fuse import Roles, fuse

X, Y = np.ones((40, 3)), np.ones((40, 3))


def groups(f, *args):
    graph = mg.trace(f)(*args)
    return [[n.prim.name for n in group.nodes] for group in fuse(graph, Roles.of(graph))]


@pytest.mark.parametrize(("f", "names"), [
    (lambda x, y: (x * 2, np.sum(x, axis=1)), [["mul", "sum"]]),  # readers of one value
    (lambda x, y: (x + 2, y[::-1] * x), [["add", "mul"]]),
    (lambda x, y: (x + 2, y * 2), [["add"], ["mul"]]),  # of one number, which is no reason
    (lambda x, y: (x + 2) * y, [["add", "mul"]]),  # of each other
    (lambda x, y: (x + 2)[::-1] * y, [["add"], ["mul"]])])  # row 0 wants the last one
def test_groups(f, names):
    assert groups(f, X, Y) == names

"""Sorting and cumulative sums: ties, stability, integers."""

import numpy as np
import pytest

from minigrad import walk
from minigrad.errors import DtypeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.order import sort
from tests import checks


@pytest.mark.parametrize("axis", [0, 1])
def test_sort(axis):
    x = np.random.default_rng(0).permutation(12.0 * np.arange(12)).reshape(3, 4)
    node = checks.placeholder(x.shape, "f8")
    graph = Graph((node,), (sort(node, axis),))
    np.testing.assert_array_equal(walk.evaluate(graph, [x])[0], np.sort(x, axis=axis), strict=True)
    checks.check_gradient(graph, [x])
    checks.check_duality(graph, [x])
    checks.check_batch(graph, [x], depth=2)


def test_ties_keep_their_order_and_gradients_follow():
    x = np.array([2.0, 1.0, 2.0, 1.0])
    (order,) = walk.evaluate(checks.program(P["argsort"], [x], {"axis": 0}), [x])
    np.testing.assert_array_equal(order, [1, 3, 0, 2])
    node = checks.placeholder((4,), "f8")
    (g,) = walk.evaluate(checks.reverse(Graph((node,), (sort(node, 0),))), [x, np.array([1.0, 2.0, 3.0, 4.0])])
    np.testing.assert_array_equal(g, [3.0, 1.0, 4.0, 2.0])


@pytest.mark.parametrize("dtype", ["i4", "u1", "f4"])
def test_cumsum_stays_in_its_dtype(dtype):
    x = np.array([1, 2, 3], dtype)
    checks.check_types(checks.program(P["cumsum"], [x], {"axis": 0}), [x])


@pytest.mark.parametrize(("name", "params"), [("sum", {"axes": (0,)}), ("cumsum", {"axis": 0})])
def test_bools_are_not_added(name, params):
    # Their sum as bools would be `any`; NumPy counts them, which is a cast and then a sum.
    with pytest.raises(DtypeError, match=f"{name}.*Cast"):
        P[name](checks.placeholder((3,), "?"), **params)

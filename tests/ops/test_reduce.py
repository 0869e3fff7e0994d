"""Extremes with ties, and reductions over empty axes."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from tests import checks

F8 = np.dtype("f8")


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_ties_share_equally_and_have_no_curvature(name, dtype):
    x = np.array([[2.0, 1.0, 2.0], [3.0, 3.0, 3.0]], dtype) * (1 if name == "max" else -1)
    graph = checks.program(P[name], [x], {"axes": (1,)})
    back = checks.reverse(graph)
    ones = np.ones(2, dtype)
    (g,) = interpreters.evaluate(back, [x, ones])
    np.testing.assert_array_equal(g, np.array([[0.5, 0, 0.5], [1 / 3] * 3], dtype), strict=True)
    again = checks.reverse(back)
    assert not interpreters.evaluate(again, [x, ones, np.ones_like(x)])[0].any()
    checks.check_duality(graph, [x.astype("f8")] if dtype == "f8" else [x], 1e-6)


def test_empty_axes():
    x = np.zeros((0, 3))
    for name in ("max", "min", "argmax", "argmin"):
        params = {"axis": 0} if name.startswith("arg") else {"axes": (0,)}
        with pytest.raises(ShapeError, match="empty"):
            checks.program(P[name], [x], params)
    for axes in ((0,), (1,), (0, 1)):
        graph = checks.program(P["sum"], [x], {"axes": axes})
        checks.check_types(graph, [x])
        checks.check_gradient(graph, [x])
        checks.check_batch(graph, [x])


@pytest.mark.parametrize("name", ["any", "all"])
def test_truth_of_numbers_is_bool(name):
    x = np.array([[0.0, 2.0], [1.0, 3.0]])
    checks.check_types(checks.program(P[name], [x], {"axes": (1,)}), [x])


@pytest.mark.parametrize(("name", "dtype", "value"), [
    ("max_or_least", "f8", -np.inf), ("min_or_largest", "f8", np.inf), ("max_or_least", "i4", -2**31),
    ("min_or_largest", "i4", 2**31 - 1)])
def test_extremes_over_an_empty_axis(name, dtype, value):
    node = P[name](checks.placeholder((2, 0), dtype), axes=(1,))
    (have,) = interpreters.evaluate(Graph(node.inputs, (node,)), [np.zeros((2, 0), dtype)])
    np.testing.assert_array_equal(have, np.full(2, value, dtype))

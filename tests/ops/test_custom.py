"""Transposes of derivative rules, and the types that a callback states."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError, GradError, ShapeError
from minigrad.graph import Graph
from minigrad.ops.custom import Later, checked, ruled, transpose
from minigrad.ops.subgraph import placeholders

F8 = np.dtype("f8")


def test_transpose_of_a_linear_map_is_that_of_its_matrix():
    x, y, a, b = placeholders((), (), (), ())
    outputs = [x * 2.0 + y * 3.0, y * -5.0]  # the matrix [[2, 3], [0, -5]]
    back = transpose("f", outputs, [a, b], [x, y])
    have = interpreters.evaluate(Graph((a, b), tuple(back)), [np.array(10.0), np.array(1.0)])
    assert [float(v) for v in have] == [20, 25]


def test_rule_that_is_not_linear_has_no_transpose():
    x, a = placeholders((), ())
    with pytest.raises(GradError, match="rule of f is not linear"):
        transpose("f", [x * x], [a], [x])


def test_number_of_inputs_that_a_rule_covers():
    x, captured, g, out = placeholders((3,), (3,), (3,), (3,))
    graph = Graph((x, captured), (x * captured,))
    assert ruled(graph, Graph((g, out, x, captured), (g * captured,)), None) == 1
    assert ruled(graph, None, Graph((g, out, x, captured), (g * captured,))) == 1


def test_later_rule_is_traced_once_and_unknown_in_a_copy():
    made = []
    (x,) = placeholders(())

    def make():
        made.append(1)
        return Graph((x,), (x,))

    rule = Later("f", make)
    assert rule.graph is rule.graph
    assert made == [1]
    copy, args = rule.__reduce__()
    with pytest.raises(GradError, match="calls f itself"):
        _ = copy(*args).graph


@pytest.mark.parametrize(("values", "error", "match"), [
    ([np.ones(3)], ShapeError, "returned 1 arrays, and was stated to return 2"),
    ([np.ones(3), np.ones(2)], ShapeError, r"of shape \(2,\)"),
    ([np.ones(3), np.ones((), int)], DtypeError, "returned int64, and was stated to return float64")])
def test_callback_that_returns_other_types_than_stated(values, error, match):
    result = (((3,), F8), ((), F8))
    assert [a.shape for a in checked("f", [np.ones(3), 2.0], (), result)] == [(3,), ()]
    with pytest.raises(error, match=f"callback f: .*{match}"):
        checked("f", values, (), result)

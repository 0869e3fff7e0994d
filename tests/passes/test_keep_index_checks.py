"""Passes keep the checks of indices, also where they drop the readers."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES, ArrayType, Graph, full
from minigrad.ops.index import gather
from minigrad.passes.keep_index_checks import keep_index_checks, results_after_checks, with_all_check_results
from minigrad.primitive import placeholder

X, I = (ArrayType(shape, np.dtype(d)) for shape, d in (((4, 2), "f8"), ((3,), "i8")))  # noqa: E741


def test_a_check_stays_when_a_pass_drops_its_reader():
    x, i = placeholder(X), placeholder(I)
    graph = Graph((x, i), (x * 2.0, PRIMITIVES["sum"](gather(x, i), axes=(0, 1))))

    def drop(g):
        return g.replace(outputs=(g.outputs[0], full(0.0, (), np.dtype("f8")), *g.outputs[2:]))

    after = keep_index_checks(drop, graph).check()
    assert len(after.outputs) == 2
    assert after.out_names == graph.out_names
    assert after.count("in_range") == 1
    assert keep_index_checks(lambda g: g, graph) is graph
    assert keep_index_checks(drop, after).count("in_range") == 1


def test_checks_are_results_while_a_pass_runs():
    x, i = placeholder(X), placeholder(I)
    graph = Graph((x, i), (x * 2.0, gather(x, i)))
    assert with_all_check_results(graph, 2).count("in_range") == 1
    dropped = Graph((x, i), (x * 2.0, PRIMITIVES["sum"](gather(x, i), axes=(0, 1))))
    (product, total, check) = with_all_check_results(dropped, 2).outputs
    assert (product, total) == dropped.outputs
    assert check.prim.name == "in_range"
    assert with_all_check_results(dropped.replace(outputs=(product, total, check), out_names=()), 2).outputs == (
        product, total, check)


def test_a_result_waits_for_a_check_without_reader():
    x, i = placeholder(X), placeholder(I)
    check = PRIMITIVES["in_range"](i, size=4)
    after = results_after_checks(Graph((x, i), (x * 2.0, check)), 1).check()
    values, good = np.ones((4, 2)), np.array([0, 3, -4])
    np.testing.assert_array_equal(interpreters.evaluate(after, [values, good])[0], 2 * values)
    with pytest.raises(IndexError):
        interpreters.evaluate(after, [values, np.array([0, 4, 0])])

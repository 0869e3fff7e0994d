"""Nodes that hold graphs, with some of their results or with their checks alone."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.control import parts
from minigrad.ops.results import (
    SEPARABLE,
    checks_as_results,
    drop_unused_results,
    waiting,
    waits_for_check,
    with_checks,
    with_results,
    zero,
)
from tests import checks


def held(graph):
    (node,) = [n for n in graph.nodes if n.prim.name in SEPARABLE]
    return node


@pytest.mark.parametrize("name", sorted(SEPARABLE))
def test_each_result_alone_has_its_value(name):
    for sample in P[name].samples():
        graph = checks.program(P[name], sample.arrays, sample.params)
        node = held(graph)
        values = interpreters.evaluate(graph, sample.arrays)
        for k, value in enumerate(values):
            smaller, positions = with_results(node, [k])
            out = parts(smaller)[positions[k]]
            (have,) = interpreters.evaluate(Graph(graph.inputs, (out,)), sample.arrays)
            np.testing.assert_allclose(have, value, rtol=1e-13)


def test_carry_that_no_selected_result_needs_disappears():
    def f(x):
        (a, b, c), ys = mg.scan(lambda s, x: ((s[0] + x, s[1] * x, s[2] + s[1]), s[0]), (x[0], 1.0, 0.0), x)
        return a, b, c, ys

    node = held(mg.trace(f)(np.ones(3)))
    for selected, carry in (([0], {0}), ([1], {1}), ([2], {1, 2}), ([3], {0, 3})):
        smaller, positions = with_results(node, selected)
        assert set(positions) == carry
        assert smaller.params["counts"][1] == len(carry - {3})
    assert with_results(node, [0, 1, 2, 3])[0] is node


def test_unused_results_of_later_nodes_are_dropped_first():
    def f(x):
        first = mg.scan(lambda s, x: ((s[0] + x, s[1] * x), None), (0.0, 1.0), x)[0]
        second = mg.scan(lambda s, x: ((s[0] + x, s[1] * x), None), (first[0], first[1]), x)[0]
        return second[0]

    graph = drop_unused_results(mg.trace(f)(np.ones(3)))
    assert [len(n.types) for n in graph.nodes if n.prim.name == "scan"] == [1, 1]
    assert interpreters.evaluate(graph, [np.array([1.0, 2.0, 4.0])]) == [14.0]


@pytest.mark.parametrize("f", [
    mg.checkpoint(lambda x, i: x[i]),
    lambda x, i: mg.scan(lambda c, k: (c + x[k], None), 0.0, i)[0],
    lambda x, i: mg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + x[i[s[0]]]), (0, 0.0))[1],
    lambda x, i: mg.switch(i[0], [lambda x, i: x[i[1]], lambda x, i: x[i[2]]], x, i)])
def test_checks_of_a_held_graph_as_one_further_result(f):
    graph = mg.trace(f)(np.ones(4), np.arange(3))
    node = held(graph)
    more, (check,) = with_checks(node)
    assert len(more.types) == len(node.types) + 1
    program = Graph(graph.inputs, (check,))
    interpreters.evaluate(program, [np.ones(4), np.array([0, 3, 1])])
    with pytest.raises(IndexError):
        interpreters.evaluate(program, [np.ones(4), np.array([0, 4, 4])])


def test_barriers_of_checks_become_results():
    x, i = checks.placeholder((3,), "f8"), checks.placeholder((2,), "i8")
    check = P["in_range"](i, size=3)
    out = waiting(P["sum"](x, axes=(0,)), [check])
    assert waits_for_check(out)
    graph = checks_as_results(Graph((x, i), (out,)))
    assert [n.prim.name for n in graph.outputs] == ["sum", "in_range"]
    assert not interpreters.evaluate(Graph((), (zero(),)), [])[0].any()

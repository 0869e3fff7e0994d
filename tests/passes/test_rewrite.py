"""Rewriting by rules: rules apply to each other's results, equal nodes become one, and lines are kept."""

import numpy as np

from minigrad import interpreters
from minigrad.graph import Graph
from minigrad.passes.rewrite import Rewrite

from .programs import input_, node

X = input_(3)


def rewritten(graph, **rules):
    return Rewrite(lambda prim: [rules[prim.name]] if prim.name in rules else [], lambda g: g).graph(graph)


def double_as_sum(s, t, xs, p):
    return s("add", xs[0], xs[0])


def sum_of_equals_as_product(s, t, xs, p):
    return s("mul", xs[0], s.full(2.0, t.shape, t.dtype)) if xs[0] is xs[1] else None


def test_rules_apply_to_the_results_of_rules():
    graph = Graph((X,), (node("square", X),))  # not its value: the table decides
    after = rewritten(graph, square=double_as_sum, add=sum_of_equals_as_product)
    assert [n.prim.name for n in after.nodes] == ["input", "full", "mul"]
    np.testing.assert_array_equal(interpreters.evaluate(after, [np.arange(3.0)])[0], [0.0, 2.0, 4.0])


def test_equal_nodes_become_one():
    graph = Graph((X,), (node("add", node("sin", X), node("sin", X)), node("mul", X, node("cos", X)),
                         node("mul", node("cos", X), X)))
    after = rewritten(graph)
    assert after.count("sin") == after.count("cos") == after.count("mul") == 1
    assert after.outputs[1] is after.outputs[2]


def test_a_graph_without_changes_is_itself():
    graph = Graph((X,), (node("sin", X) * 2.0,))
    assert rewritten(graph) is graph


def test_replacements_keep_the_line_of_the_node():
    n = node("square", X)
    (new,) = rewritten(Graph((X,), (n,)), square=double_as_sum).outputs
    assert new.prim.name == "add"
    assert (new.loc, new.rules) == (n.loc, n.rules)


def test_readers_of_an_operand_are_counted():
    answers = []

    def ask(s, t, xs, p):
        answers.append(s.feeds_one(0))

    y = node("sin", X)
    rewritten(Graph((X,), (node("exp", y),)), exp=ask)
    rewritten(Graph((X,), (node("exp", y), y)), exp=ask)
    assert answers == [True, False]


def test_absorbed_nodes_are_rewritten():
    def rule(s, t, xs, p):
        since = node("sin", xs[0]).serial
        return s.absorb(node("add", node("exp", xs[0]), xs[0]), since)

    def exp_as_sin(s, t, xs, p):
        return s("sin", xs[0])

    after = rewritten(Graph((X,), (node("square", X),)), square=rule, exp=exp_as_sin)
    assert [n.prim.name for n in after.nodes] == ["input", "sin", "add"]

"""Rewriting graphs node by node."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES


def test_a_graph_that_no_rule_changes_stays_the_same_object():
    graph = mg.trace(lambda x: np.sin(x) + 1)(mg.f64[3])
    assert interpreters.rewrite(graph, lambda node, inputs: None) is graph


def test_readers_of_a_replaced_node_are_rebuilt_with_their_line():
    graph = mg.trace(lambda x: np.exp(np.sin(x)) * x)(mg.f64[3])
    sin, cos = PRIMITIVES["sin"], PRIMITIVES["cos"]
    after = interpreters.rewrite(graph, lambda node, inputs: cos(*inputs) if node.prim is sin else None)
    (before,), (last,) = graph.outputs, after.outputs
    assert [n.prim.name for n in after.nodes if n.inputs] == ["cos", "exp", "mul"]
    assert (last.loc, last.rules, last.type) == (before.loc, before.rules, before.type)
    x = np.array([0.1, 0.5, 2.0])
    np.testing.assert_allclose(after(x), np.exp(np.cos(x)) * x, rtol=1e-15)


def test_a_value_that_only_rules_read_need_not_be_a_node():
    graph = mg.trace(lambda x: np.exp(-x))(mg.f64[3])
    neg, exp = PRIMITIVES["neg"], PRIMITIVES["exp"]

    def rule(node, inputs):
        if node.prim is neg:
            return inputs
        if node.prim is exp:
            ((x,),) = inputs
            return exp(x)
        return None

    x = np.array([0.1, 0.5, 2.0])
    np.testing.assert_allclose(interpreters.rewrite(graph, rule)(x), np.exp(x), rtol=1e-15)


def test_rebuilt_is_the_node_itself_where_nothing_changes():
    graph = mg.trace(lambda x: np.sum(x, axis=0))(mg.f64[3, 2])
    (node,) = graph.outputs
    assert interpreters.rebuilt(node, node.inputs) is node
    other = interpreters.rebuilt(node, node.inputs, {"axes": (1,)})
    assert other is not node
    assert other.params == {"axes": (1,)}

"""Graphs that nodes hold: operands of loops by role, fixed points, batches, and access to operands."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.subgraph import (
    HELD,
    Signature,
    apply_graph,
    batch_graph,
    copy_graph,
    fixed_point,
    graphs_of,
    jvp_graph,
    placeholders,
    vjp_graph,
)
from tests import checks


def test_operands_by_role():
    roles = Signature(1, 2)
    assert roles.split("abcde") == ("a", "bc", "de")
    assert roles.carry("abcde") == "bc"
    assert roles.ends("vwxyz") == ("vw", "xyz")
    assert roles.grown([True, False, False, False], [False, True, True]) == [True, False, True, False]
    assert roles.beside(["a", "b", "c", "d"], [None, "B", None, "D"]) == ("a", "b", "c", "B", "d", "D")


def test_fixed_point_of_reachability():
    edges = {0: {1}, 1: {2}, 2: {0}, 3: {4}}
    steps = []

    def step(state):
        steps.append(state)
        return state.union(*(edges.get(k, set()) for k in state)), len(steps)

    assert fixed_point(step, {0}) == ({0, 1, 2}, 3)


def product():
    w, x = placeholders((3,), (3,))
    return Graph((w, x), (P["sum"](w * x, axes=(0,)), P["sin"](x)), name="product")


def test_batch_has_the_axis_where_mapped_inputs_reach_or_the_caller_asks():
    graph = product()
    batched, flags = batch_graph(graph, [True, False], 4)
    assert flags == (True, False)
    assert [n.shape for n in batched.outputs] == [(4,), (3,)]
    batched, flags = batch_graph(graph, [True, False], 4, [True, True])
    assert [n.shape for n in batched.outputs] == [(4,), (4, 3)]
    assert flags == (True, True)


def test_copies_share_no_input_and_compute_the_same():
    graph = product()
    inputs, outputs = copy_graph(graph)
    assert not set(inputs) & set(graph.inputs)
    arrays = [np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])]
    for a, b in zip(interpreters.evaluate(graph, arrays),
                    interpreters.evaluate(Graph(tuple(inputs), tuple(outputs)), arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    assert apply_graph(graph, graph.inputs) == list(graph.outputs)


def test_derivatives_of_a_held_graph():
    graph, (w, x) = product(), (np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0]))
    back = vjp_graph(graph, [0], [1])
    np.testing.assert_allclose(interpreters.evaluate(back, [w, x, np.array(2.0)])[0], 2 * w)
    forth, numbers = jvp_graph(graph, [0])
    assert numbers == [0]  # the sine does not depend on w
    np.testing.assert_allclose(interpreters.evaluate(forth, [w, x, np.ones(3)])[0], x.sum())
    forth, numbers = jvp_graph(graph, [0], [0, 1])
    assert not interpreters.evaluate(forth, [w, x, np.ones(3)])[1].any()


@pytest.mark.parametrize(("name", "access"), [
    ("scan", ["whole", "carry", "slice"]), ("while", ["whole", "carry"]), ("switch", ["whole", "row"]),
    ("chunked", ["whole", ("chunk", 1), ("chunk", 0)]), ("checkpoint", ["whole"] * 3), ("custom", ["whole"] * 3)])
def test_access_to_operands(name, access):
    sample = P[name].samples()[1 if name == "switch" else 0]
    (node,) = {n.inputs[0] for n in checks.program(P[name], sample.arrays, sample.params).outputs}
    held = graphs_of(node)
    assert [[how for _, _, how in triples] for _, triples in held] == [access] * len(held)
    for graph, triples in held:
        assert tuple(own for own, _, _ in triples) == graph.inputs
        assert tuple(operand for _, operand, _ in triples) == node.inputs[HELD[name].first:]

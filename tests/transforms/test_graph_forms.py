"""Batching and derivatives of a graph by the core's functions, with arguments by position."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms import graph_forms

GRAPH = mg.trace(lambda params, x, n: params["w"] * x + params["b"] * n)(
    {"b": mg.f64[()], "w": mg.f64[()]}, mg.f64[()], mg.i64[()])


def test_an_argument_has_the_leaves_of_its_pytree():
    positions, tree = graph_forms.argument(GRAPH, 0)
    assert (list(positions), tree.entries()) == ([0, 1], ["b", "w"])
    assert list(graph_forms.argument(GRAPH, -1)[0]) == [3]


def test_several_arguments_have_a_tuple_of_pytrees():
    nodes, tree = graph_forms.select(GRAPH, (1, 0), "grad")
    assert nodes == [GRAPH.inputs[i] for i in (2, 0, 1)]
    assert tree.num_children == 2


@pytest.mark.parametrize(("argnums", "message"), [
    (3, "argnums 3, but it was called with 3 arguments"), (-4, "argnums -4, but it was called with 3 arguments"),
    ("w", "argnums must be ints, got 'w'"), (True, "argnums must be ints, got True"),
    (2, r"argument n is i64\[\].*leave it out of argnums")])
def test_selected_arguments_exist_and_are_floating(argnums, message):
    with pytest.raises(mg.GradError, match=f"grad of lambda_: {message}"):
        graph_forms.select(GRAPH, argnums, "grad")


def test_value_and_gradient_are_one_graph():
    graph = graph_forms.value_and_grad(GRAPH, *graph_forms.select(GRAPH, 0, "grad"), has_aux=False)
    assert graph({"b": 2.0, "w": 3.0}, 5.0, 7) == (29.0, {"b": 7.0, "w": 5.0})


def test_further_inputs_are_tangents_or_cotangents():
    point = [np.float64(v) for v in (2.0, 3.0, 5.0)] + [np.int64(7)]
    nodes, tree = graph_forms.select(GRAPH, 0, "jvp")
    pushed = graph_forms.jvp(GRAPH, nodes)
    assert pushed.replace(out_tree=None)(*point, 1.0, 10.0) == (29.0, 57.0)
    pulled = graph_forms.vjp(GRAPH, nodes, tree)
    assert pulled(*point, 2.0) == {"b": 14.0, "w": 10.0}

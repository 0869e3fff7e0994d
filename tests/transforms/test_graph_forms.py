"""Batching and derivatives of a graph by the core's functions, with arguments by position."""

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
    (3, "argnums 3, but there are 3 positional arguments"), (-4, "argnums -4, but there are 3 positional arguments"),
    ("v", "no argument is called 'v'"), (True, r"argnums must hold names and positions \(ints\), got True"),
    (2, r"argument n is i64\[\].*leave it out of argnums")])
def test_selected_arguments_exist_and_are_floating(argnums, message):
    with pytest.raises(mg.GradError, match=f"grad of lambda_: {message}"):
        graph_forms.select(GRAPH, argnums, "grad")


def test_value_and_gradient_are_one_graph():
    graph = graph_forms.value_and_grad(GRAPH, *graph_forms.select(GRAPH, 0, "grad"), has_aux=False)
    assert graph({"b": 2.0, "w": 3.0}, 5.0, 7) == (29.0, {"b": 7.0, "w": 5.0})

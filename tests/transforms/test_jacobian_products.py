"""Products with a Jacobian: arguments without derivatives, auxiliary results, and the graphs of both."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms import graph_forms
from minigrad.transforms.jacobian_products import jvp_graph, vjp_graph

from .common import close
from .test_graph_forms import GRAPH

W, V, INDEX = np.array([1.0, -2.0, 3.0]), np.array([0.5, 1.0, -1.0]), np.array([2, 0])


def test_further_inputs_are_tangents_or_cotangents():
    point = [np.float64(v) for v in (2.0, 3.0, 5.0)] + [np.int64(7)]
    nodes, tree = graph_forms.select(GRAPH, 0, "jvp")
    pushed = jvp_graph(GRAPH, nodes)
    assert pushed.replace(out_tree=None)(*point, 1.0, 10.0) == (29.0, 57.0)
    pulled = vjp_graph(GRAPH, nodes, tree)
    assert pulled(*point, 2.0) == {"b": 14.0, "w": 10.0}


def picked(p, index, power=2, name="sum"):
    return getattr(np, name)(p["w"][index] ** power) * p["n"]


def test_integers_and_static_values_have_no_cotangent():
    value, pull = mg.vjp(picked, {"w": W, "n": 3}, INDEX, 3, "sum")
    assert value == 3 * (27 + 1)
    ((of_p, *others),) = (pull(1.0),)
    assert others == [None, None, None]
    assert of_p["n"] is None
    close(of_p["w"], 9 * np.array([1.0, 0.0, 9.0]))


def test_a_tangent_of_none_is_zero():
    value, tangent = mg.jvp(picked, ({"w": W, "n": 3.0}, INDEX, 3, "sum"), ({"w": V, "n": None}, None, None, None))
    assert value == 3 * (27 + 1)
    close(tangent, 9 * (V[0] + 9 * V[2]))
    close(mg.jvp(picked, ({"w": W, "n": 3.0}, INDEX), (None, None))[1], 0.0)
    with pytest.raises(mg.ShapeError, match=r"the tangent has the structure .*, expected .*; None stands for zeros"):
        mg.jvp(picked, ({"w": W, "n": 3.0}, INDEX), ({"w": V}, None))
    with pytest.raises(mg.GradError, match=r"argument index is i64\[2\].* leave it out of the tangents, with None"):
        mg.jvp(picked, ({"w": W, "n": 3.0}, INDEX), (None, INDEX))


def test_a_cotangent_of_none_is_zero():
    _, pull = mg.vjp(lambda w: {"a": w * 2, "i": np.argmax(w), "b": w * 3}, W)
    close(pull({"a": None, "i": None, "b": V}), (3 * V,))
    close(pull({"a": V, "i": 7, "b": None}), (2 * V,))


@pytest.mark.parametrize("around", [lambda f: f, mg.compile], ids=["alone", "compiled"])
def test_auxiliary_results(around):
    def f(w, k):
        return {"y": w**k}, {"norm": np.sqrt(np.sum(w**2)), "index": np.argmax(w)}

    aux = {"norm": np.sqrt(14.0), "index": 2}
    close(around(lambda w, v: mg.jvp(f, (w, 2), (v, None), has_aux=True))(W, V), ({"y": W**2}, {"y": 2 * W * V}, aux))

    def pulled(w, v):
        value, pull, aux = mg.vjp(f, w, 2, has_aux=True)
        return value, pull({"y": v})[0], aux

    close(around(pulled)(W, V), ({"y": W**2}, 2 * W * V, aux))
    close(mg.vmap(lambda w: pulled(w, w)[1:])(np.stack([W, V])),
          (2 * np.stack([W, V]) ** 2, {"norm": np.linalg.norm([W, V], axis=1), "index": np.array([2, 1])}))


@pytest.mark.parametrize("transform", [lambda f: mg.jvp(f, (W,), (V,), has_aux=True),
                                       lambda f: mg.vjp(f, W, has_aux=True)], ids=["jvp", "vjp"])
def test_auxiliary_results_need_a_pair(transform):
    with pytest.raises(mg.GradError, match=r"of lambda_ with has_aux: it must return \(result, aux\)"):
        transform(lambda w: w)


def test_derivatives_with_a_size_that_is_a_number():
    value, tangent = mg.jvp(lambda w, n: np.sum(w[:n] ** 2), (W, 2), (V, None))
    assert (value, tangent) == (5.0, 2 * (W[0] * V[0] + W[1] * V[1]))


@pytest.mark.parametrize("backend", [None, "numpy"])
def test_cotangents_of_results_whose_size_the_data_determine(backend):
    x = np.array([1.0, -2.0, 3.0, 4.0])

    def kept_squares(x):
        return x[mg.select(x > 0)] ** 2

    def pulled(x):
        squares, pull = mg.vjp(kept_squares, x)
        return pull(2 * squares)[0]

    f = pulled if backend is None else mg.compile(pulled, backend=backend)
    np.testing.assert_allclose(f(x), [4.0, 0.0, 108.0, 256.0])  # 4 x³ where x > 0
    np.testing.assert_allclose(f(-x), [0.0, 32.0, 0.0, 0.0])


def test_cotangents_of_another_size_than_the_data_determine_are_refused():
    x = np.array([1.0, -2.0, 3.0])
    _, pull = mg.vjp(lambda x: x[mg.select(x > 0)] ** 2, x)
    np.testing.assert_allclose(pull(np.ones(2))[0], [2.0, 0.0, 6.0])
    np.testing.assert_allclose(pull(None)[0], np.zeros(3))
    with pytest.raises(mg.ShapeError, match=r"expected f64\[2\], got f64\[3\]"):
        pull(np.ones(3))


@pytest.mark.parametrize("transform", [mg.jvp, mg.hvp], ids=["jvp", "hvp"])
def test_an_array_in_place_of_a_tuple_of_arguments_is_named(transform):
    x = np.ones(3)
    for name, call in ("primals", (x, (x,))), ("tangents", ((x,), x)):
        with pytest.raises(mg.TraceError, match=rf"{transform.__name__} of sum: {name} must be a tuple .*got ndarray"):
            transform(np.sum, *call)

"""Thin products: which become sums row by row, their values, and the kernels that they join."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.native.plan.thin_products import FEW, MOST, thin_products
from minigrad.backends.native.runtime import jit
from minigrad.graph import Graph
from minigrad.ops.einsum import einsum
from tests.passes.programs import input_, node

COMPILED = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def product(x, y, subscripts):
    return Graph((x, y), (node("einsum", x, y, subscripts=subscripts),))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("left", "right", "subscripts"), [
    ((40, 3), (3,), "ik,k->i"), ((40,), (40, 3), "k,kj->j"), ((40, 1), (1,), "ik,k->i"), ((5, 3), (3,), "ik,k->i"),
    ((40, 3), (3, 2), "ik,kj->ij"), ((8, 999), (999, 5), "ik,kj->ij"), ((40, 1), (1, 99), "ik,kj->ij"),
    ((40, 99), (99, 1), "ik,kj->ij"), ((1, 40), (40, 99), "ik,kj->ij")])
def test_products_become_sums(left, right, subscripts, dtype):
    graph = product(input_(*left, dtype=dtype), input_(*right, dtype=dtype), subscripts)
    rewritten = thin_products(graph)
    assert {n.prim.name for n in rewritten.nodes} >= {"mul", "sum"}
    assert all(n.prim.name != "einsum" for n in rewritten.nodes)
    values = [(np.arange(float(np.prod(shape))) % 7).reshape(shape).astype(dtype) for shape in (left, right)]
    (result,) = interpreters.evaluate(rewritten, values, {})
    np.testing.assert_array_equal(result, values[0] @ values[1])


@pytest.mark.parametrize("shape", [(40, 4), (4,)])
def test_layers_of_a_deep_network_share_the_general_step(shape):
    def network(layers):
        x = y = input_(*shape)
        weights = [input_(4, 4) for _ in range(layers)]
        for w in weights:
            y = node("tanh", node("einsum", y, w, subscripts="ik,kj->ij" if len(shape) == 2 else "k,kj->j"))
        x2, v = input_(400, 3), input_(3)
        return Graph((x, *weights, x2, v), (y, node("einsum", x2, v, subscripts="ik,k->i")))

    def contractions(graph):
        return sum(n.prim is einsum for n in graph.nodes)

    assert contractions(thin_products(network(MOST - 1))) == 0
    assert contractions(thin_products(network(MOST))) == MOST, "the vector's product has many rows"


@pytest.mark.parametrize(("left", "right", "subscripts"), [
    ((999, FEW + 1), (FEW + 1,), "ik,k->i"), ((999, 9), (9, 17), "ik,kj->ij"), ((9, 999), (999, 17), "ik,kj->ij"),
    ((999, 17), (17, 2), "ik,kj->ij"), ((9, 40, 3), (9, 3, 2), "bik,bkj->bij"), ((40,), (40,), "k,k->"),
    ((40, 0), (0, 3), "ik,kj->ij"), ((0, 3), (3, 4), "ik,kj->ij"), ((2, 3), (3, 0), "ik,kj->ij")])
def test_other_products_stay(left, right, subscripts):
    graph = product(input_(*left), input_(*right), subscripts)
    assert thin_products(graph) is graph


def test_matrices_whose_columns_lie_side_by_side_stay():
    x, w = input_(3, 40), input_(3)
    graph = Graph((x, w), (node("einsum", node("transpose", x, perm=(1, 0)), w, subscripts="ik,k->i"),))
    assert thin_products(graph) is graph


def test_a_small_transposed_matrix_is_copied():
    x, w = input_(40, 3), input_(2, 3)
    graph = Graph((x, w), (node("einsum", x, node("transpose", w, perm=(1, 0)), subscripts="ik,kj->ij"),))
    rewritten = thin_products(graph)
    names = [n.prim.name for n in rewritten.nodes]
    assert "stop_gradient" in names
    assert "einsum" not in names
    values = np.arange(120.0).reshape(40, 3), np.arange(6.0).reshape(2, 3)
    (result,) = interpreters.evaluate(rewritten, values, {})
    np.testing.assert_array_equal(result, values[0] @ values[1].T)


def test_the_transpose_of_a_transpose_is_the_matrix():
    x, y = input_(999, 8), input_(999, 5)
    graph = Graph((x, y), (node("einsum", node("transpose", x, perm=(1, 0)), y, subscripts="ik,kj->ij"),))
    assert "transpose" not in {n.prim.name for n in thin_products(graph).nodes}


@COMPILED
def test_a_loss_and_its_gradient_are_one_kernel():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(1000, 20)), rng.normal(size=1000), rng.normal(size=20)
    step = mg.compile(mg.value_and_grad(mg.mean_loss(lambda w, x, y: (x @ w - y) ** 2, in_axes=(None, 0, 0))),
                      backend="native")
    value, gradient = step(w, x, y)
    np.testing.assert_allclose(value, np.mean((x @ w - y) ** 2), rtol=1e-13)
    np.testing.assert_allclose(gradient, 2 * x.T @ (x @ w - y) / 1000, rtol=1e-12)
    assert "matmul" not in step.source


@COMPILED
def test_a_small_network_needs_no_general_products():
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape) for shape in ((4, 8), (8, 8), (8,))]
    x, y = rng.normal(size=(50, 4)), rng.normal(size=50)

    def loss(params, x, y):
        first, second, last = params
        return (np.tanh(np.tanh(x @ first) @ second) @ last - y) ** 2

    step = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0, 0))), backend="native")
    gradient = step(params, x, y)
    h = np.tanh(x @ params[0])
    z = np.tanh(h @ params[1])
    r = 2 * (z @ params[2] - y) / 50
    d = np.outer(r, params[2]) * (1 - z * z)
    expected = [x.T @ (d @ params[1].T * (1 - h * h)), h.T @ d, z.T @ r]
    for ours, theirs in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    assert "matmul" not in step.source

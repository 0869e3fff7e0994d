"""Thin products: which become sums row by row, their values, and the kernels that they join."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.native.plan.thin_products import FEW, thin_products
from minigrad.backends.native.runtime import jit
from minigrad.graph import Graph
from tests.passes.programs import input_, node

COMPILED = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def product(x, y, subscripts):
    return Graph((x, y), (node("einsum", x, y, subscripts=subscripts),))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("left", "right", "subscripts"), [((40, 3), (3,), "ik,k->i"), ((40,), (40, 3), "k,kj->j"),
                                                           ((40, 1), (1,), "ik,k->i")])
def test_products_become_sums(left, right, subscripts, dtype):
    graph = product(input_(*left, dtype=dtype), input_(*right, dtype=dtype), subscripts)
    rewritten = thin_products(graph)
    assert {n.prim.name for n in rewritten.nodes} >= {"mul", "sum"}
    assert all(n.prim.name != "einsum" for n in rewritten.nodes)
    values = [np.arange(float(np.prod(shape))).reshape(shape).astype(dtype) for shape in (left, right)]
    (result,) = interpreters.evaluate(rewritten, values, {})
    np.testing.assert_array_equal(result, values[0] @ values[1])


@pytest.mark.parametrize(("left", "right", "subscripts"), [
    ((999, FEW + 1), (FEW + 1,), "ik,k->i"), ((5, 3), (3,), "ik,k->i"), ((40, 3), (3, 2), "ik,kj->ij"),
    ((40,), (40,), "k,k->")])
def test_other_products_stay(left, right, subscripts):
    graph = product(input_(*left), input_(*right), subscripts)
    assert thin_products(graph) is graph


def test_matrices_whose_columns_lie_side_by_side_stay():
    x, w = input_(3, 40), input_(3)
    graph = Graph((x, w), (node("einsum", node("transpose", x, perm=(1, 0)), w, subscripts="ik,k->i"),))
    assert thin_products(graph) is graph


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

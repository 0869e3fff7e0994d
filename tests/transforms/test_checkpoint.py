"""Marks in a program: stopped gradients, and values that are computed again."""

import numpy as np

import minigrad as mg


def test_stopped_gradients_are_zero():
    value, slope = mg.value_and_grad(lambda x: x * mg.stop_gradient(x**2))(3.0)
    assert (value, slope) == (27.0, 9.0)
    tree = mg.stop_gradient({"a": 1.0, "b": [np.ones(2)]})
    assert tree["a"] == 1.0
    np.testing.assert_array_equal(tree["b"][0], [1, 1])


def test_checkpoints_keep_value_and_gradient():
    f = mg.checkpoint(lambda x: np.sin(np.exp(x)))
    x = 0.3
    value, slope = mg.value_and_grad(f)(x)
    np.testing.assert_allclose([value, slope], [np.sin(np.exp(x)), np.cos(np.exp(x)) * np.exp(x)], rtol=1e-15)
    np.testing.assert_allclose(mg.vmap(mg.grad(f))(np.array([x, 2 * x])), [
        np.cos(np.exp(t)) * np.exp(t) for t in (x, 2 * x)], rtol=1e-14)


def test_a_checkpoint_is_a_node_that_holds_its_graph():
    graph = mg.trace(mg.checkpoint(lambda x: np.exp(x) + 1.0))(1.0)
    assert graph.count("checkpoint") == 1
    assert graph.count("exp") == 0

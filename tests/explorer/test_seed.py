"""The program of `minigrad explore`: two uses of f, whose scale all examples share."""

import numpy as np

import minigrad as mg
from minigrad.explorer import seed


def test_loss_is_that_of_the_question():
    (X,) = seed.examples
    assert X.shape == (6, 4)
    for x in X:
        a = np.tanh(x @ seed.params[:-1]) * np.exp(seed.params[-1])
        np.testing.assert_allclose(seed.s(seed.params, x), (a - 0.5) ** 2 + a * a * np.mean(x), rtol=1e-15)


def test_scale_is_shared_by_the_batch():
    graph = mg.trace(seed.s)(seed.params, seed.examples[0][0]).vmap(in_axes=(None, 0))
    assert [str(n.type) for n in graph.nodes if n.prim.name == "exp"] == ["f64[]", "f64[]"]
    assert [str(n.type) for n in graph.nodes if n.prim.name == "tanh"] == ["f64[B]", "f64[B]"]


def test_nodes_have_the_lines_of_the_program():
    graph = mg.trace(seed.s)(seed.params, seed.examples[0][0])
    assert {n.where.split(":")[0] for n in graph.nodes if n.inputs} == {"seed.py"}

"""Results that nobody reads are not computed."""

import numpy as np

import minigrad as mg
from minigrad import passes


def loss(w, x):
    return np.tanh(x @ w) ** 2


def test_the_gradient_of_a_microbatch_makes_no_cotangent_of_its_data():
    rng = np.random.default_rng(0)
    w, X = rng.normal(size=3), rng.normal(size=(20, 3))
    step = mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 6))
    graph = mg.trace(step)(w, X)
    after, _ = passes.run(graph)
    after.check()
    shapes = [p.shape for n in graph.nodes if n.prim.name == "chunked" for p in n.type.parts]
    kept = [p.shape for n in after.nodes if n.prim.name == "chunked" for p in n.type.parts]
    assert X.ndim in map(len, shapes)
    assert X.ndim not in map(len, kept)
    value, gradient = mg.compile(step)(w, X)
    np.testing.assert_allclose(value, np.mean([loss(w, x) for x in X]), rtol=1e-13)
    np.testing.assert_allclose(gradient, np.mean([mg.grad(loss)(w, x) for x in X], axis=0), rtol=1e-12)


def test_what_is_read_stays():
    rng = np.random.default_rng(1)
    w, X = rng.normal(size=3), rng.normal(size=(7, 3))
    step = mg.grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 2), argnums=(0, 1))
    for got, want in zip(mg.compile(step)(w, X), step(w, X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)

"""Results that nobody reads are not computed."""

import numpy as np

import minigrad as mg
from minigrad import passes


def loss(w, x):
    return np.tanh(x @ w) ** 2


def results(graph):
    return [p.ndim for n in graph.nodes if n.prim.name == "chunked" for p in n.type.parts]


def test_results_that_nobody_reads_are_dropped():
    rng = np.random.default_rng(0)
    w, X = rng.normal(size=3), rng.normal(size=(20, 3))
    both = mg.grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 6), argnums=(0, 1))

    def first(w, X):
        return both(w, X)[0]

    graph = mg.trace(first)(w, X)
    after, _ = passes.run(graph)
    after.check()
    assert X.ndim in results(graph)  # the cotangent of the data, as large as they are
    assert X.ndim not in results(after)
    want = np.mean([mg.grad(loss)(w, x) for x in X], axis=0)
    np.testing.assert_allclose(mg.compile(first)(w, X), want, rtol=1e-12)


def test_a_gradient_makes_no_cotangent_that_it_does_not_want():
    rng = np.random.default_rng(0)
    w, X = rng.normal(size=3), rng.normal(size=(20, 3))
    step = mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 6))
    assert X.ndim not in results(mg.trace(step)(w, X))
    value, gradient = mg.compile(step)(w, X)
    np.testing.assert_allclose(value, np.mean([loss(w, x) for x in X]), rtol=1e-13)
    np.testing.assert_allclose(gradient, np.mean([mg.grad(loss)(w, x) for x in X], axis=0), rtol=1e-12)


def test_what_is_read_stays():
    rng = np.random.default_rng(1)
    w, X = rng.normal(size=3), rng.normal(size=(7, 3))
    step = mg.grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 2), argnums=(0, 1))
    for got, want in zip(mg.compile(step)(w, X), step(w, X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)

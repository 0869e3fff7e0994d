"""Unused results are not computed."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters, passes
from minigrad.graph import moment
from minigrad.passes.dead_code import dead_code


def loss(w, x):
    return np.tanh(x @ w) ** 2


def results(graph):
    return [p.ndim for n in graph.nodes if n.prim.name == "chunked" for p in n.type.parts]


def test_unused_results_are_dropped():
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


def test_gradients_compute_no_unused_cotangent():
    rng = np.random.default_rng(0)
    w, X = rng.normal(size=3), rng.normal(size=(20, 3))
    step = mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 6))
    assert X.ndim not in results(mg.trace(step)(w, X))
    value, gradient = mg.compile(step)(w, X)
    np.testing.assert_allclose(value, np.mean([loss(w, x) for x in X]), rtol=1e-13)
    np.testing.assert_allclose(gradient, np.mean([mg.grad(loss)(w, x) for x in X], axis=0), rtol=1e-12)


def test_used_results_stay():
    rng = np.random.default_rng(1)
    w, X = rng.normal(size=3), rng.normal(size=(7, 3))
    step = mg.grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0)), 2), argnums=(0, 1))
    for got, want in zip(mg.compile(step)(w, X), step(w, X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_dropped_results_drop_their_operands_in_earlier_loops():
    def f(x):
        (a, b), _ = mg.scan(lambda c, r: ((c[0] * r, c[1] + np.sin(r)), None), (x[0], x[1]), x)
        return mg.scan(lambda c, r: ((c[0] + r, c[1] * r), None), (a, np.cos(b)), x)[0][0]

    x = np.array([0.5, 2.0, 3.0])
    graph = mg.trace(f)(x)
    assert [len(n.type.parts) for n in graph.nodes if n.prim.name == "scan"] == [2, 2]
    assert [len(n.type.parts) for n in dead_code(graph).nodes if n.prim.name == "scan"] == [1, 1]
    np.testing.assert_allclose(interpreters.evaluate(dead_code(graph), [x]), [0.5 * 3.0 + 5.5], rtol=1e-12)


def chain(length):
    """Return the gradient of scans one after the other, and its argument."""

    def f(x):
        for _ in range(length):
            x, _ = mg.scan(lambda c, r: (np.sin(c) * r + c, None), x, np.ones((6, 4)) / 7)
        return (x**2).sum()

    return mg.grad(f), np.linspace(0.1, 0.4, 4)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_gradient_of_a_chain_of_scans_runs_each_twice(length):
    f, x = chain(length)
    after, _ = passes.run(mg.trace(f)(x))
    assert after.check().count("scan") == 2 * length  # forward, keeping the carries, and backward
    slope, y = np.ones(4), x
    for _ in range(6 * length):
        slope, y = slope * (np.cos(y) / 7 + 1), np.sin(y) / 7 + y
    np.testing.assert_allclose(mg.compile(f)(x), 2 * y * slope, rtol=1e-12)


def test_dead_code_makes_each_node_of_a_chain_of_scans_once():
    made = []
    for length in (4, 16):
        f, x = chain(length)
        graph = mg.trace(f)(x)
        start = moment()
        passes.dead_code(graph)
        made.append((moment() - start) / len(graph.nodes))
    assert made[1] < 1.2 * made[0]


def test_nested_prefixes_of_scans_become_one_scan():
    def three(x, xs):
        def step(n):
            return lambda c, r: (c * r, tuple(c * k for k in range(1, n + 1)))

        return [mg.scan(step(n), x, xs) for n in (1, 3, 2)]

    x, xs = np.array(2.0), np.array([1.0, 3.0, 5.0])
    after, _ = passes.run(mg.trace(three)(x, xs))
    assert after.count("scan") == 1
    carry = np.array([2.0, 2.0, 6.0])
    for n, (end, stacks) in zip((1, 3, 2), mg.compile(three)(x, xs), strict=True):
        assert end == 30.0
        np.testing.assert_array_equal(stacks, [carry * k for k in range(1, n + 1)])

"""Sums that scans carry are taken after the loop."""

import numpy as np

import minigrad as mg

from .scan_programs import PROGRAMS, XS, C, N, compiled_graph, loops

rng = np.random.default_rng(0)


def test_norms_of_gradients_through_a_loop_are_not_formed():
    """Few steps, wide layers: inner products of steps, and no gradient of one example."""
    w, x = (rng.normal(size=(80, 90)) / 9, rng.normal(size=(90, 90)) / 9, C[:1].repeat(90)), rng.normal(size=(5, 3, 80))
    f = PROGRAMS["norms"][0]
    graph, _ = compiled_graph(f, (w, x))
    assert not any(n.shape[-2:] in ((80, 90), (90, 90)) and n.ndim > 2 for n in graph.nodes
                   if n.prim.name not in ("scan", "input"))
    np.testing.assert_allclose(mg.compile(f, backend="numpy")(w, x), f(w, x), rtol=1e-9)


def test_sums_of_large_terms_stay_in_the_steps():
    def f(xs):
        def step(state, x):
            h, total = state
            h = np.sin(h + x)
            return (h, total + (h**2).sum()), None

        return mg.scan(step, (np.zeros(N), 0.0), xs)[0][1]

    graph, _ = compiled_graph(f, (XS,))
    (loop,) = loops(graph)
    assert len(loop.type.parts) == 2


def test_loops_that_only_add_disappear():
    graph, notes = compiled_graph(lambda xs: mg.scan(lambda c, x: (c + x * 2.0, x), np.zeros(N), xs), (XS,))
    assert not loops(graph)
    assert "1 sum after it" in notes["sum_after_scan"]


def test_float16_sums_keep_their_order():
    xs = np.array([[60000.0], [-60000.0], [60000.0]], np.float16)

    def f(xs):
        return mg.scan(lambda c, x: (c - x, None), np.full(1, 50000, np.float16), xs)[0]

    np.testing.assert_array_equal(mg.compile(f)(xs), f(xs))


def test_gradients_of_elements_are_summed_after_the_loop():
    """Each step adds to two of four elements: two numbers are stacked, and no step adds arrays."""
    def f(p, xs):
        def step(h, x):
            h = np.sin(p[1] * h + p[3] * x)
            return h, h

        return (mg.scan(step, 0.1, xs)[1] ** 2).sum()

    p, xs = np.array([0.3, 0.5, -0.2, 0.7]), np.random.default_rng(5).normal(size=30)
    graph, notes = compiled_graph(mg.grad(f), (p, xs))
    assert "1 sum after it" in notes["sum_after_scan"]
    assert not any(n.prim.name == "pad" for loop in loops(graph) for n in loop.params["body"].nodes)
    for backend in ("numpy", "native"):
        got = mg.compile(mg.grad(f), backend=backend)(p, xs)
        for i in range(4):
            d = 1e-6 * np.eye(4)[i]
            np.testing.assert_allclose(got[i], (f(p + d, xs) - f(p - d, xs)) / 2e-6, rtol=1e-6, atol=1e-9)

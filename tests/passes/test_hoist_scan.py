"""Work that does not depend on the carry of a scan runs before the loop."""

import numpy as np

import minigrad as mg

from .scan_programs import XS, M, P, T, W, compiled_graph, loops, same_values

rng = np.random.default_rng(0)


def test_values_of_shared_operands_are_computed_once():
    graph, notes = compiled_graph(
        lambda p, xs: mg.scan(lambda h, x: (h * np.exp(p[2]) + x.sum(), None), p[2], xs)[0], (P, XS))
    (loop,) = loops(graph)
    assert loop.params["body"].count("exp") == 0
    assert graph.count("exp") == 1
    assert "1 shared value computed before it" in notes["hoist_scan"]


def test_views_of_shared_operands_stay_in_the_steps():
    def f(p, xs):
        return mg.scan(lambda h, x: (np.tanh(h * np.flip(p[2])), None), p[2], xs)[0]

    assert not compiled_graph(f, (P, XS))[1]


def test_wide_values_stay_in_the_steps():
    """A product of one number per step with a long vector is not laid out for all steps, nor is a spread value."""
    v = rng.normal(size=(1, 1000))
    for f in (lambda v, xs: mg.scan(lambda h, x: (h + np.tanh(x[:1] @ v) * h, None), v[0], xs)[0],
              lambda v, xs: mg.scan(lambda h, x: (h + np.tanh(x[0] * v[0]) * h, None), v[0], xs)[0]):
        graph, _ = compiled_graph(f, (v, XS))
        assert max(np.prod(n.shape) for n in graph.nodes if n.prim.name not in ("scan",)) <= 1000


def test_values_larger_than_their_product_stay_in_the_steps():
    """The product of all steps runs before them; its square matrices, too large to keep, do not."""
    def f(w, xs):
        def step(h, x):
            y = x @ w
            return np.tanh(h + np.sin(y[:, None] * y).sum(axis=0)), None

        return mg.scan(step, np.zeros(M), xs)[0]

    graph, notes = compiled_graph(f, (W, XS))
    assert "1 product over all steps before it" in notes["hoist_scan"]
    assert not any(n.shape == (T, M, M) for n in graph.nodes if n.prim.name != "scan")
    assert graph.count("sin") == 0
    assert loops(graph)[0].params["body"].count("sin") == 1


def test_a_constant_carry_is_shared():
    def f(p, xs):
        return mg.scan(lambda state, x: ((np.tanh(state[0] * state[1] + x.sum()), state[1]), None),
                       (p[2], p[2] + 1.0), xs)[0]

    graph, notes = compiled_graph(f, (P, XS))
    (loop,) = loops(graph)
    assert loop.params["counts"] == (1, 1)
    assert "1 constant carry" in notes["hoist_scan"]
    same_values(mg.compile(f, backend="numpy"), f, (P, XS))


def test_shared_operands_of_transposed_values_are_transposed_once():
    """The forward recursion of a hidden Markov model, by sums of probabilities."""
    def f(move, start, xs):
        def step(a, x):
            z = (a[:, None] + move).T
            return np.log(np.exp(z).sum(axis=1)) + x.sum(), None

        return mg.scan(step, start, xs)[0]

    move = rng.normal(size=(M, M))
    graph, notes = compiled_graph(f, (move, rng.normal(size=M), XS))
    assert "1 operand transposed before it" in notes["hoist_scan"]
    assert all(loop.params["body"].count("transpose") == 0 for loop in loops(graph))
    a = start = rng.normal(size=M)
    for x in XS:
        a = np.log(np.exp(a) @ np.exp(move)) + x.sum()
    np.testing.assert_allclose(mg.compile(f)(move, start, XS), a)


def test_transposed_values_with_other_readers_stay():
    def f(move, start, xs):
        def step(a, x):
            z = a[:, None] * move
            return np.tanh(z.T).sum(axis=1) + z.sum(axis=1) + x.sum(), None

        return mg.scan(step, start, xs)[0]

    assert "hoist_scan" not in compiled_graph(f, (rng.normal(size=(M, M)), rng.normal(size=M), XS))[1]

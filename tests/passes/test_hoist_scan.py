"""hoist_scan: the same numbers, with less work in the steps."""

import numpy as np
import optree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import interpreters, passes
from minigrad.graph import Graph
from minigrad.symbolic import bind

rng = np.random.default_rng(0)
T, N, M, B = 6, 5, 7, 4
W, U = rng.normal(size=(N, M)) / 3, rng.normal(size=(M, M)) / 3
C = rng.normal(size=M) / 3
XS, XB = rng.normal(size=(T, N)), rng.normal(size=(B, T, N))


def rnn(p, xs, reverse=False):
    def step(h, x):
        h = np.tanh(x @ p[0] + h @ p[1] + p[2])
        return h, h * 2.0

    h, ys = mg.scan(step, np.zeros_like(p[2]), xs, reverse=reverse)
    return (h**2).sum() + np.sin(ys).sum()


def lstm(p, xs):
    def step(state, x):
        h, c = state
        i, f, o, g = (x @ p[0] + h @ p[1]).reshape(4, -1)
        c = mg.special.expit(f) * c + mg.special.expit(i) * np.tanh(g)
        h = mg.special.expit(o) * np.tanh(c)
        return (h, c), None

    (h, c), _ = mg.scan(step, (np.zeros(M), np.zeros(M)), xs)
    return (h * c).sum()


LSTM = rng.normal(size=(N, 4 * M)) / 3, rng.normal(size=(M, 4 * M)) / 3
P = W, U, C


def nested(p, xs):
    def outer(h, x):
        inner, ys = mg.scan(lambda k, z: (np.sin(k @ p[1] + (x @ p[0]) * z), k * z), h, np.arange(1.0, 4.0))
        return inner, ys.sum()

    h, ys = mg.scan(outer, np.ones(M), xs)
    return h.sum() + (ys**2).sum()


def counted(p, xs):
    """A carry of integers that counts, one that is handed on as it is, one that adds up."""
    def step(state, x):
        n, same, total = state
        return (n + 1, same, total + x * same.sum()), (x, n * 2)

    (n, same, total), (ys, ns) = mg.scan(step, (np.asarray(3), p[2], np.zeros(N)), xs)
    return n, same, total, ys, ns


def squares(g):
    return sum((x**2).sum(axis=tuple(range(1, x.ndim))) for x in optree.tree_leaves(g))


PROGRAMS = {
    "forward": (rnn, (P, XS)),
    "gradient": (mg.value_and_grad(rnn, argnums=(0, 1)), (P, XS)),
    "reverse": (mg.value_and_grad(lambda p, xs: rnn(p, xs, True)), (P, XS)),
    "one step": (mg.value_and_grad(rnn), (P, XS[:1])),
    "no step": (mg.value_and_grad(rnn), (P, XS[:0])),
    "lstm": (mg.value_and_grad(lstm), (LSTM, XS)),
    "under vmap": (mg.value_and_grad(mg.mean_loss(rnn, (None, 0))), (P, XB)),
    "per-example gradients": (mg.per_example_grad(rnn, in_axes=(None, 0)), (P, XB)),
    "norms": (lambda p, x: squares(mg.per_example_grad(rnn, in_axes=(None, 0))(p, x)), (P, XB)),
    "nested": (nested, (P, XS)),
    "nested, gradient": (mg.value_and_grad(nested), (P, XS)),
    "jvp": (lambda p, xs: mg.jvp(rnn, (p, xs), (tuple(map(np.cos, p)), np.sin(xs))), (P, XS)),
    "gradient of a gradient": (mg.grad(lambda p, xs: sum((g**2).sum() for g in mg.grad(rnn)(p, xs))), (P, XS)),
    "checkpoint": (mg.value_and_grad(lambda p, xs: mg.scan(mg.checkpoint(
        lambda h, x: (np.tanh(x @ p[0] + h @ p[1]), None)), p[2], xs)[0].sum()), (P, XS)),
    "integers": (counted, (P, XS)),
}


def same_values(fast, literal, args):
    for got, want in zip(optree.tree_leaves(fast(*args)), optree.tree_leaves(literal(*args)), strict=True):
        assert np.shape(got) == np.shape(want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11 * max(1.0, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name):
    f, args = PROGRAMS[name]
    fast = mg.compile(f, backend="numpy")
    same_values(fast, mg.compile(f, backend="numpy", without=("hoist_scan",)), args)
    same_values(fast, f, args)
    for stage in fast.stages:
        if isinstance(stage.after, Graph):
            stage.after.check()


def what_runs(f, args, **kwargs):
    entry = mg.compile(f, backend="numpy", **kwargs).build(*args)
    return next(s.before for s in entry.stages if s.name == "fuse"), [s for s in entry.stages if s.name == "hoist_scan"]


def loops(graph):
    return [n for n in graph.nodes if n.prim.name == "scan"]


def test_a_gradient_costs_what_its_sequential_part_costs():
    """One product in each step of either loop: all others are one product over time."""
    graph, (stage,) = what_runs(*PROGRAMS["under vmap"])
    ahead, back = loops(graph)
    assert ahead.params["body"].count("einsum") == back.params["body"].count("einsum") == 1
    assert ahead.params["counts"][1] == back.params["counts"][1] == 1  # no gradient of a weight is carried
    assert "1 product over all steps before it" in stage.note
    assert "3 sums after it" in stage.note
    literal, stages = what_runs(*PROGRAMS["under vmap"], without=("hoist_scan",))
    assert not stages
    assert [n.params["body"].count("einsum") for n in loops(literal)] == [2, 3]


def test_carries_before_a_step_are_those_after_the_one_before():
    graph, _ = what_runs(*PROGRAMS["under vmap"])
    ahead, _ = loops(graph)
    body = ahead.params["body"]
    assert not set(body.inputs) & set(body.outputs)
    assert len(body.outputs) == len(set(body.outputs)) + 1  # the state, carried and stacked


def test_norms_of_gradients_through_a_loop_are_not_formed():
    """Few steps, wide layers: inner products of steps, and no gradient of one example."""
    w, x = (rng.normal(size=(80, 90)) / 9, rng.normal(size=(90, 90)) / 9, C[:1].repeat(90)), rng.normal(size=(5, 3, 80))
    f = PROGRAMS["norms"][0]
    graph, _ = what_runs(f, (w, x))
    assert not any(n.shape[-2:] in ((80, 90), (90, 90)) and n.ndim > 2 for n in graph.nodes
                   if n.prim.name not in ("scan", "input"))
    np.testing.assert_allclose(mg.compile(f, backend="numpy")(w, x), f(w, x), rtol=1e-9)


def test_what_shared_values_make_is_made_once():
    graph, (stage,) = what_runs(lambda p, xs: mg.scan(lambda h, x: (h * np.exp(p[2]) + x.sum(), None), p[2], xs)[0],
                                (P, XS))
    (loop,) = loops(graph)
    assert loop.params["body"].count("exp") == 0
    assert graph.count("exp") == 1
    assert "1 shared value computed before it" in stage.note


def test_a_view_of_a_shared_value_is_no_work_to_move():
    def f(p, xs):
        return mg.scan(lambda h, x: (np.tanh(h * np.flip(p[2])), None), p[2], xs)[0]

    assert what_runs(f, (P, XS))[1] == []


def test_a_wide_value_stays_in_the_steps():
    """A product of one number per step with a long vector is not laid out for all steps, nor is a spread value."""
    v = rng.normal(size=(1, 1000))
    for f in (lambda v, xs: mg.scan(lambda h, x: (h + np.tanh(x[:1] @ v) * h, None), v[0], xs)[0],
              lambda v, xs: mg.scan(lambda h, x: (h + np.tanh(x[0] * v[0]) * h, None), v[0], xs)[0]):
        graph, _ = what_runs(f, (v, XS))
        assert max(np.prod(n.shape) for n in graph.nodes if n.prim.name not in ("scan",)) <= 1000


def test_what_makes_products_larger_stays_in_the_steps():
    """The product of all steps is made before them, and its square matrices, of which few fit, are not."""
    def f(w, xs):
        def step(h, x):
            y = x @ w
            return np.tanh(h + np.sin(y[:, None] * y).sum(axis=0)), None

        return mg.scan(step, np.zeros(M), xs)[0]

    graph, (stage,) = what_runs(f, (W, XS))
    assert "1 product over all steps before it" in stage.note
    assert not any(n.shape == (T, M, M) for n in graph.nodes if n.prim.name != "scan")
    assert graph.count("sin") == 0
    assert loops(graph)[0].params["body"].count("sin") == 1


def test_a_sum_whose_terms_would_have_to_be_kept_stays_in_the_steps():
    def f(xs):
        def step(state, x):
            h, total = state
            h = np.sin(h + x)
            return (h, total + (h**2).sum()), None

        return mg.scan(step, (np.zeros(N), 0.0), xs)[0][1]

    graph, _ = what_runs(f, (XS,))
    (loop,) = loops(graph)
    assert len(loop.type.parts) == 2


def test_a_loop_that_only_adds_is_gone():
    graph, (stage,) = what_runs(lambda xs: mg.scan(lambda c, x: (c + x * 2.0, x), np.zeros(N), xs), (XS,))
    assert not loops(graph)
    assert "1 sum after it" in stage.note


def test_float16_is_added_up_in_its_order():
    xs = np.array([[60000.0], [-60000.0], [60000.0]], np.float16)

    def f(xs):
        return mg.scan(lambda c, x: (c - x, None), np.full(1, 50000, np.float16), xs)[0]

    np.testing.assert_array_equal(mg.compile(f)(xs), f(xs))


def test_nan_and_infinity():
    bad = W.copy()
    bad[0, 0], bad[1, 1] = np.nan, np.inf
    f, _ = PROGRAMS["gradient"]
    same_values(mg.compile(f, backend="numpy"), f, ((bad, U, C), XS))


@st.composite
def loop(draw):
    """A random step over a vector state, two running sums, and a slice; and what to differentiate."""
    unary = st.sampled_from([np.sin, np.tanh, np.negative, np.square, lambda v: v * 0.5, lambda v: v.sum() + v])
    steps = draw(st.lists(st.tuples(st.sampled_from(["unary", "add", "mul", "sub", "matmul", "outer", "pick"]),
                                    st.integers(0, 99), st.integers(0, 99), unary), min_size=1, max_size=7))
    ends = draw(st.tuples(*[st.integers(0, 99)] * 4))
    reverse, length = draw(st.booleans()), draw(st.integers(0, 4))

    def run(p, xs):
        def step(state, x):
            h, total, matrix = state
            pool = [h, x @ p["w"], p["c"], x[:3]]
            for kind, i, j, f in steps:
                a, b = pool[i % len(pool)], pool[j % len(pool)]
                pool.append({"unary": lambda a, b, f: f(a), "add": lambda a, b, f: a + b,
                             "mul": lambda a, b, f: a * b, "sub": lambda a, b, f: a - b,
                             "matmul": lambda a, b, f: a @ p["u"], "outer": lambda a, b, f: np.outer(a, b) @ b,
                             "pick": lambda a, b, f: np.where(a > b, a, b)}[kind](a, b, f))
            new, e, u, y = (pool[i % len(pool)] for i in ends)
            return (np.tanh(new), total + e - u, matrix + np.outer(u, e)), (y, h)

        (h, total, matrix), (ys, hs) = mg.scan(step, (p["c"], np.zeros(3), p["u"]), xs, reverse=reverse)
        return np.tanh(h).sum() + np.tanh(total).sum() + np.tanh(matrix).sum() + np.tanh(ys * hs).sum()

    args = {"w": W[:4, :3], "u": U[:3, :3], "c": C[:3]}, XS[:length, :4]
    mode = draw(st.sampled_from(["value", "grad", "per example", "grad of grad"]))
    if mode == "grad":
        return mg.value_and_grad(run, argnums=(0, 1)), args
    if mode == "per example":
        return mg.per_example_grad(run, in_axes=(None, 0)), (args[0], XB[:, :length, :4])
    if mode == "grad of grad":
        return mg.grad(lambda p, xs: sum((g**2).sum() for g in mg.grad(run)(p, xs).values())), args
    return run, args


@given(loop())
@settings(max_examples=60, deadline=None)
def test_random_loops(case):
    f, args = case
    graph = mg.trace(f)(*args)
    after, _ = passes.run(graph.check(), without=("factorize",))
    arrays = optree.tree_leaves(args)
    sizes = bind((n.shape, x.shape, name) for n, x, name in zip(graph.inputs, arrays, graph.names, strict=True))
    for got, want in zip(
        interpreters.evaluate(after.check(), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8 * max(1.0, np.abs(want).max(initial=0)))

"""Scans keep their values through all passes, with less work in the steps."""

import numpy as np
import optree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import interpreters, passes
from minigrad.argument_sizes import argument_sizes
from minigrad.graph import PRIMITIVES, ArrayType, Graph
from minigrad.ops.einsum import einsum
from minigrad.ops.packed_scan import packed_scan
from minigrad.passes.scan_loop import PackedLoop
from minigrad.primitive import placeholder
from minigrad.symbolic import Dim

from .scan_programs import PROGRAMS, SCANS, XB, XS, C, U, W, compiled_graph, loops, same_values


@pytest.mark.parametrize("only", SCANS)
@pytest.mark.parametrize("name", ["gradient", "norms", "nested, gradient", "integers"])
def test_values_of_each_pass_alone(name, only):
    f, args = PROGRAMS[name]
    same_values(mg.compile(f, backend="numpy", without=set(SCANS) - {only}), f, args)


@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name):
    f, args = PROGRAMS[name]
    fast = mg.compile(f, backend="numpy")
    same_values(fast, mg.compile(f, backend="numpy", without=SCANS), args)
    same_values(fast, f, args)
    for stage in fast.stages:
        if isinstance(stage.after, Graph):
            stage.after.check()


def test_gradients_keep_one_product_per_step():
    """One product in each step of either loop: all others are one product over time."""
    graph, notes = compiled_graph(*PROGRAMS["under vmap"])
    ahead, back = loops(graph)
    assert ahead.params["body"].count("einsum") == back.params["body"].count("einsum") == 1
    assert ahead.params["counts"][1] == back.params["counts"][1] == 1  # no gradient of a weight is carried
    assert "1 product over all steps before it" in notes["hoist_scan"]
    assert "3 sums after it" in notes["sum_after_scan"]
    literal, notes = compiled_graph(*PROGRAMS["under vmap"], without=SCANS)
    assert not notes
    assert [n.params["body"].count("einsum") for n in loops(literal)] == [2, 3]


def test_nan_and_infinity():
    bad = W.copy()
    bad[0, 0], bad[1, 1] = np.nan, np.inf
    f, _ = PROGRAMS["gradient"]
    same_values(mg.compile(f, backend="numpy"), f, ((bad, U, C), XS))


@st.composite
def loop(draw):
    """A random step over a vector state, two running sums, and a slice; and the inputs to differentiate."""
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
    sizes = argument_sizes(graph, [x.shape for x in arrays])
    for got, want in zip(
        interpreters.evaluate(after.check(), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8 * max(1.0, np.abs(want).max(initial=0)))


# -- packed scans ------------------------------------------------------------------------------------------


def packed_loop():
    """Return the loop h <- tanh(h W + x V + s), with the shift s of each example."""
    n = Dim.new("running")
    length, w, v, s, h, x = (placeholder(ArrayType(shape, np.dtype(d))) for shape, d in (
        ((n,), "i8"), ((2, 2), "f8"), ((3, 2), "f8"), ((n, 2), "f8"), ((n, 2), "f8"), ((n, 3), "f8")))
    product = einsum(x, v, subscripts="nx,xh->nh")
    shifted = product + s
    new = PRIMITIVES["tanh"](einsum(h, w, subscripts="nh,hk->nk") + shifted)
    body = Graph((length, w, v, s, h, x), (new,))
    outer = [placeholder(ArrayType(shape, np.dtype(d))) for shape, d in (
        ((4,), "i8"), ((2, 2), "f8"), ((3, 2), "f8"), ((4, 2), "f8"), ((4, 2), "f8"), ((6, 3), "f8"))]
    node = packed_scan(*outer, body=body, counts=(4, 1), packed=((n, 4, 6),), reverse=False,
                       once=False)
    return PackedLoop(node), product, shifted, s


def test_values_of_all_steps_have_the_rows_of_all_steps():
    loop, product, shifted, s = packed_loop()
    assert loop.keeps_steps(product)
    assert not loop.keeps_steps(shifted)  # a value of each example has no rows for its steps
    assert not loop.keeps_steps(s)
    (rows,) = loop.at_all_steps([product])
    assert rows.shape == (6, 2)


def test_values_of_each_example_are_fixed():
    loop, product, _, s = packed_loop()
    assert loop.is_fixed(s)
    assert not loop.is_fixed(product)
    assert loop.outer(s * s).shape == (4, 2)


def _recurrent(w, x):
    return np.sum(mg.scan(lambda h, row: (np.tanh(h @ w + row), None), np.zeros(2), x)[0])


def _slope(w, x):
    """Return the gradient of `_recurrent`, by hand."""
    states = [np.zeros(2)]
    for row in x:
        states.append(np.tanh(states[-1] @ w + row))
    slope, back = np.zeros_like(w), np.ones(2)
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        inner = back * (1 - after**2)
        slope, back = slope + np.outer(before, inner), w @ inner
    return slope


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_packed_loops_of_several_weights_move_work_with_rows_behind_the_axis_of_the_weights(backend):
    """An axis of weights stands in front of the rows of the examples that run."""
    rng = np.random.default_rng(4)
    rows = [rng.normal(size=(n, 2)) for n in (0, 3, 1, 0, 4)]
    batch = mg.batch(rows, mg.f64[mg.axis("word"), 2])
    weights = rng.normal(size=(3, 2, 2))
    mean = mg.mean_loss(_recurrent, in_axes=(None, 0))

    ensemble = mg.compile(mg.vmap(mg.grad(mean), in_axes=(0, None)), backend=backend)
    want = [np.mean([_slope(w, x) for x in rows], axis=0) for w in weights]
    np.testing.assert_allclose(ensemble(weights, batch), want, atol=1e-12)

    second = mg.compile(mg.hessian(mean), backend=backend)(weights[0], batch)
    for i, j in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[i, j] = 1e-5
        change = [(_slope(weights[0] + step, x) - _slope(weights[0] - step, x)) / 2e-5 for x in rows]
        np.testing.assert_allclose(second[:, :, i, j], np.mean(change, axis=0), atol=1e-8)

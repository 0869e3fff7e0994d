"""vmap, mean_loss and unroll: in_axes and out_axes of every kind, nesting in every order, sharing, the seed example."""

import itertools

import numpy as np
import pytest

import minigrad as mg

from .common import close, stacked

rng = np.random.default_rng(0)
W = rng.normal(size=3)
X = rng.normal(size=(5, 3))
Y = rng.normal(size=5)
AXES = (None, 0, 0)


def loss(w, x, y):
    return (np.tanh(x @ w) - y) ** 2 + 0.1 * np.sum(w ** 2)


# -- axes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_every_input_and_output_axis(axis):
    T = rng.normal(size=(2, 3, 4))
    f = lambda x: x * np.arange(x.size).reshape(x.shape)  # noqa: E731
    for out in (0, 1, 2, -1, -2, -3):
        want = np.stack([f(x) for x in np.moveaxis(T, axis, 0)], out)
        close(mg.vmap(f, axis, out)(T), want)


@pytest.mark.parametrize(("in_axes", "p", "want"), [
    ((None, 0), {"a": W, "b": W}, lambda k: {"a": W, "b": W}),
    ((0, 0), {"a": X, "b": X}, lambda k: {"a": X[k], "b": X[k]}),
    (({"a": 0, "b": None}, 0), {"a": X, "b": W}, lambda k: {"a": X[k], "b": W}),
    (({"a": -1, "b": None}, 0), {"a": X.T, "b": W}, lambda k: {"a": X[k], "b": W}),
    (({"a": None, "b": 1}, 0), {"a": W, "b": X.T.copy()}, lambda k: {"a": W, "b": X[k]}),
    ([None, 0], {"a": W, "b": W}, lambda k: {"a": W, "b": W})])
def test_in_axes_as_pytrees(in_axes, p, want):
    f = lambda p, x: np.sum(np.sin(p["a"]) * p["b"] * x)  # noqa: E731
    close(mg.vmap(f, in_axes)(p, X), stacked([f(want(k), X[k]) for k in range(5)]))


def test_prefixes_none_values_and_deep_trees():
    p = [{"a": X, "n": None}, (Y, [X, X])]
    f = lambda p: p[0]["a"].sum() + p[1][0] * p[1][1][0] @ p[1][1][1]  # noqa: E731
    want = [f([{"a": x}, (y, [x, x])]) for x, y in zip(X, Y, strict=True)]
    close(mg.vmap(f)(p), np.array(want))
    close(mg.vmap(f, ([0, (0, 0)],))(p), np.array(want))
    close(mg.vmap(f, ([{"a": 0, "n": None}, 0],))(p), np.array(want))
    shared = mg.vmap(f, ([{"a": 0, "n": None}, (None, [None, None])],))([p[0], (Y[0], [X[0], X[0]])])
    close(shared, np.array([x.sum() + Y[0] * X[0] @ X[0] for x in X]))


def test_out_axes_as_pytrees():
    f = lambda w, x: (x, {"a": np.outer(x, w), "w": w * 2}, None)  # noqa: E731
    x, d, n = mg.vmap(f, (None, 0), (1, {"a": -1, "w": None}, None))(W, X)
    close(x, X.T)
    close(d, {"a": np.einsum("bi,j->ijb", X, W), "w": W * 2})
    assert n is None
    assert mg.vmap(f, (None, 0), 1)(W, X)[1]["w"].shape == (3, 5)


def test_results_that_do_not_depend_on_the_example_are_repeated():
    close(mg.vmap(lambda w, x: (1.5, np.ones(2), w), (None, 0))(W, X),
          (np.full(5, 1.5), np.ones((5, 2)), np.tile(W, (5, 1))))


def test_keywords_are_mapped_over_axis_0():
    close(mg.vmap(lambda a, *, b: a * b)(X, b=Y), X * Y[:, None])


def test_python_scalars_stay_weak_and_dtypes_are_kept():
    assert mg.vmap(lambda x, s: x * s, (0, None))(X.astype("f4"), 2.0).dtype == np.float32
    assert mg.vmap(lambda x: x > 0)(X).dtype == bool
    assert mg.vmap(np.argmax)(X).dtype == np.int64


def test_one_example_and_a_size_equal_to_another():
    for n in (1, 3):
        close(mg.vmap(loss, AXES)(W, X[:n], Y[:n]),
              np.array([loss(W, x, y) for x, y in zip(X[:n], Y[:n], strict=True)]))
        close(mg.vmap(lambda x: np.outer(x, W))(X[:n]), stacked([np.outer(x, W) for x in X[:n]]))


# -- nesting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))), ids=str)
def test_nested_vmaps_in_every_order(axes):
    T = rng.normal(size=(2, 3, 4))
    # Map over axes[0] outside, then over axes[1] of what is left.
    inner = axes[1] - (axes[1] > axes[0])
    f = lambda x: np.cumsum(np.sin(x))[-1] * x  # noqa: E731
    have = mg.vmap(mg.vmap(f, inner), axes[0])(T)
    want = np.stack([np.stack([f(row) for row in np.moveaxis(part, inner, 0)]) for part in np.moveaxis(T, axes[0], 0)])
    close(have, want)


def test_all_pairs_and_triples():
    f = lambda a, b: np.sum(np.sin(a * b)) + a[0]  # noqa: E731
    pairs = mg.vmap(mg.vmap(f, (None, 0)), (0, None))
    close(pairs(X, X[:2]), np.array([[f(a, b) for b in X[:2]] for a in X]))
    close(mg.vmap(mg.vmap(f, (0, None)), (None, 0))(X, X[:2]), pairs(X, X[:2]).T)
    close(mg.vmap(lambda a: mg.vmap(lambda b: f(a, b))(X))(X), np.array([[f(a, b) for b in X] for a in X]))
    triple = mg.vmap(mg.vmap(mg.vmap(loss, (None, 0, None)), (None, None, 0)), (0, None, None))
    close(triple(X, X[:2], Y), np.array([[[loss(w, x, y) for x in X[:2]] for y in Y] for w in X]))


def test_vmap_of_grad_of_vmap_of_grad():
    energy = lambda w, x: np.sum(np.tanh(w * x))  # noqa: E731
    inner = lambda w, X: mg.vmap(lambda x: np.sum(mg.grad(energy, 1)(w, x) ** 2))(X).mean()  # noqa: E731
    ws = rng.normal(size=(2, 3))
    have = mg.vmap(mg.grad(inner), (0, None))(ws, X)
    for w, h in zip(ws, have, strict=True):
        want = np.mean([mg.grad(lambda w, x=x: np.sum(mg.grad(energy, 1)(w, x) ** 2))(w) for x in X], 0)
        close(h, want)


# -- shared work, hoisting, the seed example ----------------------------------------------------------------


def test_shared_work_is_done_once_and_stays_unbatched():
    calls = []

    def f(w, x):
        calls.append(1)
        return np.sum(np.exp(w) * x)  # exp(w) depends on no example

    graph = mg.trace(mg.vmap(f, (None, 0)))(W, X)
    assert len(calls) == 2  # once with numbers, once with the symbol: not once per example
    (exp,) = [n for n in graph.nodes if n.prim.name == "exp"]
    assert exp.shape == (3,)


def test_a_regulariser_is_hoisted_out_of_the_mean():
    """J(w) is computed once, unbatched, and added once: the page of the graph shows it."""
    L = mg.mean_loss(loss, AXES)
    graph = mg.trace(L)(W, X, Y)
    (regulariser,) = [n for n in graph.nodes if n.prim.name == "sum"]
    assert regulariser.shape == ()
    (mean,) = [n for n in graph.nodes if n.prim.name == "mean"]
    before = mg.Graph(graph.inputs, (mean,)).nodes
    assert regulariser not in before
    assert graph.outputs[0].prim.name == "add"
    assert str(graph).count("mean(") == 1
    close(L(W, X, Y), np.mean([loss(W, x, y) for x, y in zip(X, Y, strict=True)]))
    close(mg.grad(L)(W, X, Y), np.mean([mg.grad(loss)(W, x, y) for x, y in zip(X, Y, strict=True)], 0))


@pytest.mark.parametrize("f", [
    lambda w, x: np.sum(w ** 2), lambda w, x: np.sum(w ** 2) * 3.0 + x @ w, lambda w, x: -(np.sum(w ** 2) - x @ w) / 7,
    lambda w, x: (x @ w + np.sum(w ** 2)) * np.sum(w), lambda w, x: np.sum(w ** 2) * (x @ w), lambda w, x: 2.5,
    lambda w, x: np.sum(w ** 2) - (np.sum(w) - x @ w), lambda w, x: (1.0 - np.sum(w)) / (x @ x)])
def test_hoisting_changes_no_value(f):
    L = mg.mean_loss(f, (None, 0))
    close(np.float64(L(W, X)), np.float64(np.mean([f(W, x) for x in X])))
    close(mg.grad(L)(W, X), np.mean([mg.grad(f)(W, x) for x in X], 0))


def test_mean_loss_with_aux_and_out_of_a_trace():
    value, aux = mg.mean_loss(lambda w, x: (w @ x, {"x": x, "w": w}), (None, 0), has_aux=True)(W, X)
    close(value, np.mean(X @ W))
    close(aux, {"x": X, "w": np.tile(W, (5, 1))})
    value, g = mg.value_and_grad(mg.mean_loss(lambda w, x: (w @ x, x), (None, 0), has_aux=True), has_aux=True)(W, X)
    close(value, (np.mean(X @ W), X))
    close(g, X.mean(0))


def test_gradient_of_the_mean_is_the_mean_of_the_gradients():
    L = mg.mean_loss(loss, AXES)
    per_example = mg.per_example_grad(loss, in_axes=AXES)(W, X, Y)
    close(mg.grad(L)(W, X, Y), per_example.mean(0))
    close(per_example, stacked([mg.grad(loss)(W, x, y) for x, y in zip(X, Y, strict=True)]))
    assert "mean(" in str(mg.trace(L)(W, X, Y))


def f(x, w):
    return np.tanh(x @ np.sin(w))


def s(w, x):
    """The seed example, s = g(f(x, w), f(x, w), x), with g(a, b, x) = a b + sum x."""
    return f(x, w) * f(x, w) + np.sum(x)


def test_the_seed_example():
    L, U = mg.mean_loss(s, (None, 0)), mg.unroll(s, 5, (None, 0))
    want = np.mean([s(W, x) for x in X])
    for h in (L, U, mg.compile(L), mg.compile(U), mg.microbatch(L, 2)):
        close(h(W, X), want)
        close(mg.grad(h)(W, X), np.mean([mg.grad(s)(W, x) for x in X], 0))
    literal, batched = mg.trace(U)(W, X), mg.trace(L)(W, X)
    # Every copy calls f twice, as the person wrote it; sin(w) is shared work: both calls of it are made once in all.
    assert literal.count("sin") == batched.count("sin") == 2
    assert literal.count("tanh") == 10
    assert batched.count("tanh") == 2
    assert literal.count("add") == 5 + 4
    assert batched.symbols != []


def test_compiled_seed_example_merges_equal_calls():
    compiled = mg.compile(mg.mean_loss(s, (None, 0)))
    close(compiled(W, X), np.mean([s(W, x) for x in X]))
    last = [t.after for t in compiled.stages if isinstance(t.after, mg.Graph)][-1]
    assert last.count("tanh") == last.count("sin") == 1  # the two equal calls of f are one after simplification


@pytest.mark.parametrize("n", [1, 2, 5])
def test_unroll_is_vmap_is_a_loop(n):
    want = np.mean([loss(W, x, y) for x, y in zip(X[:n], Y[:n], strict=True)])
    close(mg.unroll(loss, n, AXES)(W, X[:n], Y[:n]), want)
    close(mg.mean_loss(loss, AXES)(W, X[:n], Y[:n]), want)
    T = rng.normal(size=(2, n, 3))
    h = lambda p, t: {"a": np.sum(p["w"] * t), "b": p["w"] * t[0]}  # noqa: E731
    have = mg.unroll(h, n, ({"w": None}, 1))({"w": W}, T)
    close(have, {k: np.mean([h({"w": W}, T[:, i])[k] for i in range(n)], 0) for k in "ab"})


@pytest.mark.parametrize("readonly", [False, True])
def test_results_are_the_callers_own(readonly):
    """A result shares no memory with an argument or another result, and can be written to."""
    x = np.array([[1.0, 2.0], [3.0, 4.0]])  # it owns its memory, as a view would not
    x.setflags(write=not readonly)
    first, second = mg.vmap(lambda x: (x, x))(x)
    value, pull = mg.vjp(lambda x: x, x)
    given = np.array([[1.0, 0.0], [0.0, 1.0]])
    everything = [x, first, second, value, given, *pull(given)]
    for k, a in enumerate(everything):
        assert a is x or a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in everything[:k])


def test_printed_batched_graph_shows_batch_size_line_and_rules():
    page = str(mg.trace(mg.value_and_grad(mg.mean_loss(loss, AXES)))(W, X, Y))
    assert "f64[B, 3]" in page
    assert "test_vmap.py" in page
    assert "vmap" in page
    assert "vjp" in page


def test_mean_loss_with_aux_needs_a_pair():
    with pytest.raises(mg.BatchError, match=r"mean_loss\(loss\) with has_aux: it must return \(loss, aux\)"):
        mg.mean_loss(loss, AXES, has_aux=True)(W, X, Y)


def test_a_batch_inside_a_trace_reads_the_values_of_the_trace():
    def both(w):
        x = np.stack([w, w * 2.0])
        return np.sum(mg.vmap(lambda w, x: np.tanh(x @ w), (None, 0))(w, x))

    close(mg.grad(both)(W), sum(k * 2 * W / np.cosh(k * W @ W) ** 2 for k in (1, 2)))
    assert mg.trace(both)(W).count("reshape") <= 2

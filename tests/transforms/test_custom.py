"""Functions with rules of the user's own, new primitives, and opaque callbacks."""

import re

import numpy as np
import pytest
import scipy.special

import minigrad as mg
from minigrad.graph import PRIMITIVES

from .common import close, stacked

rng = np.random.default_rng(0)
X, W = rng.normal(size=4), rng.normal(size=(3, 4))


def softplus(x):
    return np.logaddexp(x, 0.0)


@mg.custom_vjp(lambda g, out, p, x: ({"w": np.outer(g["h"] * (1 - out["h"] ** 2), x)},
                                     (g["h"] * (1 - out["h"] ** 2)) @ p["w"] + 2 * x * g["norm"]))
def layer(p, x):
    return {"h": np.tanh(p["w"] @ x), "norm": (x * x).sum()}


def layer_loss(p, x):
    out = layer(p, x)
    return (out["h"] ** 2).sum() + np.sin(out["norm"])


@mg.custom_jvp(lambda ts, out, x, n: ts[0] * n * x ** (n - 1))
def power(x, n):
    return x ** n


def test_reverse_rules_of_pytrees_have_every_derivative():
    def plain(p, x):
        return (np.tanh(p["w"] @ x) ** 2).sum() + np.sin((x * x).sum())

    args = ({"w": W}, X)
    for transform in (mg.grad, lambda f: mg.grad(f, 1), mg.hessian, lambda f: mg.jacobian(mg.grad(f, 1), 0)):
        have, want = transform(layer_loss)(*args), transform(plain)(*args)
        np.testing.assert_allclose(*(np.concatenate([np.ravel(v) for v in _leaves(t)]) for t in (have, want)),
                                   rtol=1e-10)
    tangents = ({"w": np.ones_like(W)}, np.ones_like(X))
    np.testing.assert_allclose(mg.jvp(layer_loss, args, tangents)[1], mg.jvp(plain, args, tangents)[1], rtol=1e-12)
    mg.check_primitive(layer_loss, *args)


def _leaves(tree):
    return [x for v in tree.values() for x in _leaves(v)] if isinstance(tree, dict) else [tree]


def test_forward_rules_have_every_derivative():
    mg.check_primitive(lambda x: power(x, 3).sum(), X)
    np.testing.assert_allclose(mg.grad(lambda x: power(x, 3).sum())(X), 3 * X ** 2)
    np.testing.assert_allclose(mg.hessian(lambda x: power(x, 3).sum())(X), np.diag(6 * X))


def test_custom_vjp_rule_replaces_derivative_under_transforms():
    @mg.custom_vjp(lambda g, out, x: (g * 10.0,))
    def f(x):
        return np.sin(x)

    assert f(0.5) == np.sin(0.5)
    np.testing.assert_allclose(mg.grad(f)(0.5), 10.0)
    np.testing.assert_allclose(mg.jvp(f, (0.5,), (2.0,))[1], 20.0)
    np.testing.assert_allclose(mg.vmap(mg.grad(f))(X), np.full(4, 10.0))
    np.testing.assert_allclose(mg.grad(lambda x: mg.vmap(f)(x).sum())(X), np.full(4, 10.0))
    np.testing.assert_allclose(mg.grad(lambda x: mg.vmap(f)(x * np.ones(3)).sum())(0.5), 30.0)
    np.testing.assert_allclose(mg.compile(mg.grad(f))(0.5), 10.0)
    assert mg.trace(f)(0.5).count("custom") == 1
    with pytest.raises(mg.CheckError):
        mg.check_primitive(f, np.array(0.5))


def test_a_shared_argument_gets_the_sum_over_the_batch():
    @mg.custom_vjp(lambda g, out, w, x: (g * x, g * w))
    def product(w, x):
        return w * x

    def loss(w, xs):
        return mg.vmap(product, (None, 0))(w, xs).sum()

    np.testing.assert_allclose(mg.grad(loss)(2.0, X), X.sum())
    batched = mg.mean_loss(lambda w, x: product(w, x) ** 2, (None, 0))
    np.testing.assert_allclose(mg.compile(mg.grad(batched))(2.0, X), (2 * 2.0 * X ** 2).mean())
    np.testing.assert_allclose(mg.grad(mg.microbatch(batched, 3))(2.0, X), (2 * 2.0 * X ** 2).mean())
    mg.check_primitive(product, np.array(2.0), np.array(3.0))


def test_compiled_it_is_inlined():
    f = mg.compile(mg.vmap(layer, (None, 0)))
    out = f({"w": W}, rng.normal(size=(5, 4)))
    assert out["h"].shape == (5, 3)
    assert re.search(r"custom_\d+\(", f.source) is None


def test_graphs_with_rules_survive_json():
    g = mg.trace(mg.vmap(layer_loss, (None, 0)))({"w": W}, np.stack([X, X]))
    again = mg.Graph.from_json(g.to_json())
    assert str(again) == str(g)


def test_integer_arguments_have_no_cotangent():
    @mg.custom_vjp(lambda g, out, x, i: (x.at[i].set(g) * 0 + np.zeros_like(x).at[i].add(g), None))
    def pick(x, i):
        return x[i]

    np.testing.assert_array_equal(mg.grad(pick)(X, 2), [0, 0, 1, 0])
    mg.check_primitive(pick, X, np.array(2))


def refused(match, f, *args, error=mg.GradError):
    with pytest.raises(error, match=match):
        mg.grad(f)(*args)


def test_rules_that_do_not_fit_are_refused():
    def ruled(rule, f=lambda x: np.sin(x).sum()):
        return mg.custom_vjp(rule)(f)

    refused("one cotangent per argument", ruled(lambda g, out, x: g), X)
    refused("one cotangent per argument", ruled(lambda g, out, x: (g, g)), X)
    refused(r"f64\[\] as the derivative of x, which is f64\[4\]", ruled(lambda g, out, x: (g,)), X)
    refused("structure", ruled(lambda g, out, x: ({"a": g, "b": g},)), X)
    np.testing.assert_array_equal(mg.grad(ruled(lambda g, out, x: (None,)))(X), np.zeros(4))
    with pytest.raises(mg.GradError, match="not linear"):
        mg.jvp(ruled(lambda g, out, x: (g * g * x,)), (X,), (X,))
    with pytest.raises(mg.GradError, match="Pass it as an argument"):
        mg.grad(lambda w: mg.custom_vjp(lambda g, out, x: (g,))(lambda x: w * x)(2.0))(3.0)


PAIR = {"a": np.array(2.0), "b": np.array([3.0, 5.0])}
TREES = {
    "vjp of a dict": mg.custom_vjp(lambda g, out, p: ({"a": (g * p["b"]).sum(), "b": g * p["a"]},))(
        lambda p: p["a"] * p["b"]),
    "vjp to a dict": mg.custom_vjp(
        lambda g, out, p: ({"a": (g["ab"] * p["b"]).sum() + g["c"][0], "b": g["ab"] * p["a"]},))(
        lambda p: {"ab": p["a"] * p["b"], "c": (p["a"], 7)}),
    "jvp of a dict": mg.custom_jvp(lambda ts, out, p: ts[0]["a"] * p["b"] + ts[0]["b"] * p["a"])(
        lambda p: p["a"] * p["b"]),
    "jvp to a dict": mg.custom_jvp(lambda ts, out, p: {"ab": ts[0]["a"] * p["b"] + ts[0]["b"] * p["a"],
                                                       "c": (ts[0]["a"], None)})(
        lambda p: {"ab": p["a"] * p["b"], "c": (p["a"], 7)}),
}


@pytest.mark.parametrize("name", TREES)
def test_arguments_and_results_of_several_leaves(name):
    f = TREES[name]

    def loss(f, p):
        out = f(p)
        return np.sum(np.sin(out["ab"])) + out["c"][0] ** 2 if "to" in name else np.sum(np.sin(out))

    def want(p):
        a, b = p["a"], p["b"]
        return {"a": np.sum(np.cos(a * b) * b) + (2 * a if "to" in name else 0), "b": np.cos(a * b) * a}

    close(mg.grad(lambda p: loss(f, p))(PAIR), want(PAIR))
    many = {"a": np.array([2.0, -1.0]), "b": np.array([[3.0, 5.0], [0.5, 1.0]])}
    each = stacked([want({"a": many["a"][k], "b": many["b"][k]}) for k in range(2)])
    close(mg.per_example_grad(lambda p: loss(f, p))(many), each)
    close(mg.microbatch(mg.per_example_grad(lambda p: loss(f, p)), 1)(many), each)


def test_none_in_the_place_of_any_part_is_zero():
    for back in ({"a": None, "b": np.ones(2)}, {"a": np.array(0.0), "b": np.ones(2)}):
        f = mg.custom_vjp(lambda g, out, p, back=back: ({k: None if v is None else g * v for k, v in back.items()},))(
            lambda p: p["a"] * p["b"].sum())
        close(mg.grad(f)(PAIR), {"a": np.array(0.0), "b": np.ones(2)})
    nested = mg.custom_vjp(lambda g, out, p: ((None, g),))(lambda p: p[0]["x"] * p[0]["y"] * p[1])
    close(mg.grad(nested)(({"x": 1.0, "y": 2.0}, 3.0)), ({"x": 0.0, "y": 0.0}, 1.0))


@pytest.mark.parametrize("back", [
    lambda g: {"a": g, "c": np.ones(2) * g}, lambda g: {"a": g}, lambda g: {"c": None},
    lambda g: {"a": None, "c": None}, lambda g: [g, np.ones(2) * g], lambda g: g, lambda g: {"a": g, "b": {"a": None}}])
def test_derivatives_under_other_keys_are_refused(back):
    f = mg.custom_vjp(lambda g, out, p: (back(g),))(lambda p: p["a"] * p["b"].sum())
    refused("structure.*expected.*'a'.*'b'", f, PAIR)
    refused("structure.*expected.*'a'", mg.custom_vjp(lambda g, out, p: ({"c": g},))(lambda p: p["a"] * 2), {"a": 2.0})
    refused("structure", mg.custom_jvp(lambda ts, out, x: {"t": ts[0]})(lambda x: {"s": x * 2}), 2.0)


@mg.custom_vjp(lambda g, out, x: (g * by_itself(x),))
def by_itself(x):
    return np.exp(x)


@mg.custom_jvp(lambda ts, out, x: ts[0] * pushed_by_itself(x))
def pushed_by_itself(x):
    return np.exp(x)


@mg.custom_vjp(lambda g, out, x: (g * cosine(x),))
def sine(x):
    return np.sin(x)


@mg.custom_jvp(lambda ts, out, x: -ts[0] * sine(x))
def cosine(x):
    return np.cos(x)


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["walked", "compiled"])
def test_rules_that_call_their_own_function(wrap):
    x = 0.3
    for f in (by_itself, pushed_by_itself):
        g = f
        for _ in range(4):
            g = mg.grad(g)
            close(wrap(g)(x), np.exp(x))
        close(wrap(mg.vmap(mg.grad(mg.grad(f))))(X), np.exp(X))
        close(wrap(mg.grad(mg.mean_loss(mg.grad(f))))(X), np.exp(X) / 4)
        close(wrap(mg.microbatch(mg.grad(mg.mean_loss(mg.grad(f))), 3))(X), np.exp(X) / 4)
        close(wrap(lambda x, f=f: mg.jvp(mg.grad(f), (x,), (2.0,)))(x), (np.exp(x), 2 * np.exp(x)))
    for order, want in enumerate((np.sin(x), np.cos(x), -np.sin(x), -np.cos(x), np.sin(x))):
        g = sine
        for _ in range(order):
            g = mg.grad(g)
        close(wrap(g)(x), want)


def test_rules_over_examples_of_different_size():
    node = mg.axis("node")

    @mg.example
    class Rows:
        x: mg.f64[node]

    rows = [np.array([0.1, 0.2]), np.array([0.3]), np.array([0.4, 0.5, -0.6])]
    batch = mg.batch([Rows(x=r) for r in rows])

    def scaled(w, r):  # its rule uses a value of the function around it
        total = np.sum(r.x)
        return mg.custom_vjp(lambda g, out, w: (g * total,))(lambda w: w * total)(w)

    def itself(w, r):
        return np.sum(by_itself(w * r.x))

    for wrap in (lambda f: f, mg.compile):
        each = wrap(mg.per_example_grad(scaled, in_axes=(None, 0)))
        close(each(2.0, batch), np.array([r.sum() for r in rows]))
        close(wrap(mg.grad(mg.mean_loss(scaled, (None, 0))))(2.0, batch), np.mean([r.sum() for r in rows]))
        close(wrap(mg.grad(mg.mean_loss(itself, (None, 0))))(2.0, batch), np.mean([r @ np.exp(2 * r) for r in rows]))
        twice = mg.mean_loss(mg.grad(itself), (None, 0))
        close(wrap(mg.grad(twice))(2.0, batch), np.mean([r**2 @ np.exp(2 * r) for r in rows]))
    with pytest.raises(mg.GradError, match="Take the derivative of one example before the batch"):
        mg.grad(mg.grad(mg.mean_loss(itself, (None, 0))))(2.0, batch)


def test_a_rule_that_takes_its_own_derivative_is_refused():
    @mg.custom_vjp(lambda g, out, x: (g * mg.grad(circular)(x),))
    def circular(x):
        return np.exp(x)

    refused("the rule of circular takes the derivative of circular", circular, 0.3)


def test_rules_may_use_values_of_the_function_around():
    def scaled(w, x):
        @mg.custom_vjp(lambda g, out, x: (g * w * v,))
        def product(x):
            return x * w

        v = np.sin(w)
        return product(x)

    def forward(w, x):
        return mg.custom_jvp(lambda ts, out, x: ts[0] * w * np.sin(w))(lambda x: x * w)(x)

    ws, xs = np.array([2.0, 3.0, -1.0]), np.array([0.5, 1.0, 2.0])
    for f in (scaled, forward):
        close(mg.grad(f, 1)(2.0, 3.0), 2 * np.sin(2))
        close(mg.per_example_grad(f, 1)(ws, xs), ws * np.sin(ws))
        close(mg.per_example_grad(f, 1, in_axes=(None, 0))(2.0, xs), np.full(3, 2 * np.sin(2)))
        close(mg.compile(mg.grad(mg.mean_loss(f), 1))(ws, xs), ws * np.sin(ws) / 3)
        close(mg.grad(lambda x, f=f: mg.scan(lambda c, w: (f(w, c), None), x, ws)[0])(1.0), np.prod(ws * np.sin(ws)))
        unknown = r"test_custom.py:\d+: .* uses a value \(f64\[.*\]\) of the function around it.*Pass it as an argument"
        refused(unknown, f, 2.0, 3.0)
        refused(unknown, mg.mean_loss(f), ws, xs)
        with pytest.raises(mg.GradError, match=unknown):
            mg.jvp(lambda w, f=f: f(w, 3.0), (2.0,), (1.0,))


def test_custom_vjp_rule_refuses_captured_intermediates():
    kept = {}

    def f(x):
        kept["h"] = np.exp(x)
        return kept["h"] * 2

    refused("Return it as a result", mg.custom_vjp(lambda g, out, x: (g * kept["h"],))(f), 0.3, error=mg.TraceError)


def test_keyword_arguments_are_positional():
    np.testing.assert_allclose(mg.grad(lambda x: power(n=3, x=x).sum())(X), 3 * X ** 2)


# -- callback ----------------------------------------------------------------------------------------------


def calls(function):
    seen = []

    def counted(*args):
        seen.append([np.shape(a) for a in args])
        return function(*args)

    counted.seen = seen
    return counted


def test_a_callback_is_a_visible_loop_when_batched():
    f = calls(lambda x, i: np.sort(x)[i:] * 2)

    def loss(x, i):
        return mg.callback(f, mg.f64[3], x, i).sum()

    xs = rng.normal(size=(5, 4))
    want = [(np.sort(x)[1:] * 2).sum() for x in xs]
    g = mg.trace(mg.vmap(loss, (0, None)))(xs, 1)
    assert "callback(" in str(g)
    assert "batches=((B, (True, False)),)" in str(g)
    np.testing.assert_allclose(mg.vmap(loss, (0, None))(xs, 1), want)
    assert f.seen == [[(4,), ()]] * 5
    np.testing.assert_allclose(mg.compile(mg.vmap(loss, (0, None)))(xs, 1), want)
    nested = mg.vmap(mg.vmap(loss, (0, None)), (None, 0))(xs, np.array([1, 1]))
    np.testing.assert_allclose(nested, [want, want])
    np.testing.assert_allclose(mg.vmap(mg.vmap(loss, (None, 0)), (0, None))(xs, np.array([1, 1])),
                               np.stack([want, want], 1))


def test_a_vectorized_callback_is_called_once():
    f = calls(lambda x, y: np.sort(x, axis=-1) + y[..., None])
    xs = rng.normal(size=(5, 4))
    one = mg.vmap(lambda x, y: mg.callback(f, x, x, y, vectorized=True), (0, None))
    np.testing.assert_allclose(one(xs, 2.0), np.sort(xs) + 2)
    assert f.seen == [[(5, 4), (5,)]]
    two = mg.vmap(mg.vmap(lambda x, y: mg.callback(f, mg.f64[4], x, y, vectorized=True), (0, None)), (None, 0))
    np.testing.assert_allclose(two(xs, np.array([1.0, 2.0])), np.stack([np.sort(xs) + 1, np.sort(xs) + 2]))
    assert f.seen[-1] == [(2, 5, 4), (2, 5)]


def test_callbacks_take_and_return_pytrees_and_dtypes():
    def f(p):
        return {"n": np.array(p["x"].sum() > 0), "y": p["x"].astype("f4")}

    spec = {"n": mg.bool_[()], "y": mg.f32[4]}
    for run in (lambda g: g({"x": X}), lambda g: mg.compile(g)({"x": X})):
        out = run(lambda p: mg.callback(f, spec, p))
        assert out["y"].dtype == np.float32
        assert out["n"] == (X.sum() > 0)
    assert mg.callback(f, spec, {"x": X})["y"].shape == (4,)


def test_callbacks_that_break_their_word_are_found():
    for f, match in ((lambda x: x[:2], r"shape \(2,\), and was stated to return f64\[4\]"),
                     (lambda x: x.astype("f4"), "returned float32, and was stated to return float64"),
                     (lambda x: (x, x), "structure")):
        for run in (lambda g: mg.vmap(g)(X[None]), lambda g: mg.compile(g)(X), lambda g: g(X)):
            with pytest.raises(mg.MinigradError, match=match):
                run(lambda x, f=f: mg.callback(f, mg.f64[4], x))
    with pytest.raises(ValueError, match="read-only"):
        mg.vmap(lambda x: mg.callback(lambda a: a.__setitem__(0, 1.0), x, x))(X[None].copy())


def test_a_callback_has_the_derivative_that_it_is_given():
    def loss(x):
        return mg.callback(scipy.special.erf, x, x).sum()

    with pytest.raises(mg.Unsupported, match=r"mg\.custom_vjp"):
        mg.grad(loss)(X)
    still = mg.custom_vjp(lambda g, out, x: (None,))(loss)
    np.testing.assert_array_equal(mg.grad(lambda x: still(x) + x.sum())(X), np.ones(4))
    np.testing.assert_array_equal(mg.jvp(still, (X,), (X,))[1], 0.0)
    ruled = mg.custom_vjp(lambda g, out, x: (g * 2 / np.sqrt(np.pi) * np.exp(-x * x),))(
        lambda x: mg.callback(scipy.special.erf, x, x))
    mg.check_primitive(ruled, X)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("vectorized", [False, True])
def test_a_callback_may_keep_its_arguments_and_return_them(backend, vectorized):
    kept = []

    def keep(x):
        kept.append(x)
        return x

    def f(x):
        r = mg.callback(keep, x, np.sin(x), vectorized=vectorized)
        return np.cumsum(r) * 0.1 + r

    rows, want = rng.normal(size=(3, 4)), []
    for x in rows:
        np.testing.assert_allclose(mg.compile(f, backend)(x), np.cumsum(np.sin(x)) * 0.1 + np.sin(x))
        want.append(np.sin(x))
    np.testing.assert_allclose(kept, want)
    kept.clear()
    np.testing.assert_allclose(mg.compile(mg.vmap(f), backend)(rows), np.cumsum(np.sin(rows), 1) * 0.1 + np.sin(rows))
    np.testing.assert_allclose(np.reshape(kept, (3, 4)), np.sin(rows))


@pytest.mark.parametrize("run", [lambda f: f, mg.compile, mg.vmap])
def test_a_callback_takes_numbers_that_can_be_looked_up(run):
    table = {0: 2.5, 1: -1.0}
    f = run(lambda k: mg.callback(lambda k: np.float64(table[k]), mg.f64[()], k))
    np.testing.assert_array_equal([f(np.array(k)) for k in (1, 0)] if run is not mg.vmap else f(np.array([1, 0])),
                                  [-1.0, 2.5])


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_callback_may_return_one_array_at_every_call(vectorized):
    room = np.zeros((3, 4))

    def double(x):
        return np.multiply(x, 2, out=room if x.ndim > 1 else room[0])

    def f(x):
        y = mg.callback(double, x, np.sin(x), vectorized=vectorized)
        return y, mg.callback(double, x, np.cos(x), vectorized=vectorized) + y

    rows = rng.normal(size=(3, 4))
    want = np.sin(rows) * 2, np.sin(rows) * 2 + np.cos(rows) * 2
    for g in (mg.vmap(f), mg.compile(mg.vmap(f)), mg.compile(mg.vmap(f), "numpy")):
        found = g(rows)
        room[...] = np.nan
        np.testing.assert_allclose(found, want)
    x = rows[0].copy()
    y = mg.callback(lambda x: x, x, x)
    x[...] = 0
    np.testing.assert_array_equal(y, rows[0])


# -- primitive ---------------------------------------------------------------------------------------------


@pytest.fixture
def declare():
    before = set(PRIMITIVES)
    yield mg.primitive
    for name in set(PRIMITIVES) - before:
        del PRIMITIVES[name]


def test_an_elementwise_primitive(declare):
    mish = declare("mish", lambda xp, x: x * xp.tanh(xp.log1p(xp.exp(x))),
                   vjp=lambda g, out,
                   x: (g * (np.tanh(softplus(x)) + x * (1 - np.tanh(softplus(x)) ** 2) / (1 + np.exp(-x))),))
    np.testing.assert_allclose(mish(X), X * np.tanh(np.log1p(np.exp(X))))
    mg.check_primitive(mish, X)
    f = mg.compile(mg.vmap(mg.grad(mish)))
    np.testing.assert_allclose(f(X), mg.jacobian(mish)(X).diagonal())
    with pytest.raises(mg.GraphError, match="exists already"):
        declare("mish", lambda xp, x: x)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", ["acos", "atanh", "expit", "gamma", "my own"])
def test_custom_primitive_may_share_name_with_library_function(declare, name, backend):
    if name in PRIMITIVES:
        pytest.skip("taken")
    scaled = declare(name, lambda xp, x: x * 100)
    f = mg.compile(lambda x: scaled(np.sin(x)) + 1, backend=backend)
    np.testing.assert_allclose(f(X), np.sin(X) * 100 + 1)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_primitive_may_return_its_operand_or_a_view(declare, backend):
    for name, at in (("same", slice(None)), ("turned", slice(None, None, -1))):
        prim = declare(name, lambda xp, x, at=at: x if at == slice(None) else x[at], result=lambda t: t)
        f = mg.compile(lambda x, prim=prim: (lambda r: np.cumsum(r) + r)(prim(np.sin(x))), backend)
        np.testing.assert_allclose(f(X), np.cumsum(np.sin(X)[at]) + np.sin(X)[at])


def test_a_primitive_with_a_type_rule_and_a_forward_rule(declare):
    def result(a, b, *, power):
        if a.shape[-1] != b.shape[-1]:
            raise mg.ShapeError("lengths differ")
        return mg.ArrayType(a.shape[:-1], a.dtype)

    moment = declare("moment", lambda xp, a, b, power: xp.sum(a * b ** power, axis=-1), result,
                     jvp=lambda ts, out, a, b, power: sum(
                         t for t in (None if ts[0] is None else (ts[0] * b ** power).sum(-1),
                                     None if ts[1] is None else (a * power * b ** (power - 1) * ts[1]).sum(-1))
                         if t is not None),
                     batch="leading")
    mg.check_primitive(lambda a, b: moment(a, b, power=3), X, W[0].copy())
    with pytest.raises(mg.ShapeError, match="lengths differ"):
        moment(X, W[0, :2], power=1)


def test_undeclared_vjp_and_batch_rules_are_unsupported(declare):
    f = declare("undeclared", lambda xp, x: xp.flip(x), lambda t: t)
    np.testing.assert_array_equal(f(X), X[::-1])
    with pytest.raises(mg.Unsupported, match="without vjp="):
        mg.grad(lambda x: f(x).sum())(X)
    with pytest.raises(mg.Unsupported, match="without batch="):
        mg.vmap(f)(W)


def test_check_primitive_finds_wrong_type_vjp_and_batch_rules(declare):
    wrong_type = declare("wrong_type", lambda xp, x: xp.sum(x, axis=-1), lambda t: t, batch="leading")
    with pytest.raises(mg.CheckError, match="type rule says"):
        mg.check_primitive(wrong_type, X)
    wrong_rule = declare("wrong_rule", lambda xp, x: xp.sin(x), vjp=lambda g, out, x: (g * np.sin(x),))
    with pytest.raises(mg.CheckError):
        mg.check_primitive(wrong_rule, X)
    wrong_batch = declare("wrong_batch", lambda xp, x: xp.cumulative_sum(x, axis=0), lambda t: t, batch="leading")
    with pytest.raises(mg.CheckError):
        mg.check_primitive(wrong_batch, X, order=0)


def test_a_primitive_belongs_to_the_module_that_makes_it(declare):
    assert declare("made_by_this_module", eval=lambda xp, x: x + 1).__module__ == __name__


@pytest.mark.parametrize("form", [{}, {"result": lambda t, *, c: t, "batch": "leading"}])
def test_static_parameters_are_told_apart(declare, form):
    """Zeros of both signs, and numbers and truth values, are equal; lists and arrays are not hashable."""
    by = declare("test_by", lambda xp, x, *, c: x / np.float64(c if np.ndim(c) == 0 else c[-1]) + 5 * (c is True),
                 jvp=lambda ts, out, x, *, c: ts[0], **form)

    def f(x):
        return [by(x, c=c) for c in (0.0, -0.0, 1, True, [4], [8], np.array([2]), np.array([4]))]

    want = [np.inf, -np.inf, 2.0, 7.0, 0.5, 0.25, 1.0, 0.5]
    graph = mg.trace(f)(2.0)
    with np.errstate(divide="ignore"):
        for g in (f, mg.compile(f), graph, mg.autobatch(graph)):
            assert [float(v) for v in g(np.array(2.0))] == want


def test_a_primitive_does_not_run_for_examples_that_have_ended(declare):
    def checked(xp, x):
        if np.any(np.asarray(x) < 0):
            raise ValueError("negative")
        return x * 1.0

    of_any = declare("test_checked", checked, jvp=lambda ts, out, x: ts[0])
    of_rows = declare("test_checked_rows", checked, result=lambda t: t, jvp=lambda ts, out, x: ts[0],
                      batch="leading")
    for root in (of_any, of_rows):
        f = mg.vmap(lambda x, root=root: mg.while_loop(lambda x: x >= 0, lambda x: root(x) - 1, x))
        for g in (f, mg.compile(f)):
            np.testing.assert_array_equal(g(np.array([3.0, -2.0, 0.5])), [-1.0, -2.0, -0.5])

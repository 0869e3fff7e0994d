"""Derivatives: pytrees, argnums, aux, all nestings, and closures over outer traced values."""

import collections
import functools

import numpy as np
import optree
import pytest

import minigrad as mg

from .common import close, slope, stacked

rng = np.random.default_rng(0)
W = rng.normal(size=3)
V = rng.normal(size=3)
X = rng.normal(size=(6, 3))
P = {"a": rng.normal(size=3), "b": [rng.normal(size=(3, 2)), (np.array(0.3), None)]}


def mlp(p, x):
    return np.sum(np.tanh(x * p["a"] @ p["b"][0] + p["b"][1][0]) ** 2)


def test_gradient_has_the_structure_of_its_argument():
    g = mg.grad(mlp)(P, X[0])
    assert optree.tree_structure(g) == optree.tree_structure(P)
    flat, unravel = mg.optim.ravel(P)
    direction = rng.normal(size=flat.size)
    numeric = slope(lambda v: mlp(unravel(v), X[0]), flat, direction)
    assert mg.optim.ravel(g)[0] @ direction == pytest.approx(numeric, rel=1e-7)


def test_named_tuples_and_ordered_dicts():
    point = collections.namedtuple("Point", "x y")
    close(mg.grad(lambda p: np.sum(p.x * p.y))(point(W, V)), point(V, W))
    close(mg.grad(lambda p: np.sum(p["x"]))(collections.OrderedDict(x=W)), collections.OrderedDict(x=np.ones(3)))


@pytest.mark.parametrize(("argnums", "want"), [
    (0, lambda a, b: b * b), (1, lambda a, b: 2 * a * b), (-1, lambda a, b: 2 * a * b), (-2, lambda a, b: b * b),
    (np.int64(1), lambda a, b: 2 * a * b), ((0,), lambda a, b: (b * b,)), ((1, 0), lambda a, b: (2 * a * b, b * b)),
    ([0, -1], lambda a, b: (b * b, 2 * a * b)), ((0, 0), lambda a, b: (b * b, b * b))])
def test_argnums(argnums, want):
    f = lambda a, b: np.sum(a * b * b)  # noqa: E731
    close(mg.grad(f, argnums)(W, V), want(W, V))
    value, g = mg.value_and_grad(f, argnums)(W, V)
    assert value == pytest.approx(f(W, V))
    close(g, want(W, V))


def test_keywords_defaults_methods_and_partials():
    def f(w, x=1.0, *, power=2):
        return np.sum(w ** power * x)

    close(mg.grad(f)(W), 2 * W)
    close(mg.grad(f)(W, x=V, power=3), 3 * W ** 2 * V)
    close(mg.grad(functools.partial(f, x=V))(W), 2 * W * V)
    close(mg.grad(functools.partial(f, W))(V), W ** 2)
    close(mg.grad(np.sum)(W), np.ones(3))

    class Model:
        scale = 3.0

        def loss(self, w):
            return np.sum(w) * self.scale

    close(mg.grad(Model().loss)(W), np.full(3, 3.0))


def test_aux_of_every_kind():
    def f(w):
        return np.sum(w * w), {"n": None, "k": (w, 1, 2.5), "e": []}

    (value, aux), g = mg.value_and_grad(f, has_aux=True)(W)
    assert value == pytest.approx(W @ W)
    close(aux, {"n": None, "k": (W, 1, 2.5), "e": []})
    close(g, 2 * W)
    close(mg.grad(f, has_aux=True)(W), (2 * W, aux))
    close(mg.grad(lambda w: (w @ w, None), has_aux=True)(W), (2 * W, None))
    close(mg.vmap(mg.grad(lambda w: (w @ w, w[0]), has_aux=True))(X), (2 * X, X[:, 0]))
    with mg.debug_nans():
        close(mg.grad(lambda w: mg.grad(lambda v: (v @ v, v), has_aux=True)(w)[1].sum())(W), np.ones(3))


def test_derivatives_of_independent_results_are_zero():
    close(mg.grad(lambda a, b: np.sum(a), (0, 1))(W, X), (np.ones(3), np.zeros((6, 3))))
    close(mg.grad(lambda a: 2.0)(W), np.zeros(3))
    close(mg.jacobian(lambda a: np.ones(2))(W), np.zeros((2, 3)))
    close(mg.jvp(lambda a: np.ones(2), (W,), (V,)), (np.ones(2), np.zeros(2)))
    close(mg.vjp(lambda a, b: b, W, V)[1](W), (np.zeros(3), W))


def test_dtypes_are_kept():
    for dtype in ("f2", "f4", "f8"):
        w = W.astype(dtype)
        value, g = mg.value_and_grad(lambda w: np.sum(w * 2.0 + 1))(w)
        assert value.dtype == g.dtype == w.dtype
    mixed = mg.grad(lambda a, b: np.sum(a * b), (0, 1))(W.astype("f4"), V)
    assert [g.dtype.name for g in mixed] == ["float32", "float64"]


def test_python_numbers():
    assert mg.grad(lambda x: x * x)(3.0) == 6.0
    assert mg.grad(lambda x, n: x ** n)(3.0, 3) == 27.0
    assert mg.hessian(lambda x: x ** 3)(3.0) == 18.0


# -- perturbation confusion: each derivative is of its own variable ---------------------------------------


@pytest.mark.parametrize(("f", "want"), [
    (lambda x: x * mg.grad(lambda y: x + y)(x), 1.0),
    (lambda x: x * mg.grad(lambda y: x * y)(2.0), 6.0),
    (lambda x: x * mg.jvp(lambda y: x * y, (2.0,), (1.0,))[1], 6.0),
    (lambda x: x * mg.jvp(lambda y: x * y, (x,), (1.0,))[1], 6.0),
    (lambda x: x * mg.vjp(lambda y: x * y, x)[1](1.0)[0], 6.0),
    (lambda x: mg.grad(lambda y: y * mg.grad(lambda z: x * y * z)(y))(x), 12.0),
    (lambda x: mg.vmap(lambda y: x * y)(np.array([1.0, 2.0])).sum() * x, 18.0),
    (lambda x: mg.vmap(lambda y: mg.grad(lambda z: x * y * z)(y))(np.array([1.0, 2.0])).sum(), 3.0),
    (lambda x: mg.stop_gradient(x) * x, 3.0),
    (lambda x: mg.checkpoint(lambda y: x * y)(x), 6.0),
])
def test_nested_derivatives_do_not_confuse_their_variables(f, want):
    assert mg.grad(f)(3.0) == pytest.approx(want)
    assert mg.jvp(f, (3.0,), (1.0,))[1] == pytest.approx(want)
    assert mg.vmap(mg.grad(f))(np.array([3.0, 3.0])) == pytest.approx([want, want])
    assert mg.compile(mg.grad(f))(3.0) == pytest.approx(want)


# -- the same derivative by every route -------------------------------------------------------------------


def g(w):
    return np.tanh(w) * w[::-1] + np.sum(w ** 2)


def s(w):
    return np.sum(np.sin(w) * w[::-1]) + w[0] * w[1] ** 2 * w[2]


def test_jacobian_forward_reverse_and_by_hand():
    J = mg.jacobian(g)(W)
    close(J, np.stack([mg.grad(lambda w, i=i: g(w)[i])(W) for i in range(3)]))
    close(J @ V, mg.jvp(g, (W,), (V,))[1])
    close(V @ J, mg.vjp(g, W)[1](V)[0])
    tall = lambda w: np.outer(w, w).ravel()  # noqa: E731  # more results than arguments: forward
    close(mg.jacobian(tall)(W), np.stack([mg.jvp(tall, (W,), (e,))[1] for e in np.eye(3)], -1))
    close(mg.jacobian(lambda M: M.sum(0))(X), np.stack([np.eye(3)[:, None, :].repeat(6, 1)])[0])


def test_hessian_by_every_route():
    H = mg.hessian(s)(W)
    close(H, H.T)
    close(mg.jacobian(mg.jacobian(s))(W), H)
    close(mg.hvp(s, (W,), (V,)), H @ V)
    close(mg.grad(lambda w: mg.grad(s)(w) @ V)(W), H @ V)
    close(mg.grad(lambda w: mg.jvp(s, (w,), (V,))[1])(W), H @ V)
    close(mg.jvp(lambda w: mg.vjp(s, w)[1](1.0)[0], (W,), (V,))[1], H @ V)
    close(mg.vjp(lambda w: mg.jvp(s, (w,), (V,))[1], W)[1](1.0)[0], H @ V)
    close(mg.vjp(mg.grad(s), W)[1](V)[0], H @ V)
    for i in range(3):
        assert slope(lambda w, i=i: mg.grad(s)(w)[i], W, V) == pytest.approx((H @ V)[i], rel=1e-6)


def test_hessian_vector_product_of_pytrees_and_several_arguments():
    close(mg.hvp(lambda a, b: np.sum(a ** 2 * b), (W, V), (V, W)), (2 * V * V + 2 * W * W, 2 * W * V))
    close(mg.hvp(lambda p: np.sum(p["a"] ** 3), ({"a": W},), ({"a": V},)), {"a": 6 * W * V})


def test_third_derivative():
    assert mg.grad(mg.grad(mg.grad(lambda x: np.sin(2 * x))))(0.3) == pytest.approx(-8 * np.cos(0.6))


def test_vmap_of_derivatives_and_derivatives_of_vmap():
    close(mg.vmap(mg.grad(s))(X), stacked([mg.grad(s)(x) for x in X]))
    close(mg.vmap(mg.hessian(s))(X), stacked([mg.hessian(s)(x) for x in X]))
    close(mg.vmap(mg.jacobian(g))(X), stacked([mg.jacobian(g)(x) for x in X]))
    close(mg.vmap(lambda x, v: mg.jvp(g, (x,), (v,))[1])(X, X[::-1]),
          stacked([mg.jvp(g, (x,), (v,))[1] for x, v in zip(X, X[::-1], strict=True)]))
    close(mg.grad(lambda X: mg.vmap(s)(X).sum())(X), stacked([mg.grad(s)(x) for x in X]))
    J = mg.jacobian(mg.vmap(s))(X)
    close(J, np.eye(6)[:, :, None] * stacked([mg.grad(s)(x) for x in X]))
    close(mg.jvp(mg.vmap(g), (X,), (X * 2,))[1], stacked([mg.jacobian(g)(x) @ (2 * x) for x in X]))


def test_pull_inside_vmap_and_twice():
    value, pull = mg.vjp(g, W)
    close(value, g(W))
    close(mg.vmap(lambda c: pull(c)[0])(np.eye(3)), mg.jacobian(g)(W))
    close(pull(V), pull(V))
    close(mg.vmap(lambda x: mg.vjp(g, x)[1](V)[0])(X), stacked([V @ mg.jacobian(g)(x) for x in X]))
    close(mg.grad(lambda c: np.sum(pull(c)[0] ** 2))(V), 2 * mg.jacobian(g)(W) @ (V @ mg.jacobian(g)(W)))


def test_a_pullback_is_equal_to_itself_alone():
    pulls = [mg.vjp(np.sin, np.ones(3))[1] for _ in range(2)]
    assert len(set(pulls)) == 2
    assert pulls[0] in pulls


def test_vjp_and_jvp_of_pytrees_with_integer_results():
    value, pull = mg.vjp(lambda p: {"a": p[0] * p[1], "i": np.argmax(p[0])}, (W, V))
    close(value, {"a": W * V, "i": np.argmax(W)})
    close(pull({"a": np.ones(3), "i": 0}), ((V, W),))
    value, tangent = mg.jvp(lambda w: (w * 2, np.argmax(w)), (W,), (V,))
    close(tangent, (2 * V, 0))


def test_closures_over_a_batch_inside_grad():
    want = sum(mg.grad(lambda w, x=x: np.tanh(w @ x))(W) for x in X)
    close(mg.grad(lambda w: mg.vmap(lambda x: np.tanh(w @ x))(X).sum())(W), want)
    close(mg.vmap(lambda x: mg.grad(lambda w: np.tanh(w @ x))(W))(X).sum(0), want)


# -- stop_gradient and checkpoint -------------------------------------------------------------------------


def test_stop_gradient():
    close(mg.grad(lambda w: np.sum(w * mg.stop_gradient(w)))(W), W)
    close(mg.grad(lambda w: mg.stop_gradient({"a": w, "b": [w]})["b"][0].sum() + w[0])(W), np.array([1.0, 0, 0]))
    close(mg.jvp(lambda w: w * mg.stop_gradient(w), (W,), (V,))[1], W * V)
    close(mg.vmap(mg.grad(lambda w: np.sum(w * mg.stop_gradient(w))))(X), X)
    assert mg.stop_gradient({"a": W})["a"] is W


def body(w, x):
    return np.sum(np.tanh(w * x)) ** 2


@pytest.mark.parametrize("transform", [
    lambda f: f(W, X[0]), lambda f: mg.grad(f, (0, 1))(W, X[0]), lambda f: mg.jvp(f, (W, X[0]), (V, V)),
    lambda f: mg.hessian(f)(W, X[0]), lambda f: mg.vmap(f, (None, 0))(W, X),
    lambda f: mg.per_example_grad(f, in_axes=(None, 0))(W, X), lambda f: mg.grad(mg.mean_loss(f, (None, 0)))(W, X),
    lambda f: mg.compile(mg.grad(mg.mean_loss(f, (None, 0))))(W, X),
    lambda f: mg.grad(mg.microbatch(mg.mean_loss(f, (None, 0)), 4))(W, X),
    lambda f: mg.microbatch(mg.grad(mg.mean_loss(f, (None, 0))), 4, (None, 0))(W, X),
    lambda f: mg.compile(mg.microbatch(mg.grad(mg.mean_loss(f, (None, 0))), 4, (None, 0)))(W, X)])
@pytest.mark.parametrize("mark", [
    mg.checkpoint, lambda f: mg.checkpoint(mg.checkpoint(f)),
    lambda f: lambda w, x: mg.checkpoint(lambda: f(w, x))(),
    lambda f: lambda w, x: mg.checkpoint(lambda v: f(v, x))(w),
    lambda f: mg.checkpoint(lambda w, x: mg.checkpoint(f)(w, x) * 1.0)],
    ids=["plain", "twice", "closure over all", "closure over x", "nested"])
def test_checkpoint_changes_no_value(mark, transform):
    close(transform(mark(body)), transform(body))


def test_checkpoint_computes_again():
    plain = mg.trace(mg.value_and_grad(body))(W, X[0])
    marked = mg.trace(mg.value_and_grad(mg.checkpoint(body)))(W, X[0])
    inside = next(n for n in marked.nodes if n.prim.name == "checkpoint").params["graph"]
    assert plain.count("tanh") == 1
    assert inside.count("tanh") == 1
    assert marked.count("tanh") == 1
    assert marked.count("barrier") == 2


def test_checkpoint_results_that_are_inputs_or_constants():
    close(mg.grad(lambda w: mg.checkpoint(lambda x: x)(w).sum())(W), np.ones(3))
    close(mg.grad(lambda w: mg.checkpoint(lambda x: (w, 3.0, x))(V)[0].sum())(W), np.ones(3))
    close(mg.grad(lambda w: mg.checkpoint(lambda x: 3.0)(w) * w.sum())(W), np.full(3, 3.0))
    close(mg.checkpoint(lambda p: {"a": p[0]})([W]), {"a": W})
    close(mg.grad(lambda w: mg.checkpoint(lambda x, i: x[i] ** 2)(w, 1))(W), np.array([0, 2 * W[1], 0]))

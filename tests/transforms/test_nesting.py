"""Random programs under three transforms in any order, beside the same nesting made in another way.

A program maps an array of 2 numbers to another; each transform makes of a map on arrays of some shape another such
map: the gradient of a weighted sum, the directional derivative, or `vmap`, which adds an axis in front.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

from .common import close

N = 2  # elements of an example, and examples of a batch
MIX = np.array([[0.6, -0.8], [0.5, 0.3]])
STEPS = {
    "sin": np.sin, "tanh": np.tanh, "square": lambda x: 0.5 * x * x, "bell": lambda x: np.exp(-x * x),
    "mix": lambda x: MIX @ x, "cumsum": np.cumsum, "flip": lambda x: x[::-1] * x, "norm": lambda x: x / (1 + x @ x),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(), "sort": np.sort, "power": lambda x: (x * x + 1) ** 1.5,
    "where": lambda x: np.where(x > 0.05, x ** 3, np.arctan(x)), "outer": lambda x: np.outer(x, np.cos(x)).sum(0),
    "scan": lambda x: mg.scan(lambda c, v: (c * 0.5 + np.sin(v), c * v), x[0], x)[1]}


def program(names):
    """Return the steps of these names, one after the other."""

    def run(x):
        for name in names:
            x = STEPS[name](x)
        return x + 0.0 * np.sin(x)

    return run


def weights(x, k):
    """Return fixed numbers of the shape of `x`."""
    return np.cos(np.arange(np.size(x)) + k).reshape(np.shape(x))


def grad(f, k):
    return mg.grad(lambda x: (f(x) * weights(x, k)).sum())


def jvp(f, k):
    return lambda x: mg.jvp(f, (x,), (weights(x, k + 5),))[1]


def vmap(f, k):
    return mg.vmap(f)


def grad_by_columns(f, k):
    """Reverse mode by forward mode: a directional derivative for each element."""

    def compute(x):
        eye = np.eye(np.size(x)).reshape(-1, *np.shape(x))
        slopes = [(mg.jvp(f, (x,), (e,))[1] * weights(x, k)).sum() for e in eye]
        return np.reshape(np.stack(slopes), np.shape(x))

    return compute


def jvp_by_rows(f, k):
    """Forward mode by reverse mode: a gradient for each element of the result."""

    def compute(x):
        eye = np.eye(np.size(x)).reshape(-1, *np.shape(x))
        rows = [(mg.grad(lambda x, e=e: (f(x) * e).sum())(x) * weights(x, k + 5)).sum() for e in eye]
        return np.reshape(np.stack(rows), np.shape(x))

    return compute


def loop(f, k):
    return lambda x: np.stack([f(x[i]) for i in range(N)])


def grad_by_differences(f, k, h=1e-5):
    def compute(x):
        eye = np.eye(x.size).reshape(-1, *x.shape)
        slopes = [((f(x + h * e) - f(x - h * e)) * weights(x, k)).sum() / (2 * h) for e in eye]
        return np.reshape(slopes, x.shape)

    return compute


def jvp_by_differences(f, k, h=1e-5):
    return lambda x: (f(x + h * weights(x, k + 5)) - f(x - h * weights(x, k + 5))) / (2 * h)


OURS = {"grad": grad, "jvp": jvp, "vmap": vmap}
OTHERWISE = {"grad": grad_by_columns, "jvp": jvp_by_rows, "vmap": loop}
DIFFERENCES = {"grad": grad_by_differences, "jvp": jvp_by_differences, "vmap": loop}


def nested(f, order, ways):
    """Return `f` under transforms, the first name innermost."""
    for k, (name, way) in enumerate(zip(order, ways, strict=True)):
        f = way[name](f, k)
    return f


def argument(order, seed):
    """Return an argument, its elements apart from one another and from 0 and 0.05, where a step has a kink."""
    shape = (N,) * (1 + order.count("vmap"))
    rng = np.random.default_rng(seed)
    return rng.choice([-1, 1], shape) * (0.2 + 0.13 * rng.permutation(N ** len(shape))).reshape(shape)


programs = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4).map(program)
orders = st.lists(st.sampled_from(sorted(OURS)), min_size=3, max_size=3)


@given(programs, orders, st.integers(0, 50))
def test_three_transforms_are_the_same_nesting_made_otherwise(f, order, seed):
    x = argument(order, seed)
    have = nested(f, order, [OURS] * 3)(x)
    want = nested(f, order, [OTHERWISE] * 3)(x)
    scale = 1 + np.abs(want).max()
    np.testing.assert_allclose(have, want, rtol=1e-8, atol=1e-9 * scale, err_msg=str(order))


@given(programs, orders, st.integers(0, 50))
def test_the_outermost_is_differences_of_the_two_inside(f, order, seed):
    x = argument(order, seed)
    have = nested(f, order, [OURS] * 3)(x)
    steps = [nested(f, order, [OURS, OURS, {
        **DIFFERENCES, "grad": lambda f, k, h=h: grad_by_differences(f, k, h),
        "jvp": lambda f, k, h=h: jvp_by_differences(f, k, h)}])(x) for h in (1e-4, 1e-5)]
    scale = 1 + np.abs(have).max()
    if np.abs(steps[0] - steps[1]).max() < 1e-5 * scale:  # no kink nearby
        np.testing.assert_allclose(have, steps[1], rtol=1e-4, atol=1e-5 * scale, err_msg=str(order))


@given(programs, orders, st.sampled_from([0, 1, 2]), st.integers(0, 50))
def test_vmap_outside_is_vmap_inside(f, order, place, seed):
    """A batch of (a transform of f) is the transform of the batched f: no example reaches into another."""
    inner = [name for name in order if name != "vmap"]
    place = min(place, len(inner))
    out, within = [*inner, "vmap"], [*inner[:place], "vmap", *inner[place:]]
    x = argument(out, seed)
    rows = np.stack([nested_alike(f, inner, x[i]) for i in range(N)])
    np.testing.assert_allclose(nested_alike(f, within, x), rows, rtol=1e-8, atol=1e-9 * (1 + np.abs(rows).max()))
    np.testing.assert_allclose(nested_alike(f, out, x), rows, rtol=1e-8, atol=1e-9 * (1 + np.abs(rows).max()))


def nested_alike(f, order, x):
    """Return `f` under transforms, with weights and directions that are the same for each example of a batch."""
    fixed = np.cos(np.arange(N))
    ways = {"grad": lambda f, k: mg.grad(lambda x: (f(x) * fixed).sum()),
            "jvp": lambda f, k: lambda x: mg.jvp(f, (x,), (np.broadcast_to(fixed, np.shape(x)),))[1], "vmap": vmap}
    return nested(f, order, [ways] * len(order))(x)


CAPTURED = {
    "index": lambda x: x[1] * x[0],
    "roll": lambda x: np.sum(np.roll(x, 1) * x),
    "update": lambda x: np.sum(x.at[0].set(x[1] ** 2)),
    "scan": lambda x: mg.scan(lambda c, v: (c * v + v, None), 1.0, x)[0],
    "product": lambda x: np.prod(x),
    "sines": lambda x: np.sum(np.sin(x)),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_directions_of_the_batchs_size_fix_it(name):
    f, X, V = CAPTURED[name], np.arange(1.0, 7.0).reshape(3, 2), np.ones((3, 2))
    many, mean = mg.vmap(f), mg.mean_loss(f)
    close(mg.compile(lambda X: mg.jvp(many, (X,), (V,)))(X), mg.jvp(many, (X,), (V,)))
    close(mg.compile(lambda X: mg.hvp(mean, (X,), (V,)))(X), mg.hvp(mean, (X,), (V,)))
    close(mg.compile(lambda X: mg.vjp(many, X)[1](V[:, 0]))(X), mg.vjp(many, X)[1](V[:, 0]))
    with pytest.raises(mg.ShapeError, match=r"expected f64\[3, 2\], got f64\[2, 2\]"):
        mg.compile(lambda X: mg.jvp(many, (X,), (V[:2],)))(X)


def test_captured_constants_of_the_batchs_size_in_branches_and_rules():
    X = np.arange(6.0).reshape(3, 2)
    many = mg.vmap(lambda x: np.sum(x))
    close(mg.compile(lambda X: mg.cond(np.sum(X) > 0, lambda: many(X), lambda: np.ones(3)))(X), X.sum(1))
    straight = mg.custom_vjp(lambda g, out, v: (np.arange(3.0),))(lambda v: v * 2)
    close(mg.compile(mg.grad(lambda X: np.sum(straight(many(X)))))(X), np.arange(3.0)[:, None] * np.ones(2))

"""Static arguments in every transform."""

import enum
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import optree
import pytest

import minigrad as mg

W, X = np.array([0.5, -1.0, 2.0]), np.arange(12.0).reshape(4, 3) / 7 - 0.5


class Mode(enum.Enum):
    SUM = 1


class Level(enum.IntEnum):
    HIGH = 2


@dataclass(frozen=True)
class Config:
    width: int
    name: str = "small"


VALUES = {"bool": True, "string": "sum", "bytes": b"sum", "none": None, "enum": Mode.SUM, "int enum": Level.HIGH,
          "ufunc": np.tanh, "function": np.sum, "lambda": lambda x: x, "partial": functools.partial(np.multiply, 2.0),
          "class": np.float32, "dtype": np.dtype("f4"), "range": range(2), "object": Config(3),
          "nested": {"act": np.tanh, "flags": (True, "same")}}


def weight(option):
    """Return a number for an option, which must be the very value that the caller gave."""
    name = next(k for k, v in VALUES.items() if v is option or (k == "nested" and v == option))
    return float(len(name))


def loss(w, x, option):
    return np.sum(np.sin(w) * x**2) * weight(option)


def with_rules(f):
    """Return `f` with a derivative rule of each kind, which sees the static values themselves."""
    def back(g, out, w, x, *o):
        return (g * np.cos(w) * x**2 * (f(w, x, *o) / np.sum(np.sin(w) * x**2)), *[None for _ in (x, *o)])

    def push(tangents, out, w, x, *o):
        assert not optree.tree_leaves(tangents[2:])
        return np.sum(tangents[0] * np.cos(w) * x**2) * (f(w, x, *o) / np.sum(np.sin(w) * x**2))

    return mg.custom_vjp(back)(f), mg.custom_jvp(push)(f)


def axes(o):
    return (None, 0, *[None for _ in o])


# From a function of (w, x, *o), and `o`: one static value, or none if the function has it in its closure.
TRANSFORMS = {
    "grad": lambda f, *o: mg.grad(f)(W, X[0], *o),
    "value_and_grad": lambda f, *o: mg.value_and_grad(f, (0, 1))(W, X[0], *o),
    "jacobian": lambda f, *o: mg.jacobian(f, "x")(W, X[0], *o),
    "hessian": lambda f, *o: mg.hessian(f)(W, X[0], *o),
    "vjp": lambda f, *o: mg.vjp(f, W, X[0], *o)[1](1.0),
    "jvp": lambda f, *o: mg.jvp(f, (W, X[0], *o), (W, None, *[None for _ in o])),
    "hvp": lambda f, *o: mg.hvp(f, (W, X[0], *o), (W,), argnums=0),
    "vmap": lambda f, *o: mg.vmap(f, in_axes=axes(o))(W, X, *o),
    "vmap over all": lambda f, *o: mg.vmap(f)(X, X, *o),
    "mean_loss": lambda f, *o: mg.grad(mg.mean_loss(f, in_axes=axes(o)))(W, X, *o),
    "unroll": lambda f, *o: mg.unroll(f, 4, in_axes=axes(o))(W, X, *o),
    "microbatch": lambda f, *o: mg.grad(mg.microbatch(mg.mean_loss(f, in_axes=axes(o)), 3))(W, X, *o),
    "per_example_grad": lambda f, *o: mg.per_example_grad(f, in_axes=axes(o))(W, X, *o),
    "norms": lambda f, *o: mg.per_example.norms(f, in_axes=axes(o))(W, X, *o),
    "squared_norms": lambda f, *o: mg.per_example.squared_norms(f, in_axes=axes(o))(W, X, *o),
    "clipped_mean": lambda f, *o: mg.per_example.clipped_mean(f, 0.5, in_axes=axes(o))(W, X, *o),
    "gram": lambda f, *o: mg.per_example.gram(f, in_axes=axes(o))(W, X, *o),
    "noise_scale": lambda f, *o: mg.per_example.noise_scale(f, in_axes=axes(o))(W, X, *o),
    "checkpoint": lambda f, *o: mg.grad(mg.checkpoint(f))(W, X[0], *o),
    "custom_vjp": lambda f, *o: mg.grad(with_rules(f)[0])(W, X[0], *o),
    "custom_jvp": lambda f, *o: mg.grad(with_rules(f)[1])(W, X[0], *o),
    "cond": lambda f, *o: mg.grad(lambda w: mg.cond(w[0] > 0, f, f, w, X[0], *o))(W),
    "switch": lambda f, *o: mg.grad(lambda w: mg.switch(np.argmax(w), [f, f, f], w, X[0], *o))(W),
    "callback": lambda f, *o: mg.vmap(lambda x: mg.callback(f, mg.f64[()], W, x, *o))(X),
    "trace": lambda f, *o: mg.trace(f)(W, X[0], *o)(W, X[0], *o),
    "graph.grad": lambda f, *o: mg.trace(f)(mg.f64[3], mg.f64[3], *o).grad("w")(W, X[0], *o),
    "compile": lambda f, *o: mg.compile(mg.value_and_grad(mg.mean_loss(f, in_axes=axes(o))))(W, X, *o),
    "compile around": lambda f, *o: mg.compile(lambda w, x, *o: mg.grad(f)(w, x, *o))(W, X[0], *o),
    "distribute": lambda f, *o: distributed(mg.mean_loss(f, in_axes=axes(o)), o),
    "check_grads": lambda f, *o: mg.check_grads(f, (W, X[0], *o), order=1).comparisons,
    "check_batching": lambda f, *o: mg.check_batching(f, (W, X, *o), in_axes=axes(o)).comparisons,
}
SLOW = {
    "compare": lambda f, *o: mg.compare(f, W, (X, *o), repeats=1, progress=False, rows=("vmapped",)).rows[0].loss,
    "explore": lambda f, *o: [stage.title for stage in mg.explore(f, W, (X, *o)).stages],
}


def distributed(f, o):
    with ThreadPoolExecutor(2) as executor:
        return mg.distribute(f, executor, in_axes=axes(o))(W, X, *o)


def assert_equal(actual, expected):
    actual, expected = (optree.tree_leaves(x) for x in (actual, expected))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12) if hasattr(b, "dtype") else None
        assert hasattr(b, "dtype") or a == b


@pytest.mark.parametrize("option", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_hands_static_values_over(transform, option):
    apply = TRANSFORMS[transform]
    assert_equal(apply(loss, option), apply(functools.partial(loss, option=option)))


@pytest.mark.parametrize("transform", SLOW)
def test_reports_hand_static_values_over(transform):
    apply = SLOW[transform]
    assert_equal(apply(loss, np.tanh), apply(functools.partial(loss, option=np.tanh)))

"""Whole random programs in plain NumPy, under random transforms: each must do what NumPy and a loop do.

A program is drawn step by step while it runs on an example: every step is an operation that fits the values
that are there. What comes out is a list of steps, a function of NumPy functions alone, so that the same list
runs on plain and on traced arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import interpreters

LARGEST = 120

UNARY = {
    "sin": np.sin, "tanh": np.tanh, "square": np.square, "neg": lambda x: -x, "scale": lambda x: x * 0.5 + 1,
    "bell": lambda x: np.exp(-x * x), "log1p": lambda x: np.log1p(x * x), "arctan": np.arctan, "abs": np.abs,
    "root": lambda x: np.sqrt(x ** 2 + 1), "power": lambda x: (x * x + 1) ** 1.5, "transpose": np.transpose,
    "ravel": np.ravel, "expand": lambda x: x[..., None], "flip": np.flip, "relu": lambda x: np.maximum(x, 0.0),
    "clip": lambda x: np.clip(x, -0.7, 0.9), "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "sum all": np.sum,
    "mod": lambda x: x % 1.7, "softplus": lambda x: np.logaddexp(x, 0.0), "centre": lambda x: x - x.mean(),
    "norm": lambda x: np.sqrt((x * x).sum() + 0.1),
    "bool": lambda x: (x > 0.1) * x, "int": lambda x: np.floor(x * 3).astype(int) * 0.25, "squeeze": np.squeeze,
    "repeat": lambda x: np.repeat(x, 2), "atleast": np.atleast_2d, "outer": lambda x: np.outer(x, x)}
AXIS = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "std": lambda x, axis: np.sqrt(np.var(x, axis) + 0.1),
    "prod": np.prod, "cumsum": np.cumsum, "sort": np.sort, "sum keep": lambda x, axis: np.sum(x, axis, keepdims=True),
    "softmax": lambda x, axis: np.exp(np.tanh(x)) / np.exp(np.tanh(x)).sum(axis, keepdims=True), "roll": lambda x,
    axis: np.roll(x, 1, axis),
    "argmax": lambda x, axis: np.take_along_axis(x, np.expand_dims(np.argmax(x, axis), axis), axis),
    "argsort": lambda x, axis: np.take_along_axis(x, np.argsort(-x, axis), axis), "median": np.median,
    "front": lambda x, axis: np.moveaxis(x, axis, 0), "concatenate": lambda x, axis: np.concatenate([x, x * 2], axis),
    "stack": lambda x, axis: np.stack([x, np.sin(x)], axis), "diff": lambda x, axis: np.diff(x, axis=axis),
    "split": lambda x, axis: np.array_split(x, 2, axis)[0], "cumprod": np.cumprod,
    "pad": lambda x, axis: np.pad(x, [(1, 0) if i == axis % x.ndim else (0, 0) for i in range(x.ndim)])}
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "ratio": lambda x, y: x / (1 + y * y), "maximum": np.maximum,
    "minimum": np.minimum, "where": lambda x, y: np.where(x > y, x * 2, np.sin(y)), "hypot": lambda x,
    y: np.hypot(x + 3, y),
    "matmul": np.matmul, "tensordot": lambda x, y: np.tensordot(x, y, 1), "dot": np.dot,
    "outer": np.multiply.outer, "einsum": lambda x, y: np.einsum("...i,...i->...", x, y),
    "einsum 2": lambda x, y: np.einsum("i...,i...->i", x, y), "vdot": np.vdot, "inner": np.inner,
    "arctan2": lambda x, y: np.arctan2(x + 3, y * y + 1), "joined": lambda x,
    y: np.concatenate([np.ravel(x), np.ravel(y)]),
    "solve": lambda x,
    y: np.linalg.solve(np.tanh(x) * 0.1 + 2 * np.eye(3), np.ravel(y)[:3]) if np.shape(x) == (3, 3) and
    np.size(y) >= 3 else x * y}


@dataclass(frozen=True)
class Step:
    """One operation: its name, the values that it takes, by number, and its parameter."""

    kind: str
    name: str
    operands: tuple[int, ...]
    param: Any = None

    def __call__(self, values: list[Any]) -> Any:
        xs = [values[i] for i in self.operands]
        if self.kind == "unary":
            return UNARY[self.name](*xs)
        if self.kind == "axis":
            return AXIS[self.name](*xs, axis=self.param)
        if self.kind == "binary":
            return BINARY[self.name](*xs)
        if self.kind == "index":
            return xs[0][self.param]
        return np.reshape(xs[0], self.param)


@dataclass(frozen=True)
class Program:
    """A program of two arguments; called, it returns one number made of its last values."""

    steps: tuple[Step, ...]

    def values(self, w: Any, x: Any) -> list[Any]:
        values = [w, x]
        for step in self.steps:
            values.append(step(values))
        return values

    def __call__(self, w: Any, x: Any) -> Any:
        return sum(np.mean(np.tanh(v)) * (i + 1.5) for i, v in enumerate(self.values(w, x)[-3:]))

    def tree(self, w: Any, x: Any) -> dict[str, Any]:
        *_, a, b = self.values(w, x)
        return {"a": a, "b": [b, np.sum(x)]}


@st.composite
def programs(draw):
    """Return a program, and a shared and a mapped argument that it takes."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)
    values = [rng.normal(size=draw(shapes)), rng.normal(size=draw(shapes))]
    steps = []
    for _ in range(draw(st.integers(1, 7))):
        i, j = (draw(st.integers(0, len(values) - 1)) for _ in range(2))
        x = np.asarray(values[i])
        kind = draw(st.sampled_from(["unary", "axis", "binary", "binary", "index", "reshape"]))
        if kind == "unary":
            step = Step(kind, draw(st.sampled_from(sorted(UNARY))), (i,))
        elif kind == "axis" and x.ndim:  # NumPy takes axis 0 of a scalar in some functions; we refuse it in all
            step = Step(kind, draw(st.sampled_from(sorted(AXIS))), (i,), draw(st.integers(-3, 2)))
        elif kind == "binary":
            step = Step(kind, draw(st.sampled_from(sorted(BINARY))), (i, j))
        elif kind == "index" and x.ndim and draw(st.booleans()):
            step = Step(kind, "array", (i,), draw(hnp.integer_array_indices(
                x.shape, result_shape=hnp.array_shapes(max_dims=2, max_side=2))))
        elif kind == "index":
            step = Step(kind, "basic", (i,), draw(hnp.basic_indices(x.shape, allow_newaxis=True, max_dims=4)))
        else:
            kind, factors = "reshape", draw(st.permutations([*x.shape, 1]))
            step = Step(kind, "reshape", (i,), tuple(factors))
        try:
            with np.errstate(all="ignore"):
                out = np.asarray(step([np.asarray(v) for v in values]))
        except (ValueError, IndexError, TypeError):
            continue  # this operation does not fit these values
        if 0 < out.size <= LARGEST and out.ndim <= 5 and np.isfinite(out).all() and abs(out).max() < 1e3:
            steps.append(step)
            values.append(out)
    return Program(tuple(steps)), values[0], values[1]


def close(have, want, rtol=1e-8, atol=1e-9):
    assert optree.tree_structure(have) == optree.tree_structure(want)
    for h, w in zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True):
        assert np.shape(h) == np.shape(w)
        assert np.asarray(h).dtype == np.asarray(w).dtype
        np.testing.assert_allclose(h, w, rtol=rtol, atol=atol)


def batch_of(x, n, axis=0):
    """Return `n` examples like `x`, none of them equal, along an axis."""
    rng = np.random.default_rng(n)
    return np.stack([x * rng.uniform(0.5, 1.5) + 0.01 * k for k in range(n)], axis)


def loop(f, *args, axes):
    """Return the reference: f on each example, the results stacked."""
    n = next(np.shape(a)[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
    rows = [f(*(a if axis is None else np.take(a, k, axis) for a,
                axis in zip(args, axes, strict=True))) for k in range(n)]
    return optree.tree_map(lambda *leaves: np.stack(leaves), *rows)


@given(programs())
def test_traced_is_numpy_and_json_keeps_it(drawn):
    program, w, x = drawn
    want = program.tree(w, x)
    graph = mg.trace(program.tree)(w, x).check()
    have = interpreters.evaluate(graph, [w, x])
    close(have, optree.tree_leaves(want))
    again = mg.Graph.from_json(graph.to_json())
    assert str(again) == str(graph)
    assert again.to_json() == graph.to_json()
    for h, b in zip(interpreters.evaluate(again, [w, x]), have, strict=True):
        np.testing.assert_array_equal(h, b)


@given(programs(), st.sampled_from([(None, 0), (0, 0), (0, None), (None, -1), (-1, 0)]), st.sampled_from([1, 2, 3]))
def test_vmap_is_a_loop(drawn, axes, n):
    program, w, x = drawn
    args = [a if axis is None else batch_of(a, n, axis) for a, axis in zip((w, x), axes, strict=True)]
    close(mg.vmap(program.tree, axes)(*args), loop(program.tree, *args, axes=axes))


@given(programs())
def test_forward_mode_reverse_mode_and_differences_agree(drawn):
    program, w, x = drawn
    rng = np.random.default_rng(1)
    tw, tx = rng.normal(size=w.shape), rng.normal(size=x.shape)
    value, (gw, gx) = mg.value_and_grad(program, (0, 1))(w, x)
    close(value, np.float64(program(w, x)))
    reverse = np.sum(gw * tw) + np.sum(gx * tx)
    _, forward = mg.jvp(program, (w, x), (tw, tx))
    np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-9)
    with np.errstate(all="ignore"):
        steps = [(program(w + h * tw, x + h * tx) - program(w - h * tw, x - h * tx)) / (2 * h) for h in (1e-5, 1e-6)]
    if abs(steps[0] - steps[1]) < 1e-6 * (1 + abs(steps[0])):  # no kink or jump nearby
        np.testing.assert_allclose(reverse, steps[0], rtol=1e-4, atol=1e-5)


NESTINGS = {
    "vmap of grad": (lambda f: mg.vmap(mg.grad(f, (0, 1)), (None, 0)), lambda f: mg.grad(f, (0, 1))),
    "vmap of jvp": (lambda f: mg.vmap(lambda w, x: mg.jvp(f, (w, x), (w, x)), (None, 0)),
                    lambda f: lambda w, x: mg.jvp(f, (w, x), (w, x))),
    "vmap of hvp": (lambda f: mg.vmap(lambda w, x: mg.hvp(f, (w, x), (w, x)), (None, 0)),
                    lambda f: lambda w, x: mg.hvp(f, (w, x), (w, x))),
    "vmap of a closure's grad": (lambda f: mg.vmap(lambda w, x: mg.grad(lambda v: f(v, x))(w), (None, 0)),
                                 lambda f: lambda w, x: mg.grad(f)(w, x)),
    "vmap of checkpoint's grad": (lambda f: mg.vmap(mg.grad(mg.checkpoint(f)), (None, 0)), lambda f: mg.grad(f)),
}


@given(programs(), st.sampled_from(sorted(NESTINGS)))
def test_batched_derivatives_are_derivatives_of_each_example(drawn, name):
    program, w, x = drawn
    batched, single = NESTINGS[name]
    X = batch_of(x, 3)
    close(batched(program)(w, X), loop(single(program), w, X, axes=(None, 0)), rtol=1e-6, atol=1e-7)


@given(programs())
def test_nested_vmaps(drawn):
    program, w, x = drawn
    ws, xs = batch_of(w, 2), batch_of(x, 3)
    want = np.array([[program(a, b) for b in xs] for a in ws])
    close(mg.vmap(mg.vmap(program, (None, 0)), (0, None))(ws, xs), want)
    close(mg.vmap(mg.vmap(program, (0, None)), (None, 0), 1)(ws, xs), want)
    close(mg.vmap(lambda a: mg.vmap(lambda b: program(a, b))(xs))(ws), want)


@given(programs(), st.permutations([1, 2, 5]))
def test_compiled_is_uncompiled_for_every_batch_size(drawn, sizes):
    program, w, x = drawn
    L = mg.mean_loss(program, (None, 0))
    functions = [mg.value_and_grad(L), mg.vmap(program.tree, (None, 0)),
                 mg.per_example_grad(program, in_axes=(None, 0)),
                 mg.microbatch(mg.value_and_grad(L), 2, (None, 0))]
    for f in functions:
        compiled = mg.compile(f)
        for n in sizes:
            X = batch_of(x, n)
            close(compiled(w, X), f(w, X), rtol=1e-7, atol=1e-8)
        assert len(compiled.entries) == 1


@given(programs(), st.integers(1, 6))
def test_microbatch_is_the_whole_batch(drawn, size):
    program, w, x = drawn
    X = batch_of(x, 5)
    L = mg.mean_loss(program, (None, 0))
    want = mg.value_and_grad(L)(w, X)
    close(want[0], np.float64(np.mean([program(w, v) for v in X])))
    close(mg.value_and_grad(mg.microbatch(L, size))(w, X), want)
    close(mg.microbatch(mg.value_and_grad(L), size, (None, 0))(w, X), want)
    close(mg.unroll(program, 5, (None, 0))(w, X), want[0])

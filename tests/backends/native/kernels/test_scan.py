"""Native scans against the reference."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends
from minigrad.backends.native.program import Program
from minigrad.graph import Graph
from minigrad.passes import run


def test_scans_over_steps_are_native():
    def f(x, i):
        def step(h, row):
            picked = h[row]
            h = np.concatenate([h[1:], picked[None]])
            return h + np.cumsum(h), (np.argmax(h), picked)

        h, (best, picked) = mg.scan(step, x, i)
        return h, best, picked

    x, i = np.arange(5.0), np.array([0, 4, 2, -1, 3, 1, 1])
    compiled = mg.compile(f, backend="native")
    for have, want in zip(compiled(x, i), f(x, i), strict=True):
        np.testing.assert_array_equal(have, want)
    assert not any(line.startswith("step") for line in str(compiled.stages[-1]).splitlines())


def build(graph: Graph) -> Program:
    return backends.build(run(graph.check())[0], "native")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", [1, 9])
def test_scans_are_native(reverse, batch):
    def f(w, h, xs):
        def step(h, x):
            h = np.tanh(w @ h + x)
            return h, (h * 2, x.sum(), h[::-1])

        h, ys = mg.scan(step, h, xs.T, reverse=reverse)
        return np.sum(h) + sum(np.sum(y ** 2) for y in ys)

    rng = np.random.default_rng(0)
    args = rng.normal(size=(5, 5)), rng.normal(size=(batch, 5)), rng.normal(size=(batch, 5, 11))
    step = mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0, 0)), argnums=(0, 1, 2))
    compiled = mg.compile(step, backend="native")
    value, gradients = compiled(*args)
    want, wanted = step(*args)
    np.testing.assert_allclose(value, want, rtol=1e-12)
    for a, b in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert not any("scan" in line for line in str(compiled.stages[-1]).splitlines() if line.startswith("step"))


def test_scans_of_length_zero():
    compiled = mg.compile(lambda h, xs: mg.scan(lambda h, x: (h + x, h), h, xs), backend="native")
    h, ys = compiled(np.arange(3.0), np.zeros((0, 3)))
    np.testing.assert_array_equal(h, np.arange(3.0))
    assert ys.shape == (0, 3)

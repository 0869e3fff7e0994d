"""Overhead of minigrad: of a call of few operations, and before the first run of a graph of many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import backends, passes

from . import harness

WIDTH = 16
LARGE = 1000


def ten(x: Any) -> Any:
    """Return ten operations on `x`."""
    h = np.tanh(x)
    h = h * x
    h = np.exp(h)
    h = h + x
    h = np.sqrt(h * h)
    h = np.sin(h)
    h = h - x
    h = np.square(h)
    return np.arctan(h)


def bare(x: np.ndarray) -> Callable[[], Any]:
    """Return the same ten NumPy calls, in memory of their own, and nothing else."""
    h = np.empty_like(x)

    def call() -> np.ndarray:
        np.tanh(x, out=h)
        np.multiply(h, x, out=h)
        np.exp(h, out=h)
        np.add(h, x, out=h)
        np.multiply(h, h, out=h)
        np.sqrt(h, out=h)
        np.sin(h, out=h)
        np.subtract(h, x, out=h)
        np.square(h, out=h)
        np.arctan(h, out=h)
        return h

    return call


def many(w: Any, x: Any) -> Any:
    """Return the loss of one example in about `LARGE` operations: eight in each turn, three of them for ``w[k]``."""
    h = x
    for k in range(LARGE // 8):
        h = np.tanh(h * w[k % WIDTH]) + h * 0.5
    return np.sum(h * h)


def stages(w: np.ndarray, x: np.ndarray) -> dict[str, float]:
    """Return the seconds that each stage from function to program takes, and their sum.

    Tracing runs the function; batching and differentiating are timed by the difference; planning is the passes,
    the schedule and the program's text.
    """
    batched = mg.mean_loss(many, in_axes=(None, 0))
    took, graph = {}, None
    for name, f, args in (("trace", many, (w, x[0])), ("vmap", batched, (w, x)),
                          ("grad", mg.value_and_grad(batched), (w, x))):
        start = time.perf_counter()
        graph = mg.trace(f)(*args)
        took[name] = time.perf_counter() - start
    whole = took["grad"]
    took["grad"] -= took["vmap"]
    took["vmap"] -= took["trace"]
    start = time.perf_counter()
    rewritten, _ = passes.run(graph)
    took["passes"] = time.perf_counter() - start
    start = time.perf_counter()
    backends.build(rewritten)
    took["program"] = time.perf_counter() - start
    took["all"] = whole + took["passes"] + took["program"]
    return took


def run(quick: bool) -> harness.Result:
    """Measure calls of a small graph, then the making of a large one."""
    rng = np.random.default_rng(0)
    x = rng.random((1, WIDTH), np.float32) + 1
    step = mg.compile(mg.vmap(ten))
    assert np.allclose(step(x), bare(x)(), atol=1e-6)
    count = mg.trace(ten)(x[0]).count()
    assert count == 10, f"{count} operations"
    times = harness.race({"the NumPy calls": bare(x), "minigrad": lambda: step(x)}, 10 if quick else 50)
    times["difference"] = [a - b for a, b in zip(times["minigrad"], times["the NumPy calls"], strict=True)]
    call = harness.Case.of(f"a call of {count} operations, batch 1", "µs", "the NumPy calls", times)

    w, examples = rng.random(WIDTH) + 0.5, rng.standard_normal((32, WIDTH))
    nodes = mg.trace(many)(w, examples[0]).count()
    assert 0.95 * LARGE < nodes < 1.05 * LARGE, f"{nodes} operations"
    stages(w, examples)
    rounds = [stages(w, examples) for _ in range(5 if quick else 15)]
    making = harness.Case.of(f"from a function of {nodes:,} operations to the program of its mean gradient", "ms",
                             "all", {name: [r[name] for r in rounds] for name in rounds[0]})
    return harness.Result([call, making], [
        harness.Target("µs that a call adds", 1e6 * call.median("difference"), 30, at_least=False),
        harness.Target("seconds to trace, batch, differentiate and plan", making.median("all"), 0.3, at_least=False)])


if __name__ == "__main__":
    harness.main("overhead", run)

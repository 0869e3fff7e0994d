"""The time per example of loops and batches over the size of the batch, and the reasons one by one.

One thread computes. The reasons: `operation` is one call of NumPy over the number of
elements (dispatch, vector instructions, caches), `products` replaces n matrix-vector products by one matrix product,
`shared` computes a term of the parameters once, and `chain` runs ten operations one by one or fused.
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.report.flops import count_operations

from . import record
from .optimizer_steps import cross_entropy

Times = dict[str, dict[str, float]]


def grown(times: Times, n: int) -> Times:
    """Return the times for one example of `n`."""
    return {name: {k: t / n for k, t in spread.items()} for name, spread in times.items()}


def network(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"W1": rng.normal(0, 0.15, (64, 32)).astype(np.float32), "b1": np.zeros(32, np.float32),
            "W2": rng.normal(0, 0.15, (32, 10)).astype(np.float32), "b2": np.zeros(10, np.float32)}


def by_hand(p: dict[str, np.ndarray], x: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """Return the gradient of the loss of one example, written by hand in NumPy."""
    h = np.tanh(x @ p["W1"] + p["b1"])
    z = h @ p["W2"] + p["b2"]
    e = np.exp(z - z.max())
    d = e / e.sum()
    d[label] -= 1
    back = (p["W2"] @ d) * (1 - h * h)
    return {"W1": np.outer(x, back), "b1": back, "W2": np.outer(h, d), "b2": d}


def batches(quick: bool) -> dict[str, Any]:
    """Measure the gradient of a small network by loops and by batches of 1 to 4,096 examples."""
    rng = np.random.default_rng(0)
    p, X, Y = network(rng), rng.random((4096, 64), np.float32), rng.integers(0, 10, 4096)
    mean = mg.mean_loss(cross_entropy, in_axes=(None, 0, 0))
    batch = {b: mg.compile(mg.grad(mean), backend=b) for b in ("numpy", "native")}
    one = mg.compile(mg.grad(cross_entropy), backend="native")

    def loop(gradient: Callable[..., Any], n: int) -> Callable[[], Any]:
        def call() -> dict[str, np.ndarray]:
            total = gradient(p, X[0], Y[0])
            for k in range(1, n):
                for name, g in gradient(p, X[k], Y[k]).items():
                    total[name] += g
            return {name: g / n for name, g in total.items()}

        return call

    rows = {}
    for n in (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
        x, y = X[:n], Y[:n]
        calls: dict[str, Callable[[], Any]] = {
            f"batch, {b}": lambda f=f, x=x, y=y: f(p, x, y) for b, f in batch.items()}
        if n <= 256:
            calls |= {"loop, by hand in NumPy": loop(by_hand, n), "loop, native": loop(one, n)}
        want = batch["numpy"](p, x, y)
        for name, call in calls.items():
            for key, g in call().items():
                np.testing.assert_allclose(g, want[key], rtol=1e-3, atol=1e-5, err_msg=name)
        rows[n] = grown(record.thread_times(calls, 3 if quick else 15), n)
    return {"title": "gradient of a network 64-32-10, seconds per example", "rows": rows}


def copies(quick: bool) -> dict[str, Any]:
    """Count the nodes of the literal copies, and time their trace and their run."""
    rng = np.random.default_rng(0)
    p, X, Y = network(rng), rng.random((64, 64), np.float32), rng.integers(0, 10, 64)
    rows = {}
    for n in (1, 4) if quick else (1, 2, 4, 8, 16, 32, 64):
        mean = {"copies": mg.unroll(cross_entropy, n, (None, 0, 0)), "axis": mg.mean_loss(cross_entropy, (None, 0, 0))}
        args = (p, X[:n], Y[:n])
        traces = {k: functools.partial(mg.trace(mg.grad(f)), *args) for k, f in mean.items()}
        runs = {k: functools.partial(mg.compile(mg.grad(f), backend="numpy"), *args) for k, f in mean.items()}
        trace, run = record.thread_times(traces, 3), record.thread_times(runs, 3 if quick else 9)
        rows[n] = {k: {"nodes": traces[k]().count(), "trace": trace[k], "run": run[k]} for k in mean}
    return {"title": "n copies and one axis: nodes of the gradient, seconds of a trace, seconds of a run", "rows": rows}


def operation(quick: bool) -> Times:
    """Measure one call of NumPy over the number of elements, per element."""
    rows = {}
    for k in range(0, 23, 11 if quick else 1):
        x = np.linspace(-1, 1, 1 << k, dtype=np.float32)
        out = np.empty_like(x)
        calls = {"add": lambda x=x, out=out: np.add(x, x, out=out), "tanh": lambda x=x, out=out: np.tanh(x, out=out)}
        rows[1 << k] = grown(record.thread_times(calls, 3 if quick else 15, turn=0.01), 1 << k)
    return rows


def without_vectors(quick: bool) -> Times:
    """Measure `operation` in a process in which NumPy uses only the instructions that every CPU of its build has."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    names = " ".join(n for n in __cpu_dispatch__ if __cpu_features__.get(n))
    code = ("import json, sys; from benchmarks.book import record, when_it_pays as w; "
            "print(json.dumps(record.rounded(w.operation(len(sys.argv) > 1))))")
    run = subprocess.run([sys.executable, "-c", code, *(["quick"] if quick else [])], capture_output=True, text=True,
                         check=True, env={**os.environ, "NPY_DISABLE_CPU_FEATURES": names})
    return json.loads(run.stdout)


def scalars(quick: bool) -> Times:
    """Measure a Python loop over numbers, per element."""
    values = [k / 1000 for k in range(1000)]
    calls = {"add": lambda: [v + v for v in values], "tanh": lambda: [math.tanh(v) for v in values]}
    return grown(record.thread_times(calls, 3 if quick else 15), 1000)


def products(quick: bool) -> dict[str, Any]:
    """Measure n products of a matrix and a vector, and one product of two matrices, per example."""
    rng = np.random.default_rng(0)
    rows = {}
    for size in (64, 512):
        W, X = rng.random((size, size), np.float32), rng.random((1024, size), np.float32)
        rows[size] = {}
        for n in (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024):
            x = X[:n]
            out = np.empty_like(x)
            calls = {"one by one": lambda W=W, x=x, out=out: [np.dot(r, W, out=o) for r, o in zip(x, out, strict=True)],
                     "one product": lambda W=W, x=x, out=out: np.dot(x, W, out=out)}
            rows[size][n] = grown(record.thread_times(calls, 3 if quick else 15), n)
    return {"title": "x @ W with W of size × size, seconds per example", "rows": rows}


def normalised(params: Any, x: Any, y: Any) -> Any:
    """Return a loss whose weights are normalised: work that depends on the parameters alone."""
    W = params["W"] / np.sqrt(np.sum(params["W"] ** 2, axis=0))
    return (np.sum(np.tanh(x @ W)) - y) ** 2


def shared(quick: bool) -> dict[str, Any]:
    """Count and time the work of normalised weights: for each example, or once."""
    rng = np.random.default_rng(0)
    p = {"W": rng.normal(size=(64, 64)).astype(np.float32)}
    X, Y = rng.random((256, 64), np.float32), rng.random(256, np.float32)
    batch = mg.compile(mg.mean_loss(normalised, (None, 0, 0)), backend="numpy")
    one = mg.compile(normalised, backend="numpy")
    rest = mg.compile(lambda W, x, y: (np.sum(np.tanh(x @ W)) - y) ** 2, backend="numpy")
    weights = mg.compile(lambda p: p["W"] / np.sqrt(np.sum(p["W"] ** 2, axis=0)), backend="numpy")
    rows = {}
    for n in (1, 16) if quick else (1, 4, 16, 64, 256):
        def once(n: int = n) -> Any:
            W = weights(p)
            return sum(rest(W, X[k], Y[k]) for k in range(n)) / n

        calls = {"loop": lambda n=n: sum(one(p, X[k], Y[k]) for k in range(n)) / n, "loop, weights once": once,
                 "batch": lambda n=n: batch(p, X[:n], Y[:n])}
        np.testing.assert_allclose([f() for f in calls.values()], calls["loop"](), rtol=1e-4)
        operations = {"loop": n * count_operations(mg.trace(normalised)(p, X[0], Y[0])),
                      "batch": count_operations(mg.trace(mg.mean_loss(normalised, (None, 0, 0)))(p, X[:n], Y[:n]))}
        rows[n] = {"seconds": grown(record.thread_times(calls, 3 if quick else 15), n),
                   "operations": {k: v / n for k, v in operations.items()}}
    return {"title": "loss with normalised weights 64 × 64, per example", "rows": rows}


def ten(x: Any) -> Any:
    """Return ten operations on `x`."""
    h = x * x + 1
    h = np.sqrt(h) * x
    h = h - x
    h = h * h + x
    return h / (h * h + 1)


def chain(quick: bool) -> dict[str, Any]:
    """Measure ten operations: NumPy one by one, and fused into one loop of machine code."""
    fused, rows = mg.compile(mg.vmap(ten), backend="native"), {}
    for k in (6, 16) if quick else range(6, 24):
        x = np.linspace(-1, 1, 1 << k, dtype=np.float32)
        calls = {"one by one, NumPy": lambda x=x: ten(x), "fused, native": lambda x=x: fused(x)}
        rows[1 << k] = grown(record.thread_times(calls, 3 if quick else 15), 1 << k)
    return {"title": "ten elementwise operations, seconds per element", "rows": rows}


def run(quick: bool) -> dict[str, Any]:
    """Measure all cases with one thread."""
    from threadpoolctl import threadpool_limits

    mg.set_num_threads(1)
    with threadpool_limits(1):
        return {"batches": batches(quick), "copies": copies(quick), "products": products(quick),
                "shared": shared(quick), "chain": chain(quick),
                "operation": {"title": "one call of NumPy, seconds per element", "rows": operation(quick),
                              "without wide vectors": without_vectors(quick), "Python loop": scalars(quick)}}


if __name__ == "__main__":
    record.main("when_it_pays", run)

"""Compile time and memory over the size of the traced graph: both grow in proportion to its nodes.

Each family of programs has one size after another: chains of elementwise operations, gradients of deeper networks,
norms of their per-example gradients, Hessians of networks and of mixtures, gradients of scans one after the other.
A row is one size; its time and its peak memory are those of tracing, all passes and the backend, per node.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from . import harness

rng = np.random.default_rng(0)
ROWS = (None, 0)
Program = tuple[Callable[..., Any], tuple[Any, ...]]


def chain(length: int) -> Program:
    def f(x: Any) -> Any:
        for _ in range(length):
            x = np.sin(x) * 0.5 + x
        return x

    return f, (np.ones(8),)


def _network(depth: int, width: int) -> tuple[Callable[..., Any], list[Any]]:
    def loss(p: Any, x: Any) -> Any:
        for w, b in p:
            x = np.tanh(x @ w + b)
        return (x**2).sum()

    return loss, [(rng.normal(size=(width, width)), np.zeros(width)) for _ in range(depth)]


def gradient(depth: int) -> Program:
    loss, p = _network(depth, 8)
    return mg.grad(mg.mean_loss(loss, ROWS)), (p, np.ones((5, 8)))


def norms(depth: int) -> Program:
    loss, p = _network(depth, 8)

    def f(p: Any, x: Any) -> Any:
        gradients = mg.per_example_grad(loss, in_axes=ROWS)(p, x)
        return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for layer in gradients for g in layer)

    return f, (p, np.ones((5, 8)))


def hessian(depth: int) -> Program:
    loss, p = _network(depth, 4)
    return mg.hessian(mg.mean_loss(loss, ROWS)), (p, np.ones((5, 4)))


def mixture(components: int) -> Program:
    """Return the Hessian of a mixture whose components have arrays of their own."""

    def loss(means: Any, x: Any) -> Any:
        z = np.stack([-0.5 * ((x - m) ** 2).sum() for m in means])
        return -np.log(np.exp(z - z.max()).sum()) - z.max()

    return mg.hessian(mg.mean_loss(loss, ROWS)), (list(rng.normal(size=(components, 3))), np.ones((5, 3)))


def scans(length: int) -> Program:
    def f(x: Any) -> Any:
        for _ in range(length):
            x, _ = mg.scan(lambda c, r: (np.sin(c) * r + c, c), x, np.ones((6, 4)))
        return (x**2).sum()

    return mg.grad(f), (np.ones(4),)


FAMILIES: dict[str, tuple[Callable[[int], Program], tuple[int, ...]]] = {
    "chain of elementwise operations": (chain, (25, 50, 100, 200, 400, 800)),
    "gradient of a network": (gradient, (4, 8, 16, 32, 64)),
    "per-example norms of a network": (norms, (4, 8, 16, 32)),
    "Hessian of a network": (hessian, (1, 2, 3, 4, 6, 8)),
    "Hessian of a mixture": (mixture, (2, 3, 4, 6, 8)),
    "gradient of scans": (scans, (2, 4, 8, 16, 32)),
}
_GROWTH = 2.0  # of the time per node over four times the nodes: a square law would have 4


def measure(make: Callable[[int], Program], size: int, backend: str, rounds: int) -> tuple[int, list[float], int]:
    """Return the nodes of the graph, the seconds of each round, and the most bytes that Python took at a time."""
    f, args = make(size)
    seconds = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        compiled = mg.compile(f, backend=backend)
        compiled.build(*args)
        seconds.append(time.perf_counter() - start)
    nodes = len(compiled.graph.nodes)
    gc.collect()
    tracemalloc.start()
    try:
        mg.compile(f, backend=backend).build(*args)
        return nodes, seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run(quick: bool) -> harness.Result:
    """Measure each family on each backend."""
    cases, targets = [], []
    for name, (make, sizes) in FAMILIES.items():
        for backend in ("numpy", "native"):
            rows, peaks, counts = {}, {}, {}
            measure(make, sizes[0], backend, 1)  # imports, and the start of the thread pool
            for size in sizes:
                nodes, seconds, peak = measure(make, size, backend, 1 if quick else 3)
                row = f"{nodes:,} nodes in {min(seconds):.3g} s, {peak / nodes / 1e3:.3g} kB per node"
                rows[row], peaks[row], counts[row] = [s / nodes for s in seconds], peak, nodes
            largest = list(rows)[-1]
            before = next((r for r in reversed(rows) if counts[r] <= counts[largest] / 4), next(iter(rows)))
            case = harness.Case.of(f"{name}, {backend}: seconds per node", "ms", before, rows)
            for row, peak in peaks.items():
                case.rows[row]["peak"] = peak
            cases.append(case)
            growth = case.ratio(largest) ** (np.log(4) / np.log(counts[largest] / counts[before]))
            targets.append(harness.Target(f"{name}, {backend}: growth of the time per node, over four times the nodes",
                                          float(growth), _GROWTH, False))
            memory = (peaks[largest] / counts[largest]) / (peaks[before] / counts[before])
            targets.append(harness.Target(f"{name}, {backend}: the same of the peak memory per node", memory, 2, False))
    return harness.Result(cases, targets)


if __name__ == "__main__":
    harness.main("compile_time", run)

"""Drawn training steps, right and wrong, and their audits: the share of faults named rightly, and false alarms.

Each step is a NumPy loop over single gradients, with one fault planted; a fault is named if the first or second reading
states it with its numbers. The second part times one audit of many examples and parameters.
"""

from __future__ import annotations

import collections
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg

from . import harness

Gradient = dict[str, np.ndarray]


class Case(NamedTuple):
    """A step with a planted fault.

    Attributes
    ----------
    fault : str
        ``"right"`` if there is none.
    step : callable
    args : tuple
        Loss, parameters, examples: the further arguments of `mg.audit`.
    options : dict
    named : callable
        Whether a report names the fault, with its numbers.
    weights : array
        The true weights.
    """

    fault: str
    step: Callable[..., Gradient]
    args: tuple[Any, ...]
    options: dict[str, Any]
    named: Callable[[mg.Audit], bool]
    weights: np.ndarray


def loss(p: Gradient, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> Any:
    """Return the sum of the losses of the rows of an example that are no padding."""
    return np.sum(mask * (np.tanh(x @ p["a"] + p["b"]) @ p["c"] - y) ** 2)


SINGLE = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0, 0, 0)))


def combined(weights: np.ndarray, p: Gradient, *examples: np.ndarray) -> Gradient:
    """Return the weighted sum of the single gradients."""
    return {k: np.tensordot(weights.astype(g.dtype), g, 1) for k, g in SINGLE(p, *examples).items()}


def norms(gradients: Gradient) -> np.ndarray:
    """Return the norm of each example's gradient."""
    return np.sqrt(sum((g.astype(float) ** 2).reshape(len(g), -1).sum(1) for g in gradients.values()))


def microbatches(n: int, size: int) -> list[np.ndarray]:
    """Return consecutive micro-batches, the last one smaller if need be."""
    return [np.arange(k, min(k + size, n)) for k in range(0, n, size)]


def has(name: str, **numbers: float) -> Callable[[mg.Audit], bool]:
    """Return the test that a reading has this name and these numbers."""
    def test(report: mg.Audit) -> bool:
        return any(r.name == name and all(abs(getattr(r, k) - v) <= 1e-3 * abs(v) for k, v in numbers.items())
                   for r in report.readings[:2])

    return test


def draw(seed: int, right: bool = False) -> Case:
    """Return the case of a seed."""
    rng = np.random.default_rng(seed)
    dtype = rng.choice(["f4", "f8"])
    n, longest, width = int(rng.integers(6, 25)), int(rng.integers(3, 7)), int(rng.integers(4, 9))
    lengths = rng.integers(1, longest + 1, n)
    lengths[rng.integers(n)] = longest
    x, y = rng.normal(size=(n, longest, 5)).astype(dtype), rng.normal(size=(n, longest)).astype(dtype)
    mask = (np.arange(longest) < lengths[:, None]).astype(dtype)
    p = {k: rng.normal(size=s).astype(dtype) for k, s in (("a", (5, width)), ("b", width), ("c", width))}
    size = int(rng.integers(2, n // 2 + 1))
    parts = microbatches(n, size)
    tokens = bool(rng.integers(2))
    counts = lengths.astype(float) if tokens else np.ones(n)
    goal = "mean over token" if tokens else "mean"
    options: dict[str, Any] = {"lengths": {"token": lengths}, "expected": goal, "progress": False}
    mean = 1 / counts.sum() * np.ones(n)
    uneven = len({float(counts[m].sum()) for m in parts}) > 1
    of_parts = np.concatenate([np.full(len(m), 1 / (len(parts) * counts[m].sum())) for m in parts])
    kinds = ["mean", "sum", "accumulated"] if right else [
        "micro-batch means", "sum of means", "dropped", "missing", "repeated", "scale", "twice divided", "padding",
        "clipped", "clipped micro-batches", "clipped batch", "regulariser"]
    kind = str(rng.choice(kinds))
    w, named = mean, has(goal)
    if kind == "sum":
        w, options["expected"], named = np.ones(n), "sum", has("sum")
    elif kind == "micro-batch means" and uneven:
        w, named = of_parts, lambda r: any(
            q.name == kind and [len(m) for m in q.microbatches] == [len(m) for m in parts] for q in r.readings[:2])
    elif kind == "sum of means" and uneven:
        w, named = of_parts * len(parts), has("micro-batch means", factor=len(parts))
    elif kind in ("dropped", "missing"):
        left = np.setdiff1d(np.arange(n), parts[-1]) if len(parts) > 1 else np.arange(n - 1)
        w = np.zeros(n)
        w[left] = 1 / counts[left].sum() if kind == "dropped" else mean[left]
        gone = np.setdiff1d(np.arange(n), left)
        named = lambda r: any(q.name == "multiples" and np.array_equal(  # noqa: E731
            np.flatnonzero(np.abs(q.weights) < 1e-12), gone) for q in r.readings[:2])
    elif kind == "repeated":
        times = np.ones(n)
        times[:int(rng.integers(1, n // 3 + 1))] = 2
        w = times / (times * counts).sum()
        named = lambda r: any(q.name == "multiples" and np.allclose(  # noqa: E731
            q.weights / q.weights.min(), times, rtol=1e-3) for q in r.readings[:2])
    elif kind == "scale":
        factor = 2.0 ** rng.integers(6, 17)
        w, named = mean * factor, has("scaled", factor=factor)
    elif kind == "twice divided":
        factor = 1 / len(parts) if len(parts) > 1 else 0.5
        w, named = mean * factor, has("scaled", factor=factor)
    elif kind == "padding":
        options["expected"] = "mean over token"
        w = np.full(n, 1 / mask.size)
        named = has("scaled", factor=lengths.sum() / mask.size) if lengths.sum() < mask.size else has("mean over token")
    extra: dict[str, Any] = {}
    times_extra = 0.0
    if kind == "regulariser":
        times_extra = float(len(parts)) if len(parts) > 1 else 0.0
        extra = {"l2": lambda q: q}
        named = lambda r: abs(r.extra["l2"] - times_extra) < 1e-2 and r.readings[0].name == goal  # noqa: E731
        options["extra"] = extra
    of_terms = norms(SINGLE(p, x, y, mask))
    if kind == "clipped micro-batches":
        of_terms = np.array([norms({k: g[None] for k, g in combined(
            np.full(len(m), 1 / len(m)), p, x[m], y[m], mask[m]).items()})[0] for m in parts])
    bound = float(np.quantile(of_terms, rng.uniform(0, 0.8)))

    def step(q: Gradient, *examples: np.ndarray) -> Gradient:
        if kind == "clipped":
            size = norms(SINGLE(q, *examples))
            return combined(np.minimum(1, bound / size) / n, q, *examples)
        if kind == "clipped micro-batches":
            each = [combined(np.full(len(m), 1 / len(m)), q, *(e[m] for e in examples)) for m in parts]
            scales = [min(1, bound / norms({k: g[None] for k, g in e.items()})[0]) / len(parts) for e in each]
            return {k: sum((np.asarray(s, e[k].dtype) * e[k] for s, e in zip(scales, each, strict=True)), 0 * q[k])
                    for k in q}
        total = combined(w, q, *examples)
        if kind == "accumulated":
            total = {k: sum((combined(w[m], q, *(e[m] for e in examples))[k] for m in parts), 0 * q[k]) for k in q}
        if kind == "clipped batch":
            size = norms({k: g[None] for k, g in total.items()})[0]
            total = {k: g * np.asarray(min(1, small / size), g.dtype) for k, g in total.items()}
        return {k: g + np.asarray(times_extra, g.dtype) * q[k] for k, g in total.items()}

    small = 1e-2
    if kind == "clipped":
        options["expected"], named = "mean", has("clipped", bound=bound)
        w = np.minimum(1, bound / norms(SINGLE(p, x, y, mask))) / n
    elif kind == "clipped micro-batches":
        options["expected"], named = "mean", has("clipped micro-batches", bound=bound)
    elif kind == "clipped batch":
        named = has("clipped batch", bound=small)
    fault = "right" if right or (np.array_equal(w, mean) and kind not in (
        "clipped batch", "clipped micro-batches", "regulariser")) else kind
    return Case(fault, step, (loss, p, (x, y, mask)), options, named, w)


def count(number: int, right: bool, first: int = 0) -> dict[str, list[int]]:
    """Return, for each fault, how many are named rightly, and how many there are; failures are printed."""
    out: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for seed in range(first, first + number):
        case = draw(seed, right)
        report = mg.audit(case.step, *case.args, **case.options)
        good = report.right if case.fault == "right" else case.named(report) and not report.right
        out[case.fault][0] += good
        out[case.fault][1] += 1
        if not good:
            print(f"seed {seed}, {case.fault}: {report.verdict}")
    return out


def large(examples: int, inputs: int = 1_000, hidden: int = 990) -> dict[str, float]:
    """Return the time and memory of one audit of a network."""
    rng = np.random.default_rng(0)

    def network(p: Gradient, x: np.ndarray, y: np.ndarray) -> Any:
        return np.sum((np.tanh(x @ p["a"] + p["b"]) @ p["c"] - y) ** 2)

    p = {"a": rng.normal(size=(inputs, hidden)) / 30, "b": np.zeros(hidden), "c": rng.normal(size=(hidden, 10)) / 30}
    x, y = rng.normal(size=(examples, inputs)), rng.normal(size=(examples, 10))
    batch, one = mg.compile(mg.grad(mg.mean_loss(network, in_axes=(None, 0, 0)))), mg.compile(mg.grad(network))

    def step(p: Gradient, x: np.ndarray, y: np.ndarray) -> Gradient:
        cut = 3 * examples // 4
        a, b = batch(p, x[:cut], y[:cut]), batch(p, x[cut:], y[cut:])
        return {k: (a[k] + b[k]) / 2 for k in p}

    def seconds(f: Callable[[], Any], repeats: int) -> float:
        f()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            f()
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    single, whole = seconds(lambda: one(p, x[0], y[0]), 20), seconds(lambda: batch(p, x, y), 3)
    start = time.perf_counter()
    report = mg.audit(step, network, p, (x, y), progress=False)
    took = time.perf_counter() - start
    assert report.readings[0].name == "micro-batch means", report.verdict
    return {"examples": examples, "parameters": sum(v.size for v in p.values()), "seconds": took,
            "single gradients": took / single, "batch gradients": took / whole, "condition": report.condition,
            "residual": report.residual, "largest error of a weight": float(np.abs(
                report.weights - report.readings[0].weights).max() * examples),
            "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def run(quick: bool) -> harness.Result:
    """Count named faults and false alarms of drawn steps, and time a large audit."""
    cases = 50 if quick else 1_000
    faults, rights = count(cases, False), count(cases, True)
    wrong = {k: v for k, v in faults.items() if k != "right"}
    good, total = (sum(v[k] for v in wrong.values()) for k in (0, 1))
    false = rights["right"][1] - rights["right"][0]
    timed = large(1_000 if quick else 10_000)
    targets = [harness.Target(f"share of {total} drawn faults that are named rightly", good / total, 1.0),
               harness.Target(f"false alarms in {rights['right'][1]} right steps", false, 0, at_least=False),
               harness.Target("single gradients in the time of the large audit", timed["single gradients"], 500,
                              at_least=False),
               harness.Target("GB at its peak", timed["peak GB"], 2, at_least=False)]
    shares = {k: f"{a} of {b}" for k, (a, b) in sorted(wrong.items())}
    return harness.Result([], targets, {"named": shares, "the large audit": {k: float(f"{v:.4g}") for k, v in
                                                                             timed.items()}})


if __name__ == "__main__":
    harness.main("audit", run)

"""One step on 50 examples against ten steps on 5, at equal examples and at equal time.

All learning rates and seeds of a contestant train at once, as two nested batches of the same step. A batch of 50 holds
the examples of ten successive batches of 5, so that contestants see the same examples in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg

from . import record

SIZES = (50, 5)
MOMENTUM = (0.0, 0.9)  # 0.9 averages over about the last ten gradients
RATES = tuple(2.0 ** k for k in range(-8, 6))
SEEDS = 20
FORGET = 8  # of the average of the iterates: the weight of the last one is (FORGET + 1) / (step + FORGET)


@dataclass(frozen=True)
class Problem:
    """A loss of one example with its data: training examples, and held-out ones for `score`."""

    name: str
    loss: Callable[..., Any]
    start: Callable[[np.random.Generator], dict[str, np.ndarray]]
    x: np.ndarray
    y: np.ndarray
    epochs: int
    checkpoints: tuple[int, ...]
    optimum: float = 0.0


def logits(params: Any, x: Any) -> Any:
    return np.tanh(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]


def cross_entropy(params: Any, x: Any, label: Any) -> Any:
    z = logits(params, x)
    return np.log(np.sum(np.exp(z - np.max(z)))) + np.max(z) - z[label]


def digits() -> Problem:
    """Return 1,400 handwritten digits and a network with 32 hidden units."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.data))[:1400]

    def start(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"W1": rng.normal(0, 0.15, (64, 32)).astype(np.float32), "b1": np.zeros(32, np.float32),
                "W2": rng.normal(0, 0.15, (32, 10)).astype(np.float32), "b2": np.zeros(10, np.float32)}

    return Problem("digits", cross_entropy, start, (data.data / 16).astype(np.float32)[order], data.target[order], 10,
                   (50, 100, 200, 400, 700, 1400, 2800, 5600, 9800, 14000))


def logistic(params: Any, x: Any, y: Any) -> Any:
    w = params["w"]
    return np.logaddexp(0, -y * (x @ w)) + 0.01 * np.sum(w * w)


def convex() -> Problem:
    """Return logistic regression with a quadratic penalty: a strongly convex loss, whose minimum is known."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    order = np.random.default_rng(0).permutation(len(x))[:500]
    x, y = x[order], np.where(data.target == 1, 1.0, -1.0)[order]
    w, step = np.zeros(x.shape[1]), None
    for _ in range(30):  # Newton's method
        p = 1 / (1 + np.exp(y * (x @ w)))
        gradient = -(x * (y * p)[:, None]).mean(0) + 0.02 * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + 0.02 * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        w = w - step
    assert step is not None
    assert np.abs(step).max() < 1e-12
    optimum = float(np.mean(np.logaddexp(0, -y * (x @ w))) + 0.01 * w @ w)
    return Problem("logistic regression", logistic, lambda rng: {"w": rng.normal(0, 0.1, x.shape[1])}, x, y, 20,
                   (50, 100, 200, 500, 1000, 2000, 5000, 10000), optimum)


def update(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return one step of gradient descent with momentum, and with an average of the iterates."""
    mean = mg.mean_loss(loss, in_axes=(None, 0, 0))

    def step(p: Any, v: Any, q: Any, x: Any, y: Any, rate: Any, beta: Any, weight: Any) -> Any:
        g = mg.grad(mean)(p, x, y)
        v = {k: beta * v[k] + (1 - beta) * g[k] for k in p}
        p = {k: p[k] - rate * v[k] for k in p}
        return p, v, {k: q[k] + weight * (p[k] - q[k]) for k in p}

    return step


def train(problem: Problem, size: int, beta: float, rates: tuple[float, ...], seeds: int, epochs: int
          ) -> dict[str, np.ndarray]:
    """Return the training losses of the iterates and of their average: [checkpoint, seed, rate]."""
    dtype = problem.x.dtype.type
    step = update(problem.loss)
    over_rates = mg.vmap(step, in_axes=(0, 0, 0, None, None, 0, None, None))
    step = mg.compile(mg.vmap(over_rates, in_axes=(0, 0, 0, 0, 0, None, None, None)))
    mean = mg.mean_loss(problem.loss, in_axes=(None, 0, 0))
    value = mg.compile(mg.vmap(mg.vmap(mean, in_axes=(0, None, None)), in_axes=(0, None, None)))
    generators = [np.random.default_rng(100 + s) for s in range(seeds)]
    starts = [problem.start(g) for g in generators]
    p = {k: np.stack([np.stack([s[k]] * len(rates)) for s in starts]) for k in starts[0]}
    v, q = {k: np.zeros_like(a) for k, a in p.items()}, p
    shuffled = [np.stack([g.permutation(len(problem.x)) for g in generators]) for _ in range(epochs)]
    order = np.concatenate(shuffled, axis=1)
    found: dict[str, list[np.ndarray]] = {"last": [], "average": []}
    for t in range(order.shape[1] // size):
        rows = order[:, t * size:(t + 1) * size]
        p, v, q = step(p, v, q, problem.x[rows], problem.y[rows], np.array(rates, dtype), dtype(beta),
                       dtype((FORGET + 1) / (t + 1 + FORGET)))
        if (t + 1) * size in problem.checkpoints:
            for name, params in (("last", p), ("average", q)):
                found[name].append(value(params, problem.x, problem.y) - problem.optimum)
    return {name: np.array(losses, float) for name, losses in found.items()}


def summary(losses: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean and standard error over the seeds, and the losses of all seeds at the rate of the lowest mean."""
    mean = losses.mean(axis=1)
    best = np.argmin(np.where(np.isfinite(mean), mean, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        error = losses.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return {"mean": mean, "standard error": error, "best rate": best,
            "at best rate": np.take_along_axis(losses, best[:, None, None], axis=2)[..., 0]}


def step_seconds(problem: Problem, quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Return the processor seconds of a step: as a call of its own, and as a turn of a loop in one program."""
    dtype = problem.x.dtype.type
    step = update(problem.loss)
    p = problem.start(np.random.default_rng(0))
    v, turns = {k: np.zeros_like(a) for k, a in p.items()}, 100
    rate, beta = dtype(0.01), dtype(0.9)
    call = mg.compile(step)

    @mg.compile
    def loop(p: Any, v: Any, q: Any, X: Any, Y: Any, rate: Any, beta: Any) -> Any:
        return mg.scan(lambda carry, batch: (step(*carry, *batch, rate, beta, beta), None), (p, v, q), (X, Y))[0]

    def one(size: int) -> Callable[[], Any]:
        x, y = problem.x[:size], problem.y[:size]
        return lambda: call(p, v, p, x, y, rate, beta, beta)

    def many(size: int) -> Callable[[], Any]:
        rows = np.random.default_rng(0).integers(0, len(problem.x), (turns, size))
        x, y = problem.x[rows], problem.y[rows]
        return lambda: loop(p, v, p, x, y, rate, beta)

    calls = {f"call {n}": one(n) for n in SIZES} | {f"loop {n}": many(n) for n in SIZES}
    times = record.thread_times(calls, 5 if quick else 25)
    return {"call": {str(n): times[f"call {n}"] for n in SIZES},
            "loop": {str(n): {k: t / turns for k, t in times[f"loop {n}"].items()} for n in SIZES}}


def run(quick: bool) -> dict[str, Any]:
    """Train all contestants on both problems."""
    mg.set_num_threads(1)
    rates, seeds = (RATES[2::4], 2) if quick else (RATES, SEEDS)
    problems = []
    for problem in (digits(), convex()):
        epochs = 1 if quick else problem.epochs
        runs = [{"batch": size, "momentum": beta, "iterate": which, **summary(losses)}
                for size in SIZES for beta in MOMENTUM
                for which, losses in train(problem, size, beta, rates, seeds, epochs).items()]
        shown = [n for n in problem.checkpoints if n <= epochs * len(problem.x)]
        problems.append({"name": problem.name, "examples": len(problem.x), "epochs": epochs, "checkpoints": shown,
                         "optimum": problem.optimum, "rates": rates, "seeds": seeds, "runs": runs,
                         "step seconds": step_seconds(problem, quick)})
    return {"mean": "training loss, minus the minimum where it is known, over the seeds: [checkpoint][rate]",
            "at best rate": "loss of each seed at the rate of the lowest mean, whose position is best rate",
            "average": f"of the iterates, the last one with weight {FORGET + 1} / (step + {FORGET})",
            "problems": problems}


if __name__ == "__main__":
    record.main("optimizer_steps", run)

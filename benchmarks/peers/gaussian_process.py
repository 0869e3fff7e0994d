"""Marginal likelihood and its gradient of Gaussian processes of 30, 200 and 500 points, float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers, torch_names

POINTS = (30, 200, 500)


def one(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return minus the log-likelihood of one data set, up to a constant."""
    xp = names.np
    scaled = x / xp.exp(p["log_length"])
    distance = ((scaled[:, None, :] - scaled[None, :, :]) ** 2).sum(-1)
    noise = (xp.exp(p["log_noise"]) + 1e-6) * xp.eye(x.shape[0], dtype=x.dtype)
    factor = xp.linalg.cholesky(xp.exp(p["log_scale"]) * xp.exp(-0.5 * distance) + noise)
    half = names.solve_lower(factor, y[:, None])[:, 0]
    return 0.5 * (half * half).sum() + xp.log(xp.diagonal(factor)).sum()


def batch(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return the value for a batch of one data set."""
    return one(names, p, x[0], y[0])


PROGRAM = Program(one, batch, lambda p, x, y: batch(torch_names(), p, x, y))


def data(n: int) -> Args:
    """Return parameters, and a batch of one data set of `n` points in two dimensions."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, (1, n, 2))
    p = {"log_length": np.zeros(2), "log_scale": np.zeros(()), "log_noise": np.array(-2.0)}
    return p, x, np.sin(x[..., 0]) + 0.1 * rng.normal(size=(1, n))


def run(quick: bool) -> harness.Result:
    """Measure each size."""
    cases, goals = [], []
    for n in POINTS:
        args = data(n)
        # a factor takes n³/3, and its derivative at least two products with a triangle
        work = limits.Work(limits.traffic(args) + 2 * 8 * n * n, n**3 / 3 + 2 * n**3)
        case = table.measure(f"Gaussian process of {n} points", makers(PROGRAM), args, table.exact(PROGRAM, args), work,
                             quick, size=n)
        cases.append(case)
        goals += [table.faster(case, peer, 1.0, f"Gaussian process of {n}") for peer in ("JAX jit", "torch eager")]
    return harness.Result(cases, goals)


if __name__ == "__main__":
    harness.main("peers.gaussian_process", run)

"""Log-likelihood of a mixture of 16 normal distributions in 8 dimensions, 10,000 points, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers, torch_names

COMPONENTS, DIMENSIONS, POINTS = 16, 8, 10_000


def one(names: Names, p: Any, x: Any) -> Any:
    """Return minus the log-likelihood of one point, up to a constant; variances differ by axis."""
    z = (x - p["mean"]) * names.np.exp(-p["log_scale"])
    inside = -0.5 * (z**2).sum(-1) - p["log_scale"].sum(-1)
    return names.logsumexp(p["logit"]) - names.logsumexp(p["logit"] + inside)


def batch(names: Names, p: Any, x: Any) -> Any:
    """Return the mean over a batch."""
    z = (x[:, None, :] - p["mean"]) * names.np.exp(-p["log_scale"])
    inside = -0.5 * (z**2).sum(-1) - p["log_scale"].sum(-1)
    return names.logsumexp(p["logit"]) - names.logsumexp(p["logit"] + inside).mean()


PROGRAM = Program(one, batch, lambda p, x: batch(torch_names(), p, x))


def data(n: int) -> Args:
    """Return parameters and `n` points."""
    rng = np.random.default_rng(0)
    p = {"mean": rng.normal(0, 2, (COMPONENTS, DIMENSIONS)).astype(np.float32),
         "log_scale": rng.normal(0, 0.3, (COMPONENTS, DIMENSIONS)).astype(np.float32),
         "logit": rng.normal(0, 1, COMPONENTS).astype(np.float32)}
    return p, 2 * rng.standard_normal((n, DIMENSIONS), np.float32)


def run(quick: bool) -> harness.Result:
    """Measure one batch."""
    args = data(POINTS)
    # z² is a product with x², x and 1, and so are its derivatives by mean and scale: two of K by 2D each way
    work = limits.Work(limits.traffic(args) + limits.traffic(args[0]), 2 * 2 * POINTS * COMPONENTS * 2 * DIMENSIONS)
    case = table.measure(f"mixture of {COMPONENTS} in {DIMENSIONS} dimensions, {POINTS:,} points", makers(PROGRAM),
                         args, table.exact(PROGRAM, args), work, quick, size=POINTS)
    return harness.Result([case], [table.faster(case, "JAX jit", 1.0, "mixture"),
                                   table.compiles_sooner(case, "mixture")])


if __name__ == "__main__":
    harness.main("peers.mixture", run)

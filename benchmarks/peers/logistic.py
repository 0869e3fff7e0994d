"""Logistic regression of handwritten digits: 1,797 images of 64 grey values, ten classes, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers

PIXELS, CLASSES = 64, 10


def one(names: Names, p: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one image, with a ridge on the weights."""
    z = x @ p["w"] + p["b"]
    return names.logsumexp(z) - z[label] + 1e-3 * (p["w"] ** 2).sum()


def batch(names: Names, p: Any, x: Any, label: Any) -> Any:
    """Return the mean of a batch."""
    z = x @ p["w"] + p["b"]
    picked = z[names.np.arange(z.shape[0]), label]
    return (names.logsumexp(z) - picked).mean() + 1e-3 * (p["w"] ** 2).sum()


def torch_batch(p: Any, x: Any, label: Any) -> Any:
    """Return the same, in PyTorch's loss; it serves one example as well."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(x @ p["w"] + p["b"], label) + 1e-3 * (p["w"] ** 2).sum()


PROGRAM = Program(one, batch, torch_batch, torch_batch)


def data() -> Args:
    """Return parameters, the images, and the digits that they show."""
    from minigrad.report import digits

    rng = np.random.default_rng(0)
    p = {"w": rng.normal(0, 0.1, (PIXELS, CLASSES)).astype(np.float32), "b": np.zeros(CLASSES, np.float32)}
    return p, *digits.load().all


def run(quick: bool) -> harness.Result:
    """Measure the whole set as one batch."""
    args = data()
    n = len(args[1])
    work = limits.Work(limits.traffic(args) + limits.traffic(args[0]), 2 * 2 * n * PIXELS * CLASSES)
    case = table.measure(f"logistic regression, {n:,} digits", makers(PROGRAM), args, table.exact(PROGRAM, args), work,
                         quick, size=n)
    return harness.Result([case], [table.faster(case, "JAX jit", 1.0, "logistic regression"),
                                   table.compiles_sooner(case, "logistic regression")])


if __name__ == "__main__":
    harness.main("peers.logistic", run)

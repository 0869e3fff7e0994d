"""A deep and narrow network: 20 layers of 16. There is so little work in a layer that what surrounds it decides."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers

LAYERS, WIDTH = 20, 16
BATCHES = (32, 1024)


def one(names: Names, params: Any, x: Any, y: Any) -> Any:
    """Return the squared error of one example; the same lines serve a batch, up to its mean."""
    for w, b in params:
        x = names.np.tanh(x @ w + b)
    return ((x - y) ** 2).sum(-1)


def batch(names: Names, params: Any, x: Any, y: Any) -> Any:
    """Return the mean squared error."""
    return one(names, params, x, y).mean()


def torch_batch(params: Any, x: Any, y: Any) -> Any:
    """Return the mean squared error, in PyTorch's layers."""
    import torch

    for w, b in params:
        x = torch.tanh(torch.addmm(b, x, w))
    return ((x - y) ** 2).sum(-1).mean()


PROGRAM = Program(one, batch, torch_batch)


def data(n: int) -> Args:
    """Return parameters, `n` inputs and targets."""
    rng = np.random.default_rng(0)
    params = [(rng.normal(0, 1.5 * WIDTH ** -0.5, (WIDTH, WIDTH)).astype(np.float32),
               rng.normal(0, 0.1, WIDTH).astype(np.float32)) for _ in range(LAYERS)]
    return params, *(rng.standard_normal((n, WIDTH), np.float32) for _ in range(2))


def run(quick: bool) -> harness.Result:
    """Measure two batch sizes."""
    cases, targets = [], []
    for n in BATCHES[:1] if quick else BATCHES:
        args = data(n)
        work = limits.Work(limits.traffic(args) + limits.traffic(args[0]), (3 * LAYERS - 1) * 2 * n * WIDTH**2)
        case = table.measure(f"{LAYERS} layers of {WIDTH}, batch {n:,}", makers(PROGRAM), args,
                             table.exact(PROGRAM, args), work, quick, size=n)
        cases.append(case)
        targets += [table.faster(case, "JAX jit", 1.0, f"batch {n:,}")]
    return harness.Result(cases, [*targets, table.compiles_sooner(cases[0], f"{LAYERS} layers")])


if __name__ == "__main__":
    harness.main("peers.narrow", run)

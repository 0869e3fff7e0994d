"""A recurrent network over time: 100 steps of 64 hidden units, 64 examples; value and gradient, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers

STEPS, INPUTS, HIDDEN, BATCH = 100, 32, 64, 64
UNROLLED = f"would compile the {STEPS} steps of the Python loop as so many layers: left out"


def one(names: Names, p: Any, xs: Any, y: Any) -> Any:
    """Return the squared error of the prediction for one sequence, (steps, inputs)."""
    def step(h: Any, x: Any) -> tuple[Any, None]:
        return names.np.tanh(x @ p["in"] + h @ p["hidden"] + p["bias"]), None

    h, _ = names.scan(step, names.np.zeros_like(p["bias"]), xs)
    return ((h @ p["out"] - y) ** 2).sum()


def batch(names: Names, p: Any, xs: Any, y: Any) -> Any:
    """Return the mean of a batch, (batch, steps, inputs)."""
    def step(h: Any, x: Any) -> tuple[Any, None]:
        return names.np.tanh(x @ p["in"] + h @ p["hidden"] + p["bias"]), None

    h, _ = names.scan(step, names.np.zeros_like(xs[:, 0, :1] * p["bias"]), xs.transpose((1, 0, 2)))
    return ((h @ p["out"] - y) ** 2).sum(-1).mean()


def torch_batch(p: Any, xs: Any, y: Any) -> Any:
    """Return the same in PyTorch: one product for the inputs of all steps, as in its own recurrent layers."""
    import torch

    h = torch.zeros_like(xs[:, 0, :1] * p["bias"])
    for x in torch.addmm(p["bias"], xs.flatten(0, 1), p["in"]).unflatten(0, xs.shape[:2]).unbind(1):
        h = torch.tanh(torch.addmm(x, h, p["hidden"]))
    return ((h @ p["out"] - y) ** 2).sum(-1).mean()


PROGRAM = Program(one, batch, torch_batch, refused={"torch.compile": UNROLLED})


def data(n: int) -> Args:
    """Return parameters, `n` sequences and targets."""
    rng = np.random.default_rng(0)
    shapes = {"in": (INPUTS, HIDDEN), "hidden": (HIDDEN, HIDDEN), "out": (HIDDEN, 1)}
    p = {name: rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    p["bias"] = rng.normal(0, 0.1, HIDDEN).astype(np.float32)
    return p, rng.standard_normal((n, STEPS, INPUTS), np.float32), rng.standard_normal((n, 1), np.float32)


def run(quick: bool) -> harness.Result:
    """Measure one batch."""
    args = data(BATCH)
    flops = BATCH * STEPS * 2 * (2 * INPUTS * HIDDEN + 3 * HIDDEN**2)
    work = limits.Work(limits.traffic(args) + limits.traffic(args[0]), flops)
    case = table.measure(f"recurrent network, {STEPS} steps of {HIDDEN}, batch {BATCH}", makers(PROGRAM), args,
                         table.exact(PROGRAM, args), work, quick, PROGRAM.refused, size=BATCH)
    return harness.Result([case], [table.faster(case, "JAX jit", 1.2, "recurrent network"),
                                   table.compiles_sooner(case, "recurrent network")])


if __name__ == "__main__":
    harness.main("peers.rnn", run)

"""Training gradient of a multilayer perceptron for digits of 28 by 28 points: mean cross-entropy, float32."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers

MODELS = {(784, 512, 512, 10): (1, 32, 128, 1024, 8192), (784, 512, 256, 10): (32, 1024)}
SMALL = 32  # the batch at which the first call is measured: its own work is little beside its compilation
QUICK = {(784, 512, 256, 10): (32,)}


def one(names: Names, params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example."""
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = names.np.tanh(x @ weight + bias)
    z = x @ w + b
    return names.logsumexp(z) - z[label]


def batch(names: Names, params: Any, x: Any, label: Any) -> Any:
    """Return the mean cross-entropy."""
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = names.np.tanh(x @ weight + bias)
    z = x @ w + b
    return (names.logsumexp(z) - z[names.np.arange(z.shape[0]), label]).mean()


def torch_batch(params: Any, x: Any, label: Any) -> Any:
    """Return the mean cross-entropy, in PyTorch's layers."""
    import torch

    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = torch.tanh(torch.addmm(bias, x, weight))
    return torch.nn.functional.cross_entropy(torch.addmm(b, x, w), label)


# Under vmap, PyTorch refuses to read a label as a number: its users take the loss that it has.
def torch_one(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example, in PyTorch's own loss."""
    import torch

    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = torch.tanh(x @ weight + bias)
    return torch.nn.functional.cross_entropy(x @ w + b, label)


PROGRAM = Program(one, batch, torch_batch, torch_one)


def data(sizes: tuple[int, ...], n: int) -> Args:
    """Return parameters, `n` inputs and labels."""
    rng = np.random.default_rng(0)
    params = [(rng.normal(0, a ** -0.5, (a, b)).astype(np.float32), rng.normal(0, 0.1, b).astype(np.float32))
              for a, b in pairwise(sizes)]
    return params, rng.random((n, sizes[0]), np.float32), rng.integers(0, sizes[-1], n)


def work(sizes: tuple[int, ...], args: Args) -> limits.Work:
    """Return the work of a step: weights read, gradients written, three products per layer but two of the first."""
    n = len(args[1])
    products = [2 * n * a * b for a, b in pairwise(sizes)]
    return limits.Work(limits.traffic(args) + limits.traffic(args[0]), 3 * sum(products) - products[0])


def run(quick: bool) -> harness.Result:
    """Measure two models, one of them at all batch sizes."""
    cases, targets = [], []
    for sizes, batches in (QUICK if quick else MODELS).items():
        name = "-".join(map(str, sizes))
        for n in batches:
            args = data(sizes, n)
            case = table.measure(f"{name}, value and gradient, batch {n:,}", makers(PROGRAM), args,
                                 table.exact(PROGRAM, args), work(sizes, args), quick, size=n)
            cases.append(case)
            if n == SMALL:
                small = case
            bound = 1.2 if n <= 32 else 1.0
            targets += [table.faster(case, peer, bound, f"{name}, batch {n:,}") for peer in ("JAX jit", "torch eager")]
        targets.append(table.compiles_sooner(small, name))
    return harness.Result(cases, targets)


if __name__ == "__main__":
    harness.main("peers.mlp", run)

"""The norm of every example's own gradient, written as its definition; the digits' perceptron, batch 128, float32."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .. import harness
from . import contestants, limits, mlp, table
from .contestants import Contestant

SIZES, BATCH = (784, 512, 256, 10), 128
NO_MAP = "has no map over examples: their gradients would be a Python loop's"


def with_minigrad(backend: str) -> Contestant:
    """Return minigrad's program."""
    import minigrad as mg

    if backend == "native":
        import llvmlite  # noqa: F401 - absent: the row says so
    loss = partial(mlp.one, contestants.minigrad_names())

    def norms(params: Any, x: Any, label: Any) -> Any:
        layers = mg.per_example_grad(loss, in_axes=(None, 0, 0))(params, x, label)
        return np.sqrt(sum((g**2).sum(axis=tuple(range(1, g.ndim))) for layer in layers for g in layer))

    return Contestant(lambda args: mg.compile(norms, backend=backend), keeps=True)


def with_jax() -> Contestant:
    """Return JAX's program."""
    import jax

    loss = partial(mlp.one, contestants.jax_names())

    def norms(params: Any, x: Any, label: Any) -> Any:
        layers = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, label)
        return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for g in jax.tree.leaves(layers)) ** 0.5

    return contestants.jitted(lambda: lambda *args: norms(*args))


def with_torch_func(compiled: bool = False) -> Contestant:
    """Return PyTorch's program."""
    import torch

    def norms(params: Any, x: Any, label: Any) -> Any:
        layers = torch.func.vmap(torch.func.grad(mlp.torch_one), (None, 0, 0))(params, x, label)
        return sum((g**2).flatten(1).sum(1) for layer in layers for g in layer) ** 0.5

    def build(args: Any) -> Any:
        return contestants.compiled_afresh(norms) if compiled else norms

    return Contestant(build, partial(contestants.put_torch, learn=False), compiles=compiled)


def run(quick: bool) -> harness.Result:
    """Measure one batch."""
    args = mlp.data(SIZES, BATCH)
    makers = {f"minigrad {b}": partial(with_minigrad, b) for b in contestants.minigrad_backends()} | {
        "JAX jit": with_jax, "torch.func": with_torch_func, "torch.compile": partial(with_torch_func, compiled=True)}
    wide = [tuple(v.astype(np.float64) for v in layer) for layer in args[0]], args[1].astype(np.float64), args[2]
    want = table.numbers(by_definition(*wide))
    forward_and_back = sum(2 * 2 * BATCH * a * b for a, b in pairwise(SIZES)) - 2 * BATCH * SIZES[0] * SIZES[1]
    work = limits.Work(limits.traffic(args), forward_and_back)
    case = table.measure(f"norms of {BATCH} gradients", makers, args, want, work, quick,
                         dict.fromkeys(("torch eager", "PyTensor", "autograd"), NO_MAP), size=BATCH)
    return harness.Result([case], [table.faster(case, "JAX jit", 1.2, "norms"), table.compiles_sooner(case, "norms")])


def by_definition(params: Any, x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the norms from one gradient after the other."""
    import minigrad as mg

    gradient = mg.compile(mg.grad(partial(mlp.one, contestants.minigrad_names())))
    return np.array([np.sqrt(sum((g**2).sum() for layer in gradient(params, *example) for g in layer))
                     for example in zip(x, label, strict=True)])


if __name__ == "__main__":
    harness.main("peers.norms", run)

"""Per-example gradient norms, DP-SGD and the tangent kernel of the MLP, written as their definitions.

Beside one mean gradient, and beside JAX, torch.func, Opacus (ghost clipping) and BackPACK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from . import harness
from .memory import peak
from .mlp import Params, data, jax_loss, loss, torch_loss

BATCH = 128
AXES = (None, 0, 0)


def norms(params: Any, x: Any, label: Any) -> Any:
    """Return the squared norm of every example's gradient, by definition."""
    layers = mg.per_example_grad(loss, in_axes=AXES)(params, x, label)
    return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for layer in layers for g in layer)


def private(params: Any, x: Any, label: Any) -> Any:
    """Return the mean of the gradients, each scaled down to a norm of at most 1."""
    layers = mg.per_example_grad(loss, in_axes=AXES)(params, x, label)
    factor = np.minimum(1.0, 1.0 / np.sqrt(norms(params, x, label)))
    return [tuple((g * factor.reshape(-1, *(1,) * (g.ndim - 1))).mean(axis=0) for g in layer) for layer in layers]


def with_jax(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return the same definition under ``jax.jit``: the gradients are formed."""
    import jax
    import jax.numpy as jnp

    def definition(params: Any, x: Any, label: Any) -> Any:
        gradients = jax.vmap(jax.grad(jax_loss), (None, 0, 0))(params, x, label)
        return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for g in jax.tree.leaves(gradients))

    step = jax.jit(definition)
    params, x, label = jax.block_until_ready(jax.tree.map(jnp.asarray, (params, x, label)))
    return lambda: jax.block_until_ready(step(params, x, label))


def with_torch_func(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return the same definition under ``torch.func``."""
    import torch

    torch.set_num_threads(harness.cores())
    params = [tuple(map(torch.tensor, layer)) for layer in params]
    x, label = torch.from_numpy(x), torch.from_numpy(label)

    def step() -> Any:
        gradients = torch.func.vmap(torch.func.grad(torch_loss), (None, 0, 0))(params, x, label)
        return sum((g**2).flatten(1).sum(1) for layer in gradients for g in layer)

    return step


def _network(params: Params) -> Any:
    import torch

    torch.set_num_threads(harness.cores())
    layers = []
    for w, b in params:
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def with_opacus(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return Opacus's ghost norms: hooks of its own for each kind of layer."""
    import opacus.grad_sample
    import torch

    model = opacus.grad_sample.GradSampleModuleFastGradientClipping(
        _network(params), batch_first=True, loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True)
    x, label = torch.from_numpy(x), torch.from_numpy(label)

    def step() -> Any:
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(x), label, reduction="sum").backward()
        return model.get_norm_sample() ** 2

    return step


def with_backpack(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return BackPACK's norms: extensions of its own for each kind of layer."""
    import backpack
    import backpack.extensions
    import torch

    model = backpack.extend(_network(params))
    criterion = backpack.extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    x, label = torch.from_numpy(x), torch.from_numpy(label)

    def step() -> Any:
        with backpack.backpack(backpack.extensions.BatchL2Grad()):
            criterion(model(x), label).backward()
        squares = sum(p.batch_l2 for p in model.parameters())
        model.zero_grad()
        return squares

    return step


def run(quick: bool) -> harness.Result:
    """Measure times and memory at one batch size."""
    args = data(BATCH)
    rounds = 3 if quick else 15
    mean = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES)))
    fast, clipped = mg.compile(norms), mg.compile(private)
    literal = mg.compile(norms, without=("factorize", "split_sums"))
    calls, absent = harness.gather({
        "one mean gradient": lambda: lambda: mean(*args),
        "norms": lambda: lambda: fast(*args),
        "norms without factorize and split_sums": lambda: lambda: literal(*args),
        "JAX jit": lambda: with_jax(*args),
        "torch.func": lambda: with_torch_func(*args),
        "Opacus ghost norms": lambda: with_opacus(*args),
        "BackPACK": lambda: with_backpack(*args)})
    want = literal(*args)
    worst = max(float(np.max(np.abs(np.asarray(call()) - want) / want)) for name, call in calls.items()
                if name != "one mean gradient")
    case = harness.Case.of(f"squared gradient norms of {BATCH} examples", "ms", "norms", harness.race(calls, rounds),
                           absent)
    steps = {"one mean gradient": lambda: mean(*args), "DP-SGD's clipped mean": lambda: clipped(*args)}
    dp = harness.Case.of("clipped mean gradient", "ms", "one mean gradient", harness.race(steps, rounds))
    memory = harness.Case.of("peak memory", "MB", "one mean gradient", {
        name: [float(peak(lambda f=f: mg.compile(f), args))]
        for name, f in (("one mean gradient", mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))),
                        ("norms", norms), ("DP-SGD's clipped mean", private))})
    ratio = case.ratio("JAX jit") if "JAX jit" in case.rows else None
    assert worst < 1e-3, f"the contestants disagree: {worst}"
    return harness.Result([case, dp, memory], [
        harness.Target("JAX's vmap(grad) and norms: its time over ours", ratio, 40),
        harness.Target("norms: our time over one mean gradient's", 1 / case.ratio("one mean gradient"), 1.3, False),
        harness.Target("DP-SGD: our time over one mean gradient's", dp.ratio("DP-SGD's clipped mean"), 2, False),
        harness.Target("norms: peak memory over one mean gradient's", memory.ratio("norms"), 1.5, False),
    ], {"largest relative difference from the definition": worst})


if __name__ == "__main__":
    harness.main("per_example", run)

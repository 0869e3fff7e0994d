"""An MLP 784-512-256-10, float32: value and gradient of the mean cross-entropy of a batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import minigrad as mg

from . import harness

SIZES = (784, 512, 256, 10)
BATCHES = (32, 128, 1024)
BLOCK = 256  # rows that the program by hand does elementwise work on at a time

Params = list[tuple[np.ndarray, np.ndarray]]


def loss(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example."""
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = np.tanh(x @ weight + bias)
    z = x @ w + b
    z = z - mg.stop_gradient(z.max())
    return np.log(np.exp(z).sum()) - z[label]


def data(batch: int) -> tuple[Params, np.ndarray, np.ndarray]:
    """Return parameters, inputs and labels."""
    rng = np.random.default_rng(0)
    params = [(rng.normal(0, n ** -0.5, (n, m)).astype(np.float32), rng.normal(0, 0.1, m).astype(np.float32))
              for n, m in pairwise(SIZES)]
    return params, rng.random((batch, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], batch)


def by_hand(batch: int) -> Callable[..., Any]:
    """Return the program that one would write by hand for this batch size.

    Every temporary has its buffer for good and every operation its ``out=``. Once the gradient of the weights after it
    is there, a hidden layer's output gives its place to what goes back through it, so that one more buffer serves both
    layers. The results are new arrays.
    """
    n, m, k = SIZES[1:]
    h1, h2, z = (np.empty((batch, width), np.float32) for width in (n, m, k))
    d1 = np.empty_like(h1)
    d2 = d1.reshape(-1)[:batch * m].reshape(batch, m)
    column = np.empty((batch, 1), np.float32)
    rows = np.arange(batch)
    spans = [(lo, min(lo + BLOCK, batch)) for lo in range(0, batch, BLOCK)]

    def activate(h: np.ndarray, b: np.ndarray) -> None:
        for lo, hi in spans:
            part = h[lo:hi]
            np.add(part, b, out=part)
            np.tanh(part, out=part)

    def back(d: np.ndarray, h: np.ndarray) -> None:
        for lo, hi in spans:
            part = h[lo:hi]
            np.multiply(part, part, out=part)
            np.subtract(1, part, out=part)
            np.multiply(d[lo:hi], part, out=part)

    def step(params: Params, x: np.ndarray, label: np.ndarray) -> tuple[Any, Params]:
        (w1, b1), (w2, b2), (w3, b3) = params
        np.matmul(x, w1, out=h1)
        activate(h1, b1)
        np.matmul(h1, w2, out=h2)
        activate(h2, b2)
        np.matmul(h2, w3, out=z)
        np.add(z, b3, out=z)
        np.maximum.reduce(z, axis=1, out=column, keepdims=True)
        np.subtract(z, column, out=z)
        picked = z[rows, label].sum()
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, out=column, keepdims=True)
        np.divide(z, column, out=z)
        value = (np.log(column, out=column).sum() - picked) / np.float32(batch)
        z[rows, label] -= 1
        np.multiply(z, np.float32(1 / batch), out=z)
        g3 = np.matmul(h2.T, z), np.add.reduce(z, axis=0)
        np.matmul(z, w3.T, out=d2)
        back(d2, h2)
        np.matmul(h2, w2.T, out=d1)
        g2 = np.matmul(h1.T, h2), np.add.reduce(h2, axis=0)
        back(d1, h1)
        return value, [(np.matmul(x.T, h1), np.add.reduce(h1, axis=0)), g2, g3]

    return step


def jax_loss(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example, in JAX."""
    import jax
    import jax.numpy as jnp

    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = jnp.tanh(x @ weight + bias)
    z = x @ w + b
    z = z - jax.lax.stop_gradient(z.max())
    return jnp.log(jnp.exp(z).sum()) - z[label]


def torch_loss(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example, in PyTorch."""
    import torch

    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = torch.tanh(x @ weight + bias)
    return torch.nn.functional.cross_entropy(x @ w + b, label)


def with_jax(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return the call of the same loss under ``jax.jit``."""
    import jax
    import jax.numpy as jnp

    def mean(params: Any, x: Any, label: Any) -> Any:
        return jax.vmap(jax_loss, (None, 0, 0))(params, x, label).mean()

    step = jax.jit(jax.value_and_grad(mean))
    params, x, label = jax.block_until_ready(jax.tree.map(jnp.asarray, (params, x, label)))
    return lambda: jax.block_until_ready(step(params, x, label))


def with_torch(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return the call of the same loss of a batch under PyTorch's autograd."""
    import torch

    torch.set_num_threads(harness.cores())
    leaves = [torch.tensor(leaf, requires_grad=True) for layer in params for leaf in layer]
    x, label = torch.from_numpy(x), torch.from_numpy(label)

    def step() -> Any:
        w1, b1, w2, b2, w3, b3 = leaves
        h = torch.tanh(torch.addmm(b2, torch.tanh(torch.addmm(b1, x, w1)), w2))
        value = torch.nn.functional.cross_entropy(torch.addmm(b3, h, w3), label)
        grads = torch.autograd.grad(value, leaves)
        return value.detach(), list(zip(grads[::2], grads[1::2], strict=True))

    return step


def with_torch_func(params: Params, x: np.ndarray, label: np.ndarray) -> Callable[[], Any]:
    """Return the call of the loss of one example under ``torch.func.vmap``, its mean differentiated."""
    import torch

    torch.set_num_threads(harness.cores())
    params = [tuple(map(torch.tensor, layer)) for layer in params]
    x, label = torch.from_numpy(x), torch.from_numpy(label)

    def mean(params: Any, x: Any, label: Any) -> Any:
        return torch.func.vmap(torch_loss, (None, 0, 0))(params, x, label).mean()

    def step() -> Any:
        grads, value = torch.func.grad_and_value(mean)(params, x, label)
        return value, grads

    return step


def difference(left: Any, right: Any) -> float:
    """Return the largest difference of two (value, gradient) pairs, relative to the largest number in each leaf."""
    pairs = [(left[0], right[0]), *((a, b) for la, lb in zip(left[1], right[1], strict=True)
                                    for a, b in zip(la, lb, strict=True))]
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / np.max(np.abs(np.asarray(b)))) for a, b in pairs)


def run(quick: bool) -> harness.Result:
    """Measure three batch sizes with one compiled function."""
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))
    cases, targets, worst = [], [], 0.0
    for batch in BATCHES:
        args = data(batch)
        hand = by_hand(batch)
        calls, absent = harness.gather({
            "NumPy by hand": lambda args=args, hand=hand: lambda: hand(*args),
            "minigrad": lambda args=args: lambda: step(*args),
            "JAX jit": lambda args=args: with_jax(*args),
            "PyTorch autograd": lambda args=args: with_torch(*args),
            "torch.func.vmap": lambda args=args: with_torch_func(*args)})
        exact = by_hand(batch)(*args)
        worst = max(worst, *(difference(call(), exact) for call in calls.values()))
        times = harness.race(calls, 5 if quick else 25)
        case = harness.Case.of(f"value and gradient, batch {batch:,}", "ms", "minigrad", times, absent)
        cases.append(case)

        def ratio(name: str, case: harness.Case = case) -> float | None:
            return case.ratio(name) if name in case.rows else None

        targets += [
            harness.Target(f"JAX jit's speed, batch {batch:,}: its time over ours", ratio("JAX jit"), 0.95),
            harness.Target(f"the program by hand, batch {batch:,}: its time over ours", ratio("NumPy by hand"), 0.95),
            harness.Target(f"torch.func.vmap, batch {batch:,}: its time over ours", ratio("torch.func.vmap"), 1)]
    assert len(step.entries) == 1, "one program serves all batch sizes"
    assert worst < 1e-3, f"the contestants disagree: {worst}"
    return harness.Result(cases, targets, {"largest difference from the program by hand": worst})


if __name__ == "__main__":
    harness.main("mlp", run)

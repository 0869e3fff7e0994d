"""An elementwise loss of many examples and its gradient by four shared numbers, float32."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from . import harness

EXAMPLES = 1_000_000
BLOCK = 32_768  # rows that the program in blocks works on at a time

Params = dict[str, np.ndarray]


def loss(p: Any, x: Any, y: Any) -> Any:
    """Return the loss of one example: x is a number, y is 1 or -1."""
    h = np.tanh(p["a"] * x + p["b"])
    return np.log(1 + np.exp(-y * (p["c"] * h + p["d"])))


def data(n: int) -> tuple[Params, np.ndarray, np.ndarray]:
    """Return parameters and `n` examples."""
    rng = np.random.default_rng(0)
    params = {name: np.float32(v) for name, v in zip("abcd", (0.7, -0.2, 1.3, 0.1), strict=True)}
    x = rng.standard_normal(n).astype(np.float32)
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-2 * x)), 1, -1).astype(np.float32)
    return {k: np.asarray(v) for k, v in params.items()}, x, y


def op_by_op(p: Params, x: np.ndarray, y: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """Return value and gradient as one writes them in NumPy, line by line."""
    n = np.float32(len(x))
    h = np.tanh(p["a"] * x + p["b"])
    e = np.exp(-y * (p["c"] * h + p["d"]))
    value = np.mean(np.log(1 + e))
    dz = -y * e / (1 + e) / n
    dt = dz * p["c"] * (1 - h * h)
    return value, {"a": np.sum(dt * x), "b": np.sum(dt), "c": np.sum(dz * h), "d": np.sum(dz)}


def in_blocks(n: int) -> Callable[..., Any]:
    """Return the same program by hand in blocks that fit the cache, with ``out=`` throughout."""
    scratch = np.empty((4, min(BLOCK, n)), np.float32)

    def step(p: Params, x: np.ndarray, y: np.ndarray) -> tuple[Any, dict[str, Any]]:
        a, b, c, d = (p[k] for k in "abcd")
        parts = np.empty((5, -(-len(x) // BLOCK)), np.float32)
        for k, lo in enumerate(range(0, len(x), BLOCK)):
            u, v = x[lo:lo + BLOCK], y[lo:lo + BLOCK]
            h, e, t, r = scratch[:, :len(u)]
            np.multiply(u, a, out=h)
            np.add(h, b, out=h)
            np.tanh(h, out=h)
            np.multiply(h, c, out=e)
            np.add(e, d, out=e)
            np.multiply(e, v, out=e)
            np.negative(e, out=e)
            np.exp(e, out=e)
            np.add(e, 1, out=t)
            np.divide(e, t, out=e)
            np.log(t, out=t)
            np.add.reduce(t, out=parts[0, k, ...])
            np.multiply(e, v, out=e)
            np.add.reduce(e, out=parts[4, k, ...])
            np.multiply(e, h, out=t)
            np.add.reduce(t, out=parts[3, k, ...])
            np.square(h, out=r)
            np.subtract(1, r, out=r)
            np.multiply(r, e, out=r)
            np.add.reduce(r, out=parts[2, k, ...])
            np.multiply(r, u, out=r)
            np.add.reduce(r, out=parts[1, k, ...])
        value, ga, gb, gc, gd = parts.sum(axis=1) / np.float32(len(x))
        return value, {"a": -ga * c, "b": -gb * c, "c": -gc, "d": -gd}

    return step


def with_jax(p: Params, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return the call of the same loss under ``jax.jit``."""
    import jax
    import jax.numpy as jnp

    def one(p: Any, x: Any, y: Any) -> Any:
        h = jnp.tanh(p["a"] * x + p["b"])
        return jnp.log(1 + jnp.exp(-y * (p["c"] * h + p["d"])))

    def mean(p: Any, x: Any, y: Any) -> Any:
        return jax.vmap(one, (None, 0, 0))(p, x, y).mean()

    step = jax.jit(jax.value_and_grad(mean))
    p, x, y = jax.block_until_ready(jax.tree.map(jnp.asarray, (p, x, y)))
    return lambda: jax.block_until_ready(step(p, x, y))


def with_torch(p: Params, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return the call of the same loss under PyTorch's autograd."""
    import torch

    torch.set_num_threads(harness.cores())
    names = list(p)
    leaves = [torch.tensor(p[k], requires_grad=True) for k in names]
    a, b, c, d = leaves
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> Any:
        h = torch.tanh(a * x + b)
        value = torch.log(1 + torch.exp(-y * (c * h + d))).mean()
        return value.detach(), dict(zip(names, torch.autograd.grad(value, leaves), strict=True))

    return step


def difference(left: Any, right: Any) -> float:
    """Return the largest difference of two (value, gradient) pairs, relative to the largest number in each leaf."""
    pairs = [(left[0], right[0]), *((left[1][k], right[1][k]) for k in left[1])]
    return max(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b))) / np.max(np.abs(np.asarray(b))))
               for a, b in pairs)


def page_faults(call: Callable[[], Any]) -> float:
    """Return how many fresh pages of memory one call asks the system for."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5


def run(quick: bool) -> harness.Result:
    """Measure 1,000,000 examples and 1,000.

    NumPy op by op takes its temporaries from the allocator. Their time depends on the process's history: in one
    of its own, each call gets its memory fresh from the system, page by page; in one in which a larger
    piece was freed once, as JAX and PyTorch do, the allocator keeps it. So the large case is measured in both.
    """
    compiled = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))
    rounds = 5 if quick else 25
    cases, notes, worst = [], {}, 0.0
    for n, peers in ((EXAMPLES, False), (EXAMPLES, True), (1000, True)):
        p, x, y = data(n)
        blocks = in_blocks(n)
        makers = {"NumPy, op by op": lambda p=p, x=x, y=y: lambda: op_by_op(p, x, y),
                  "NumPy, by hand in blocks": lambda p=p, x=x, y=y, f=blocks: lambda: f(p, x, y),
                  "minigrad": lambda p=p, x=x, y=y: lambda: compiled(p, x, y)}
        if peers:
            makers |= {"JAX jit": lambda p=p, x=x, y=y: with_jax(p, x, y),
                       "PyTorch autograd": lambda p=p, x=x, y=y: with_torch(p, x, y)}
        calls, absent = harness.gather(makers)
        times = harness.race(calls, rounds)
        where = "in a process with JAX and PyTorch" if peers else "in a process of NumPy's own"
        cases.append(harness.Case.of(f"value and gradient, {n:,} examples, {where}", "ms", "NumPy, op by op", times,
                                     absent))
        notes[f"page faults in a call of NumPy op by op, {n:,} examples, {where}"] = page_faults(
            calls["NumPy, op by op"])
        if peers:
            exact = op_by_op({k: v.astype(float) for k, v in p.items()}, x.astype(float), y.astype(float))
            worst = max(worst, *(difference(call(), exact) for call in calls.values()))
    assert worst < 1e-3, f"the contestants disagree: {worst}"
    notes["largest difference from float64"] = worst
    target = harness.Target(f"times as fast as NumPy op by op, {EXAMPLES:,} examples, in a process of NumPy's own",
                            1 / cases[0].ratio("minigrad"), 3)
    return harness.Result(cases, [target], notes)


if __name__ == "__main__":
    harness.main("elementwise", run)

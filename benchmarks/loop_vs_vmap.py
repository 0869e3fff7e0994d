"""The same gradient of 1,024 examples twice: a loop over a compiled function of one example, and one batch."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

from . import harness
from .elementwise import data, difference, loss, with_jax

BATCH = 1024


def run(quick: bool) -> harness.Result:
    """Measure the loop, the batch, and JAX's batch."""
    p, x, y = data(BATCH)
    one = mg.compile(mg.value_and_grad(loss))
    batch = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))

    def loop() -> tuple[Any, dict[str, Any]]:
        total, grad = 0.0, dict.fromkeys(p, 0.0)
        for k in range(BATCH):
            value, g = one(p, x[k], y[k])
            total += value
            for name in grad:
                grad[name] += g[name]
        return total / BATCH, {name: g / BATCH for name, g in grad.items()}

    calls, absent = harness.gather({
        "minigrad, loop": lambda: loop,
        "minigrad, vmap": lambda: lambda: batch(p, x, y),
        "JAX jit, vmap": lambda: with_jax(p, x, y)})
    worst = max(difference(call(), loop()) for call in calls.values())
    assert worst < 1e-3, f"the contestants disagree: {worst}"
    times = harness.race(calls, 5 if quick else 15)
    case = harness.Case.of(f"value and gradient, {BATCH:,} examples", "ms", "minigrad, vmap", times, absent)
    target = harness.Target("times as fast as the loop", case.ratio("minigrad, loop"), 100)
    return harness.Result([case], [target], {"largest difference from the loop": float(np.float64(worst))})


if __name__ == "__main__":
    harness.main("loop_vs_vmap", run)

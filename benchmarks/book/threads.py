"""One thread against all threads: the time on the clock, measured while the machine is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from .. import harness
from . import record
from .optimizer_steps import cross_entropy
from .when_it_pays import network, ten

PATIENCE = 2400  # seconds to wait, in all, until the machine is quiet


def wait_for_quiet(deadline: float) -> float:
    """Sleep until other processes use less than a tenth of a core for three seconds; return the cores that they use."""
    while True:
        before = harness.Work.now()
        time.sleep(3)
        others, wall = harness.Work.now().others_since(before)
        if others < 0.1 * wall or time.monotonic() > deadline:
            return others / wall


def run(quick: bool) -> dict[str, Any]:
    """Measure programs of three sizes, each with one thread and with all."""
    rng = np.random.default_rng(0)
    p, counts = network(rng), (1, harness.cores())
    mean = mg.mean_loss(cross_entropy, in_axes=(None, 0, 0))
    gradient, chained = mg.compile(mg.grad(mean), backend="native"), mg.compile(mg.vmap(ten), backend="native")
    cases = [
        *((f"gradient, {n:,} examples", gradient, (p, rng.random((n, 64), np.float32), rng.integers(0, 10, n)))
          for n in ((64,) if quick else (64, 1024, 16384))),
        *((f"ten operations, {n:,} elements", chained, (rng.random(n, np.float32),))
          for n in ((1024,) if quick else (1024, 65536, 4194304)))]
    rows: dict[str, Any] = {}
    deadline = time.monotonic() + (0 if quick else PATIENCE)
    for label, f, args in cases:
        def with_threads(n: int, f: Any = f, args: Any = args) -> Callable[[], Any]:
            def call() -> Any:
                mg.set_num_threads(n)
                return f(*args)

            return call

        busy = wait_for_quiet(deadline)
        before = harness.Work.now()
        times = harness.race({str(n): with_threads(n) for n in counts}, 3 if quick else 9, turn=0.02)
        others, wall = harness.Work.now().others_since(before)
        rows[label] = {"seconds": {name: harness.spread(t) for name, t in times.items()},
                       "cores busy with others' work": {"before": busy, "meanwhile": others / wall}}
    return {"title": "seconds of a call on the clock, by threads", "rows": rows,
            "method": "benchmarks.harness.race on the wall clock, each case after three quiet seconds where there were "
                      "any; rounds beside which other processes worked are repeated"}


if __name__ == "__main__":
    record.main("threads", run)

"""Peak memory of the MLP's step beside the program by hand, and of calls within a budget beside the memory given.

The first is what NumPy allocates, buffers and results together; the second is the resident memory of a process.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from . import harness, resident
from .mlp import BATCHES, by_hand, data, loss


def arrays_now() -> int:
    """Return the bytes of all arrays that were allocated since the trace began."""
    snapshot = tracemalloc.take_snapshot()
    domain = np.lib.tracemalloc_domain
    return sum(t.size for t in snapshot.filter_traces([tracemalloc.DomainFilter(True, domain)]).traces)


def peak(make: Callable[[], Callable[..., Any]], args: tuple[Any, ...]) -> int:
    """Return the most memory that arrays have taken at one time while steps run, the arguments aside.

    The peak that Python reports counts its own objects as well; what of them is there at rest is taken off.
    """
    gc.collect()
    tracemalloc.start()
    try:
        step = make()
        for _ in range(3):
            step(*args)
        gc.collect()
        arrays, everything = arrays_now(), tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step(*args)
        return tracemalloc.get_traced_memory()[1] - (everything - arrays)
    finally:
        tracemalloc.stop()


def run(quick: bool) -> harness.Result:
    """Measure each batch size in turn; allocation does not vary, so one round will do."""
    del quick
    cases, targets = [], []
    for batch in BATCHES:
        args = data(batch)
        makers = {"NumPy by hand": lambda batch=batch: by_hand(batch),
                  "minigrad": lambda: mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))}
        case = harness.Case.of(f"peak memory of a step, batch {batch:,}", "MB", "NumPy by hand",
                               {name: [float(peak(make, args))] for name, make in makers.items()})
        cases.append(case)
        targets.append(harness.Target(f"of the program by hand, batch {batch:,}", case.ratio("minigrad"), 1.1, False))
    for what, (_, memory) in resident.WHAT.items() if resident.available() else ():
        for kind in resident.DATA:
            found = resident.peaks(what, kind)
            case = harness.Case.of(f"memory given, and the peak of a process: {what}, {kind}", "MB", "memory given",
                                   {"memory given": [float(memory)],
                                    **{name: [float(peak)] for name, peak in found.items()}})
            cases.append(case)
            off = max(abs(case.ratio(name) - 1) for name in found if name != "eager")
            targets.append(harness.Target(f"off the memory given at most, {what}, {kind}", off, 0.1, False))
    return harness.Result(cases, targets)


if __name__ == "__main__":
    harness.main("memory", run)

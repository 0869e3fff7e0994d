"""32 cores on paper: the serial part of a call, the limit set by its pieces of parallel work, and shared memory.

The program for 32 threads runs on one, and each item of each parallel region has its time (`regions`). The rest of the
call is serial. An order of items close to the pool's (the next free thread takes the next item) then gives the time on
any number of cores, without the cost of handing regions out, which is measured on the two cores that there are, and
without what cores share: by how much two of them slow each other's arithmetic and reading is measured as well. The
prediction for two cores is set beside a measurement. Experiments show false sharing, and which thread touches which
memory.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg

from . import harness, scale
from .peers import contestants, elementwise, mlp, rnn
from .regions import Recorder, Region
from .sharing import additions

CORES = (1, 2, 4, 8, 16, 32)
TEAM = 32
RUNS = 15


def programs() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Return five programs as value and gradient, and their arguments."""
    def peer(program: contestants.Program, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return contestants.with_minigrad(program, "native").build(args), args

    p = scale.parameters()
    ragged = mg.compile(mg.value_and_grad(mg.mean_loss(scale.graphwise, in_axes=(None, 0))), backend="native")
    linear = mg.compile(mg.value_and_grad(mg.mean_loss(scale.logistic, in_axes=(None, 0, 0))), backend="native")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_000, 30), np.float32)
    return {"network 784-512-256-10, batch 1,024": peer(mlp.PROGRAM, mlp.data((784, 512, 256, 10), 1024)),
            "elementwise loss, 1,000,000 examples": peer(elementwise.PROGRAM, elementwise.data(1_000_000)),
            "logistic regression, 100,000 rows of 30": (linear, (
                rng.standard_normal(30, np.float32), x, np.sign(x[:, 0]))),
            "graphs of 2 to 7 nodes, 20,000 examples": (ragged, (p, mg.batch(scale.examples(20_000)))),
            "recurrent network, 100 steps, batch 64": peer(rnn.PROGRAM, rnn.data(64))}


# -- the model -----------------------------------------------------------------------------------------------


def makespan(items: Sequence[float], cores: int) -> float:
    """Return the time until all items are done, where the next free core takes the next item."""
    free = [0.0] * min(cores, max(len(items), 1))
    for item in items:
        heapq.heapreplace(free, free[0] + item)
    return max(free)


def least(runs: Sequence[tuple[float, list[Region]]]) -> tuple[float, list[np.ndarray]]:
    """Return the least serial seconds of several runs, and the least of each item: other work only adds to them."""
    serial = min(seconds - sum(r.seconds for r in regions) for seconds, regions in runs)
    items = [np.minimum.reduce([regions[k].items for _, regions in runs]) for k in range(len(runs[0][1]))]
    return serial, items


def predicted(serial: float, regions: Sequence[np.ndarray], cores: int, handing: float = 0.0) -> float:
    """Return the seconds of a call; regions of one item need no other core."""
    extra = handing * sum(len(items) > 1 for items in regions) if cores > 1 else 0.0
    return serial + sum(makespan(items.tolist(), cores) for items in regions) + extra


def analysed(recorder: Recorder, step: Callable[..., Any], args: tuple[Any, ...], quick: bool) -> dict[str, Any]:
    """Return the model of a program, and the measured times on one thread and on two."""
    call = partial(step, *args)
    before = mg.get_num_threads()
    try:
        mg.set_num_threads(TEAM)
        call()
        serial, regions = least([recorder.alone(call) for _ in range(3 if quick else RUNS)])
    finally:
        mg.set_num_threads(before)

    def on(threads: int) -> Callable[[], Any]:
        def run() -> Any:
            mg.set_num_threads(threads)
            return call()

        return run

    try:
        times = harness.race({str(n): on(n) for n in (1, 2)}, 3 if quick else 9)
        mg.set_num_threads(2)
        call()
        moved, stretch = together(recorder, call, sum(float(items.sum()) for items in regions))
        alone, beside, over = same_moment(recorder, call, 5 if quick else 2 * RUNS)
    finally:
        mg.set_num_threads(before)
    handing = handed_out(recorder)
    work = sum(float(items.sum()) for items in regions)
    return {"serial seconds": serial, "parallel seconds": work, "serial share": serial / (serial + work),
            "regions": [{"items": len(items), "seconds": float(items.sum()), "longest": float(items.max())}
                        for items in merged(regions)],
            "number of regions": len(regions), "seconds to hand out a region": handing,
            "predicted": {n: predicted(serial, regions, n, handing) for n in CORES},
            "seconds": {int(name): t for name, t in times.items()},
            "items on another thread than in the call before": moved,
            "time of the items with both threads at work, over that alone": stretch,
            "seconds of the items on one thread, from run to run": harness.spread(alone),
            "two threads, measured over the paper of the same moment": harness.spread(beside),
            "two threads, seconds more than on paper": over}


def merged(regions: Sequence[np.ndarray], most: int = 40) -> list[np.ndarray]:
    """Return the regions that take the longest."""
    return sorted(regions, key=lambda items: -float(items.sum()))[:most]


# -- the pool and memory -------------------------------------------------------------------------------------


def handed_out(recorder: Recorder) -> float:
    """Return the seconds by which a small region on two threads outlasts half of its work."""
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    try:
        small = mg.compile(lambda x: np.tanh(x), backend="native")
        x = np.zeros(1 << 17, np.float32)
        small(x)
        over = []
        for _ in range(60):
            _, (region, *_) = recorder.together(partial(small, x))
            over.append(region.seconds - float(region.items.sum()) / 2)
        return max(float(np.median(over)), 0.0)
    finally:
        mg.set_num_threads(before)


def together(recorder: Recorder, call: Callable[[], Any], alone: float, runs: int = RUNS) -> tuple[float, float]:
    """Return the share of items on another thread than in the call before, and how much longer items take.

    On two sockets, an item on another thread may find its memory on the other socket. Items take longer where threads
    share the bandwidth of memory, or lines of the cache.
    """
    found = [recorder.together(call)[1] for _ in range(runs)]
    moved = [a.worker != b.worker for one, other in itertools.pairwise(found)
             for a, b in zip(one, other, strict=True)]
    longer = sum(float(np.minimum.reduce([regions[k].items for regions in found]).sum()) for k in range(len(found[0])))
    return float(np.mean(np.concatenate(moved))), longer / alone


def same_moment(recorder: Recorder, call: Callable[[], Any], runs: int
                ) -> tuple[list[float], list[float], dict[str, float]]:
    """Return the seconds of all items on one thread, the time on two threads over their paper's, and where it differs.

    The machine is slower at some moments: a paper of the least times is not what two threads could take at another one.
    """
    alone, beside, over = [], [], []
    for _ in range(runs):
        seconds, regions = recorder.alone(call)
        items = [r.items for r in regions]
        paper = predicted(seconds - sum(r.seconds for r in regions), items, 2)
        call()  # wakes the other thread
        start = time.perf_counter()
        call()
        beside.append((time.perf_counter() - start) / paper)
        alone.append(sum(float(x.sum()) for x in items))
        together, shared = recorder.together(call)
        slowest = [max(float(r.items[r.worker == w].sum()) for w in np.unique(r.worker)) for r in shared]
        ideal = [makespan(r.items.tolist(), 2) for r in shared]  # of the items that took longer
        over.append([
            together - sum(r.seconds for r in shared) - (seconds - sum(r.seconds for r in regions)),
            sum(ideal) - sum(makespan(x.tolist(), 2) for x in items), sum(slowest) - sum(ideal),
            sum(r.seconds for r in shared) - sum(slowest)])
    parts = ("the serial part", "items that take longer beside another thread's", "items shared less evenly",
             "handing out, and waiting for the last item")
    return alone, beside, dict(zip(parts, np.median(over, axis=0).tolist(), strict=True))


def beside_each_other(recorder: Recorder, quick: bool) -> dict[str, float]:
    """Return the time of items with both threads at work over that alone: of arithmetic, and of reading megabytes.

    A machine whose cores share memory, caches or their clock takes that much longer than on paper, whatever the pool
    does.
    """
    before, found = mg.get_num_threads(), {}
    arithmetic, reading = (mg.compile(f, backend="native") for f in (
        lambda x: np.sum(np.tanh(np.tanh(np.tanh(np.tanh(x))))), lambda x: np.sum(x)))
    works = {"arithmetic": (arithmetic, 1), **{f"reading {n} MB": (reading, n) for n in (4, 16, 64)}}
    mg.set_num_threads(2)
    try:
        for name, (work, megabytes) in works.items():
            call = partial(work, np.ones((megabytes << 20) // 4, np.float32))
            alone, both = [], []
            for _ in range(3 if quick else 2 * RUNS):
                for record, seconds in ((recorder.alone, alone), (recorder.together, both)):
                    call()
                    seconds.append(sum(float(r.items.sum()) for r in record(call)[1]))
            found[name] = harness.over(both, alone)
    finally:
        mg.set_num_threads(before)
    return found


def false_sharing(quick: bool) -> dict[str, float]:
    """Return the nanoseconds of an addition to a thread's own number, by the bytes between two threads' numbers."""
    rounds = 3 if quick else 15
    return {str(distance): min(additions(distance) for _ in range(rounds)) for distance in (8, 64, 128, 4096)}


def written_elsewhere(quick: bool) -> dict[str, list[float]]:
    """Return the microseconds of a sum of numbers that this core has just written, or another one, by megabytes."""
    cpus, found = sorted(os.sched_getaffinity(0)), {}
    for megabytes in (0.4, 0.8, 1.6, 3.2):
        x = np.empty(int(megabytes * 1e6) // 8)

        def seconds(writer: int, reader: int, x: np.ndarray = x) -> float:
            os.sched_setaffinity(0, {writer})
            x.fill(1.0)
            os.sched_setaffinity(0, {reader})
            start = time.perf_counter()
            x.sum()
            return time.perf_counter() - start

        try:
            times = [[seconds(writer, cpus[0]) for writer in (cpus[0], cpus[-1])] for _ in range(5 if quick else 50)]
        finally:
            os.sched_setaffinity(0, cpus)
        found[str(megabytes)] = (1e6 * np.median(times, axis=0)).tolist()
    return found


def borders(recorder: Recorder, quick: bool) -> dict[str, float]:
    """Return how much longer the items of sums over rows take with both threads at work, by the bytes of a part."""
    before, found = mg.get_num_threads(), {}
    mg.set_num_threads(2)
    try:
        for name, f in (("sum", lambda x: np.sum(x, axis=0)), ("largest", lambda x: np.max(x, axis=0))):
            for columns in (16, 20, 32, 40):
                call = partial(mg.compile(f, backend="native"), np.ones((2_000_000 // columns, columns), np.float32))
                call()
                _, items = least([recorder.alone(call) for _ in range(3 if quick else RUNS)])
                _, longer = together(recorder, call, sum(float(x.sum()) for x in items))
                found[f"{name}, parts of {4 * columns} bytes"] = longer
    finally:
        mg.set_num_threads(before)
    return found


def behind_copies(quick: bool) -> dict[str, float]:
    """Return the microseconds of a small call, by the megabytes that are copied before: they leave the caches cold."""
    args = elementwise.data(1000)
    step = contestants.with_minigrad(elementwise.PROGRAM, "native").build(args)
    found = {}
    for megabytes in (0, 1, 4, 16, 64):
        x = np.ones(megabytes << 17)
        y, times = np.empty_like(x), []
        for _ in range(10 if quick else 50):
            np.copyto(y, x)
            start = time.perf_counter()
            step(*args)
            times.append(time.perf_counter() - start)
        found[str(megabytes)] = 1e6 * float(np.median(times))
    return found


def table(title: str, found: dict[str, Any]) -> harness.Case:
    """Return the table of one program, with its model."""
    times = {f"{n} thread{'s' * (n > 1)}, measured": found["seconds"][n] for n in (1, 2)}
    times |= {f"{n} cores, predicted": [found["predicted"][n]] for n in CORES[1:]}
    case = harness.Case.of(title, "ms", "1 thread, measured", times)
    case.more = {key: value for key, value in found.items() if key not in ("seconds", "predicted")}
    return case


def run(quick: bool) -> harness.Result:
    """Analyse the programs."""
    recorder = Recorder()
    cases, targets = [], []
    for title, (step, args) in programs().items():
        found = analysed(recorder, step, args, quick)
        case = table(title, found)
        print(f"{case}\n  serial {100 * case.more['serial share']:.2g} %", flush=True)
        cases.append(case)
        speed = found["predicted"][1] / found["predicted"][max(CORES)]
        targets.append(harness.Target(f"{title}: speed on {max(CORES)} cores over one, predicted", speed, 16.0))
    return harness.Result(cases, targets, {
        "nanoseconds of an addition, by the bytes between the numbers of two threads": false_sharing(quick),
        "microseconds of a sum, by megabytes that the same core wrote, or another one": written_elsewhere(quick),
        "time of items, both threads at work over alone": beside_each_other(recorder, quick),
        "time of the items of sums, both threads at work over alone": borders(recorder, quick),
        "microseconds of a small call, by the megabytes copied before": behind_copies(quick)})


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(harness.cores()))
    harness.main("cores", run)

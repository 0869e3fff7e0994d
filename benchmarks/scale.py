"""Cost against work over five decades: of a batch, features, nodes, ragged examples, operations, rows of a dataset.

Each curve is a typical program's value and gradient at sizes from one decade to the next. A straight line says that
time is ``a + b n``: the fixed cost of a call, and the cost of a unit. The slope in logarithms is that of the sizes at
which the fixed cost is small. Where the cost of a unit departs from the line, measurements say why: the fixed cost, one
thread where two do not pay, page faults, or caches, for which the machine itself is measured at the same sizes: it
reads memory in order, or rows of it in no order, as the program does. A departure without a reason is a fault of ours.

``python -m benchmarks.scale NAME ...`` measures some curves, and leaves the others in the file as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import optree

import minigrad as mg

from . import harness
from .counters import Counters

BACKENDS = ("native", "numpy")
REFERENCE = "minigrad native"
ONE_THREAD = "minigrad native, one thread"
MACHINE = "the machine"
FAULT = 0.25e-6  # seconds of a page fault, about
DECADES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
FROM_ONE = (1, 10, 100, 1_000, 10_000, 100_000)
DEPARTURE = 1.5  # of the cost of a unit, over the line's, from which a reason is wanted
SMALL = 0.1  # share of the fixed cost below which sizes count for the slope
ENOUGH = 1.0  # seconds of cold calls: two at least, more while they take less
PATIENCE = 20.0  # seconds of a call beyond which no larger size is measured

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    """A small graph."""

    x: mg.f32[node, 8]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    y: mg.f32[()]


def network(p: Any, x: Any, y: Any) -> Any:
    """Return the squared error of a small network."""
    return (np.tanh(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2


def logistic(w: Any, x: Any, y: Any) -> Any:
    """Return the logistic loss of a linear model."""
    return np.logaddexp(np.float32(0), -y * (x @ w))


def nodewise(p: Any, x: Any, src: Any, dst: Any, y: Any) -> Any:
    """Return the squared error at the nodes of one graph, after a sum over the neighbours of each."""
    h = np.maximum(x @ p["w"], 0)
    return np.mean((np.tanh(mg.segment_sum(h[src], dst, x.shape[0])) @ p["v"] - y) ** 2)


def graphwise(p: Any, g: Any) -> Any:
    """Return the squared error of one small graph."""
    h = np.maximum(g.x @ p["w"], 0)
    return (np.sum(mg.segment_sum(h[g.src], g.dst, g.x.shape[0]) @ p["v"]) - g.y) ** 2


POINTS = np.linspace(-0.5, 0.5, 100)
KINDS: tuple[Callable[[Any, Any], Any], ...] = (  # results are no larger than 1
    lambda last, old: np.tanh(last), np.minimum, np.maximum, np.multiply)


def operations(n: int) -> Callable[[Any], Any]:
    """Return a function of `n` operations, of several kinds and with operands that are several operations old."""
    rng = np.random.default_rng(0)
    kinds, ages = rng.integers(0, len(KINDS), n), rng.integers(0, 8, n)

    def f(x: Any) -> Any:
        values = [x]
        for kind, age in zip(kinds, ages, strict=True):
            values.append(KINDS[kind](values[-1], values[max(len(values) - 1 - age, 0)]))
        return np.sum(values[-1])

    return f


# -- curves --------------------------------------------------------------------------------------------------


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"w": rng.normal(0, 0.3, (8, 16)).astype(np.float32), "b": np.zeros(16, np.float32),
            "v": rng.normal(0, 0.3, 16).astype(np.float32)}


def rows(n: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 8), np.float32), rng.standard_normal(n, np.float32)


def columns(n: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(n, np.float32) / np.float32(n) ** 0.5, rng.standard_normal((32, n), np.float32),
            np.sign(rng.standard_normal(32, np.float32)))


def one_graph(n: int) -> tuple[Any, ...]:
    """Return one graph of `n` nodes and three times as many edges between any two."""
    rng = np.random.default_rng(0)
    x, y = rows(n)
    return parameters(), x, rng.integers(0, n, 3 * n), rng.integers(0, n, 3 * n), y


def examples(n: int) -> list[Any]:
    """Return small graphs, which repeat after a thousand."""
    rng = np.random.default_rng(0)

    def drawn(nodes: int) -> Any:
        return Graph(x=rng.standard_normal((nodes, 8), np.float32), src=rng.integers(0, nodes, 2 * nodes),
                     dst=rng.integers(0, nodes, 2 * nodes), y=np.float32(1))

    distinct = [drawn(k) for k in rng.integers(2, 8, min(n, 1000))]
    return (distinct * -(-n // len(distinct)))[:n]


Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Curve:
    """A program at growing sizes.

    Attributes
    ----------
    title, unit : str
    sizes : sequence of int
    calls : callable
        ``calls(n)`` returns a call for each contestant, and the bytes that it reads and writes at least once.
    machine : str
        How the program reads memory: ``"in order"``, ``"rows in no order"``, or ``"objects"``.
    once : bool
        Whether a call is measured cold, once per round, as a compilation is.
    """

    title: str
    unit: str
    sizes: Sequence[int]
    calls: Callable[[int], tuple[Calls, int]]
    machine: str = "in order"
    once: bool = False


def programs(loss: Callable[..., Any], data: Callable[[int], tuple[Any, ...]]
             ) -> Callable[[int], tuple[Calls, int]]:
    """Return the calls of a loss on both backends, each one program for all sizes."""
    steps = {f"minigrad {b}": mg.compile(mg.value_and_grad(loss), backend=b) for b in BACKENDS}

    def calls(n: int) -> tuple[Calls, int]:
        args = data(n)
        nbytes = sum(x.nbytes for x in optree.tree_leaves(args)) + max(s.memory(*args) for s in steps.values())
        found = {name: partial(step, *args) for name, step in steps.items()}
        return {**found, ONE_THREAD: partial(on_one_thread, found[REFERENCE])}, nbytes

    return calls


def on_one_thread(call: Callable[[], Any]) -> Any:
    """Return the result of a call on one thread."""
    before = mg.get_num_threads()
    mg.set_num_threads(1)
    try:
        return call()
    finally:
        mg.set_num_threads(before)


def epochs(n: int) -> tuple[Calls, int]:
    """Return the calls of one epoch of a dataset in batches of 128."""
    p, data = parameters(), rows(n)
    loader = mg.DataLoader(data, batch_size=128, shuffle=True, seed=0)

    def epoch(step: Callable[..., Any] | None) -> None:
        for x, y in loader:
            if step is not None:
                step(p, x, y)

    mean = mg.mean_loss(network, in_axes=(None, 0, 0))
    calls = {f"minigrad {b}": partial(epoch, mg.compile(mg.value_and_grad(mean), backend=b)) for b in BACKENDS}
    return {**calls, "the loader alone": partial(epoch, None)}, sum(x.nbytes for x in data)


def packing(n: int) -> tuple[Calls, int]:
    """Return the call that packs examples."""
    given = examples(n)
    return {"mg.batch": partial(mg.batch, given)}, sum(x.nbytes for x in optree.tree_leaves(mg.batch(given)))


def building(n: int) -> tuple[Calls, int]:
    """Return the calls that trace a function, that differentiate its graph, and that compile the gradient."""
    f = operations(n)
    graph = mg.trace(f)(POINTS)
    calls: Calls = {"the trace": lambda: mg.trace(f)(POINTS),
                    "the gradient's graph": lambda: graph.value_and_grad("x")}
    if n <= 10_000:
        calls["the NumPy program"] = lambda: mg.compile(mg.value_and_grad(f), backend="numpy")(POINTS)
    return calls, n * bytes_of_an_operation()


@cache
def bytes_of_an_operation() -> int:
    """Return the memory of an operation in the graph of a function and that of its gradient."""
    n = 1_000
    tracemalloc.start()
    try:
        graph = mg.trace(operations(n))(POINTS)
        graph = graph.value_and_grad("x")
        return tracemalloc.get_traced_memory()[0] // n
    finally:
        tracemalloc.stop()


def curves() -> dict[str, Curve]:
    """Return all curves by name."""
    p, shared = parameters(), (None, 0)
    return {
        "batch": Curve("batch: network 8-16-1", "example", DECADES, programs(
            mg.mean_loss(network, in_axes=(None, 0, 0)), lambda n: (p, *rows(n)))),
        "features": Curve("features: logistic regression of 32 rows", "feature", DECADES, programs(
            mg.mean_loss(logistic, in_axes=(None, 0, 0)), columns)),
        "nodes": Curve("nodes of one graph, three edges each", "node", DECADES, programs(nodewise, one_graph),
                       "rows in no order"),
        "examples": Curve("examples of a ragged batch: graphs of 2 to 7 nodes", "example", DECADES, programs(
            mg.mean_loss(graphwise, in_axes=shared), lambda n: (p, mg.batch(examples(n))))),
        "packing": Curve("examples that mg.batch packs", "example", FROM_ONE, packing, "objects"),
        "operations": Curve("operations of a function: its trace", "operation", FROM_ONE, building, "objects",
                            True),
        "dataset": Curve("rows of a dataset: an epoch in batches of 128", "row", DECADES, epochs)}


# -- the machine ---------------------------------------------------------------------------------------------


def machine_call(kind: str, nbytes: int) -> Callable[[], Any]:
    """Return a call that reads `nbytes` as the program does."""
    if kind == "objects":  # lists of objects in no order, each a pointer away
        count = max(nbytes // 64, 10)
        things = [object() for _ in range(count)]
        order = np.random.default_rng(0).permutation(count).tolist()
        return lambda: [things[k] for k in order]
    if kind == "in order":
        x = np.ones(max(nbytes // 8, 1), np.float32)
        y = np.empty_like(x)
        return lambda: np.copyto(y, x)
    table = np.ones((max(nbytes // 128, 1), 16), np.float32)
    order, out = np.random.default_rng(0).integers(0, len(table), len(table)), np.empty_like(table)
    return lambda: np.take(table, order, axis=0, out=out, mode="clip")


def caches() -> dict[str, int]:
    """Return the bytes of each cache of the first core, by level."""
    found = {}
    for place in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (place / "type").read_text().strip() != "Instruction":
            found[f"L{(place / 'level').read_text().strip()}"] = 1024 * int((place / "size").read_text().strip()[:-1])
    return found


def level(nbytes: int, levels: Mapping[str, int]) -> str:
    """Return the smallest cache that holds some bytes."""
    return next((name for name, size in levels.items() if nbytes <= size), "memory")


# -- measuring -----------------------------------------------------------------------------------------------


def measure(curve: Curve, counters: Counters, quick: bool) -> list[harness.Case]:
    """Return the table of each size."""
    cases, levels = [], caches()
    for n in curve.sizes[:3] if quick else curve.sizes:
        calls, nbytes = curve.calls(n)
        own = list(calls)
        calls[MACHINE] = machine_call(curve.machine, nbytes or 64 * n)
        if curve.once:
            times, counts = _cold(calls, counters)
            slow = max(map(max, times.values()))
        else:
            slow = max(_seconds(call) for call in calls.values())
            times = harness.race(calls, 3 if quick or slow > 0.3 else 7, turn=0.02)
            counts = {name: counters.of(calls[name], max(1, round(0.02 / slow))) for name in own}
        case = harness.Case.of(f"{n:,}: {curve.title}", "ms", own[0], times)
        case.more = {"size": n, "unit": curve.unit, "bytes": nbytes, "held by": level(nbytes, levels),
                     "seconds of each round": dict(times), "counts of a call": counts}
        print(case, flush=True)
        cases.append(case)
        if slow > PATIENCE:
            break
    return cases


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cold(calls: Calls, counters: Counters) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Return the seconds of a few calls of each contestant in turn, and the counts of the last."""
    times = {name: [_seconds(call)] for name, call in calls.items()}
    slowest = max(first for (first,) in times.values())
    counts = {}
    for _ in range(min(max(round(ENOUGH / slowest), 2), 9) - 1):
        for name, call in calls.items():
            start = time.perf_counter()
            counts[name] = counters.of(call)
            times[name].append(time.perf_counter() - start)
    return times, counts


@dataclass(frozen=True)
class Line:
    """A contestant's ``a + b n``: the fixed seconds, those of a unit, and the slope in each round."""

    fixed: float
    each: float
    slopes: list[float]

    @classmethod
    def of(cls, sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> Line:
        """Fit medians by relative errors; the slope is that of the sizes at which the fixed cost is small."""
        n, t = np.array(sizes, float), np.array([np.median(s) for s in seconds])
        fit = np.linalg.lstsq(np.stack([1 / t, n / t], 1), np.ones(len(t)), rcond=None)[0]
        fixed, each = (float(max(v, 0.0)) for v in fit)
        large = fixed <= SMALL * each * n
        large[-2:] = True
        rounds = min(map(len, seconds))
        slopes = [float(np.polyfit(np.log(n[large]), np.log([s[k] for s, use in zip(seconds, large, strict=True)
                                                             if use]), 1)[0]) for k in range(rounds)]
        return cls(fixed, each, slopes)


def departures(cases: Sequence[harness.Case], name: str) -> list[dict[str, Any]]:
    """Return where the cost of a unit departs from the lowest, and why."""
    own = [case for case in cases if name in case.rows]
    cost = [case.median(name) / case.more["size"] for case in own]
    best = int(np.argmin(cost))
    line = Line.of([case.more["size"] for case in own], [case.more["seconds of each round"][name] for case in own])
    return [{"size": case.more["size"], "ns": 1e9 * cost[k], "over the lowest": cost[k] / cost[best],
             "reason": _reason(case, own[best], name, line.fixed if k < best else 0.0)}
            for k, case in enumerate(own) if cost[k] > DEPARTURE * cost[best]]


def _reason(case: harness.Case, best: harness.Case, name: str, fixed: float) -> str | None:
    """Return why a unit costs more than at the best size; None if the known reasons explain too little of it."""
    n, reasons = case.more["size"], []
    expected, cost = best.median(name) / best.more["size"], case.median(name) / n

    def explains(more: float, text: str) -> None:
        nonlocal expected
        if cost > DEPARTURE * expected and more > 0.1 * expected:
            expected += more
            reasons.append(text)

    explains(fixed / n, f"a fixed cost of {1e6 * fixed:.3g} µs")
    if name == REFERENCE and ONE_THREAD in case.rows:
        here, there = (harness.over(*(c.more["seconds of each round"][who] for who in (ONE_THREAD, name)))
                       for c in (case, best))
        explains(expected * (max(there, 1.0) / max(here, 1.0) - 1),
                 f"two threads are {here:.2f} times as fast as one, and {there:.2f} times at the best size")
    faults = case.more["counts of a call"][name].get("page faults", 0.0)
    explains(faults * FAULT / n, f"{faults:.0f} page faults")
    if MACHINE in case.rows and n > best.more["size"]:
        here, there = (c.median(MACHINE) / _bytes(c) for c in (case, best))
        explains(expected * (here / there - 1), f"{_bytes(case) / 1e6:.3g} MB, held by {case.more['held by']}: the "
                 f"machine itself takes {here / there:.2f} times as long for a byte")
    return "; ".join(reasons) if cost <= DEPARTURE * expected else None


def _bytes(case: harness.Case) -> float:
    """Return the bytes that the machine moves."""
    return float(case.more["bytes"] or 64 * case.more["size"])


def summary(curve: Curve, cases: Sequence[harness.Case]) -> dict[str, Any]:
    """Return each contestant's line and departures."""
    found: dict[str, Any] = {}
    for name in cases[-1].rows:
        if name == MACHINE:
            continue
        own = [case for case in cases if name in case.rows]
        line = Line.of([c.more["size"] for c in own], [c.more["seconds of each round"][name] for c in own])
        found[name] = {"fixed": line.fixed, "each": line.each, "unit": curve.unit,
                       "slope": harness.spread(line.slopes), "departures": departures(cases, name)}
    return found


def target(lines: Mapping[str, Mapping[str, Any]]) -> harness.Target:
    """Return the goal: a reason for each departure."""
    unknown = sum(d["reason"] is None for by_name in lines.values() for own in by_name.values()
                  for d in own["departures"])
    return harness.Target("departures from the lines without a reason", unknown, 0, at_least=False)


def run(quick: bool, names: Sequence[str] = ()) -> tuple[harness.Result, dict[str, Any]]:
    """Measure the curves; return the tables, and the line of each contestant by curve."""
    counters = Counters()  # before the pool's threads start
    cases, lines = [], {}
    for name, curve in curves().items():
        if names and name not in names:
            continue
        own = measure(curve, counters, quick)
        cases += own
        lines[curve.title] = summary(curve, own)
    notes = {"caches": caches(), "counters that the machine refuses": ", ".join(counters.absent) or "none"}
    counters.close()
    return harness.Result(cases, [target(lines)], notes), lines


def merged(old: Mapping[str, Any], result: harness.Result) -> tuple[harness.Result, dict[str, Any], list[Any]]:
    """Return a result with the curves of an older file that it lacks, all lines, and the conditions of older curves."""
    new = {case.title.partition(": ")[2] for case in result.cases}
    kept = [harness.Case(**case) for case in old["cases"] if case["title"].partition(": ")[2] not in new]
    cases, lines = [], {}
    for curve in curves().values():
        own = [case for case in [*kept, *result.cases] if case.title.partition(": ")[2] == curve.title]
        if own:
            cases += own
            lines[curve.title] = summary(curve, own)
    older = [title for title in lines if title not in new]
    return harness.Result(cases, [target(lines)], result.notes), lines, harness.earlier(old, older)


def main() -> None:
    """Measure all curves or some, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="curves; all without one")
    parser.add_argument("--quick", action="store_true", help="three sizes, fewer rounds, and no file written")
    args = parser.parse_args()
    os.environ["MINIGRAD_CACHE_DIR"] = ""  # no code of an earlier run
    path, before = harness.RESULTS / "scale.json", harness.Work.now()
    earlier: list[Any] = []
    result, lines = run(args.quick, args.names)
    others, wall = harness.Work.now().others_since(before)
    result.notes["cores busy with others' work meanwhile"] = round(others / wall, 2)
    if args.names and path.exists():
        result, lines, earlier = merged(json.loads(path.read_text()), result)
    print("\n".join(["== scale", *described(lines), *map(str, result.targets)]), flush=True)
    if not args.quick:
        path.write_text(harness.document("scale", result, {"lines": lines, "earlier": earlier}), encoding="utf-8")


def described(lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines in words."""
    text = []
    for title, by_name in lines.items():
        text.append(title)
        for name, own in by_name.items():
            slope = own["slope"]
            text.append(f"  {name}: {own['fixed'] * 1e6:.3g} µs and {own['each'] * 1e9:.3g} ns for each {own['unit']}, "
                        f"slope {slope['median']:.3f} ({slope['p10']:.3f} to {slope['p90']:.3f})")
            text += [f"    {d['size']:,}: {d['ns']:.3g} ns, {d['over the lowest']:.2f} times the lowest: "
                     f"{d['reason'] or 'NO REASON FOUND'}" for d in own["departures"]]
    return text


if __name__ == "__main__":
    main()

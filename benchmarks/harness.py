"""One way to measure: contestants take turns in one process, and are compared round by round.

In each round every contestant has one turn. A turn begins with a rest until the process is idle, because the threads
of a library that has just worked go on looking for more work for a while (OpenBLAS's for a tenth of a second) and would
take the next contestant's cores; then come calls that are not measured, but for the third, which the tables set beside
those back to back: training has data and logging between its steps. Ratios are taken within a round and then their
median is, so that a machine that is busy for a while slows both sides of a ratio. Rounds beside which other processes
worked do not count, because two threads that wait for each other lose far more than the share that others take.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
# Contestants that need one of these may be absent.
PEERS = frozenset({"jax", "jaxlib", "torch", "torch_geometric", "opacus", "backpack", "pytensor", "autograd", "numba",
                   "llvmlite"})
REST = 0.05  # seconds before the calls of a turn, at least
THIRD = "third call after a rest"
FEWEST = 5  # undisturbed rounds that are better than many disturbed ones
UNITS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "µs": (1e6, "µs"), "MB": (1e-6, "MB")}


def cores() -> int:
    """Return how many cores this process may use; every contestant has as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gather(makers: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Make the contestants; return those that are there, and why the others are not."""
    present, absent = {}, {}
    for name, make in makers.items():
        try:
            present[name] = make()
        except ModuleNotFoundError as error:
            if error.name not in PEERS:
                raise
            absent[name] = f"{error.name} is not installed"
    return present, absent


def cycle(call: Callable[[Any], Any], given: Sequence[Any]) -> Callable[[], Any]:
    """Return a call that takes one argument after the other, and begins again behind the last."""
    turn = itertools.cycle(given)
    return lambda: call(next(turn))


@dataclass(frozen=True)
class Work:
    """Seconds so far: on the clock, of the whole machine's processors, and of this process and its children."""

    wall: float
    machine: float
    own: float

    @classmethod
    def now(cls) -> Work:
        """Read the counters; where the system does not tell, all work counts as our own."""
        own = sum(os.times()[:4])
        stat = Path("/proc/stat")
        if not stat.exists():
            return cls(time.perf_counter(), own, own)
        user, nice, system, _idle, _waiting, *rest = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
        return cls(time.perf_counter(), (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK"), own)

    def others_since(self, before: Work) -> tuple[float, float]:
        """Return the seconds of other processes' work, and of the clock."""
        others = (self.machine - before.machine) - (self.own - before.own)
        return max(0.0, others), self.wall - before.wall


# -- measuring ---------------------------------------------------------------------------------------------


class Times(dict[str, list[float]]):
    """The seconds that one call takes, for each contestant and round.

    Attributes
    ----------
    third : dict of str to list of float
        The seconds of the third call after a rest, of contestants whose turns have as many calls before those measured.
    """

    def __init__(self, rounds: Sequence[Mapping[str, tuple[float, float | None]]]):
        super().__init__({name: [times[name][0] for times in rounds] for name in rounds[0]})
        self.third = {name: third for name in rounds[0]
                      if len(third := [t for times in rounds if (t := times[name][1]) is not None]) == len(rounds)}


def race(contestants: Mapping[str, Callable[[], Any]], rounds: int, turn: float = 0.04) -> Times:
    """Return the seconds that one call takes, for each contestant and round.

    Parameters
    ----------
    contestants : mapping of str to callable
        Each call does all its work before it returns.
    rounds : int
        As many again may be run, in place of those that other processes disturbed. These count only where hardly any
        others are left.
    turn : float
        Seconds of measured calls in one turn, about; at least one call.
    """
    calls = {name: warm_up(call, turn) for name, call in contestants.items()}
    order = list(contestants)
    calm: list[dict[str, tuple[float, float | None]]] = []
    disturbed: list[dict[str, tuple[float, float | None]]] = []
    gc.collect()
    gc.disable()
    try:
        while len(calm) < rounds and len(calm) + len(disturbed) < 2 * rounds:
            order.reverse()
            before = Work.now()
            times = {name: _turn(contestants[name], calls[name]) for name in order}
            others, wall = Work.now().others_since(before)
            (disturbed if others > 0.03 + 0.1 * wall else calm).append(times)
    finally:
        gc.enable()
    kept = calm if len(calm) >= min(rounds, FEWEST) else (calm + disturbed)[:rounds]
    return Times(kept)


def take_turn(call: Callable[[], Any], n: int) -> float:
    """Return the seconds per call, of `n` calls after a rest and as many that do not count."""
    return _turn(call, n)[0]


def _turn(call: Callable[[], Any], n: int) -> tuple[float, float | None]:
    """Return the seconds per call, of `n` calls after a rest and as many that do not count, and those of the third.

    It takes that long until threads that have just woken up have spread over the cores, and the data is in the caches.
    """
    _rest()
    third = None
    for k in range(n):
        start = time.perf_counter()
        call()
        if k == 2:
            third = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - start) / n, third


def _rest() -> None:
    """Sleep for `REST`, and then until no thread of this process works any more, for half a second at most."""
    time.sleep(REST)
    deadline = time.perf_counter() + 0.5
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(0.005)
        if time.process_time() - before < 0.0005:
            return


def warm_up(call: Callable[[], Any], turn: float) -> int:
    """Call until it no longer gets faster; return how many calls fill a turn."""
    best, since = float("inf"), 0
    deadline = time.perf_counter() + 20 * turn + 0.5
    while since < 5 and time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        best, since = (took, 0) if took < 0.97 * best else (min(best, took), since + 1)
    return max(1, round(turn / best))


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, 10th and 90th percentile, and the median absolute deviation."""
    v = np.asarray(list(values))
    median = float(np.median(v))
    return {"median": median, "p10": float(np.quantile(v, 0.1)), "p90": float(np.quantile(v, 0.9)),
            "mad": float(np.median(np.abs(v - median)))}


def over(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of each round's ratio.

    A ratio of medians compares different rounds: on a machine with two speeds, the median of one contestant may be a
    fast round, and that of the other a slow one.
    """
    return spread(np.divide(above, below))["median"]


# -- results -----------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One table: a measurement, its unit, and each contestant as a ratio to `reference`.

    A row may also have the `THIRD` call over those back to back, the seconds of ``compile`` (a spread), the bytes of
    ``peak``, and its part ``of the limit`` of the machine; `more` holds the numbers that the limit follows from.
    """

    title: str
    unit: str
    reference: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, title: str, unit: str, reference: str, values: Mapping[str, list[float]],
           absent: Mapping[str, str] | None = None) -> Case:
        """Make the case of `values`: for each contestant one number per round.

        Where the reference has none, the ratios are to the first contestant that has.
        """
        if reference not in values:
            reference = next(iter(values), reference)
        base = np.asarray(values.get(reference, ()))
        rows = {name: {**spread(v), "ratio": spread(np.asarray(v) / base), "rounds": len(v)}
                for name, v in values.items()}
        if isinstance(values, Times):
            for name, v in values.third.items():
                rows[name][THIRD] = over(v, values[name])
        return cls(title, unit, reference, rows, dict(absent or {}))

    def ratio(self, name: str) -> float:
        return self.rows[name]["ratio"]["median"]

    def median(self, name: str) -> float:
        return self.rows[name]["median"]

    def __str__(self) -> str:
        scale, unit = UNITS[self.unit]
        width = max(map(len, [*self.rows, *self.absent]))
        lines = [self.title, f"  {'':{width}}  {'median ' + unit:>11}  {'p10 to p90':>19}  of {self.reference}"]
        for name, row in self.rows.items():
            low, high = (f"{scale * row[p]:.4g}" for p in ("p10", "p90"))
            lines.append(f"  {name:{width}}  {scale * row['median']:11.4g}  {low + ' to ' + high:>19}  "
                         f"{row['ratio']['median']:.3f} ({row['ratio']['p10']:.3f} to {row['ratio']['p90']:.3f})"
                         f"{_besides(row)}")
        return "\n".join([*lines, *(f"  {name:{width}}  absent: {why}" for name, why in self.absent.items())])


def _besides(row: Mapping[str, Any]) -> str:
    """Return the other numbers of a row, as words."""
    words = []
    if THIRD in row:
        words.append(f"{row[THIRD]:.2f} × that in the third call after a rest")
    if "compile" in row:
        words.append(f"compiled in {row['compile']['median']:.3g} s")
    if row.get("peak") is not None:
        words.append(f"{row['peak'] / 1e6:.3g} MB")
    if "of the limit" in row:
        words.append(f"{100 * row['of the limit']:.2g} % of the limit")
    return "".join(f", {w}" for w in words)


@dataclass
class Target:
    """A figure that was promised; `value` is None where a contestant is absent."""

    text: str
    value: float | None
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        shown = "" if self.value is None else f": {self.value:.4g}"
        return f"  {word:6}  {self.text} ({'≥' if self.at_least else '≤'} {self.bound:g}){shown}"


@dataclass
class Result:
    """The tables, targets and notes of one benchmark."""

    cases: list[Case]
    targets: list[Target]
    notes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        notes = [f"  {name}: {value}" for name, value in self.notes.items()]
        return "\n".join([*map(str, self.cases), *notes, *map(str, self.targets)])


def conditions() -> dict[str, Any]:
    """Return the versions and the machine."""
    import importlib.metadata  # here, as a benchmark of first gradients waits for this module's imports

    versions = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "jax", "torch", "torch_geometric", "pytensor", "autograd", "numba",
                 "llvmlite"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if "minigrad" in sys.modules:
        versions["minigrad"] = sys.modules["minigrad"].__version__
    else:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions["minigrad"] = importlib.metadata.version("minigrad")
    from minigrad import blas  # here for the same reason

    versions["BLAS of NumPy"] = " ".join(blas.description().split())  # with the name of its kernels for this CPU
    return {"date": datetime.now(UTC).date().isoformat(), "versions": versions,
            "machine": {"cpu": _cpu(), "cores": cores(), "system": platform.system(), "arch": platform.machine()}}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def earlier(old: Mapping[str, Any], kept: Iterable[str]) -> list[dict[str, Any]]:
    """Return the conditions under which the rows that stay in a file were measured, each with their names.

    Rows that were measured under the conditions of now are left out.
    """
    keys, before = ("date", "versions", "machine"), old.get("earlier", [])
    known = {name for source in before for name in source["rows"]}
    latest = {**{key: old[key] for key in keys}, "rows": [name for name in kept if name not in known]}
    now, found = conditions(), []
    for source in (latest, *before):
        rows = [name for name in source["rows"] if name in kept]
        if rows and any(source[key] != now[key] for key in keys):
            found.append({**source, "rows": rows})
    return found


def document(name: str, result: Result, more: Mapping[str, Any] | None = None) -> str:
    """Return the text of ``results/NAME.json``."""
    return json.dumps({"benchmark": name, **conditions(), "cases": [asdict(c) for c in result.cases],
                       "targets": [{**asdict(t), "met": t.met} for t in result.targets], "notes": result.notes,
                       **(more or {})}, indent=1, ensure_ascii=False) + "\n"


def main(name: str, run: Callable[[bool], Result]) -> None:
    """Run one benchmark from the command line: print its tables and write ``results/NAME.json``."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no file written")
    quick = parser.parse_args().quick
    os.environ["MINIGRAD_CACHE_DIR"] = ""  # no code of an earlier run
    before = Work.now()
    result = run(quick)
    others, wall = Work.now().others_since(before)
    result.notes["cores busy with others' work meanwhile"] = round(others / wall, 2)
    print(f"== {name}\n{result}", flush=True)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(document(name, result), encoding="utf-8")

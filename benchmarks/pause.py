"""Calls after a pause: the first ones after a rest beside calls back to back, as training has between its steps.

Each library works in a process of its own, which calls when this one says so; the others sleep then. A turn begins when
the threads of the contestant before have gone to sleep. Situations: alone; beside a process that keeps one core busy;
bound to one core, where a program of several threads should take no longer than one of one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import harness
from .peers import contestants, elementwise, mlp, table

PROGRAMS: dict[str, tuple[str, contestants.Program, Callable[[], contestants.Args]]] = {
    "mlp": ("784-512-256-10, batch 128", mlp.PROGRAM, partial(mlp.data, (784, 512, 256, 10), 128)),
    "elementwise": ("elementwise, 1,000,000 examples", elementwise.PROGRAM, partial(elementwise.data, 1_000_000))}
OURS, ONE_THREAD, PEERS = "minigrad native", "minigrad native, one thread", ("JAX jit", "torch eager")
RESTS = (0.01, 0.05, 0.1)
CALLS = (1, 3, 8)  # the calls after a rest that the tables have
BACK_TO_BACK = "back to back"
HOT = 20  # calls back to back that are measured, after as many that are not
SETTLE = 0.2  # seconds in which threads stop looking for work
CHILD = "import sys; from benchmarks import pause; pause.child(*sys.argv[1:])"


# -- one contestant ----------------------------------------------------------------------------------------


def child(program: str, name: str) -> None:
    """Answer each order ``[rest, calls]``: sleep, call, and tell the seconds of each call.

    An answer also has the processor time from the end of the calls before until the first call, and that on the clock.
    """
    if name == ONE_THREAD:
        os.environ["MINIGRAD_NUM_THREADS"] = "1"
    _, loss, data = PROGRAMS[program]
    made, args = contestants.maker(loss, name.partition(",")[0])(), data()
    own = made.put(args)
    step = made.build(own)
    off = table.disagreement(table.numbers(step(*own)), table.exact(loss, args))
    assert off < table.TOLERANCE, f"{name} is wrong by {off:.2g}"
    print(json.dumps("ready"), flush=True)
    worked, ended = time.process_time(), time.perf_counter()
    for order in sys.stdin:
        rest, calls = json.loads(order)
        time.sleep(rest)
        idle = time.process_time() - worked, time.perf_counter() - ended
        stamps = [time.perf_counter()]
        for _ in range(calls):
            step(*own)
            stamps.append(time.perf_counter())
        worked, ended = time.process_time(), time.perf_counter()
        print(json.dumps([np.diff(stamps).tolist(), idle]), flush=True)


class Contestant:
    """A contestant in a process of its own, bound to one core if there is a number."""

    def __init__(self, program: str, name: str, cpu: int | None = None):
        cores = str(harness.cores() if cpu is None else 1)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "JAX_PLATFORMS": "cpu",
                       "OMP_NUM_THREADS": cores, "OPENBLAS_NUM_THREADS": cores}
        before = os.sched_getaffinity(0)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})  # the child inherits it
        try:
            self.process = subprocess.Popen([sys.executable, "-c", CHILD, program, name], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, env=environment)
        finally:
            os.sched_setaffinity(0, before)

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def order(self, rest: float, calls: int) -> tuple[list[float], tuple[float, float]]:
        """Return the seconds of each call after a rest, and the idle time before: of processors, and on the clock."""
        assert self.process.stdin
        print(json.dumps([rest, calls]), file=self.process.stdin, flush=True)
        times, idle = self.answer()
        return times, idle

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


# -- measuring ---------------------------------------------------------------------------------------------


@dataclass
class Life:
    """The figures of one start of all contestants: the times by contestant and column, and the share of idle work."""

    times: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)

    def turn(self, name: str, contestant: Contestant) -> None:
        """Measure a contestant back to back and after each rest."""
        time.sleep(SETTLE)
        times, (work, wall) = contestant.order(0, 2 * HOT)
        self.idle.setdefault(name, []).append(work / wall)  # since the turn before
        self.times.setdefault((name, BACK_TO_BACK), []).append(float(np.median(times[HOT:])))
        for rest in RESTS:
            times, _ = contestant.order(rest, max(CALLS))
            for k in CALLS:
                self.times.setdefault((name, after(k, rest)), []).append(times[k - 1])


def after(call: int, rest: float) -> str:
    return f"call {call} after {1e3 * rest:.0f} ms"


def situation(program: str, names: Sequence[str], lives: int, rounds: int, cpu: int | None = None) -> Life:
    """Return the measurements of one program; where threads happen to be placed is drawn anew in each life."""
    found = Life()
    for _ in range(lives):
        made = {name: Contestant(program, name, cpu) for name in names}
        for contestant in made.values():
            assert contestant.answer() == "ready"
        order = list(made)
        for _ in range(rounds):
            order.reverse()
            for name in order:
                found.turn(name, made[name])
        for contestant in made.values():
            contestant.end()
    return found


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def case(title: str, found: Life) -> harness.Case:
    """Return the table of one situation, in terms of minigrad's calls back to back."""
    by_name = sorted(found.times.items(), key=lambda item: item[0][0])  # the columns in their order
    times = {f"{name}, {column}": seconds for (name, column), seconds in by_name}
    return harness.Case.of(title, "ms", f"{OURS}, {BACK_TO_BACK}", times)


def over(found: Life, above: tuple[str, str], below: tuple[str, str]) -> float | None:
    """Return the median of each round's ratio; None where a contestant is absent."""
    if not {above, below} <= found.times.keys():
        return None
    return harness.over(found.times[above], found.times[below])


def run(quick: bool) -> harness.Result:
    """Measure the programs alone, beside a busy process, and on one core."""
    present, absent = harness.gather({name: partial(_importable, name) for name in (OURS, *PEERS)})
    lives, rounds = (1, 1) if quick else (3, 3)
    cases, targets, notes = [], [], {}
    for program in ("elementwise",) if quick else PROGRAMS:
        title = PROGRAMS[program][0]
        alone = situation(program, tuple(present), lives, rounds)
        with busy_process():
            beside = situation(program, tuple(present), lives, rounds)
        bound = situation(program, (OURS, ONE_THREAD), lives, rounds, min(os.sched_getaffinity(0)))
        cases += [case(title, alone), case(f"{title}, beside a busy process", beside),
                  case(f"{title}, on one core", bound)]
        for rest in RESTS[1:]:
            third = after(3, rest)
            targets.append(harness.Target(f"{title}: {third} over back to back",
                                          over(alone, (OURS, third), (OURS, BACK_TO_BACK)), 1.1, at_least=False))
            targets += [harness.Target(f"{title}{where}: {third}, torch's time over ours",
                                       over(found, ("torch eager", third), (OURS, third)), 1)
                        for where, found in (("", alone), (", beside a busy process", beside))]
        targets.append(harness.Target(f"{title}, on one core: the time over one thread's",
                                      over(bound, (OURS, BACK_TO_BACK), (ONE_THREAD, BACK_TO_BACK)), 1.05,
                                      at_least=False))
        notes |= {f"{title}: processor time while idle, {name}": f"{100 * np.median(shares):.3f} % of a core"
                  for name, shares in alone.idle.items()}
    for each in cases:
        each.absent |= absent
    return harness.Result(cases, targets, notes)


def _importable(name: str) -> None:
    """Import a contestant's library; the error says that it is missing."""
    __import__({OURS: "llvmlite", "JAX jit": "jax", "torch eager": "torch"}[name])


if __name__ == "__main__":
    harness.main("pause", run)

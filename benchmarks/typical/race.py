"""Typical programs beside JAX and PyTorch: each in a process of its own, back to back and after a rest.

The processes of a program start together, compile, and then take turns while the others sleep. The limit is a time
below which no program can stay on this machine: its arguments and results at the bandwidth of a copy of that size, or
the arithmetic of minigrad's optimized graph at the rate of the fastest large product.

``python -m benchmarks.typical.race [--only NAME ...] [--quick]``; `--only` renews these programs in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import harness
from ..peers.limits import Work
from ..peers.table import disagreement
from .libraries import LIBRARIES
from .programs import PROGRAMS, REASONS
from .steps import steps

NAME = "typical.race"
REFERENCE = "minigrad"
TURN = 0.03  # seconds of measured calls
REST = 0.05
RESTS = 5  # in each round
CHILD = "import sys; from benchmarks.typical import race; race.child(*sys.argv[1:])"
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}  # of the largest number of each array
FARTHEST = 6  # programs with a note on the reason
MEAN = 2.0  # the goal for the geometric mean of the peers' times over ours


# -- the process of one library ----------------------------------------------------------------------------


def child(program: str, library: str, results: str) -> None:
    """Compile the program, write its results to a file, and take a turn for each line of the standard input."""
    import optree

    made, lib = PROGRAMS[program], LIBRARIES[library]()
    args = lib.put(made.args())
    start = time.perf_counter()
    step = lib.compile(made.step(lib))
    value = step(*args)
    first = time.perf_counter() - start
    arrays = [np.asarray(leaf) for leaf in optree.tree_leaves(value)]
    np.savez(results, *arrays)

    def call() -> None:
        step(*args)

    n = harness.warm_up(call, TURN)
    answer: dict[str, Any] = {"first": first, "nbytes": sum(a.nbytes for a in arrays)}
    if library == REFERENCE:
        from minigrad.report.flops import count_operations

        answer["operations"] = count_operations(step.graph)  # type: ignore[attr-defined]
    while True:
        print(json.dumps({**answer, "own": time.process_time()}), flush=True)
        if not sys.stdin.readline():
            return
        rested = np.median([_rested(call) for _ in range(RESTS)])
        answer = {"seconds": harness.take_turn(call, n), "rested": float(rested)}
        if library == REFERENCE:
            answer["steps"] = steps(step, args)


def _rested(call: Any) -> float:
    """Return the seconds of the third call after a rest."""
    time.sleep(REST)
    call()
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# -- turns -------------------------------------------------------------------------------------------------


class Process:
    """A process that runs one program in one library."""

    def __init__(self, program: str, library: str, folder: str) -> None:
        self.results = Path(folder) / f"{library}.npz"
        root = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, program, library, str(self.results)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root, "MINIGRAD_CACHE_DIR": ""})
        self.own = 0.0

    def answer(self) -> dict[str, Any] | None:
        """Wait for the next answer; None where the process has ended, because its library is absent or fails."""
        line = _pipe(self._process.stdout).readline()
        answer = json.loads(line) if line else None
        if answer:
            self.own = answer["own"]
        return answer

    def turn(self) -> dict[str, Any]:
        """Let the process take one turn; the answer also has the seconds of ``work`` of its threads."""
        before, pipe = self.own, _pipe(self._process.stdin)
        pipe.write("\n")
        pipe.flush()
        answer = self.answer()
        assert answer, "a process ended between two turns"
        return {**answer, "work": self.own - before}

    def end(self) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait()
        _pipe(self._process.stdout).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def processes(program: str) -> Iterator[tuple[dict[str, Process], dict[str, dict[str, Any]]]]:
    """Start a process for each library; yield those whose results are there and agree, and their first answers."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        started = {library: Process(program, library, folder) for library in LIBRARIES}
        for process in started.values():
            stack.callback(process.end)
        answers = {library: process.answer() for library, process in started.items()}
        present = {library: answer for library, answer in answers.items() if answer}
        assert REFERENCE in present, f"{program}: minigrad has no result"
        want = _numbers(started[REFERENCE].results)
        tolerance = TOLERANCE[min(str(a.dtype) for a in want)]
        for library in present:
            off = disagreement(_numbers(started[library].results), want)
            assert off < tolerance, f"{program}: {library} and minigrad differ by {off:.2g}"
        yield {library: started[library] for library in present}, present


def _numbers(results: Path) -> list[np.ndarray]:
    with np.load(results) as arrays:
        return list(arrays.values())


def measure(program: str, quick: bool) -> harness.Case:
    """Return the table of one program; rounds beside which other processes worked count only where few others are."""
    made = PROGRAMS[program]
    calm: list[dict[str, Any]] = []
    disturbed: list[dict[str, Any]] = []
    rounds = 2 if quick else 7
    with processes(program) as (running, first):
        order = list(running)
        while len(calm) < rounds and len(calm) + len(disturbed) < 2 * rounds:
            order.reverse()
            before = harness.Work.now()
            turns = {library: running[library].turn() for library in order}
            others, wall = harness.Work.now().others_since(before)
            others -= sum(t["work"] for t in turns.values())
            (disturbed if others > 0.03 + 0.1 * wall else calm).append(turns)
    kept = calm if len(calm) >= min(rounds, harness.FEWEST) else (calm + disturbed)[:rounds]
    missing = dict.fromkeys(set(LIBRARIES) - set(running), "not installed, or without a result")
    case = harness.Case.of(made.title, "ms", REFERENCE, {
        library: [turns[library]["seconds"] for turns in kept] for library in LIBRARIES if library in running}, missing)
    limit = _work(program, first).limit()
    own = min((turns[REFERENCE]["steps"] for turns in kept), key=lambda found: sum(step[1] for step in found or ()))
    case.more = {"program": program, "limit": limit, "calm rounds": len(calm), "steps": own}
    for library, row in case.rows.items():
        rested = np.array([turns[library]["rested"] for turns in kept])
        row["rested"] = harness.spread(rested)
        row["rested ratio"] = harness.spread(rested / [turns[REFERENCE]["rested"] for turns in kept])
        row["first"] = first[library]["first"]
        row["of the limit"] = limit["seconds"] / row["median"]
    return case


def _work(program: str, first: dict[str, dict[str, Any]]) -> Work:
    import optree

    leaves = optree.tree_leaves(PROGRAMS[program].args())
    own = first[REFERENCE]
    dtype = "float64" if any(x.dtype == np.float64 for x in leaves) else "float32"
    return Work(sum(x.nbytes for x in leaves) + own["nbytes"], own["operations"], dtype)


# -- goals -------------------------------------------------------------------------------------------------


def goals(cases: list[harness.Case]) -> list[harness.Target]:
    """Return the goals: no peer is faster on any program, and the geometric means."""
    targets = []
    for field, when in (("ratio", "back to back"), ("rested ratio", "after a rest")):
        for peer in LIBRARIES:
            ratios = {c.title: c.rows[peer][field]["median"] for c in cases if peer in c.rows and peer != REFERENCE}
            if ratios:
                mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
                targets.append(harness.Target(f"{peer}, {when}: geometric mean of its times over ours", mean, MEAN))
                worst = min(ratios, key=ratios.__getitem__)
                targets.append(harness.Target(f"{peer}, {when}: smallest of them ({worst})", ratios[worst], 1.0))
    return targets


def reasons(cases: list[harness.Case]) -> dict[str, str]:
    """Return notes on the programs farthest from their limits: their machine code, and why it takes as long."""
    shares = {c.more["program"]: c.rows[REFERENCE]["of the limit"] for c in cases}
    return {c.title: _reason(c) for c in sorted(cases, key=lambda c: shares[c.more["program"]])[:FARTHEST]}


def _reason(case: harness.Case) -> str:
    ours = case.rows[REFERENCE]
    text = f"{100 * ours['of the limit']:.2g} % of the limit in {1e6 * ours['median']:.4g} µs."
    if found := case.more.get("steps"):
        operations, longest = max(found, key=lambda step: step[1])
        text += (f" Machine code takes {1e6 * sum(seconds for _, seconds in found):.4g} µs, "
                 f"its longest step {1e6 * longest:.4g} µs ({operations}).")
    return " ".join(filter(None, [text, REASONS.get(case.more["program"])]))


def line(case: harness.Case) -> str:
    """Return the case in one line."""
    ours = case.rows[REFERENCE]
    words = [f"{case.more['program']:22} {1e3 * ours['median']:9.4g} ms, {1e3 * ours['rested']['median']:9.4g} rested"]
    words += [f"{name} {row['ratio']['median']:7.3g} {row['rested ratio']['median']:7.3g}"
              for name, row in case.rows.items() if name != REFERENCE]
    return "  ".join([*words, f"{100 * ours['of the limit']:5.2g} % of the limit"])


def main() -> None:
    """Measure the programs, print a line for each, and write the file."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no file written")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, metavar="NAME", help=f"of {', '.join(PROGRAMS)}")
    options = parser.parse_args()
    path = harness.RESULTS / f"{NAME}.json"
    old = json.loads(path.read_text()) if options.only and path.exists() else {"cases": []}
    cases = {c["more"]["program"]: harness.Case(**c) for c in old["cases"]}
    kept = list(cases)
    for program in options.only or PROGRAMS:
        cases[program] = measure(program, options.quick)
        kept = [name for name in kept if name != program]
        print(line(cases[program]), flush=True)
        if not options.quick:
            known = [cases[name] for name in PROGRAMS if name in cases]
            result = harness.Result(known, goals(known), reasons(known))
            more = {"earlier": harness.earlier(old, kept) if kept else []}
            path.write_text(harness.document(NAME, result, more), encoding="utf-8")
    print(*goals(list(cases.values())), sep="\n")


if __name__ == "__main__":
    main()

"""One table: every contestant's time, compile time, peak memory and share of the machine's limit, once they agree."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import harness
from .contestants import Args, Contestant, Program, Step, makers
from .limits import Work

TOLERANCE = 1e-3  # of the largest number in each leaf, float32 beside float64
SLOW_TO_COMPILE = frozenset({"torch.compile", "PyTensor", "numba by hand"})  # compiled once
COMPILES = 3  # of each of the others
NOT_QUICK = "left out of a quick run: slow to compile"
SECONDS = 5.0  # of measured turns that one table may take, about
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def numbers(result: Any) -> list[np.ndarray]:
    """Return a contestant's result as a list of arrays."""
    import optree

    return [np.asarray(leaf, np.float64) for leaf in optree.tree_leaves(result)]


def disagreement(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    """Return the largest difference, relative to the largest number in each array; inf where shapes differ."""
    if [a.shape for a in left] != [b.shape for b in right]:
        return float("inf")
    return max(float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)) for a, b in zip(left, right, strict=True))


def exact(program: Program, args: Args) -> list[np.ndarray]:
    """Return value and gradient in float64, which every contestant has to come near."""
    import optree

    wide = optree.tree_map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, args)
    return numbers(makers(program)["minigrad numpy"]().build(wide)(*wide))


def measure(title: str, contestants: Mapping[str, Callable[[], Contestant]], args: Args, want: list[np.ndarray],
            work: Work, quick: bool, refused: Mapping[str, str] | None = None, size: int | None = None) -> harness.Case:
    """Return one table.

    Parameters
    ----------
    title : str
    contestants : mapping of str to callable
        How to make each; those whose name begins with "minigrad" have to be there, and the last of them is the
        reference of all ratios. The others are absent, with the reason, where they cannot run.
    args : tuple
        NumPy arrays: the parameters, then the examples.
    want : list of ndarray
        The right result.
    work : Work
        The least work of the program.
    quick : bool
        Fewer rounds, and without contestants that take long to compile.
    refused : mapping of str to str, optional
        Contestants that are not made, and why.
    size : int, optional
        Where the table stands on a growth curve.
    """
    absent = dict(refused or {})
    wanted = {name: make for name, make in contestants.items() if name not in absent}
    if quick:
        absent |= dict.fromkeys(SLOW_TO_COMPILE & set(wanted), NOT_QUICK)
    made, missing = harness.gather({name: make for name, make in wanted.items() if name not in absent})
    absent |= missing
    calls, compiled, steps = {}, {}, {}
    for name, contestant in made.items():
        own = contestant.put(args)
        try:
            step, first = _first_call(contestant, own, want, name)
        except Exception as error:
            if name.startswith("minigrad") or isinstance(error, AssertionError):
                raise
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
            continue
        compiled[name], steps[name], calls[name] = [first], (step, own), partial(step, *own)
    reference = [name for name in calls if name.startswith("minigrad")][-1]
    times = harness.race(calls, _rounds(calls, quick), 0.01 if quick else 0.04)
    case = harness.Case.of(title, "ms", reference, times, absent)
    limit = work.limit()
    case.more = {"size": size, "limit": limit}
    for name, seconds in _compile_seconds(made, steps, compiled, want, quick).items():
        beside = [max(0.0, t - case.median(name)) for t in seconds]
        case.rows[name]["compile"] = {**harness.spread(beside), "of each round": beside}
    for name, row in case.rows.items():
        contestant, (step, own) = made[name], steps[name]
        row["peak"] = peak_bytes(contestant, step, own)
        row["of the limit"] = limit["seconds"] / row["median"]
    return case


def _first_call(contestant: Contestant, own: Args, want: list[np.ndarray], name: str) -> tuple[Step, float]:
    """Return a fresh step and the seconds until it has given its first result, which has to be right."""
    start = time.perf_counter()
    step = contestant.build(own)
    result = step(*own)
    took = time.perf_counter() - start
    off = disagreement(numbers(result), want)
    assert off < TOLERANCE, f"{name} is wrong by {off:.2g}"
    return step, took


def _compile_seconds(made: Mapping[str, Contestant], steps: Mapping[str, tuple[Step, Args]],
                     compiled: dict[str, list[float]], want: list[np.ndarray], quick: bool) -> dict[str, list[float]]:
    """Return the seconds of first calls, in turns; those in `compiled` stand for contestants that compile slowly."""
    found = {name: seconds for name, seconds in compiled.items() if made[name].compiles}
    again = [] if quick else [name for name in found if name not in SLOW_TO_COMPILE]
    rounds = [{name: _first_call(made[name], steps[name][1], want, name)[1] for name in again} for _ in range(COMPILES)]
    return found | {name: [taken[name] for taken in rounds] for name in again}


def _rounds(calls: Mapping[str, Callable[[], Any]], quick: bool) -> int:
    """Return how many rounds fill the time that a table may take; each has two calls or more of every contestant."""
    if quick:
        return 3
    start = time.perf_counter()
    for call in calls.values():
        call()
    one = 2 * (time.perf_counter() - start) + 0.1 * len(calls)
    return int(np.clip(SECONDS / one, harness.FEWEST, 15))


# -- memory ------------------------------------------------------------------------------------------------


def peak_bytes(contestant: Contestant, step: Step, own: Args) -> float | None:
    """Return by how much the process grows at most while a step runs, its arguments aside; None where none can tell.

    That is the system's count of pages, which most libraries are in: results, temporaries, and the working memory that
    a step keeps. It is good to about a megabyte. A contestant that keeps its memory out of sight tells itself.
    """
    if contestant.peak:
        return contestant.peak(own)
    if not CLEAR.exists():
        return None
    if contestant.keeps:  # a fresh one, whose memory is not there yet, made for a batch of one
        step = contestant.build(own)
        step(own[0], *(x[:1] for x in own[1:]))
    before = _resident("VmRSS")
    step(*own)
    _resident("VmRSS")
    CLEAR.write_text("5")  # the peak starts again
    step(*own)
    return max(0.0, _resident("VmHWM", trim=False) - before)


def _resident(field: str, trim: bool = True) -> float:
    """Return a field of the process's status in bytes; the allocator's free memory is given back first."""
    if trim:
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024.0 * int(line.split()[1])


# -- goals -------------------------------------------------------------------------------------------------


def faster(case: harness.Case, peer: str, bound: float, what: str) -> harness.Target:
    """Return the goal that a peer takes at least `bound` times as long as minigrad."""
    value = case.ratio(peer) if peer in case.rows else None
    return harness.Target(f"{what}: {peer}'s time over ours", value, bound)


def compiles_sooner(case: harness.Case, what: str) -> harness.Target:
    """Return the goal that minigrad compiles in at most half of JAX's time."""
    value = None
    if "JAX jit" in case.rows:
        value = harness.over(*(case.rows[name]["compile"]["of each round"] for name in (case.reference, "JAX jit")))
    return harness.Target(f"{what}: our compile time over JAX's", value, 0.5, at_least=False)

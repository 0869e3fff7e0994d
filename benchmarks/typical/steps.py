"""The steps of a typical program's machine code, each timed by itself: ``python -m benchmarks.typical.steps NAME ...``.

The rest of a call is Python: flattening of arguments, look-up of the program, new arrays for the results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from minigrad.backends.native.bound_program import BoundProgram
from minigrad.backends.native.plan.launch_plan import ARENA

from .libraries import LIBRARIES
from .programs import PROGRAMS

CALLS = 30  # the fastest counts


def fastest(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def steps(step: Any, args: tuple[Any, ...]) -> list[tuple[str, float]] | None:
    """Return the operations and the seconds of each native step of a compiled function.

    None if Python runs some steps, or all.
    """
    program = step.entries[-1].program
    (pool,) = program._pools.values()
    bound = pool[-1]
    if not isinstance(bound, BoundProgram) or len(bound.stretches) > 1:
        return None
    arrays: list[tuple[Any, ...]] = []
    whole = bound.run_steps

    def run_steps(*call: Any) -> None:
        arrays.append(call[3])
        whole(*call)

    bound.run_steps = run_steps
    step(*args)
    bound.run_steps = whole
    arena = bound.arena or bound.arenas.borrow(bound.layout.total)
    bound.bases[ARENA] = arena.address
    (address, count), (in_out,) = bound.table_range, arrays
    whole(address, count, bound.bases_address, in_out, 2, len(in_out))
    found, begin = [], 0
    nothing = fastest(lambda: whole(address, 0, bound.bases_address, (), 0, 0))
    for group, end in zip(program.plan.steps, bound._step_ends, strict=True):
        if end > begin:
            place, n = address + 16 * begin, end - begin
            seconds = fastest(lambda place=place, n=n: whole(place, n, bound.bases_address, (), 0, 0)) - nothing
            found.append((", ".join(node.prim.name for node in group.group.nodes), max(seconds, 0.0)))
        begin = end
    if arena is not bound.arena:
        bound.arenas.give_back(arena)
    return found


def main() -> None:
    """Print the steps of some programs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.typical.steps")
    parser.add_argument("names", nargs="+", choices=PROGRAMS, metavar="NAME", help=f"of {', '.join(PROGRAMS)}")
    library = LIBRARIES["minigrad"]()
    for name in parser.parse_args().names:
        made = PROGRAMS[name]
        args = library.put(made.args())
        step = library.compile(made.step(library))
        step(*args)
        print(f"{made.title}: {1e6 * fastest(lambda step=step, args=args: step(*args)):.1f} µs")
        for operations, seconds in steps(step, args) or []:
            print(f"  {1e6 * seconds:9.2f} µs  {operations}")


if __name__ == "__main__":
    main()

"""Hunt for wrong numbers: ``python -m tests.hunt --minutes 10 --seed 1``."""

from __future__ import annotations

import argparse
import collections
import sys
import time

from .run import Found, hunt


def main() -> int:
    """Run the hunt and print what it finds; return the number of programs with a wrong answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.hunt", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to hunt")
    parser.add_argument("--programs", type=int, help="stop after this many programs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--only", action="append", metavar="ORACLE", help="an oracle to ask; all without it")
    parser.add_argument("--most", type=int, default=20, help="stop after this many failures")
    args = parser.parse_args()
    began = time.perf_counter()
    until = began + 60 * args.minutes
    tally: collections.Counter[tuple[str, str]] = collections.Counter()
    refusals: collections.Counter[str] = collections.Counter()
    failures, number = 0, args.first
    while time.perf_counter() < until and failures < args.most and number - args.first != args.programs:
        for found in hunt(args.seed, number, args.only):
            tally[found.oracle, found.verdict] += 1
            if found.verdict == "refused":
                refusals[found.text.split("\n")[0][:100]] += 1
            elif found.verdict == "WRONG":
                failures += 1
                _print(found, args.seed, number)
        number += 1
    seconds = time.perf_counter() - began
    count = number - args.first
    print(f"{count} programs in {seconds:.0f} s, {60 * count / seconds:.0f} per minute, seed {args.seed}")
    for oracle in sorted({o for o, _ in tally}):
        counts = ((tally[oracle, verdict], verdict) for verdict in ("ok", "refused", "WRONG"))
        print(f"  {oracle:24}" + ", ".join(f"{n} {verdict}" for n, verdict in counts if n))
    print("refused most often:", *(f"  {n:5} {text}" for text, n in refusals.most_common(8)), sep="\n")
    return failures


def _print(found: Found, seed: int, number: int) -> None:
    print(f"== seed {seed}, program {number}, {found.oracle}: {found.text}\n    {found.case}\n"
          f"   again: python -m tests.hunt --seed {seed} --first {number} --programs 1 "
          f"--only '{found.oracle}'", flush=True)


if __name__ == "__main__":
    sys.exit(min(main(), 100))

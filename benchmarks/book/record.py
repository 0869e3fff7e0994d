"""Time on a shared machine, and the file of a measurement."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import harness

FOLDER = harness.RESULTS / "book"
METHOD = ("seconds of the thread's own processor time (time.thread_time), which other processes do not add to; "
          "contestants take turns, one thread each, medians of the rounds with the 10th and 90th percentile")


def thread_times(contestants: Mapping[str, Callable[[], Any]], rounds: int, turn: float = 0.02
                 ) -> dict[str, dict[str, float]]:
    """Return the spread of the processor seconds of one call, for each contestant."""
    repeats = {name: _repeats(call, turn) for name, call in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds):
        order.reverse()
        for name in order:
            start = time.thread_time()
            for _ in range(repeats[name]):
                contestants[name]()
            seconds[name].append((time.thread_time() - start) / repeats[name])
    return {name: harness.spread(s) for name, s in seconds.items()}


def _repeats(call: Callable[[], Any], turn: float) -> int:
    """Return the number of calls that fill a turn, after calls that warm caches up."""
    took = []
    for _ in range(3):
        start = time.thread_time()
        call()
        took.append(time.thread_time() - start)
    return max(1, round(turn / max(min(took), 1e-7)))


def main(name: str, run: Callable[[bool], dict[str, Any]]) -> None:
    """Run a measurement from the command line, and write ``results/book/NAME.json``."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.book.{name}")
    parser.add_argument("--quick", action="store_true", help="a small part, and no file written")
    quick = parser.parse_args().quick
    before = harness.Work.now()
    found = run(quick)
    others, wall = harness.Work.now().others_since(before)
    found = {"benchmark": f"book.{name}", **harness.conditions(), "method": METHOD,
             "cores busy with others' work meanwhile": round(others / wall, 2), "seconds": round(wall, 1), **found}
    if quick:
        print(f"book.{name}: {wall:.1f} s")
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda flat: " ".join(flat.group().split()),  # innermost on one line
                      json.dumps(rounded(found), indent=1, ensure_ascii=False))
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"book.{name}: wrote {FOLDER / name}.json in {wall:.0f} s")


def rounded(value: Any) -> Any:
    """Return JSON values with floats of five digits; numbers that are not finite become None."""
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value

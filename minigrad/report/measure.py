"""The rows of a report: each way is built, run, timed in turns with the others, and weighed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .flops import count_nodes
from .report import Point, Row
from .variants import Way, difference, in_turns, median_time


def table(ways: dict[str, Way], repeats: int, note: Callable[[Way], str], advance: Callable[[str], None]
          ) -> tuple[tuple[Row, ...], float]:
    """Return a row for each way, compared with ``ways["loop"]``, and the round-off of the gradient's dtype.

    A way that is to run on fewer examples than the loop is compared with the loop on the same.
    """
    built, results, peaks = {}, {}, {}
    for title, way in ways.items():
        advance(f"{title}: build and first run")
        built[title] = way.build(way.size)
        results[title] = way.call(way.size)
    loop = ways["loop"]
    short = min(way.size for way in ways.values())
    turns = {title: (way, way.size) for title, way in ways.items()}
    again = "the loop on the same"  # examples as the shorter way has
    if short != loop.size:
        turns[again] = loop, short
    seconds = in_turns(turns, repeats, advance)
    for title, way in ways.items():
        advance(f"{title}: memory")
        peaks[title] = way.peak_bytes(way.size)
    middle = {title: float(np.median(s)) for title, s in seconds.items()}
    reference = {loop.size: (results["loop"][1], middle["loop"])}
    if again in turns:
        reference[short] = loop.call(short)[1], middle[again]
    rows = []
    for title, way in ways.items():
        (value, gradient), (wanted, loop_time) = results[title], reference[way.size]
        rows.append(Row(title, way.size, value, difference(gradient, wanted), tuple(seconds[title]),
                        loop_time / middle[title], peaks[title], count_nodes(way.compiled.graph),
                        way.operations(way.size), built[title], note(way)))
    dtype = np.result_type(*(g.dtype for g in results["loop"][1]))
    return tuple(rows), float(np.finfo(dtype).eps)


def growth(ways: dict[str, Way], sizes: list[int], advance: Callable[[str], None]) -> dict[str, tuple[Point, ...]]:
    """Return time and memory of each way at each number of examples."""
    curves: dict[str, list[Point]] = {title: [] for title in ways}
    for n in sizes:
        advance(f"batch of {n}")
        for title, way in ways.items():
            curves[title].append(Point(n, median_time(way, n), way.peak_bytes(n)))
    return {title: tuple(points) for title, points in curves.items()}

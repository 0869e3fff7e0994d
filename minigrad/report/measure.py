"""The rows and curves of a report: time, memory and operations of each variant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .flops import count_nodes
from .report import Point, Row
from .variants import Variant, difference, interleaved, median_time


def table(variants: dict[str, Variant], repeats: int, note: Callable[[Variant], str],
          advance: Callable[[str], None]) -> tuple[tuple[Row, ...], float]:
    """Return a row per variant, compared with ``variants["loop"]``, and the round-off of the gradient's dtype.

    A variant on fewer examples than the loop is compared with the loop on the same examples.
    """
    built: dict[str, float] = {}
    results: dict[str, tuple[float, list[np.ndarray]]] = {}
    peaks: dict[str, int] = {}
    for title, variant in variants.items():
        advance(f"{title}: build and first run")
        built[title] = variant.build(variant.size)
        results[title] = variant.call(variant.size)
    loop = variants["loop"]
    short = min(variant.size for variant in variants.values())
    turns = {title: (variant, variant.size) for title, variant in variants.items()}
    again = "the loop on the same"  # the loop on the examples of the shorter variant
    if short != loop.size:
        turns[again] = loop, short
    seconds = interleaved(turns, repeats, advance)
    for title, variant in variants.items():
        advance(f"{title}: memory")
        peaks[title] = variant.peak_bytes(variant.size)
    middle = {title: float(np.median(s)) for title, s in seconds.items()}
    reference = {loop.size: (results["loop"][1], middle["loop"])}
    if again in turns:
        reference[short] = loop.call(short)[1], middle[again]
    rows = []
    for title, variant in variants.items():
        (value, gradient), (expected, loop_time) = results[title], reference[variant.size]
        rows.append(Row(title, variant.size, value, difference(gradient, expected), tuple(seconds[title]),
                        loop_time / middle[title], peaks[title], count_nodes(variant.compiled.graph),
                        variant.operations(variant.size), built[title], note(variant)))
    dtype = np.result_type(*(g.dtype for g in results["loop"][1]))
    return tuple(rows), float(np.finfo(dtype).eps)


def growth(variants: dict[str, Variant], sizes: list[int],
           advance: Callable[[str], None]) -> dict[str, tuple[Point, ...]]:
    """Return time and memory of each variant at each number of examples."""
    curves: dict[str, list[Point]] = {title: [] for title in variants}
    for n in sizes:
        advance(f"batch of {n}")
        for title, variant in variants.items():
            curves[title].append(Point(n, median_time(variant, n), variant.peak_bytes(n)))
    return {title: tuple(points) for title, points in curves.items()}

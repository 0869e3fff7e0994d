"""Measurements of a report: time, memory and operations of each variant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..compiler import Compiled
from ..graph import Graph
from .environment import environment
from .flops import count_nodes
from .report import Point, Report, Row
from .variants import Data, Variant, difference, doubling, interleaved, median_time, progress_bar


def measured(name: str, variants: dict[str, Variant], data: Data, repeats: int, note: Callable[[Variant], str],
             graphs: Callable[[], dict[str, Graph]], batched: Compiled, progress: bool) -> Report:
    """Return the report of the variants of the mean gradient of a loss called `name`; `batched` is its program."""
    sweep = {title: variant for title, variant in variants.items() if variant.name != "unrolled"}
    sizes = doubling(data.size)
    shorter = len({variant.size for variant in variants.values()}) > 1
    steps = (repeats + 2) * len(variants) + repeats * shorter + len(sizes)
    with progress_bar(progress, f"compare {name}", steps) as advance:
        rows, roundoff = table(variants, repeats, note, advance)
        curves = growth(sweep, sizes, advance)
    if not batched.entries:
        batched.build(*data.args)
    return Report(name, rows, curves, {**graphs(), "value and gradient": batched.graph}, batched.source,
                  tuple((s.name, s.note) for s in batched.stages), roundoff, environment())


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

"""An epoch whose last batch is smaller, and batches of ten sizes, compilation included: digits' perceptron, float32."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import harness
from . import mlp, table
from .contestants import Args, Contestant, makers
from .mlp import PROGRAM

SIZES = (784, 128, 10)
EXAMPLES, BATCH = 1000, 128
MANY = tuple(range(60, 160, 10))


def batches(args: Args, sizes: tuple[int, ...]) -> list[Args]:
    """Return batches of these sizes, one after the other, of the examples."""
    params, *examples = args
    ends = np.cumsum(sizes)
    return [(params, *(x[end - n:end] for x in examples)) for n, end in zip(sizes, ends, strict=True)]


def epoch(contestant: Contestant, own: list[Any]) -> tuple[float, float]:
    """Return the seconds of a first epoch, from the making of the step on, and of a second one."""
    start = time.perf_counter()
    step = contestant.build(own[0])
    for batch in own:
        step(*batch)
    middle = time.perf_counter()
    for batch in own:
        step(*batch)
    return middle - start, time.perf_counter() - middle


def measure(title: str, sizes: tuple[int, ...], quick: bool) -> list[harness.Case]:
    """Return the tables of the first epoch and of the second."""
    wanted = makers(PROGRAM)
    left_out = dict.fromkeys(table.SLOW_TO_COMPILE & set(wanted), table.NOT_QUICK) if quick else {}
    made, absent = harness.gather({name: make for name, make in wanted.items() if name not in left_out})
    absent |= left_out
    data = mlp.data(SIZES, sum(sizes))
    own = {name: [contestant.put(batch) for batch in batches(data, sizes)] for name, contestant in made.items()}
    for name, contestant in made.items():  # each batch of each contestant is right
        step = contestant.build(own[name][0])
        for batch, ours in zip(batches(data, sizes), own[name], strict=True):
            off = table.disagreement(table.numbers(step(*ours)), table.exact(PROGRAM, batch))
            assert off < table.TOLERANCE, f"{name} is wrong by {off:.2g}"
    first: dict[str, list[float]] = {name: [] for name in made}
    second: dict[str, list[float]] = {name: [] for name in made}
    rounds = 2 if quick else 5
    for k in range(rounds):
        for name, contestant in made.items():
            again = k == 0 or name not in table.SLOW_TO_COMPILE
            times = epoch(contestant, own[name]) if again else (first[name][0], second[name][0])
            first[name].append(times[0])
            second[name].append(times[1])
    reference = [name for name in made if name.startswith("minigrad")][-1]
    return [harness.Case.of(f"{title}: the first epoch, compilation included", "ms", reference, first, absent),
            harness.Case.of(f"{title}: the second epoch", "ms", reference, second, absent)]


def run(quick: bool) -> harness.Result:
    """Measure an epoch with a ragged last batch, and one whose every batch has its own size."""
    full, rest = divmod(EXAMPLES, BATCH)
    ragged = measure(f"{EXAMPLES:,} examples in batches of {BATCH}, the last of {rest}", (*[BATCH] * full, rest), quick)
    many = [] if quick else measure(f"{len(MANY)} batches of {MANY[0]} to {MANY[-1]} examples", MANY, quick)
    return harness.Result([*ragged, *many], [
        table.faster(ragged[0], "JAX jit", 3.0, "first epoch with a smaller last batch"),
        *(table.faster(case, "JAX jit", 3.0, "first epoch of ten batch sizes") for case in many[:1])])


if __name__ == "__main__":
    harness.main("peers.epoch", run)

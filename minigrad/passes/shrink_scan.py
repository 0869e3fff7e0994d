"""Results of scans that other values hold already: stacked slices, repeated stacks, and stacks shifted by a step.

A stacked slice is the operand itself, a stacked invariant repeats, and a carry before its step is the carry after the
step before. Results that nothing reads, which the passes before may leave, are dropped. A scan without a carry whose
stacks are checks of indices alone checks all steps at once.
"""

from __future__ import annotations

from collections.abc import Collection

from ..graph import Graph, Node, constant_of
from ..ops.results import waits_for_check
from ..ops.shape import concatenate, reshape, section
from .dead_code import dead_code
from .scan_loop import Loop, holds_graphs, rewrite_scans
from .simplify import simplify


def shrink_scan(graph: Graph) -> Graph:
    """Return an equal graph whose scans stack no value twice."""
    if not holds_graphs(graph):
        return graph
    return dead_code(simplify(rewrite_scans(graph, "shrink_scan", _shrunk)))


def _shrunk(loop: Loop) -> list[Node] | None:
    carries, stacked = list(loop.starts), dict.fromkeys(loop.stacked)
    shifted = _shifted_stacks(loop, stacked)
    outside = [n for n in stacked if n in loop.slices or loop.is_repeated(n)]
    inside = [n for n in stacked if n not in shifted and n not in outside]
    spared = len(loop.stacked) - len(inside)
    if spared:
        loop.note(spared, "stack that was there already", "stacks that were there already")
    only_checks = not carries and loop.length is not None and all(_is_light_check(loop, n) for n in inside)
    if only_checks and inside:
        loop.note(len(inside), "check of all steps at once", "checks of all steps at once")
    if not loop.moved:
        return None
    values = loop.at_all_steps(inside) if only_checks else loop.rebuilt(range(len(carries)), inside)
    steps = dict(zip(inside, values[len(carries):], strict=True))
    for n in outside:
        steps[n] = loop.slices[n] if n in loop.slices else loop.repeated(n)
    for n, after in shifted.items():
        steps[n] = _shift(loop, loop.starts[n], steps[after])
    return [*values[:len(carries)], *(steps[n] for n in loop.stacked)]


def _shifted_stacks(loop: Loop, stacked: Collection[Node]) -> dict[Node, Node]:
    """Return the carries stacked before and after a step, with the latter."""
    if not isinstance(loop.length, int):
        return {}
    after = dict(zip(loop.starts, loop.outputs, strict=False))
    return {n: after[n] for n in stacked if n in loop.starts and after[n] in stacked and after[n] not in loop.starts
            and after[n] in loop.carried}


def _shift(loop: Loop, start: Node, after: Node) -> Node:
    """Return the values before each step from those after it."""
    first = reshape(start, shape=(1, *start.shape))
    others = section(after, 0, int(loop.reverse), after.shape[0] - 1)
    return concatenate(*((others, first) if loop.reverse else (first, others)), axis=0)


def _is_light_check(loop: Loop, n: Node) -> bool:
    """Return whether a result is a constant that waits for light checks."""
    while waits_for_check(n):
        n, check = n.inputs
        if not loop.is_light(check):
            return False
    return constant_of(n) is not None

"""Removal of the steps that a failure does not need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .programs import Program, Step
from .ragged import RaggedCase


def shrunk(case: Any, fails: Callable[[Any], bool]) -> Any:
    """Return a smaller case for which `fails` still holds: steps are cut off the end, then out of the middle."""
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(case):
            if fails(smaller):
                case, changed = smaller, True
                break
    return case


def _smaller(case: Any) -> Any:
    if isinstance(case, RaggedCase):
        yield from (case.replace(case.steps[:k]) for k in range(1, len(case.steps)))
        return
    yield from (case.replace(steps) for steps in _fewer(case.program.steps, 3))


def _fewer(steps: tuple[Step, ...], before: int) -> Any:
    """Yield shorter lists of steps; `before` values are there already."""
    for k in range(1, len(steps)):
        yield steps[:k]
    for k in range(len(steps)):
        value = before + k
        if any(value in _reads(s) for s in steps[k + 1:]):
            continue
        yield (*steps[:k], *(_shifted(s, value) for s in steps[k + 1:]))
    for k, step in enumerate(steps):
        for j, body in enumerate(step.bodies):
            own = 1 + (step.name == "scan")
            for fewer in _fewer(body.steps, before + k + own):
                bodies = (*step.bodies[:j], Program(tuple(fewer)), *step.bodies[j + 1:])
                yield (*steps[:k], replace(step, bodies=bodies), *steps[k + 1:])


def _reads(step: Step) -> set[int]:
    return {*step.operands, *(i for body in step.bodies for s in body.steps for i in _reads(s))}


def _shifted(step: Step, gone: int) -> Step:
    """Return the step with the numbers of values behind `gone` one less."""

    def less(i: int) -> int:
        return i - (i > gone)

    return replace(step, operands=tuple(map(less, step.operands)),
                   bodies=tuple(Program(tuple(_shifted(s, gone) for s in body.steps)) for body in step.bodies))

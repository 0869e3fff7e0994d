"""A slice of the hunt (`tests/hunt`), and that it finds what is broken."""

import itertools

import numpy as np
import pytest

from minigrad.backends.native.bound_program import BoundProgram
from minigrad.graph import PRIMITIVES
from minigrad.ops import loops

from .hunt import machine, oracles, programs, ragged
from .hunt.choices import Choices
from .hunt.run import hunt, judge
from .hunt.shrink import shrunk

SLICES, LENGTH = 8, 25


@pytest.mark.parametrize("part", range(SLICES))
def test_random_programs_have_right_answers(part):
    wrong = [found for number in range(part * LENGTH, (part + 1) * LENGTH) for found in hunt(2026, number)
             if found.verdict == "WRONG"]
    assert not wrong, "\n".join(f"{f.oracle}: {f.text}\n    {f.case}" for f in wrong)


def first_failure(name, numbers, seed=5, table=oracles.ORACLES, wide_share=0):
    for number in numbers:
        choices = Choices([seed, number])
        found = judge(table, name, programs.draw(choices, wide_share=wide_share), [seed, number])
        if found.verdict == "WRONG":
            return found
    raise AssertionError("the hunt found nothing")


def patched(monkeypatch, prim, **rules):
    for rule, new in rules.items():
        monkeypatch.setitem(PRIMITIVES[prim].__dict__, rule, new)


def test_a_wrong_slope_is_found(monkeypatch):
    right = PRIMITIVES["sin"].vjp
    patched(monkeypatch, "sin", vjp=lambda g, out, *xs, **p: [v * 1.01 for v in right(g, out, *xs, **p)])
    assert "forward mode gives" in first_failure("differences", range(100)).text


def test_a_wrong_batch_rule_is_found(monkeypatch):
    right = PRIMITIVES["sum"].batch
    patched(monkeypatch, "sum", batch=lambda size, mapped, *xs, **p: right(size, mapped, *xs, **p) * 1.01)
    first_failure("mapped", range(100))


def test_a_loop_that_runs_for_examples_that_have_ended_is_found(monkeypatch):
    monkeypatch.setattr(loops, "checks_of", lambda nodes: {})
    assert "out of range" in first_failure("mapped", range(400)).text


@pytest.mark.parametrize(("name", "fault", "text"), [
    ("threads", lambda program, x: x * (1 + 1e-9 * (program.team > 1)), "threads: leaf"),
    ("layouts", lambda program, x: x.ravel("K").reshape(x.shape), "arguments "),
    ("extremes", lambda program, x: np.nan_to_num(x), "in x: leaf")])
def test_machine_code_that_depends_on_threads_or_memory_is_found(monkeypatch, name, fault, text):
    run = BoundProgram.run

    def faulty(self, arrays, ready=None):
        return run(self, [fault(self, a) if a.dtype.kind == "f" else a for a in arrays], ready)

    monkeypatch.setattr(BoundProgram, "run", faulty)
    assert text in first_failure(name, range(20), table=machine.ORACLES, wide_share=1).text


def test_a_case_is_shrunk_to_the_steps_that_fail():
    case = next(c for c in (programs.draw(Choices([7, k])) for k in itertools.count()) if any(
        s.name == "max" for s in c.program.steps[:-2]))

    def fails(smaller):
        return any(s.name == "max" for s in smaller.program.steps)

    small = shrunk(case, fails)
    assert fails(small)
    assert len(small.program.steps) < len(case.program.steps)


def test_choices_repeat():
    for draw in (programs.draw, ragged.draw):
        assert str(draw(Choices([3, 4]))) == str(draw(Choices([3, 4])))


def test_drawn_programs_have_finite_values():
    for k in range(50):
        case = programs.draw(Choices([1, k]))
        for value in oracles.quietly(case.program.values, programs.PLAIN, case.w, case.x, case.n):
            assert np.isfinite(np.asarray(value, float)).all()

"""One program of a hunt: its case, the oracles that it is put to, and their verdicts."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import machine, oracles, programs, ragged
from .choices import Choices
from .oracles import Mismatch, Refused
from .shrink import shrunk

RAGGED_SHARE = 0.25
ASKED = 2


@dataclass(frozen=True)
class Found:
    """The verdict of an oracle (``ok``, ``refused`` or ``WRONG``) on a case, and its reason."""

    oracle: str
    verdict: str
    text: str
    case: Any


def hunt(seed: int, number: int, only: Sequence[str] | None = None) -> Iterator[Found]:
    """Draw the program of that number and yield the verdicts of a few oracles, of all in `only` if it is given."""
    choices = Choices([seed, number])
    is_ragged = choices.chance(RAGGED_SHARE)
    case = ragged.draw(choices) if is_ragged else programs.draw(choices)
    table = ragged.ORACLES if is_ragged else oracles.ORACLES | machine.ORACLES
    names = sorted(table)
    chosen = [names[i] for i in choices.rng.permutation(len(names))[:ASKED]]
    for name in chosen if only is None else [n for n in names if n in only]:
        yield judge(table, name, case, [seed, number])


def judge(table: Any, name: str, case: Any, seed: Sequence[int]) -> Found:
    """Return the oracle's verdict; a wrong answer comes with the smallest case that still has it."""
    text = _failure(table[name], case, seed)
    if text is None or text.startswith("refused: "):
        return Found(name, "ok" if text is None else "refused", (text or "").removeprefix("refused: "), case)
    kind = text.split(":")[0]

    def fails(smaller: Any) -> bool:
        again = _failure(table[name], smaller, seed)
        return again is not None and again.split(":")[0] == kind

    small = shrunk(case, fails)
    return Found(name, "WRONG", _failure(table[name], small, seed) or text, small)


def _failure(oracle: Any, case: Any, seed: Sequence[int]) -> str | None:
    """Return why the oracle is not satisfied, or None."""
    try:
        oracle(case, Choices([*seed, 1]))
    except Refused as error:
        return f"refused: {error}"
    except Mismatch as error:
        return f"Mismatch: {error}"
    except Exception as error:  # an internal error of the package is a finding, of whatever type
        line = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({line.filename.rpartition('minigrad/')[2]}:{line.lineno})"
    return None

"""The record of this machine's choice between BLAS and generated code, beside the machine code on disk.

``minigrad cache --fill`` (`gemm_measurement`) measures once for each CPU, BLAS and version of the kernels, and keeps a
record that is there. Programs never measure: a process reads the record once, so that equal calls have equal bits, from
one process to the next as well. One record serves any number of threads, as results do not depend on it.
"""

from __future__ import annotations

import functools
import json
import math
from typing import NamedTuple

from .... import blas
from ... import code_cache
from ..runtime.cache import sources
from ..runtime.jit import host
from . import gemm
from .gemm_choice import KINDS, NEVER, Choice, Cuts, Gain
from .gemm_plan import Resources

_SCHEMA = 1


class Record(NamedTuple):
    """The cuts of this machine, the gain of each, and how they were measured."""

    choice: Choice
    gains: list[Gain]
    threads: int
    date: str


def machine() -> dict[str, str]:
    """Return the facts that a measurement depends on."""
    target = host()
    return {"cpu": target.cpu, "target": code_cache.digest(repr(target))[:16], "blas": blas.description(),
            "kernels": sources()[:16]}


def name() -> str:
    """Return the name of the record's file."""
    return f"products-{code_cache.digest(json.dumps(machine()))[:16]}.json"


@functools.cache
def resources(threads: int) -> Resources:
    """Return the BLAS, its products and the threads for them in this process."""
    usual = gemm.resources(threads)
    record = read()
    return usual if record is None else usual._replace(choice=record.choice)


def read() -> Record | None:
    """Return the record on disk, or None without a valid one."""
    return code_cache.find_record(code_cache.trusted(), name(), parse)


def parse(text: str) -> Record:
    """Return the record of a text.

    Raises
    ------
    ValueError
        If the text is not that of a record of this machine.
    """
    try:
        data = json.loads(text)
        rows = data["products"]
        cuts = [Cuts(_natural(row["up_to"], 0), _natural(row["from"], NEVER)) for row in rows]
        if (data["schema"] != _SCHEMA or data["machine"] != machine()
                or [row["kind"] for row in rows] != [str(kind) for kind in KINDS]):
            raise ValueError("the record of another machine or version")
        gains = [Gain(*map(_positive, row["blas_is_faster_by"])) for row in rows]
        choice = Choice(dict(zip(KINDS, cuts, strict=True)))
        return Record(choice, gains, _natural(data["threads"], 1), str(data["date"]))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("no record") from error


def _natural(value: object, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or not 0 < value < NEVER:
        raise ValueError(f"no number of multiplications: {value!r}")
    return value


def _positive(value: object) -> float | None:
    if value is None or (isinstance(value, float) and 0 < value < math.inf):
        return value
    raise ValueError(f"no ratio of times: {value!r}")


def text(record: Record) -> str:
    """Return the text of a record."""
    rows = [{"kind": str(kind), "up_to": cuts.small or None, "from": None if cuts.large == NEVER else cuts.large,
             "blas_is_faster_by": [value and float(f"{value:.3g}") for value in gain]}
            for (kind, cuts), gain in zip(record.choice.cuts.items(), record.gains, strict=True)]
    head = {"schema": _SCHEMA, "machine": machine(), "threads": record.threads, "date": record.date}
    lines = ",\n".join(json.dumps(row) for row in rows)
    return json.dumps(head, indent=1)[:-2] + f',\n "products": [\n{lines}]\n}}\n'


def described() -> list[str]:
    """Return lines that say which products BLAS computes, and why."""
    record = read()
    if record is None:
        return [f"products on {host().cpu}: not measured (minigrad cache --fill does), the usual choice"]
    lines = [f"products on {host().cpu}: measured on {record.date} with {record.threads} threads; {blas.description()}"]
    for (kind, cuts), gain in zip(record.choice.cuts.items(), record.gains, strict=True):
        parts = [(f"up to {cuts.small:,} multiplications", gain.small)] if cuts.small else []
        parts += [(f"from {cuts.large:,}", gain.large)] if cuts.large < NEVER else []
        text = ", ".join(part + _times(value) for part, value in parts)
        lines.append(f"  {kind}: {f'BLAS {text}; ' if text else ''}generated code{_times(gain.between, -1)}")
    return lines


def _times(value: float | None, power: int = 1) -> str:
    return "" if value is None else f" ({value**power:.2f} × as fast)"

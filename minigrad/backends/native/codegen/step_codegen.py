"""What steps that are written for any sizes have in common: their arguments, their parallel pieces, their loops.

Such a step works on two counts, say of rows and of columns, and is cut along both: each piece is a range of the one
and a range of the other. Its argument block begins with `HEAD` numbers that say how (`head` makes them); behind it
stand the step's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from llvmlite import ir

from ..runtime import threads
from ..runtime.cache import generated, object_codes
from ..runtime.jit import load
from .emit import ONE, Emitter, least

HEAD = 6  # pieces, threads that may share them, and of both counts: the whole, and the share of one piece
SERIAL = 32768  # elements below which the threads' pool is not worth its while
VECTOR = 128  # bytes of the widest vectors: as many as all machines have registers for


def widths(dtype: np.dtype) -> tuple[int, ...]:
    """Return the vectors that a loop is done in: wide ones, then ever narrower ones, then single elements."""
    wide = VECTOR // dtype.itemsize
    return *(wide // n for n in (1, 4, 16) if wide > n), 1


@dataclass(eq=False)
class StepCode:
    """The code of a step, in the process for good from when it is first needed.

    Attributes
    ----------
    name : str
    write : callable
        Emits what is done for one piece, from the code to write to and the piece's two ranges.
    symbols : mapping of str to int
        The addresses of functions of ours that it calls.
    address : int
        0 before `load_all`.
    """

    name: str
    write: Callable[[Emitter, list[ir.Value]], None]
    symbols: Mapping[str, int] = field(default_factory=dict)
    address: int = 0


Step = tuple[StepCode, list[int]]  # a step, and its arguments


def load_all(codes: Iterable[StepCode]) -> None:
    """Make the code of several steps, side by side, and load it."""
    missing = list({code: None for code in codes if not code.address})
    found = object_codes([generated(f"step {c.name}", functools.partial(_written, c)) for c in missing])
    for code, (_, binary) in zip(missing, found, strict=True):
        library = load([binary], {**threads.symbols(), **code.symbols})
        library.keep()
        code.address = library.address(code.name)


def _written(code: StepCode) -> tuple[str, None]:
    return text(code.name, code.write), None


def text(name: str, write: Callable[[Emitter, list[ir.Value]], None]) -> str:
    """Return the IR of a step."""
    emitter = Emitter(name)
    with emitter.block(f"{name}.piece") as piece:
        write(emitter, _ranges(emitter, piece.args[1]))
    with emitter.step(name):
        emitter.parallel_for(piece, emitter.number(0), emitter.number(1))
    return str(emitter.module)


def _ranges(emitter: Emitter, item: ir.Value) -> list[ir.Value]:
    """Return the first and the end of both ranges of a piece."""
    e = emitter.e
    count, share, other, other_share = (emitter.number(2 + i) for i in range(4))
    across = e.udiv(e.add(other, e.sub(other_share, ONE)), other_share)
    low, other_low = e.mul(e.udiv(item, across), share), e.mul(e.urem(item, across), other_share)
    return [low, least(e, e.add(low, share), count), other_low, least(e, e.add(other_low, other_share), other)]


def arguments(team: int, work: int, counts: Sequence[int], shares: Sequence[int], rest: Sequence[int]) -> list[int]:
    """Return an argument block.

    Parameters
    ----------
    team : int
        How many threads may work on the step, if `work` elements are worth it.
    counts, shares : two int each
        What is to be done, and how much of it is one piece.
    rest : sequence of int
    """
    shares = [max(min(s, n), 1) for n, s in zip(counts, shares, strict=True)]
    items = -(-counts[0] // shares[0]) * -(-counts[1] // shares[1])
    threads_ = team if work >= SERIAL and items > 1 else 1
    return [items, threads_, counts[0], shares[0], counts[1], shares[1], *rest]



"""Steps for any sizes: their code, their argument blocks, and the pieces of their parallel work.

Such a step works on two counts, say of rows and of columns, and is cut along both: each piece is a range of the one
and a range of the other. The first `HEAD` numbers of its argument block give counts and pieces (`step`); the
step's own numbers follow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .... import blas
from ....graph import Node
from ....immutable import Record
from ....symbolic import Symbol
from ..llvm import ir
from ..llvm.builder import ONE, least
from ..runtime import threads
from ..runtime.cache import generated, object_codes
from ..runtime.jit import load
from .emit import Emitter
from .strides import View

HEAD = 6  # pieces, threads that may share them, and of both counts: the whole, and the share of one piece
SERIAL = 32768  # elements below which the threads' pool does not pay
VECTOR = 128  # bytes of the widest vectors: all machines have registers for as many

def widths(dtype: np.dtype) -> tuple[int, ...]:
    """Return the widths of a loop's vectors: wide ones, then ever narrower ones, then single elements."""
    wide = VECTOR // dtype.itemsize
    return *(wide // n for n in (1, 4, 16) if wide > n), 1


class StepCode(Record):
    """The code of a step. Once loaded, it stays in the process.

    Attributes
    ----------
    name : str
    write : callable
        Emits the work on one piece, given the emitter and the first and the end of both ranges.
    symbols : mapping of str to int
        The addresses of the native backend's functions that it calls.
    address : int
        0 before `load_all`.
    """

    name: str
    write: Callable[[Emitter, list[ir.Value]], None]
    symbols: Mapping[str, int] = {}
    address: int = 0

    @property
    def calls_blas(self) -> bool:
        """Whether it calls NumPy's BLAS."""
        return not self.symbols.keys().isdisjoint(blas.symbols())


Step = tuple[StepCode, list[int]]  # a step, and its arguments
Place = tuple[int, int]  # a base, and bytes from there


class Request(Record):
    """A request for the steps of a statement.

    Attributes
    ----------
    node : Node
    to, xs : View
        The result's elements, and each operand's.
    sizes : mapping of Symbol to int
    room : Place
        Memory beside operands and result.
    flag : Place
        A number that becomes one of `kernels.faults`; 1 if an index is out of range.
    team : int
        Threads that may work on it.
    """

    node: Node
    to: View
    xs: Sequence[View]
    sizes: Mapping[Symbol, int]
    room: Place
    flag: Place
    team: int


@functools.cache
def step_code(write: Callable[..., None], *args: object, symbols: tuple[tuple[str, int], ...] = ()) -> StepCode:
    """Return the code that ``write(*args, emitter, ranges)`` emits: one object, named by the function and `args`."""
    name = ".".join([write.__name__.lstrip("_"), *(str(getattr(a, "name", a)) for a in args)])
    return StepCode(name, functools.partial(write, *args), dict(symbols))


def load_all(codes: Iterable[StepCode]) -> None:
    """Compile several steps at the same time, and load them."""
    missing = list({code: None for code in codes if not code.address})
    binaries = object_codes([generated(f"step {c.name}", functools.partial(_written, c)) for c in missing])
    for code, (_, binary) in zip(missing, binaries, strict=True):
        code.address = load([binary], {**threads.symbols(), **code.symbols}, keep=True).address(code.name)


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


def step(code: StepCode, team: int, work: int, counts: tuple[int, int], shares: tuple[int, int],
         *own: int | Place | View) -> list[Step]:
    """Return a step with its argument block, or none if a count is 0.

    Parameters
    ----------
    code : StepCode
    team : int
        Threads that may work on the step, if it has enough elements.
    work : int
        Elements.
    counts, shares : (int, int)
        The two counts, and the share of one piece in each.
    *own
        The step's own numbers; a view or a place is two, its base and its offset.
    """
    n, other = counts
    share, other_share = max(min(shares[0], n), 1), max(min(shares[1], other), 1)
    items = -(-n // share) * -(-other // other_share)
    if not items:
        return []
    block = [items, team if work >= SERIAL and items > 1 else 1, n, share, other, other_share]
    for number in own:
        if isinstance(number, tuple):
            block += number[:2]
        else:
            block.append(number)
    return [(code, block)]

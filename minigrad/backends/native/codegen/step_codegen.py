"""What steps that are written for any sizes have in common: their arguments, their parallel pieces, their loops.

Such a step works on two counts, say of rows and of columns, and is cut along both: each piece is a range of the one
and a range of the other. Its argument block begins with `HEAD` numbers that say how (`head` makes them); behind it
stand the step's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
from llvmlite import ir

from ..runtime import threads
from ..runtime.cache import generated, object_codes
from ..runtime.jit import load
from . import expressions as ex
from .emit import I64, PTR, VOID, at, counting, least, repeated

STEP = ir.FunctionType(VOID, [PTR, PTR])
BLOCK = ir.FunctionType(VOID, [PTR, I64, I64])
HEAD = 6  # pieces, threads that may share them, and of both counts: the whole, and the share of one piece
SERIAL = 32768  # elements below which the threads' pool is not worth its while
VECTOR = 128  # bytes of the widest vectors: as many as all machines have registers for



class Code:
    """A function while it is written: `b` writes its body, `e` what is done once before that."""

    def __init__(self, module: ir.Module, type_: ir.FunctionType, name: str):
        self.module = module
        self.function = ir.Function(module, type_, name)
        self.entry = self.function.append_basic_block("entry")
        self.body = self.function.append_basic_block("body")
        self.e, self.b = ir.IRBuilder(self.entry), ir.IRBuilder(self.body)
        self.args = self.bases = None

    def end(self) -> None:
        self.b.ret_void()
        self.e.branch(self.body)

    # -- arguments ---------------------------------------------------------------------------------------

    def number(self, i: int) -> ir.Value:
        """Return a number of the argument block."""
        return self.e.load(at(self.e, self.args, 8 * i), typ=I64)

    def address(self, i: int) -> ir.Value:
        """Return the address that two numbers of the argument block stand for: a base, and bytes behind it."""
        base = self.e.load(at(self.e, self.bases, self.e.shl(self.number(i), I64(3))), typ=PTR)
        return at(self.e, base, self.number(i + 1))

    def ranges(self, item: ir.Value) -> list[ir.Value]:
        """Return first and end of both ranges of a piece."""
        e = self.e
        count, share, other, other_share = (self.number(2 + i) for i in range(4))
        across = e.udiv(e.add(other, e.sub(other_share, I64(1))), other_share)
        low, other_low = e.mul(e.udiv(item, across), share), e.mul(e.urem(item, across), other_share)
        return [low, least(e, e.add(low, share), count), other_low, least(e, e.add(other_low, other_share), other)]

    # -- loops -------------------------------------------------------------------------------------------

    def variable(self, start: ir.Value) -> ir.Value:
        """Return the place of a value that changes, `start` at first."""
        place = self.e.alloca(start.type)
        self.b.store(start, place)
        return place

    def get(self, place: ir.Value) -> ir.Value:
        return self.b.load(place, typ=place.allocated_type)

    def repeated(self, condition: Callable[[], ir.Value]) -> AbstractContextManager[None]:
        """Emit a loop that goes on while a condition holds: the body is what is emitted inside the ``with`` block."""
        return repeated(self.b, condition)

    def counting(self, start: ir.Value, end: ir.Value, by: int = 1) -> AbstractContextManager[ir.Value]:
        """Emit a loop over ``range(start, end, by)``."""
        return counting(self.b, self.variable(start), end, I64(by))

    def chunks(self, start: ir.Value, end: ir.Value, widths: Sequence[int]) -> Iterator[tuple[ir.Value, int]]:
        """Emit loops over a range, in vectors of the widths given (the last is 1): yield where each is, and its width.

        What is emitted before the next one is asked for is the body, once for each width.
        """
        place = self.variable(start)
        for width in widths:
            last = self.b.sub(end, I64(width - 1))
            with counting(self.b, place, last, I64(width)) as i:
                yield i, width

    # -- elements ----------------------------------------------------------------------------------------

    def load(self, dtype: np.dtype, pointer: ir.Value, width: int = 1) -> ir.Value:
        return self.b.load(pointer, typ=ex.vector_type(dtype, width), align=dtype.itemsize)

    def store(self, x: ir.Value, dtype: np.dtype, pointer: ir.Value) -> None:
        self.b.store(x, pointer, align=dtype.itemsize)

    def element(self, pointer: ir.Value, i: ir.Value, itemsize: int) -> ir.Value:
        """Return the address of element `i`."""
        return at(self.b, pointer, self.b.mul(i, I64(itemsize)))

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(result, arguments), name)


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
    write: Callable[[Code, list[ir.Value]], None]
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


def text(name: str, write: Callable[[Code, list[ir.Value]], None]) -> str:
    """Return the IR of a step."""
    module = ir.Module(name)
    piece = Code(module, BLOCK, f"{name}.piece")
    piece.function.linkage = "internal"
    context, item, _ = piece.function.args
    piece.args = piece.e.load(context, typ=PTR)
    piece.bases = piece.e.load(at(piece.e, context, 8), typ=PTR)
    write(piece, piece.ranges(item))
    piece.end()
    code = Code(module, STEP, name)
    code.args, code.bases = code.function.args
    items, team = code.number(0), code.number(1)
    context = code.e.alloca(PTR, size=I64(2))
    b = code.b
    b.store(code.args, context)
    b.store(code.bases, at(b, context, 8))
    with b.if_else(b.icmp_signed(">", team, I64(1))) as (together, alone):
        with together:
            pool = ir.Function(module, ir.FunctionType(VOID, [PTR, PTR, I64, I64]), "mg_parallel_upto")
            b.call(pool, [piece.function, context, items, team])
        with alone, code.counting(I64(0), items) as i:
            b.call(piece.function, [context, i, I64(0)])
    code.end()
    return str(module)


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



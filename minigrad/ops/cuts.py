"""Cuts of a batch into passes: by a number of examples, or by the memory of a pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType

import numpy as np

from ..budgets import longest
from ..errors import BatchError, at_user_line
from ..graph import Params
from ..immutable import Record
from ..primitive import on_host
from ..symbolic import Dim, Symbol
from .accumulators import waiting

SLACK = 0.03  # the part of a budget that a pass over examples of different size may leave unused
Span = tuple[Mapping[Symbol, int], Mapping[Symbol, int]]


def spans_between(edges: Sequence[int], params: Params, counts: Sequence[np.ndarray]) -> list[Span]:
    """Return the begin and end of each chunk from the first example of each, and the number of examples."""
    names = symbols_of_pass(params)
    rows = [starts[edges].tolist() for starts in rows_before(counts)]
    return list(itertools.pairwise(dict(zip(names, ends, strict=True)) for ends in zip(edges, *rows, strict=True)))


def sizes_of(span: Span) -> dict[Symbol, int]:
    """Return the sizes of one chunk."""
    begin, end = span
    return {s: end[s] - begin[s] for s in begin}


def symbols_of_pass(params: Params) -> list[Symbol]:
    """Return the symbols of a chunk's number of examples, and of its numbers of rows."""
    return [symbol_of(d) for d in (params["dim"], *(d for d, _ in params["packed"]))]


def symbol_of(n: int | Dim) -> Symbol:
    """Return the symbol of a size that is one."""
    assert isinstance(n, Dim)
    assert n.symbol is not None
    return n.symbol


def along(axis: int, section: slice) -> tuple[slice | EllipsisType, ...]:
    """Return the index of a section along an axis."""
    return (*(slice(None),) * axis, section, ...)


def rows_before(counts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the rows that precede each example, and the number of all, for each ragged axis."""
    return [np.concatenate([[0], np.cumsum(on_host(n))]) for n in counts]


def by_number(total: int, size: int) -> list[int]:
    """Return the first example of each pass of at most `size`, and the number of examples."""
    return [*range(0, total, size), total]


class Limit(Record):
    """A budget of memory.

    Attributes
    ----------
    nbytes : int
        The budget, for errors.
    left : int
        The bytes of it that are left for passes.
    sums : int
        The bytes of a sum over all passes; each level of chains of additions keeps one.
    """

    nbytes: int
    left: int
    sums: int


def by_memory(total: int, params: Params, counts: Sequence[np.ndarray], limit: Limit,
              cost: Callable[[Mapping[Symbol, int]], int], caller: str, piece: str = "a pass over") -> list[int]:
    """Return the first example of each pass that fits into a budget of memory, and the number of examples.

    Passes are as long as the memory allows. Examples of equal size have passes of one length; others are taken in turn
    until the memory of their rows is reached.

    Parameters
    ----------
    total : int
    params : mapping
        Of the primitive `chunked`.
    counts : sequence of int array
        The rows of each example, for each ragged axis.
    limit : Limit
    cost : callable
        The bytes of a pass of given sizes.
    caller, piece : str
        The call and the name of a pass, for errors.

    Raises
    ------
    BatchError
        If one example alone does not fit.
    """
    names, starts = symbols_of_pass(params), [np.arange(total + 1), *rows_before(counts)]

    def between(begin: int, end: int) -> int:
        return cost({s: int(rows[end] - rows[begin]) for s, rows in zip(names, starts, strict=True)})

    def pass_from(begin: int, guess: int) -> int:
        most = total - begin
        return longest(lambda n: between(begin, begin + n), limit.left - chains, most, min(guess, most),
                       SLACK if counts else 0.0)

    passes = min(-(-between(0, total) // max(limit.left, 1)), total)
    chains = 0 if passes <= 1 else limit.sums * waiting(2 * passes)
    edges = [0]
    length = total
    while (begin := edges[-1]) < total:
        if counts or not begin:
            length = pass_from(begin, length)
        if not length:
            which = f"example {begin}" if counts else "one example"
            need = limit.nbytes - limit.left + chains + between(begin, begin + 1)
            raise BatchError(at_user_line(f"{caller}: memory is {limit.nbytes:,} bytes, and {piece} {which} needs "
                                          f"{need:,} bytes"))
        edges.append(min(begin + length, total))
    return edges

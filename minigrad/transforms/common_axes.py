"""Ragged axes of one name in several batches: one size each, or one for all where the program needs equal lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import MinigradError
from ..numpy.selections import differing_sizes
from ..symbolic import Dim, Symbol, symbols
from ..tracing import thread

T = TypeVar("T")


class CommonAxes:
    """The symbols of the ragged axes of a call's batches."""

    def __init__(self) -> None:
        self._symbols: dict[tuple[int, str], Symbol] = {}  # by the place of the batch among the arguments, and the axis
        self._products: dict[tuple[Symbol, ...], Symbol] = {}

    def symbol(self, batch: int, *axes: str) -> Symbol:
        """Return the symbol of an axis of a batch, or of the product of several."""
        own = tuple(self._symbols.setdefault((batch, a), Symbol(a, rows=True)) for a in axes)
        return own[0] if len(own) == 1 else self._products.setdefault(own, Symbol("_".join(axes), rows=True))

    def equate(self, a: int | Dim, b: int | Dim) -> bool:
        """Give axes of two batches one symbol, if that makes two sizes equal and the axes have one name."""
        own, others = (sorted(symbols([n]) - symbols([m]), key=lambda s: s.uid) for n, m in ((a, b), (b, a)))
        if not (isinstance(b, Dim) and len(own) == len(others) == 1):
            return False
        (first,), (second,) = own, others
        if b.replace({second: Dim.of(first)}) != a:
            return False
        axes = {symbol: axis for (_, axis), symbol in self._symbols.items()}
        if first not in axes or axes[first] != axes.get(second):
            return False
        self._symbols = {key: first if symbol is second else symbol for key, symbol in self._symbols.items()}
        return True


def with_common_axes(trace: Callable[[CommonAxes], T]) -> T:
    """Return ``trace(axes)``, in which axes of one name have one symbol if the trace is refused without.

    Nothing says that the examples of two batches have equal lengths: the program checks it when it runs.
    """
    axes = CommonAxes()
    known = {} if thread.trace.selections is None else thread.trace.selections
    before = set(known)
    while True:
        thread.unequal = None
        try:
            return trace(axes)
        except MinigradError:
            if thread.unequal is None:
                raise
            a, b, inner = thread.unequal
            if not axes.equate(*differing_sizes(a, b, inner.selections or {})):
                raise
        for count in known.keys() - before:  # the next trace counts by nodes of its own
            del known[count]

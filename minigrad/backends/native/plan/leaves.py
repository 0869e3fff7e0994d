"""Values that are made before a run: constants, arrays full of one number, and numbers that depend on sizes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ....graph import Graph, Node
from ....interpreters import evaluate
from ....ops.constants import full, iota
from ....ops.subgraph import symbols_of
from ....symbolic import Dim, Symbol, value

EARLY = 256  # constants and numbers that a program keeps
_SPARE = 8  # an array that has to grow grows by one part in so many more


class Leaves:
    """The leaves of a program: its executables for different sizes share some of them.

    Attributes
    ----------
    early : frozenset of Node
        The results of steps that depend on sizes alone.
    """

    def __init__(self, early: Iterable[Node]):
        self.early = frozenset(early)
        self._symbols: dict[Node, list[Symbol]] = {}  # the sizes on which leaves depend that a native step reads
        self._known: dict[tuple[Node | int, ...], np.ndarray] = {}  # constants and numbers
        self._full: dict[Node, np.ndarray] = {}  # as large as any sizes have needed

    def __iter__(self) -> Iterator[Node]:
        return iter(self._symbols)

    def add(self, n: Node) -> None:
        """Add a leaf that a native step reads."""
        self._symbols[n] = sorted(symbols_of(Graph((), (n,))), key=lambda s: s.uid)

    def array(self, n: Node, sizes: Mapping[Symbol, int]) -> np.ndarray:
        """Return a leaf as an array; some are kept, as most sizes of a batch seldom change."""
        shape = tuple([value(d, sizes) for d in n.shape])
        if n.prim is full or (n.prim is iota and isinstance(n.shape[0], Dim)):
            return self._beginning(n, shape)
        symbols = self._symbols.get(n, ())
        key: tuple[Node | int, ...] = n, *[sizes[s] for s in symbols]
        array = self._known.get(key)
        if array is None:
            array = np.asarray(evaluate(Graph((), (n,)), (), sizes)[0], n.dtype, order="C")
            if n in self._symbols and not (symbols and shape):
                if len(self._known) >= EARLY:
                    self._known.clear()
                self._known[key] = array
        return array

    def _beginning(self, n: Node, shape: tuple[int, ...]) -> np.ndarray:
        """Return the beginning of one array, which all sizes share."""
        count, known = math.prod(shape), self._full.get(n)
        if known is None or known.size < count:
            count_of_all = count + (count // _SPARE if known is not None else 0)
            known = self._full[n] = np.arange(count_of_all, dtype=n.dtype) if n.prim is iota else np.full(
                count_of_all, n.params["value"], n.dtype)
        return known[:count].reshape(shape)

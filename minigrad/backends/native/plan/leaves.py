"""Values that are made before a run: constants, arrays full of one number, and numbers that depend on sizes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ....graph import Graph, Node
from ....interpreters import concrete, evaluate
from ....ops.constants import full
from ....passes.schedule import symbols_of
from ....symbolic import Dim, Symbol, value

EARLY = 256  # numbers of sizes that a program keeps
_SPARE = 8  # an array that has to grow grows by one part in so many more


class Leaves:
    """The leaves of a program: its executables for different sizes share some of them.

    Attributes
    ----------
    early : dict of Node to list of Symbol
        The results of steps that depend on sizes alone, and those sizes.
    """

    def __init__(self, early: Iterable[Node]):
        self.early = {n: sorted(symbols_of(Graph((), (n,))), key=lambda s: s.uid) for n in early}
        self._sized: dict[Node, bool] = {}  # leaves that a native step reads, and whether they depend on sizes
        self._constants: dict[Node, np.ndarray] = {}
        self._full: dict[Node, np.ndarray] = {}  # as large as any sizes have needed
        self._numbers: dict[tuple[Node | int, ...], np.ndarray] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._sized)

    def add(self, n: Node) -> None:
        """Add a leaf that a native step reads."""
        self._sized[n] = n in self.early or _has_size((*n.params.values(), n.shape))

    def array(self, n: Node, sizes: Mapping[Symbol, int]) -> np.ndarray:
        """Return a leaf as an array."""
        if n in self._constants:
            return self._constants[n]
        if n.prim is full:
            return self._filled(n, tuple([value(d, sizes) for d in n.shape]))
        if n in self.early:
            return self._number(n, sizes)
        array = np.ascontiguousarray(n.prim.eval(np, **concrete(n.params, sizes))).reshape(
            tuple([value(d, sizes) for d in n.shape]))
        if not self._sized.get(n, True):
            self._constants[n] = array
        return array

    def _number(self, n: Node, sizes: Mapping[Symbol, int]) -> np.ndarray:
        """Return a number that depends on sizes alone; some are kept, as most sizes of a batch seldom change."""
        key: tuple[Node | int, ...] = n, *[sizes[s] for s in self.early[n]]
        number = self._numbers.get(key)
        if number is None:
            if len(self._numbers) >= EARLY:
                self._numbers.clear()
            number = self._numbers[key] = np.asarray(evaluate(Graph((), (n,)), (), sizes)[0], n.dtype)
        return number

    def _filled(self, n: Node, shape: tuple[int, ...]) -> np.ndarray:
        """Return a part of one array, which all sizes share."""
        count, known = math.prod(shape), self._full.get(n)
        if known is None or known.size < count:
            known = self._full[n] = np.full(count + (count // _SPARE if known is not None else 0),
                                            n.params["value"], n.dtype)
        return known[:count].reshape(shape)


def _has_size(param: object) -> bool:
    """Return whether a symbolic size occurs in a parameter."""
    return isinstance(param, Dim) or (isinstance(param, tuple) and any(map(_has_size, param)))

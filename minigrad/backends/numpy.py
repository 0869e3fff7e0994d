"""The NumPy backend: a `Program` that runs the text it shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import printable
from ..graph import Graph
from ..interpreters import explain
from ..passes.fuse_index_checks import fuse_index_checks
from ..passes.record import Stage
from ..passes.schedule import Plan, schedule
from ..symbolic import Symbol
from . import workspace
from .numpy_source import Printer
from .numpy_text import MANAGED
from .pools import Bounded, Pools
from .subgraph import KINDS

KEPT = 8  # sets of sizes whose workspaces are kept
LAYOUTS = 256  # sets of rounded sizes whose layouts are kept


class Program:
    """A compiled graph: call it with arrays and sizes.

    Attributes
    ----------
    source : str
        The program's text, which is what runs.
    stages : list of Stage
        What was fused and how memory is shared, in words.
    """

    def __init__(self, graph: Graph):
        graph = fuse_index_checks(graph)
        self._plan: Plan = schedule(graph, MANAGED)
        printed = Printer(self._plan).print()
        self._held = {n: KINDS[n.prim](n, Program) for n in graph.nodes if n.prim in KINDS}
        self.source = "\n\n".join([printed.text, *(text for held in self._held.values() for text in held.sources())])
        self._items, self._wanted = printed.items, printed.wanted
        space: dict[str, Any] = {}
        exec(compile(printed.text, f"<minigrad {printable(graph.name)}>", "exec"), space)
        self._main = space["main"]
        self._symbols = printed.symbols
        self._pools: Pools[tuple[int, ...], tuple[Any, ...]] = Pools(KEPT)
        self._grows = workspace.grows(self._plan)
        self._layouts: Bounded[tuple[int, ...], workspace.Layout] = Bounded(LAYOUTS)
        self._arenas: deque[np.ndarray] = deque()
        self._latest: tuple[int, ...] | None = None  # sizes of the latest run that kept no workspace

    def __call__(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run the program.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One per input, of the dtypes and shapes that the graph says. They need not be contiguous.
        sizes : mapping of Symbol to int

        Returns
        -------
        list of numpy.ndarray
            The caller's own: they share no memory with the inputs, the program, or each other.
        """
        key = tuple([sizes[s] for s in self._symbols])
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= KEPT and self._grows and key != self._latest:
                self._latest = key
                return self._run_once(arrays, sizes)
            pool = self._pools[key]
        try:
            space = pool.pop()
        except IndexError:
            layout = workspace.Layout(self._plan, self._items, sizes)
            space = self._space(sizes, layout, workspace.arena_of(layout))
        try:
            return self._run(arrays, sizes, space)
        finally:
            pool.append(space)

    def _run(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int], space: tuple[Any, ...]
             ) -> list[np.ndarray]:
        try:
            with np.errstate(all="ignore"):
                return self._main(*arrays, *space)
        except (IndexError, ValueError) as error:
            raise explain(error, self._plan.graph, arrays, sizes) from None

    def _run_once(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run with sizes that may not come again, as those of ragged batches: in memory that serves others too."""
        layout = self._layout(sizes)
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = workspace.arena_of(layout)
        if arena.nbytes < layout.total + workspace.ALIGN:
            arena = workspace.arena_of(layout)
        try:
            return self._run(arrays, sizes, self._space(sizes, layout, arena))
        finally:
            self._arenas.append(arena)

    def _space(self, sizes: Mapping[Symbol, int], layout: workspace.Layout, arena: np.ndarray) -> tuple[Any, ...]:
        return workspace.make(self._plan, self._items, self._wanted, sizes, self._held, layout, arena)

    def _layout(self, sizes: Mapping[Symbol, int]) -> workspace.Layout:
        """Return a layout that these sizes fit into; that of one set of sizes serves all that are a little smaller."""
        larger = workspace.rounded(sizes)
        key = tuple([larger[s] for s in self._symbols])
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts.keep(key, workspace.Layout(self._plan, self._items, larger))
        return layout

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return how much memory a run keeps beside its inputs and outputs.

        A program that is called with ever new sizes works in memory for sizes an eighth larger.
        """
        held = sum(h.workspace_bytes(sizes) for h in self._held.values())
        return workspace.Layout(self._plan, self._items, sizes).total + held

    @property
    def stages(self) -> list[Stage]:
        """What fusing and scheduling made of the graph, in words."""
        return self._plan.stages

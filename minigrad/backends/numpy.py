"""The NumPy backend: a `Program` that runs the text it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..debugging import explain
from ..errors import printable
from ..graph import Graph
from ..passes.fuse_index_checks import fuse_index_checks
from ..passes.record import Stage
from ..passes.schedule import Plan, schedule
from ..symbolic import Symbol
from . import workspace
from .arena import Arena, ArenaPool
from .numpy_source import Printer
from .numpy_text import MANAGED
from .parts import in_parts
from .pools import Bounded, Pools
from .protocol import Executable
from .subgraph import KINDS

KEPT = 8  # the most sets of sizes with a workspace of their own
LAYOUTS = 256  # the most layouts, for sets of rounded sizes


def _held(graph: Graph) -> Executable:
    return in_parts(graph, lambda part, *host_values: Program(part))


class Program:
    """A compiled graph, called with arrays and sizes.

    Attributes
    ----------
    source : str
        The text of the program that runs.
    stages : list of Stage
        The groups and the buffers, in words.
    """

    def __init__(self, graph: Graph):
        graph = fuse_index_checks(graph)
        self._plan: Plan = schedule(graph, MANAGED)
        printed = Printer(self._plan).print()
        self._held = {n: KINDS[n.prim](n, _held) for n in graph.nodes if n.prim in KINDS}
        self.source = "\n\n".join([printed.text, *(text for held in self._held.values() for text in held.sources())])
        self._items, self._arguments = printed.items, printed.arguments
        names: dict[str, Any] = {}
        exec(compile(printed.text, f"<minigrad {printable(graph.name)}>", "exec"), names)
        self._main: Callable[..., list[np.ndarray]] = names["main"]
        self._symbols = printed.symbols
        self._pools: Pools[tuple[int, ...], tuple[object, ...]] = Pools(KEPT)
        self._grows = workspace.grows(self._plan)
        self._layouts: Bounded[tuple[int, ...], workspace.Layout] = Bounded(LAYOUTS)
        self._arenas = ArenaPool()
        self._latest: tuple[int, ...] | None = None  # sizes of the latest run that kept no workspace

    def __call__(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run the program.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One per input, of the dtypes and shapes of the graph. They need not be contiguous.
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
            space = self._space(sizes, layout, Arena(layout.total))
        try:
            return self._run(arrays, sizes, space)
        finally:
            pool.append(space)

    def _run(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int], space: tuple[object, ...]
             ) -> list[np.ndarray]:
        try:
            with np.errstate(all="ignore"):
                return self._main(*arrays, *space)
        except (IndexError, ValueError) as error:
            raise explain(error, self._plan.graph, arrays, sizes) from None

    def _run_once(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run with sizes that may not come again, as of ragged batches.

        The memory is shared with runs of other sizes.
        """
        layout = self._layout(sizes)
        arena = self._arenas.borrow(layout.total)
        try:
            return self._run(arrays, sizes, self._space(sizes, layout, arena))
        finally:
            self._arenas.give_back(arena)

    def _space(self, sizes: Mapping[Symbol, int], layout: workspace.Layout, arena: Arena) -> tuple[object, ...]:
        space = workspace.Workspace(self._plan, sizes, self._held, layout, arena)
        return space.make(self._items, self._arguments)

    def _layout(self, sizes: Mapping[Symbol, int]) -> workspace.Layout:
        """Return a layout for these sizes, which slightly smaller sizes share."""
        larger = workspace.rounded(sizes)
        key = tuple([larger[s] for s in self._symbols])
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts.keep(key, workspace.Layout(self._plan, self._items, larger))
        return layout

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run keeps beside its inputs and outputs.

        With ever new sizes, a program uses memory for sizes up to an eighth larger.
        """
        held = sum(h.workspace_bytes(sizes) for h in self._held.values())
        return workspace.Layout(self._plan, self._items, sizes).total + held

    @property
    def stages(self) -> list[Stage]:
        """The groups and the buffers, in words."""
        return self._plan.stages

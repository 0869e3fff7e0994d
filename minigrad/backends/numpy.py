"""The NumPy backend: a `Program` that runs the text it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..debugging import explain
from ..errors import printable
from ..graph import Graph
from ..ops.constants import const, full
from ..passes.fuse_index_checks import fuse_index_checks
from ..passes.record import Stage
from ..passes.schedule import Plan, schedule
from ..symbolic import Dim, Symbol, value
from . import numpy_text as nt
from . import workspace
from .arena import ALIGN, Arena, ArenaPool
from .numpy_source import Printer
from .numpy_text import MANAGED
from .parts import in_parts
from .peak import Piece, peak, type_bytes
from .pools import Bounded, Pools
from .protocol import Executable
from .subgraph import KINDS, NodePrograms, has_budget, has_two_sizes

KEPT = 8  # the most sets of sizes with a workspace of their own
LAYOUTS = 256  # the most layouts, for sets of rounded sizes
SPACES = 2  # sets of sizes with items in memory that all sizes share: passes of full length, and the last one


def _held(graph: Graph, shared: bool) -> Executable:
    return in_parts(graph, lambda part, *host_values: Program(part, shared))


class Program:
    """A compiled graph, called with arrays and sizes.

    Parameters
    ----------
    graph : Graph
    shared : bool
        Whether all sizes share one arena, of the exact size that the largest needs.

    Attributes
    ----------
    source : str
        The text of the program that runs.
    stages : list of Stage
        The groups and the buffers, in words.
    """

    def __init__(self, graph: Graph, shared: bool = False):
        graph = fuse_index_checks(graph)
        self._plan: Plan = schedule(graph, MANAGED)
        printed = Printer(self._plan).print()
        self._held = {n: KINDS[n.prim](n, partial(_held, shared=shared or has_budget(n) or has_two_sizes(n)))
                      for n in graph.nodes if n.prim in KINDS}
        self.source = "\n\n".join([printed.text, *(text for held in self._held.values() for text in held.sources())])
        self._items, self._arguments = printed.items, printed.arguments
        names: dict[str, Any] = {}
        exec(compile(printed.text, f"<minigrad {printable(graph.name)}>", "exec"), names)
        self._main: Callable[..., list[np.ndarray]] = names["main"]
        self._symbols = printed.symbols
        self._pools: Pools[tuple[int, ...], tuple[object, ...]] = Pools(KEPT)
        self._grows = workspace.grows(self._plan)
        self._layouts: Bounded[tuple[int, ...], workspace.Layout] = Bounded(LAYOUTS)
        self._shared = shared
        self._arenas = ArenaPool(spare=not shared)
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
        if self._shared:
            return self._run_shared(key, arrays, sizes)
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

    def _run_shared(self, key: tuple[int, ...], arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]
                    ) -> list[np.ndarray]:
        """Run in the memory that runs of all sizes share."""
        layout = self._layouts.get(key) or self._layouts.keep(key, workspace.Layout(self._plan, self._items, sizes))
        arena = self._arenas.borrow(layout.total)
        try:
            space = arena.spaces.get(key)
            if space is None:
                while len(arena.spaces) >= SPACES:
                    del arena.spaces[next(iter(arena.spaces))]
                space = arena.spaces[key] = self._space(sizes, layout, arena)
            return self._run(arrays, sizes, space)
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

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run needs at its peak beside its inputs."""
        leaves = sum(value(n, sizes) for n in self._leaves)
        steps = {k: held.passing_bytes(sizes) for k, held in self._holding}
        return self.workspace_bytes(sizes) + ALIGN + leaves + peak(self._allocated, sizes, steps)

    @cached_property
    def _leaves(self) -> list[int | Dim]:
        """The bytes of the leaves that are made for a set of sizes."""
        return [type_bytes(i.node) for i in self._items if isinstance(i, workspace.LeafItem)
                and i.node.prim not in (full, const)]

    @cached_property
    def _holding(self) -> list[tuple[int, NodePrograms]]:
        """The steps whose node holds programs."""
        return [(k, self._held[n]) for k, step in enumerate(self._plan.steps) for n in step.group.nodes
                if n in self._held]

    @cached_property
    def _allocated(self) -> list[Piece]:
        """The memory that a run allocates: outputs, results of steps that own memory, and copies within a step."""
        plan, end = self._plan, len(self._plan.steps)
        viewed = {plan.roles.root[n] for n in plan.graph.nodes if plan.roles.is_view(n)}
        claimed = set(plan.outputs.values())
        pieces: list[Piece] = [(end, end, type_bytes(n)) for k, n in enumerate(plan.graph.outputs) if k not in claimed]
        for k, step in enumerate(plan.steps):
            for n in step.group.nodes:
                if n in plan.outputs:
                    pieces.append((k, end, type_bytes(n)))
                elif n not in plan.place and n not in step.scratch and n not in step.heads:
                    pieces.append((k, end if n in viewed else plan.last_use[n], type_bytes(n)))
                if n in plan.place and len(step.group.nodes) == 1:
                    pieces.append((k, k, nt.temporary_bytes(n)))
        return pieces

    @property
    def stages(self) -> list[Stage]:
        """The groups and the buffers, in words."""
        return self._plan.stages

"""The NumPy backend: a `Program` that runs the text it shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..debugging import explain
from ..errors import printable
from ..graph import Graph
from ..immutable import cached_property
from ..ops.constants import const, full
from ..passes.fuse_index_checks import fuse_index_checks
from ..passes.record import Stage
from ..passes.schedule import Plan, schedule
from ..symbolic import Dim, Symbol, value
from . import numpy_text as nt
from . import workspace
from .arena import ALIGN, Arena
from .numpy_source import Printer
from .numpy_text import managed
from .parts import in_parts
from .peak import Piece, peak, type_bytes
from .pools import Bounded
from .protocol import Executable
from .subgraph import KINDS, NodePrograms, has_budget, has_two_sizes, is_new

KEPT = 8  # the most sets of sizes with items of their own, in memory that all sizes share
LAYOUTS = 256  # the most layouts, for sets of rounded sizes
SPACES = 2  # the same for passes: those of full length, and the last one


def _held(graph: Graph, exact: bool) -> Executable:
    return in_parts(graph, lambda part, *host_values: Program(part, exact))


class Program:
    """A compiled graph, called with arrays and sizes.

    Parameters
    ----------
    graph : Graph
    exact : bool
        Whether the arena has the size that the largest sizes need; similar sizes may share a layout otherwise.

    Attributes
    ----------
    source : str
        The text of the program that runs.
    stages : list of Stage
        The groups and the buffers, in words.
    """

    def __init__(self, graph: Graph, exact: bool = False):
        graph = fuse_index_checks(graph)
        self._plan: Plan = schedule(graph, managed)
        printed = Printer(self._plan).print()
        self._held = {n: KINDS[n.prim](n, partial(_held, exact=exact or has_budget(n) or has_two_sizes(n)))
                      for n in graph.nodes if n.prim in KINDS}
        self.source = "\n\n".join([printed.text, *(text for held in self._held.values() for text in held.sources())])
        self._items, self._arguments = printed.items, printed.arguments
        names: dict[str, Any] = {}
        exec(compile(printed.text, f"<minigrad {printable(graph.name)}>", "exec"), names)
        self._main: Callable[..., list[np.ndarray]] = names["main"]
        self._symbols = printed.symbols
        self._grows = workspace.grows(self._plan)
        self._exact, self._most = exact, SPACES if exact else KEPT
        self._layouts: Bounded[tuple[int, ...], workspace.Layout] = Bounded(LAYOUTS)
        self._arenas: deque[Arena] = deque()  # those that no run uses now
        self._latest: tuple[int, ...] | None = None  # the sizes that were prepared last

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
        try:  # as in `_free_arena`; a call of it is a hundredth of a small program
            arena = self._arenas.pop()
        except IndexError:
            arena = Arena(0)
        space = arena.spaces.get(key)
        if space is None:
            self._arenas.append(arena)
            del arena  # so that it goes where it is too small
            arena, space = self._prepared(key, sizes)
        try:
            return self._run(arrays, sizes, space)
        finally:
            self._arenas.append(arena)

    def _run(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int], space: tuple[object, ...]
             ) -> list[np.ndarray]:
        try:
            with np.errstate(all="ignore"):
                return self._main(*arrays, *space)
        except (IndexError, ValueError) as error:
            raise explain(error, self._plan.graph, arrays, sizes) from None

    def _free_arena(self) -> Arena:
        """Return memory that no other run uses."""
        try:
            return self._arenas.pop()
        except IndexError:
            return Arena(0)

    def _prepared(self, key: tuple[int, ...], sizes: Mapping[Symbol, int]) -> tuple[Arena, tuple[object, ...]]:
        """Return memory for a run, and the items made in it.

        They are kept for sizes that may come again. Those of ragged batches seldom do.
        """
        arena = self._free_arena()
        keep = not self._grows or self._exact or len(arena.spaces) < self._most or key == self._latest
        layout = workspace.Layout(self._plan, self._items, sizes) if keep else self._layout(sizes)
        self._latest = key
        if arena.size < layout.total:
            del arena  # before there is a larger one
            arena = Arena(layout.total)
        space = workspace.Workspace(self._plan, sizes, self._held, layout, arena).make(self._items, self._arguments)
        if keep:
            while len(arena.spaces) >= self._most:
                del arena.spaces[next(iter(arena.spaces))]
            arena.spaces[key] = space
        return arena, space

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
        plan, end, outputs = self._plan, len(self._plan.steps), self._plan.graph.outputs
        viewed = {plan.roles.root[n] for n in plan.graph.nodes if plan.roles.is_view(n)}
        claimed = set(plan.outputs.values())
        pieces: list[Piece] = [(end, end, type_bytes(n)) for k, n in enumerate(outputs)
                               if k not in claimed and not is_new(n, outputs)]
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

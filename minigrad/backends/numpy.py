"""The NumPy backend: a `Program` that runs the text it shows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..dims import Symbol
from ..graph import Graph
from ..passes.schedule import Plan, schedule
from ..passes.stage import Stage
from . import workspace
from .held import KINDS
from .numpy_source import Printer
from .numpy_text import MANAGED

KEPT = 8  # sets of sizes whose workspaces are kept


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
        self._plan: Plan = schedule(graph, MANAGED)
        printed = Printer(self._plan).print()
        self._held = {n: KINDS[n.prim.name](n, Program) for n in graph.nodes if n.prim.name in KINDS}
        self.source = "\n\n".join([printed.text, *(text for held in self._held.values() for text in held.sources())])
        self._items, self._wanted = printed.items, printed.wanted
        space: dict[str, Any] = {}
        exec(compile(printed.text, f"<minigrad {graph.name}>", "exec"), space)
        self._main = space["main"]
        self._symbols = printed.symbols
        self._pools: dict[tuple[int, ...], deque] = {}
        self._lock = threading.Lock()

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
            pool = self._new_pool(key)
        try:
            space = pool.pop()
        except IndexError:
            space = workspace.make(self._plan, self._items, self._wanted, sizes, self._held)
        try:
            with np.errstate(all="ignore"):
                return self._main(*arrays, *space)
        finally:
            pool.append(space)

    def _new_pool(self, key: tuple[int, ...]) -> deque:
        with self._lock:
            while len(self._pools) >= KEPT:
                del self._pools[next(iter(self._pools))]
            return self._pools.setdefault(key, deque())

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return how much memory a run keeps beside its inputs and outputs."""
        held = sum(h.workspace_bytes(sizes) for h in self._held.values())
        return workspace.Layout(self._plan, self._items, sizes).total + held

    @property
    def stages(self) -> list[Stage]:
        """What fusing and scheduling made of the graph, in words."""
        plan = self._plan
        fused = [s for s in plan.steps if len(s.group.nodes) > 1]
        lines = [f"{', '.join(n.prim.name for n in s.group.nodes)}: over rows {s.group.rows}" for s in fused]
        statements = sum(len(s.group.nodes) for s in plan.steps)
        places = [f"step {b.first} to {b.last}: {b.nbytes} bytes" + (" (an output)" if b.output is not None else "")
                  for b in plan.buffers]
        return [Stage("fuse", plan.graph, "\n".join(lines), f"{statements} statements run in {len(plan.steps)} steps, "
                      f"{len(fused)} of them fused"),
                Stage("schedule", "\n".join(lines), "\n".join(places),
                      f"{len(plan.place)} values live in {len(plan.buffers)} buffers")]

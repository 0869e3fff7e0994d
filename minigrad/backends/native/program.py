"""The native backend: a `Program` whose steps are machine code, run in stretches without Python."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...dims import Symbol
from ...graph import Graph
from ...passes.lower import canonical
from ...passes.schedule import Plan, Step, schedule, symbols_of
from ...passes.stage import Stage
from ...walk import evaluate
from .. import numpy as numpy_backend
from ..held import KINDS
from ..numpy_source import Printer
from ..numpy_text import MANAGED
from . import steps, threads
from .bound import Arena, Bound, Empty
from .cache import object_codes
from .kernel import Kernel, kernel, rows, unable
from .prepare import prepare
from .recipe import SPARE, Recipe
from .target import load

KEPT = 64  # sets of sizes for which a program stays bound
FEW = 8  # the same, of programs that keep memory for each


class Program:
    """A compiled graph: call it with arrays and sizes.

    Attributes
    ----------
    source : str
        The program as NumPy would run it, for people.
    llvm : str
        The kernels as LLVM IR.
    stages : list of Stage
        What was fused and how memory is shared, in words; which steps are not native, and why.
    how : list of str
        How each step is done: ``"kernel"``, ``"scan"``, ``"step"``, ``"product"`` or ``"python"``.
    """

    def __init__(self, graph: Graph, own_outputs: bool = False):
        self._graph = graph = prepare(graph, own_outputs)
        self.plan: Plan = schedule(graph, MANAGED | steps.NAMES, rows)
        self.held = {n: KINDS[n.prim.name](n, partial(Program, own_outputs=n.prim.name == "scan"))
                     for n in graph.nodes if n.prim.name in KINDS}
        self.kernels: list[Kernel | None] = []
        self.why: dict[int, str] = {}  # step -> why it is not native
        texts: dict[str, str] = {}
        for k, step in enumerate(self.plan.steps):
            self.kernels.append(self._make(k, step, texts))
        self._texts = texts
        self._symbols = sorted(symbols_of(graph), key=lambda s: s.uid)
        self._addresses: dict[str, int] = {}
        self._library = self._load()
        self.how = [self._way(k) for k in range(len(self.plan.steps))]
        self.recipe = Recipe(self)
        self._pools: dict[tuple[int, ...], deque] = {}
        self.arenas: deque[Arena] = deque()  # memory that no run uses now
        self._lock = threading.Lock()

    # -- code ----------------------------------------------------------------------------------------

    def _make(self, k: int, step: Step, texts: dict[str, str]) -> Kernel | None:
        node = step.group.nodes[0]
        if step.group.rows is None:
            if node.prim.name == "einsum" and canonical(node.params["subscripts"]) and node.dtype.name in (
                    "float32", "float64"):
                return None
            if node.prim.kind == "elementwise" and not node.ndim and unable(node) is None:
                return self._code(step, texts)
            if node.prim.name == "scan" and self.held[node].programs[0][1].native:
                return None
            if steps.unable(node) is None:
                return None
            self.why[k] = unable(node) or node.prim.name
            return None
        return self._code(step, texts)

    def _code(self, step: Step, texts: dict[str, str]) -> Kernel:
        made = kernel(self.plan, step, "kernel")
        name = "k" + hashlib.sha256(made.text.encode()).hexdigest()[:20]
        texts.setdefault(name, made.text.replace('"kernel', f'"{name}'))
        return Kernel(name, made.text, made.params, made.scratch, made.parts)

    def _load(self) -> Any:
        return load(object_codes(self._texts.values()), threads.symbols()) if self._texts else None

    def _way(self, k: int) -> str:
        node = self.plan.steps[k].group.nodes[0]
        if self.kernels[k] is not None:
            return "kernel"
        if k in self.why:
            return "python"
        if node.prim.name in ("scan", *steps.NAMES):
            return "scan" if node.prim.name == "scan" else "step"
        return "product"

    def address(self, name: str) -> int:
        if name not in self._addresses:
            self._addresses[name] = self._library.address(name)
        return self._addresses[name]

    @property
    def native(self) -> bool:
        """Whether no step needs Python, so that a step of a native scan can be this program."""
        return not self.why and all(self.plan.outputs.get(n) == i for i, n in enumerate(self._graph.outputs))

    @property
    def source(self) -> str:
        return "\n\n".join([Printer(self.plan).print().text,
                            *(text for held in self.held.values() for text in held.sources())])

    @property
    def llvm(self) -> str:
        return "\n\n".join(self._texts.values())

    # -- calls ---------------------------------------------------------------------------------------

    def __call__(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run the program.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One per input, of the dtypes and shapes that the graph says. Those not contiguous are copied first.
        sizes : mapping of Symbol to int

        Returns
        -------
        list of numpy.ndarray
            The caller's own: they share no memory with the inputs, the program, or each other.
        """
        key = (threads.get_num_threads(), *[sizes[s] for s in self._symbols])
        pool = self._pools.get(key)
        if pool is None:
            pool = self._new_pool(key)
        try:
            bound = pool.pop()
        except IndexError:
            bound = self._bind(sizes, key[0])
        try:
            found = bound.run(arrays)
        finally:
            pool.append(bound)
        if found is None:  # an index was out of range: the reference says which
            evaluate(self._graph, arrays, sizes)
            raise IndexError("an index is out of range")
        return found

    def _bind(self, sizes: Mapping[Symbol, int], team: int) -> Any:
        numbers = self.recipe.formulas.values(sizes)
        if self.recipe.empty(numbers, sizes):  # nothing to compute, and NumPy's rules for the extremes of nothing
            return Empty(numpy_backend.Program(self._graph), sizes)
        return Bound(self, sizes, team, numbers)

    def borrow(self, nbytes: int) -> Arena:
        """Return memory for a run, which gives it back to `arenas`: batches of ever new sizes share it."""
        try:
            arena = self.arenas.pop()
        except IndexError:
            return Arena(nbytes)
        return arena if arena.size >= nbytes else Arena(nbytes + nbytes // SPARE)

    def _new_pool(self, key: tuple[int, ...]) -> deque:
        with self._lock:
            while len(self._pools) >= (FEW if self.why else KEPT):
                del self._pools[next(iter(self._pools))]
            return self._pools.setdefault(key, deque())

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return how much memory a run keeps beside its inputs and outputs."""
        held = sum(h.workspace_bytes(sizes) for h in self.held.values())
        return self.recipe.total(sizes, threads.get_num_threads()) + held

    @property
    def stages(self) -> list[Stage]:
        """What fusing and scheduling made of the graph, in words."""
        others = "\n".join(f"step {k}: {why}" for k, why in self.why.items())
        steps = len(self.plan.steps)
        return [*self.plan.stages, Stage("native", self.plan.graph, others, f"{steps - len(self.why)} of {steps} steps "
                                         f"are native, of {len(self._texts)} kernels")]

"""The native backend: a `Program` whose steps are machine code; runs of steps need no Python in between."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...collector import uncollected
from ...debugging import explain
from ...graph import Graph, Node
from ...immutable import cached_property
from ...locks import Lock, importing
from ...ops.block_einsum import block_einsum
from ...ops.constants import const, full, size_
from ...ops.einsum import einsum
from ...ops.loops import scan
from ...ops.packed_scan import packed_scan
from ...ops.subgraph import symbols_of
from ...ops.tree_scan import tree_scan
from ...passes.fuse_index_checks import fuse_index_checks
from ...passes.lower_einsum import canonical
from ...passes.record import Stage
from ...passes.schedule import Step, schedule
from ...primitive import Primitive
from ...symbolic import Symbol, size_of, value
from ..arena import ALIGN, ArenaPool
from ..numpy_text import managed
from ..parts import in_parts
from ..peak import Piece, peak, type_bytes
from ..pools import Pools, drained
from ..protocol import Executable, Ready
from ..subgraph import KINDS, NodePrograms, has_budget, is_new
from .codegen.kernel import Kernel, kernel, rows, unable, written
from .codegen.kernel_key import KernelKey, Signature, kernel_key
from .codegen.loop_groups import space_of
from .kernels import gemm, steps, straight_scan
from .kernels import packed_scan as packed_step
from .packed_scan import EmptyBody, NestedBodies, Nests
from .plan.launch_plan import ArenaLayout, LaunchPlan
from .plan.legalize import legalize
from .runtime import runner, threads
from .runtime.background import BUILDER, Job
from .runtime.cache import QuickModule, generated, object_codes
from .runtime.jit import Library, ending, load
from .tree_scan import NativeTrees

if TYPE_CHECKING:
    from .bound_program import BoundProgram, Empty

KEPT = 64  # sets of sizes with executables
NATIVE_KINDS: dict[Primitive, Callable[..., NodePrograms]] = {**KINDS, tree_scan: NativeTrees}
FEW = 8  # the same, for programs whose executables keep memory
QUICK = 2**24  # elements of statements up to which quick code takes less time than the optimizer
_UNHINTED = 128  # the value of a symbolic size without a hint, in estimates of work


def _held(graph: Graph, own_outputs: bool, exact: bool) -> Executable:
    return in_parts(graph, lambda part, *host_values: Program(part, own_outputs, exact))


def _of_numpy(graph: Graph) -> Executable:
    """Return the program of NumPy's, whose modules few native programs need."""
    with importing:
        from ..numpy import Program

    return Program(graph)


@functools.cache
def _bound() -> type[BoundProgram]:
    """Return the class of bound programs, whose modules are imported while LLVM compiles the first program."""
    with importing, uncollected():
        from .bound_program import BoundProgram

    return BoundProgram


def _import_rest() -> None:
    """Import the modules that the first call needs when the code is there."""
    _bound()
    threads.threadpoolctl()


def _of_sizes(graph: Graph) -> set[Node]:
    """Return the single numbers that depend on sizes alone, as the 1 / B of a mean."""
    early: set[Node] = set()
    for n in graph.nodes:
        if n.prim in (size_, full, const) or (
                n.inputs and (n.prim.view is not None or (n.prim.kind == "elementwise" and not n.ndim))
                and early.issuperset(n.inputs)):
            early.add(n)
    return early


class Program:
    """A compiled graph: call it with arrays and sizes.

    Parameters
    ----------
    graph : Graph
    own_outputs : bool
        As of `legalize`.
    exact : bool
        Whether the arena has the size that the largest sizes need; similar sizes may share a layout otherwise.
    quick : bool
        Whether kernels of little work run as quick code until a thread in the background has optimized them. The bits
        of results are the same, but for the signs of NaN: the optimizer swaps the operands of sums and products.

    Attributes
    ----------
    source : str
        The program as the NumPy backend would run it, for readers.
    llvm : str
        The kernels as LLVM IR.
    stages : list of Stage
        Fusion, shared memory, and the steps that are not native with the reason, in words.
    ways : list of str
        How each step runs: ``"kernel"``, ``"straight"``, ``"scan"``, ``"packed"``, ``"step"``, ``"product"``,
        ``"python"``, or ``"bound"``, when the program is bound to its sizes.
    why : dict of int to str
        Why Python runs a step.
    """

    def __init__(self, graph: Graph, own_outputs: bool = False, exact: bool = False, quick: bool = False):
        self._graph = legalize(graph, own_outputs)
        graph = fuse_index_checks(self._graph)
        early = _of_sizes(graph)
        self.plan = schedule(graph, lambda n: managed(n) or steps.unable(n) is None,
                             lambda n: None if n in early else rows(n))
        self._straight = {n: straight_scan.named_code(n) for n in graph.holders
                          if n.prim is scan and straight_scan.unable(n) is None}
        self.held = {n: NATIVE_KINDS[n.prim](n, partial(_held, own_outputs=n.prim in (scan, packed_scan, tree_scan),
                                                        exact=exact or has_budget(n)))
                     for n in graph.holders if n.prim in NATIVE_KINDS and n not in self._straight}
        self.bodies, self.packed = ({n: body for n, held in self.held.items()
                                     if n.prim is prim and isinstance(body := held.programs[0][1], Program)}
                                    for prim in (scan, packed_scan))
        self.why: dict[int, str] = {}
        self._early: set[Node] = set()  # results of the steps that run when the program is bound
        self.ways = [self._way(k, step) for k, step in enumerate(self.plan.steps)]
        self._keys = [kernel_key(self.plan, step) if way == "kernel" else None
                      for step, way in zip(self.plan.steps, self.ways, strict=True)]
        forms: dict[tuple[Signature, tuple[Symbol, ...]], KernelKey] = {}
        self._firsts = [key and forms.setdefault((key.signature, key.symbols), key) for key in self._keys]
        self._optimizing, self._quick = Lock(), list[QuickModule]()  # the modules whose code is quick code
        self._libraries: list[Library] = []  # as long as the program lives
        self.kernels, self._addresses = self._compiled(quick and self._hinted_work() <= QUICK)
        self.symbols = sorted(symbols_of(graph), key=lambda s: s.uid)
        self.launch_plan: LaunchPlan = LaunchPlan(
            self.plan, self.ways, self.kernels, [() if key is None else key.nodes for key in self._keys],
            {n: body.launch_plan for n, body in self.bodies.items()}, exact=exact)
        self._single = exact and self.launch_plan.keeps  # whether executables for other sizes make room for a new one
        self._pools: Pools[tuple[int, ...], BoundProgram | Empty] = Pools(
            FEW if self.launch_plan.keeps else KEPT, lambda executable: executable.release())
        self.arenas, self.nests = ArenaPool(), Nests(self.packed)
        if self._quick:
            BUILDER.add(Job(self))

    # -- code ----------------------------------------------------------------------------------------

    def _way(self, k: int, step: Step) -> str:
        node = step.group.nodes[0]
        if step.group.rows is not None:
            return "kernel"
        if node.prim.kind == "elementwise" and not node.ndim and unable(node) is None:
            if node in self.plan.outputs or not all(self._known(i) for i in node.inputs):
                return "kernel"
            self._early.add(node)
            return "bound"
        if node.prim is einsum and node.dtype in gemm.DTYPES and canonical(node.params["subscripts"]):
            return "product"
        if node in self._straight:
            return "straight"
        if node in self.bodies and self.bodies[node].native:
            return "scan"
        if node in self.packed and self.packed[node].native and packed_step.unable(node) is None:
            return "packed"
        why = steps.unable(node)
        if why is None:
            return "step"
        self.why[k] = why if node.prim in steps.STEPS else unable(node) or node.prim.name
        return "python"

    def _known(self, n: Node) -> bool:
        """Return whether a value depends on sizes alone, as the 1 / B of a mean."""
        while self.plan.roles.is_view(n):
            if len(n.inputs) > 1:  # a barrier: its value waits for an effect, say
                return False
            (n,) = n.inputs
        return n in self._early or n.prim in (size_, full, const)

    def _hinted_work(self) -> int:
        """Return the elements of all statements in kernels, for the sizes of the traced example."""
        sizes = defaultdict(lambda: _UNHINTED, {s: s.hint for s in symbols_of(self._graph) if s.hint is not None})
        return sum(value(size_of(space_of(n)), sizes) for key, step in zip(self._keys, self.plan.steps, strict=True)
                   if key is not None for n in step.group.nodes)

    def _compiled(self, quick: bool) -> tuple[list[Kernel | None], dict[str | Node, int]]:
        """Return the kernels, and the addresses of their code by name, and of straight-line scans by node."""
        keys, scans = self._distinct_keys(), dict(self._straight.values())
        later = self._quick.append if quick else None
        dtypes = {step.group.nodes[0].dtype for step, way in zip(self.plan.steps, self.ways, strict=True)
                  if way == "product" or (way == "step" and step.group.nodes[0].prim is block_einsum)}
        new = [d for d in sorted(dtypes, key=str) if not gemm.loaded(d)]
        shared = [module for module in (threads, runner) if not module.loaded()]  # short ones: LLVM begins with others
        codes = iter(object_codes([*(request for d in new for request in gemm.code_requests(d)), *(
            generated(f"kernel {key.text}", partial(written, key))._replace(later=later) for key in keys.values()),
            *scans.values(), *(module.code_request() for module in shared)], meanwhile=_import_rest))
        products = {d: [next(codes)[1] for _ in gemm.code_requests(d)] for d in new}
        own = dict(zip([*keys, *scans], codes, strict=False))
        for module, (_, code) in zip(shared, codes, strict=True):
            module.add(code)
        for dtype, parts in products.items():
            gemm.add(dtype, parts)
        known = {key: kernel(key, own[key.signature][0]) for key in dict.fromkeys(self._firsts) if key is not None}
        kernels = [None if key is None else known[key] for key in self._firsts]
        objects = {k.name: own[key.signature][1] for key, k in known.items()} | {name: own[name][1] for name in scans}
        addresses = self._loaded(objects) if objects else {}
        return kernels, addresses | {n: addresses[name] for n, (name, _) in self._straight.items()}

    def _loaded(self, objects: Mapping[str, bytes]) -> dict[str | Node, int]:
        """Return the addresses of functions, given the object code of each."""
        self._libraries.append(library := load(objects.values(), threads.symbols()))
        return {name: library.address(name) for name in objects}

    def finish(self) -> None:
        """Exchange quick code for optimized code, which calls that begin later run."""
        with self._optimizing:
            if self._quick:
                codes = {module.note[0]: module.compile() for module in self._quick}
                self._addresses = {**self._addresses, **self._loaded(codes)}
                self._quick = []
                self._release()

    def _distinct_keys(self) -> dict[Signature, KernelKey]:
        """Return one kernel key of each signature."""
        return {key.signature: key for key in dict.fromkeys(self._firsts) if key is not None}

    @property
    def native(self) -> bool:
        """Whether no step needs Python, so that a step of a native scan can be this program."""
        return not self.why and all(self.plan.outputs.get(n) == i for i, n in enumerate(self.plan.graph.outputs))

    @property
    def source(self) -> str:
        with importing:
            from ..numpy_source import Printer

        return "\n\n".join([Printer(self.plan).print().text,
                            *(text for held in (*self._as_numpy, *self.held.values()) for text in held.sources())])

    @property
    def _as_numpy(self) -> list[NodePrograms]:
        """The straight-line scans as the NumPy backend runs them."""
        return [KINDS[scan](n, _of_numpy) for n in self._straight]

    @property
    def llvm(self) -> str:
        return "\n\n".join(self.texts)

    @cached_property
    def texts(self) -> list[str]:
        """The kernels' modules, generated again: compiled code is kept without its text."""
        kernels = [written(key)[0] for key in self._distinct_keys().values()]
        return list(dict.fromkeys([*kernels, *(code.make()[0] for _, code in self._straight.values())]))

    # -- calls ---------------------------------------------------------------------------------------

    @property
    def ready_order(self) -> list[int]:
        """The outputs in the order in which `ready` is called."""
        return [k for _, k in self.launch_plan.last_steps]

    def __call__(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int], ready: Ready | None = None
                 ) -> list[np.ndarray]:
        """Run the program.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One per input, of the dtypes and shapes that the graph says. Those not contiguous are copied first.
        sizes : mapping of Symbol to int
        ready : callable, optional
            ``ready(k, array)`` is called when output `k` is written, before the others are, where native steps write
            all outputs.

        Returns
        -------
        list of numpy.ndarray
            The caller's own: they share no memory with the inputs, the program, or each other.
        """
        key = (threads.get_num_threads(), *[sizes[s] for s in self.symbols])
        if self._single and key not in self._pools:
            self._release()
        pool = self._pools[key]
        try:
            executable = pool.pop()
        except IndexError:
            executable = self._executable(sizes, key[0])
        try:
            return executable.run(arrays, ready)
        except (IndexError, ValueError) as error:
            raise explain(error, self._graph, arrays, sizes) from None
        finally:
            pool.append(executable)

    def _release(self) -> None:
        """Free the memory of the executables."""
        for pool in list(self._pools.values()):
            for executable in drained(pool):
                executable.release()
        self._pools.clear()

    def _executable(self, sizes: Mapping[Symbol, int], team: int) -> BoundProgram | Empty:
        numbers = self.launch_plan.size_table.values(sizes)
        if self.launch_plan.empty(numbers, sizes):  # NumPy has the rules for empty arrays
            with importing:
                from .bound_program import Empty

            return Empty(self._of_numpy, sizes)
        if self._quick and self.launch_plan.work(numbers) > QUICK and not ending():
            self.finish()
        with uncollected():
            return self.bind(sizes, team, numbers)

    @cached_property
    def _of_numpy(self) -> Executable:
        """The program for sizes at which some loop has no turn."""
        return _of_numpy(self._graph)

    def bind(self, sizes: Mapping[Symbol, int], team: int, numbers: np.ndarray | None = None,
             layout: ArenaLayout | None = None) -> BoundProgram:
        """Return the program for sizes at which every loop has a turn; `layout`: one for no smaller sizes."""
        bodies = {n: body.bind for n, body in self.bodies.items()}
        return _bound()(self.launch_plan, self._addresses, self.held, bodies, self.nests, self.arenas, sizes, team,
                        numbers, layout)

    def bind_body(self, sizes: Mapping[Symbol, int], team: int, nested: NestedBodies) -> BoundProgram | EmptyBody:
        """Return the program as a body of a packed scan, for any sizes."""
        numbers = self.launch_plan.size_table.values(sizes)
        if self.launch_plan.empty(numbers, sizes):
            return EmptyBody(self._graph, self._of_numpy, sizes, nested)
        body = self.bind(sizes, team, numbers)
        body.attach(nested)
        return body

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the memory that a run keeps beside its inputs and outputs."""
        held = sum(h.workspace_bytes(sizes) for h in self.held.values())
        return self.launch_plan.total(sizes, threads.get_num_threads()) + held

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run needs at its peak beside its inputs."""
        leaves = sum(value(type_bytes(n), sizes) for n in self.launch_plan.leaves if n.prim is not const)
        steps = {k: self.held[n].passing_bytes(sizes) for k, n in self._holding}
        results = zip(self.plan.graph.outputs, self.launch_plan.sources, strict=True)
        outputs = sum(value(type_bytes(source or n), sizes) for n, source in results
                      if not is_new(n, self.plan.graph.outputs))
        return self.workspace_bytes(sizes) + ALIGN + leaves + outputs + peak(self._allocated, sizes, steps)

    @cached_property
    def _holding(self) -> list[tuple[int, Node]]:
        """The steps of Python whose node holds programs."""
        return [(k, n) for k, step in enumerate(self.plan.steps) for n in step.group.nodes
                if n in self.held and self.ways[k] == "python"]

    @cached_property
    def _allocated(self) -> list[Piece]:
        """The memory that a run's steps allocate: results of Python's, to the end unless they have a place."""
        end = len(self.plan.steps)
        return [(k, k if n in self.plan.place else end, type_bytes(n)) for k, step in enumerate(self.plan.steps)
                if self.ways[k] == "python" for n in step.group.nodes]

    @property
    def stages(self) -> list[Stage]:
        """The fused and scheduled graph, and the steps that Python runs."""
        others = "\n".join(f"step {k}: {why}" for k, why in self.why.items())
        steps = len(self.plan.steps)
        return [*self.plan.stages, Stage("native", self.plan.graph, others, f"{steps - len(self.why)} of {steps} steps "
                                         f"are native, of {len({k.name for k in self.kernels if k})} kernels")]

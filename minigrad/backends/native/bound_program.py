"""A program bound to sizes: its memory, its steps' arguments, and its runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import blas
from ...graph import ArrayType, Node
from ...interpreters import concrete
from ...ops.einsum import einsum
from ...ops.subgraph import signature
from ...passes.lower_einsum import canonical
from ...symbolic import Symbol, value
from ...views import SAME
from ..arena import Arena, ArenaPool, owning
from ..protocol import Executable, Ready
from ..subgraph import NodePrograms, is_new
from .codegen.step_codegen import Request, StepCode, load_all
from .codegen.strides import View
from .kernels import gemm, gemm_record, packed_scan, scan, straight_scan
from .kernels.faults import ERRORS
from .kernels.gemm_plan import gemm_args, placed, shared_by_blas
from .kernels.steps import STEPS
from .packed_scan import NestedBodies, Nests
from .plan.launch_plan import ARENA, FLAG, ArenaLayout, LaunchPlan
from .runtime.runner import runner


class Empty:
    """A program for sizes at which some loop has no turn: NumPy's."""

    def __init__(self, program: Executable, sizes: Mapping[Symbol, int]):
        self._program, self._sizes = program, sizes

    def run(self, arrays: Sequence[np.ndarray], ready: Ready | None = None) -> list[np.ndarray]:
        return self._program(arrays, self._sizes)

    def release(self) -> None:
        """Give the memory back."""


class BoundProgram:
    """A program for one set of sizes: its memory, the steps' arguments, and the table that the runner reads.

    Parameters
    ----------
    plan : LaunchPlan
    addresses : mapping of str or Node to int
        The addresses of kernels by name, and of straight-line scans by node.
    held : mapping of Node to NodePrograms
        The programs of the graphs that nodes hold.
    bodies : mapping of Node to callable
        Functions of sizes and team that return the executable of a scan's body.
    nests : Nests
        The bodies of packed scans, for one run at a time.
    arenas : ArenaPool
    sizes : mapping of Symbol to int
    team : int
        Threads that may work on a step.
    numbers : ndarray, optional
        The values of the plan's size table.
    layout : ArenaLayout, optional
        That of no smaller sizes.
    """

    def __init__(self, plan: LaunchPlan, addresses: Mapping[str | Node, int], held: Mapping[Node, NodePrograms],
                 bodies: Mapping[Node, Callable[[Mapping[Symbol, int], int], BoundProgram]], nests: Nests,
                 arenas: ArenaPool, sizes: Mapping[Symbol, int], team: int, numbers: np.ndarray | None = None,
                 layout: ArenaLayout | None = None):
        self.plan, self.held, self.arenas, self.sizes, self._bind_body = plan, held, arenas, sizes, bodies
        self.nests = nests
        self._nested: NestedBodies | None = None  # those that the bases name
        self._attached: list[object] = []  # alive as long as their addresses are used
        self.roles, self.graph = plan.schedule.roles, plan.schedule.graph
        if numbers is None:
            numbers = plan.size_table.values(sizes)
        partition = plan.partition(numbers, team)
        self.team, self.layout = team, layout or plan.layout(numbers, partition)
        self.numbers, self.places = numbers.tolist(), plan.places(self.layout, partition)
        self.arena: Arena | None = None  # its own, where arrays that Python's steps use lie in it
        self.flag = np.zeros(1, np.int64)
        self._new = [is_new(n, self.graph.outputs) for n in self.graph.outputs]
        self.out_types = [((0,) if new else self._shape(shape), n.dtype)
                          for n, shape, new in zip(self.graph.outputs, plan.out_shapes, self._new, strict=True)]
        self.now: tuple[np.ndarray, ...] = ()  # inputs and outputs of the run
        self.values: dict[Node, Any] = {}  # results of Python's steps: an array, or a tuple of arrays
        self._views: dict[Node, View] = {}
        self._products: dict[tuple[object, ...], list[int]] = {}  # their arguments, by the forms of their operands
        self.arrays: dict[Node, np.ndarray] = {}  # the values in the arena that Python's steps use
        self.bodies: list[BoundProgram] = []  # of scans
        self._table: list[tuple[int | StepCode, int]] = []  # functions, and where their arguments begin
        self._begun = 0
        self._others: list[int] = []  # arguments of the other steps, behind those of the kernels
        self._stretches: list[tuple[int, int] | Callable[[], None]] = []  # native steps by range, Python's by function
        self.bases = np.zeros(plan.bases, np.int64)
        self.leaves = {n: plan.leaves.array(n, sizes) for n in plan.leaves}
        self._step_ends: list[int] = []  # of each step, in the table
        self.calls_blas = False
        for k, way in enumerate(plan.ways):
            self._add(k, way, addresses)
            self._step_ends.append(len(self._table))
        self._flush()
        self._views.clear()
        self._products.clear()
        self.args = np.concatenate([plan.arguments(numbers, np.array(self.places), partition),
                                    np.array(self._others, np.int64)])
        load_all(f for f, _ in self._table if isinstance(f, StepCode))
        self.table = np.array([(f.address if isinstance(f, StepCode) else f, start) for f, start in self._table],
                              np.int64).reshape(-1, 2)
        self.table[:, 1] = self.table[:, 1] * 8 + self.args.ctypes.data
        start = self.table.ctypes.data
        self.stretches = [(start + 16 * s[0], s[1]) if isinstance(s, tuple) else s for s in self._stretches]
        self.table_range = next(s for s in self.stretches if isinstance(s, tuple))  # address and length; the first
        self._ends = [None if n is source else self._getter(n)
                      for n, source in zip(self.graph.outputs, plan.sources, strict=True)]
        self.mixed = len(self.stretches) > 1 or any(self._ends) or None in plan.sources
        if self.mixed or self.arena is not None:
            self.bases[ARENA] = self.own_arena().address
        self.bases[FLAG] = self.flag.ctypes.data
        for n, array in self.leaves.items():
            self.bases[plan.base_of[n]] = array.ctypes.data
        self.bases_address = self.bases.ctypes.data
        self.dtypes = plan.in_dtypes
        self._runner = runner()
        self.run_steps = partial(_on_one_blas_thread, self._runner) if self.calls_blas else self._runner
        # Whether a step, or one of a scan's body, is a packed scan.
        self.holds_packed: bool = bool(plan.packed) or any(body.holds_packed for body in self.bodies)

    def run(self, arrays: Sequence[np.ndarray], ready: Ready | None = None) -> list[np.ndarray]:
        """Return the outputs, or raise the fault that a step finds.

        Where native steps write all outputs, `ready` is called as soon as one is written.
        """
        # The runner reads their addresses.
        arrays = [a if d is None or (type(a) is np.ndarray and a.dtype is d and a.flags.c_contiguous)
                  else np.asarray(a, d, order="C") for a, d in zip(arrays, self.dtypes, strict=True)]
        outputs = [np.empty(*t) for t in self.out_types]
        in_out = (*arrays, *outputs)
        if self.holds_packed:
            with self.nests.of_a_run() as nested:
                self.attach(nested)
                return self._run(in_out, outputs, ready)
        return self._run(in_out, outputs, ready)

    @property
    def nbytes(self) -> int:
        """The bytes of its arena."""
        return self.layout.total

    def attach(self, nested: NestedBodies) -> None:
        """Let packed scans run with these bodies."""
        if nested is self._nested:
            return
        self._nested, self._attached = nested, [nested]
        for node in self.plan.packed:
            bodies = nested.of(node, self.nests.programs[node], self.sizes, self.team)
            self._attached.append(bodies)
            self.bases[self.plan.base_of[node]] = bodies.address
        for body in self.bodies:
            body.attach(nested)

    def _run(self, in_out: tuple[np.ndarray, ...], outputs: list[np.ndarray], ready: Ready | None
             ) -> list[np.ndarray]:
        if self.mixed:
            return self._mixed(in_out, outputs)
        arena = None
        if self.arena is None:
            arena = self.arenas.borrow(self.layout.total)
            self.bases[ARENA] = arena.address
        if ready is None:
            self.run_steps(*self.table_range, self.bases_address, in_out, 2, len(in_out))
        elif self.calls_blas:
            _on_one_blas_thread(self._announce, in_out, outputs, ready)
        else:
            self._announce(in_out, outputs, ready)
        if arena is not None:
            self.arenas.give_back(arena)
        if self.flag[0]:
            self._fail()
        return outputs

    def _announce(self, in_out: tuple[np.ndarray, ...], outputs: list[np.ndarray], ready: Ready) -> None:
        """Run the steps up to each output's last one, and announce it."""
        address, begin, first = self.table_range[0], 0, 2
        for step, k in self.plan.last_steps:
            end = self._step_ends[step]
            self._runner(address + 16 * begin, end - begin, self.bases_address, in_out, first, len(in_out))
            in_out, begin, first = (), end, 0
            ready(k, outputs[k])
        self._runner(address + 16 * begin, self.table_range[1] - begin, self.bases_address, in_out, first,
                     len(in_out))

    def _fail(self) -> None:
        """Reset the flag, and raise the error that it stands for."""
        (kind, text), self.flag[0] = ERRORS[int(self.flag[0])], 0
        raise kind(text)

    def _mixed(self, in_out: tuple[np.ndarray, ...], outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Run native steps and Python's in turn."""
        self.now, self.values, first = in_out, {}, 2
        try:
            with np.errstate(all="ignore"):
                for stretch in self.stretches:
                    if isinstance(stretch, tuple):
                        self.run_steps(*stretch, self.bases_address, in_out, first, len(in_out))
                        in_out, first = (), 0
                        if self.flag[0]:
                            self._fail()
                    else:
                        stretch()
                for i, (source, end) in enumerate(zip(self.plan.sources, self._ends, strict=True)):
                    if end is not None and source is None and not self._new[i]:
                        outputs[i][...] = end()
                    elif end is not None:
                        outputs[i] = end()
        finally:
            self.now, self.values = (), {}
        return outputs

    # -- values ----------------------------------------------------------------------------------------

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of a shape of formulas."""
        return tuple([self.numbers[i] for i in shape])

    def _piece(self, *key: Hashable) -> tuple[int, int]:
        """Return the place of a piece of the arena."""
        return ARENA, self.places[self.plan.piece[key]]

    def _view(self, n: Node) -> View:
        view = self._views.get(n)
        if view is None:
            base, piece, offset, shape, strides = self.plan.views[n]
            numbers = self.numbers
            view = self._views[n] = View(base, self.places[piece] + numbers[offset],
                                         tuple([numbers[i] for i in shape]), tuple([numbers[i] for i in strides]))
        return view

    def _getter(self, n: Node) -> Callable[[], np.ndarray]:
        """Return a function that returns a value as an array, for Python's steps."""
        if not self.roles.is_view(n):
            return self._root_getter(n)
        get = self._getter(n.inputs[0])
        return get if n.prim.view is SAME else partial(_view, n, concrete(n.params, self.sizes), get)

    def _root_getter(self, root: Node) -> Callable[[], Any]:
        inputs, schedule = self.graph.inputs, self.plan.schedule
        if root in inputs:
            i = inputs.index(root)
            return lambda: self.now[i]
        if root in schedule.outputs and root in schedule.place:
            i = len(inputs) + schedule.outputs[root]
            return lambda: self.now[i]
        if root in self.plan.stacked_strides or root in self.plan.packed:  # a native scan
            parts = tuple(self._array(self._piece("part", root, i), t) for i, t in enumerate(root.types))
            return lambda: parts
        if root in schedule.place and root not in self.plan.leaves.early:
            if root not in self.arrays:
                self.arrays[root] = self._array(self._piece("buffer", schedule.place[root]), *root.types)
            array = self.arrays[root]
            return lambda: array
        if root in self.plan.python_results:
            return lambda: self.values[root]
        leaf = self.leaves[root] if root in self.leaves else self.plan.leaves.array(root, self.sizes)
        return lambda: leaf

    def _array(self, place: tuple[int, int], t: ArrayType) -> np.ndarray:
        """Return memory of the arena as an array."""
        return self.own_arena().array([value(d, self.sizes) for d in t.shape], t.dtype, place[1])

    def own_arena(self) -> Arena:
        """Return memory that no other run uses."""
        if self.arena is None:
            total = self.layout.total
            self.arena = self.arenas.borrow(total) if self.plan.exact else Arena(total)
        return self.arena

    def release(self) -> None:
        """Give the memory back now, and run no more: steps of Python hold the program that they are part of."""
        for body in self.bodies:
            body.release()
        for held in (self.bodies, self.arrays, self.values, self.leaves, self._stretches, self.stretches, self._ends):
            held.clear()
        if self.arena is not None and self.plan.exact:
            self.arenas.give_back(self.arena)
        self.arena = None

    # -- steps -----------------------------------------------------------------------------------------

    def _add(self, k: int, way: str, addresses: Mapping[str | Node, int]) -> None:
        node = self.plan.schedule.steps[k].group.nodes[0]
        kernel = self.plan.kernels[k]
        if kernel is not None:
            self._table.append((addresses[kernel.name], self.plan.starts[k]))
        elif way == "straight":
            operands, results = [self._view(n) for n in node.inputs], range(len(node.types))
            self._native(addresses[node], straight_scan.arguments(
                self.numbers[self.plan.scan_lengths[node]], (FLAG, 0), [(v.base, v.offset) for v in operands],
                [self._piece("part", node, i) for i in results]))
        elif way == "scan":
            self._scan(node)
        elif way == "packed":
            self._packed_scan(node)
        elif way == "step":
            request = Request(node, self._view(node), [self._view(i) for i in node.inputs], self.sizes,
                              self._piece("room", k), (FLAG, 0), self.team)
            for function, args in STEPS[node.prim].make(request):
                self.calls_blas |= function.calls_blas
                self._native(function, args)
        elif way == "product":
            self._product(node)
        elif way == "python":
            self._flush()
            self._python(node)

    def _native(self, function: int | StepCode, args: list[int]) -> None:
        self._table.append((function, self.plan.arguments_end + len(self._others)))
        self._others += args

    def _flush(self) -> None:
        """End a stretch of native steps."""
        count = len(self._table) - self._begun
        if count or not self._stretches:
            self._stretches.append((self._begun, count))
            self._begun += count

    def _product(self, node: Node) -> None:
        """Add a matrix product: equal layers have equal ones, at other places."""
        views = [self.plan.views[n] for n in (*node.inputs, node)]
        product = node.params["subscripts"], node.dtype, *[(v.shape, v.strides) for v in views]
        args = self._products.get(product)
        if args is None:
            x, y, out = [self._view(n) for n in (*node.inputs, node)]
            args = self._products[product] = gemm_args(node.params["subscripts"], x, y, out, node.dtype,
                                                       gemm_record.resources(self.team))
            self.calls_blas |= shared_by_blas(args)
        places = [(v.base, self.places[v.piece] + self.numbers[v.offset]) for v in views]
        self._native(gemm.address(node.dtype), placed(args, *places))

    def _scan(self, node: Node) -> None:
        """Add a native scan: its body runs on memory of this executable."""
        body = self._bind_body[node](self.sizes, self.team)
        body.bases[ARENA] = body.own_arena().address
        self.bodies.append(body)
        self.calls_blas |= body.calls_blas
        operands = [self._view(n) for n in node.inputs]
        starts = [(v.base, v.offset) for v in operands]
        first_output = body.plan.first_output
        shared, carry, slices = signature(node).split(range(len(operands)))
        fixed = [(2 + i, starts[i]) for i in shared] + [(FLAG, (FLAG, 0))]
        sliced = [(2 + i, starts[i], operands[i].strides[0]) for i in slices]
        parts = [self._piece("part", node, i) for i in range(len(node.types))]
        sliced += [(first_output + i, parts[i], self.numbers[stride])
                   for i, stride in enumerate(self.plan.stacked_strides[node], len(carry))]
        carried = [(2 + i, first_output + k, starts[i], parts[k], [self._piece("turn", node, k, j) for j in (0, 1)])
                   for k, i in enumerate(carry)]
        length = self.numbers[self.plan.scan_lengths[node]]
        self._native(scan.step(), scan.arguments(length, node.params["reverse"], body.table_range, body.bases_address,
                                                 fixed, sliced, carried))

    def _packed_scan(self, node: Node) -> None:
        """Add a native packed scan: its bodies run on memory of their own."""
        args: list[int] = []
        for token in self.plan.packed[node]:
            match token:
                case int():
                    args.append(self.numbers[token])
                case ("operand", int(i)):
                    view = self._view(node.inputs[i])
                    args += [view.base, view.offset]
                case ("flag",):
                    args += [FLAG, 0]
                case _:
                    args += self._piece(*token)
        self._native(packed_scan.step(), args)

    def _python(self, node: Node) -> None:
        xs = [self._getter(i) for i in node.inputs]
        evaluation: Callable[..., Any]
        if node in self.held:
            evaluation = self.held[node].bind(self.sizes)
        elif node.prim is einsum and canonical(node.params["subscripts"]):
            evaluation = np.matmul  # of integers: BLAS computes no others
        else:
            evaluation = partial(node.prim.eval, np, **concrete(node.params, self.sizes))
        if node in self.plan.schedule.place:
            out = self._root_getter(node)
            self._stretches.append(lambda: np.copyto(out(), evaluation(*(x() for x in xs))))
            return
        self._stretches.append(partial(self._keep, node, owning(evaluation), xs, self.plan.python_results[node]))

    def _keep(self, node: Node, evaluation: Callable[..., Any], xs: list[Callable[[], Any]],
              parts: list[tuple[int | None, int]]) -> None:
        """Evaluate a node whose result is new memory, and enter the addresses of the parts that native steps read."""
        result = evaluation(*(x() for x in xs))
        single = isinstance(node.type, ArrayType)
        arrays = [np.asarray(x, order="C") for x in ([result] if single else result)]
        self.values[node] = arrays[0] if single else tuple(arrays)
        for i, base in parts:
            self.bases[base] = arrays[i or 0].ctypes.data


def _on_one_blas_thread(run: Callable[..., None], *args: Any) -> None:
    """Run native steps that call BLAS from the pool's threads."""
    with blas.limited(1):
        run(*args)


def _view(node: Node, params: dict[str, Any], get: Callable[[], Any]) -> Any:
    return node.prim.eval(np, get(), *[None] * (len(node.inputs) - 1), **params)

"""The CuPy backend: a `Program` whose launches are recorded once and replayed as a graph.

Kernels reach arguments and results through a table of pointers, which the graph's first node writes, so that one graph
serves all calls. Between them, values live in an arena that is laid out once per set of sizes.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from ...errors import IntegerRangeError, MinigradError, at_user_line
from ...graph import ArrayType, Graph, Node, TupleType
from ...interpreters import concrete
from ...ops import overflow
from ...ops.constants import const
from ...ops.segments import nonempty
from ...ops.subgraph import symbols_of
from ...passes.record import Stage
from ...passes.schedule import schedule
from ...primitive import input_
from ...symbolic import Symbol, size_of, value
from ..arena import allocate
from ..peak import type_bytes
from ..pools import Bounded, Pools
from ..subgraph import KINDS
from ..workspace import rounded
from . import blas, driver, gemm, loops
from .blas import ALIGN, Fork, Product, ProductCall, Spec
from .codegen import Key, Param, key_of
from .device import Call, CapturedGraph, Device, DeviceArray, Launched, Number, Pointer, pack
from .gemm import ConcurrentProducts, Multiply
from .host_scalars import HostScalars, Scalars
from .kernels import THREADS, Launch, Op, blocks_for
from .launch_plan import PARTS, Evaluate, LaunchPlan, Planner, ZeroTail, kind_of, written
from .prelude import COMMON
from .segment_kernels import SortByPlace

KEPT = 8  # sets of sizes with workspaces and graphs
_REMEMBERED = 1024  # sets of sizes with a run plan, and products
_SMALLEST = 16  # least rows of a ragged axis in a workspace
_TOGETHER = 4096  # bytes of results that share an allocation: a result keeps as much of others alive
_WIDE = (1 << 31) - (1 << 24)  # least elements of arrays with 64-bit offsets: loops step by 2^24 at most
_CELLS = 500  # cells of the table that one launch writes; ``Cells`` in the prelude
Scalar: TypeAlias = bool | int | float | complex
Part: TypeAlias = "loops.Part | Evaluate"  # of a run
Work: TypeAlias = "Call | loops.Repeat | Evaluate"


class Program:
    """A compiled graph: call it with CuPy arrays and sizes.

    Parameters
    ----------
    graph : Graph
    precision : {"highest", "tf32"}
        Of the products of float32 matrices.
    device : Cuda, optional
        By default the current one, when the program is first run.
    host_inputs : collection of int
        The arguments that are Python numbers; the host computes the scalars that depend on them and on sizes alone.
    host_outputs : collection of int
        The results that become Python numbers where the host computes them.
    lent : frozenset of int, optional
        Of a loop's step: the arguments whose addresses are known when its launches are made.
    stops : bool
        Whether the program is a step of a loop that may end before it.

    Attributes
    ----------
    graph : Graph
    symbols : list of Symbol
        The symbolic sizes.
    source : str
        The CUDA text of its kernels.
    stages : list of Stage
    plan : LaunchPlan
    held : dict of Node to NodePrograms
        The programs of nodes that hold graphs.
    """

    def __init__(self, graph: Graph, precision: str = "highest", device: Device | None = None,
                 host_inputs: Collection[int] = (), host_outputs: Collection[int] = (),
                 lent: frozenset[int] | None = None, stops: bool = False):
        if precision not in driver.PRECISIONS:
            raise MinigradError(at_user_line(f"no precision {precision!r}; there are {', '.join(driver.PRECISIONS)}"))
        self.graph, self._precision = graph, precision
        self._device = device or driver.current()
        self.host, self.without = HostScalars(graph, host_inputs), left_out()
        build = partial(Program, precision=precision, device=self._device)
        holding = [n for n in graph.nodes if n.prim in KINDS]
        looping = {n for n in holding if kind_of(n) == "loop"}
        self.held = {n: KINDS[n.prim](n, partial(build, lent=loops.fixed_of(n), stops=stops or loops.may_end(
            n)) if n in looping else build, self._device.xp) for n in holding}
        self.loops = {n: [program for _, program, _ in self.held[n].programs if isinstance(program, Program)]
                      for n in looping}
        plan = schedule(graph, written)
        planner = Planner(plan, self.host, host_outputs, self.loops, lent, stops, self.without)
        self.plan = planner.build()
        self._dtypes = [None if i in host_inputs else n.dtype for i, n in enumerate(graph.inputs)]
        self._runs: Bounded[tuple[int, ...], RunPlan] = Bounded(_REMEMBERED)
        self._products: Bounded[Spec, Product] = Bounded(_REMEMBERED)
        self.source = "\n\n".join([self.plan.text, *(text for held in self.held.values() for text in held.sources())])
        self.symbols = sorted(symbols_of(graph), key=lambda s: s.uid)
        self._pools: Pools[Hashable, Workspace] = Pools(KEPT)
        self._constants: dict[Node, DeviceArray] = {}
        self._lock = threading.Lock()
        # The flag belongs to the program, since a workspace may be deleted before its last run ends.
        self._flag, self.flag_at = self._device.flag()
        self.all: list[Program] = [q for programs in self.loops.values() for p in programs for q in p.all] + [self]
        self._reporting = [p for p in self.all if p.plan.checked]

    def asarray(self, x: object, dtype: np.dtype) -> Any:
        """Return an argument as an array of the device."""
        return self._device.asarray(x, dtype)

    def __call__(self, arrays: Sequence[Any], sizes: Mapping[Symbol, int]) -> list[Any]:
        """Run the program on the current stream; it does not wait for the device.

        Arguments must stay allocated until it has run. Memory of CuPy does, and memory of PyTorch if it was allocated
        on the stream that is current here.

        Raises
        ------
        IndexError
            If an index was out of range, in this run or an earlier one: the device reports it when it gets there.
        MemoryError
            If the device's memory does not suffice. The program releases its memory, and can be called again.
        """
        device = self._device
        device.ready()
        arrays = [x if dtype is None else device.argument(x, dtype)
                  for x, dtype in zip(arrays, self._dtypes, strict=True)]
        for _ in range(2):
            try:
                return self._run(arrays, sizes)
            except MemoryError as error:
                failure = str(error)  # its traceback would keep memory
            self._pools.clear()
            device.release()
        raise MemoryError(at_user_line(
            f"{self.graph.name}: {self.workspace_bytes(sizes):,} bytes beside arguments and results do not fit "
            f"into the GPU's memory ({failure}). Take fewer examples at a time: mg.microbatch(f, size)"))

    def _run(self, arrays: Sequence[Any], sizes: Mapping[Symbol, int]) -> list[Any]:
        shape = tuple([sizes[s] for s in self.symbols])
        run = self._runs.get(shape) or self._runs.keep(shape, RunPlan(self, sizes))
        pool = self._pools[self._device.queue(), run.key]
        try:
            workspace = pool.pop()
        except IndexError:
            workspace = Workspace(self, run.bucket)
        self.check()
        results = workspace.run(arrays, run)
        pool.append(workspace)
        self.check()
        return results

    def check(self) -> None:
        """Raise `IndexError` if the device has reported an index that is out of range."""
        errors = [error for p in self._reporting if (error := p._reported()) is not None]
        if errors:
            raise errors[0]

    def _reported(self) -> Exception | None:
        """Return the error that the device has reported since the last call, if any."""
        if not (number := int(self._flag[0])):
            return None
        self._flag[0] = 0
        node = list(self.plan.checked)[number - 1]
        if node.prim is nonempty:
            return ValueError(f"{node.where}: {node.params['message'].replace('example {}', 'an example')}")
        if (refused := overflow.refused_by(node)) is not None:
            return IntegerRangeError(overflow.message("of a call", **refused.params))
        return IndexError(f"{node.where}: {node.prim.name}({', '.join(str(i.type) for i in node.inputs)}): an index "
                          "is out of range")

    def constant(self, node: Node) -> DeviceArray:
        """Return a constant's array on the device."""
        with self._lock:
            if node not in self._constants:
                self._constants[node] = self._device.argument(node.params["value"], node.dtype)
                self._device.wait()  # other threads read it on their own streams
            return self._constants[node]

    def product(self, spec: Spec) -> Product:
        """Return a product with its choice of algorithms."""
        return self._products.get(spec) or self._products.keep(
            spec, Product(self._device, spec, "cublaslt" not in self.without))

    def bucket(self, sizes: Mapping[Symbol, int]) -> dict[Symbol, int]:
        """Return the sizes of memory and launches: those of ragged axes are rounded up, by an eighth at most.

        So batches whose examples differ in size share a few graphs.
        """
        return {**sizes, **rounded({s: max(sizes[s], _SMALLEST) for s in self.plan.rounded})}

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return how much memory a run keeps beside its arguments and results."""
        held = [h for n, h in self.held.items() if n not in self.loops]
        return self.arena_bytes(self.bucket(sizes)) + sum(h.workspace_bytes(sizes) for h in held)

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run needs at its peak beside its inputs."""
        held = max((h.passing_bytes(sizes) for n, h in self.held.items() if n not in self.loops), default=0)
        return self.workspace_bytes(sizes) + held + sum(value(type_bytes(n), sizes) for n in self.graph.outputs)

    def arena_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes of the arena, those of loops' steps included."""
        return layout(self.plan, sizes)[1]

    @property
    def stages(self) -> list[Stage]:
        """The launches, the arena and the captured parts of the program."""
        launches = [op for op in self.plan.ops if isinstance(op, Launch)]
        products = len(self.plan.products)
        lines = [f"{op.name}: {', '.join(n.prim.name for n in op.nodes) or 'copy'}" for op in launches]
        own = [f"{key}: {first} to {last}" for key, (first, last) in self.plan.span.items()]
        notes = self.plan.notes or ["all of it is captured as one graph"]
        return [Stage("kernels", self.graph, "\n".join(lines),
                      f"{len(launches)} launches of {self.plan.text.count('__launch_bounds__')} kernels, {products} "
                      f"matrix products, precision {self._precision}"),
                Stage("arena", "\n".join(lines), "\n".join(own), f"{len(self.plan.bytes)} values in an arena"),
                Stage("capture", "", "\n".join(notes), f"{len(self.plan.notes)} parts run outside of a graph")]


def layout(plan: LaunchPlan, sizes: Mapping[Symbol, int]) -> tuple[dict[Key, int], int]:
    """Return the offset of each value in the arena, and the arena's size."""
    read_in_place = plan.read_in_place(sizes)
    pieces: list[tuple[int, int, int, Key]] = [
        (*plan.span[key], size(sizes), key) for key, size in plan.bytes.items() if key not in read_in_place]
    pieces += [(k, k, n, ("partial", k)) for k, op in enumerate(plan.ops)
               if isinstance(op, Launch) and (n := op.numbers(sizes).get("partial", 0))]
    pieces.sort(key=lambda p: p[0])
    offsets, total = allocate([(a, b, -(-max(n, 1) // ALIGN) * ALIGN) for a, b, n, _ in pieces])
    return {p[3]: o for p, o in zip(pieces, offsets, strict=True)}, total


def left_out() -> frozenset[str]:
    """Return the parts of the backend that ``MINIGRAD_GPU_WITHOUT`` names, separated by commas.

    Raises
    ------
    MinigradError
        If the program has no such part.
    """
    named = frozenset(os.environ.get("MINIGRAD_GPU_WITHOUT", "").replace(",", " ").split())
    if strange := named.difference(PARTS):
        raise MinigradError(at_user_line(
            f"MINIGRAD_GPU_WITHOUT names {', '.join(sorted(strange))}; there are {', '.join(PARTS)}"))
    return named


def source(plan: LaunchPlan, wide: bool = False) -> str:
    """Return the text to compile; offsets have 64 bits if `wide`."""
    return f"typedef {'long long' if wide else 'int'} I;\n{plan.text}"


class RunPlan:
    """The common part of runs with the same sizes: the shapes of the results, and the numbers in the table.

    Attributes
    ----------
    bucket : dict of Symbol to int
        The sizes of the workspace; `key` has them in order.
    blocks : list of int
        Bytes of each allocation: one for each large result, and others that small results share. A result keeps its
        allocation alive.
    places : list of (int, int, tuple of int, dtype)
        Of each result: its allocation and its offset there, shape and dtype.
    views : list of list of Node
        The views that lead from there to each result.
    """

    def __init__(self, program: Program, sizes: Mapping[Symbol, int]):
        self.sizes, self.bucket = sizes, program.bucket(sizes)
        self.key = tuple([self.bucket[s] for s in program.symbols])
        self.evaluations: dict[Node, Callable[..., Any]] = {}
        plan, roles = program.plan, program.plan.schedule.roles
        self.blocks: list[int] = []
        self.places: list[tuple[int, int, tuple[int, ...], np.dtype]] = []
        self.views: list[list[Node]] = []
        shared, used = -1, _TOGETHER
        for k, node in enumerate(program.graph.outputs):
            views = []
            while plan.direct.get(node) != k and roles.is_view(node) and plan.direct.get(roles.root[node]) == k:
                views.append(node)
                node = node.inputs[0]
            shape = tuple(value(n, sizes) for n in node.shape)
            nbytes = -(-max(math.prod(shape) * node.dtype.itemsize, 1) // ALIGN) * ALIGN
            if nbytes > _TOGETHER:
                self.places.append((len(self.blocks), 0, shape, node.dtype))
                self.blocks.append(nbytes)
            else:
                if used + nbytes > _TOGETHER:
                    shared, used = len(self.blocks), 0
                    self.blocks.append(0)
                self.places.append((shared, used, shape, node.dtype))
                used += nbytes
                self.blocks[shared] = used
            self.views.append(views[::-1])
        self._numbers = plan.numbers
        scalars = [c for c in plan.cells if isinstance(c, Node)]
        self._scalars = Scalars(program.host, [*scalars, *plan.numbers.values()], sizes)
        within = {p: dict(zip(p.plan.cells, RunPlan(p, sizes).cells(())[0], strict=True))
                  for programs in program.loops.values() for p in programs}
        self._cells = [0 if isinstance(c, Node) else sizes[c] if isinstance(c, Symbol) else
                       within[c[0]][c[1]] if isinstance(c, tuple) else value(c, sizes) for c in plan.cells]
        self._at = [number for number, c in enumerate(plan.cells) if isinstance(c, Node)]
        self._fixed = None if self._scalars.vary else self._evaluated(())

    def cells(self, arguments: Sequence[object]) -> tuple[list[int], dict[int, Scalar]]:
        """Return the table's numbers, and the results that are Python numbers."""
        return self._fixed or self._evaluated(arguments)

    def _evaluated(self, arguments: Sequence[object]) -> tuple[list[int], dict[int, Scalar]]:
        values, cells = self._scalars(arguments), list(self._cells)
        for number, x in zip(self._at, values, strict=False):
            cells[number] = int.from_bytes(x.tobytes(), "little")  # kernels read its bytes at the cell's address
        return cells, {k: x.item() for k, x in zip(self._numbers, values[len(self._at):], strict=True)}


class Workspace:
    """Memory and launches for one set of sizes, or for smaller ones of ragged axes; used by one run at a time.

    Parameters
    ----------
    program : Program
    sizes : dict of Symbol to int
    outer : Workspace, optional
        The workspace of the program around a loop; this one belongs to a step, and lies in the `arena` of that one.
    stop : int
        The address of the word that marks the end of the loop around the step.

    Attributes
    ----------
    parts : list of callable or Evaluate
        The parts of a run; each takes the addresses of the arguments that products read in place.
    cells : int
        The cells of a table.
    read_in_place : dict of Key to int
        The arguments that products read in place, by the keys of the copies that are not made.
    """

    def __init__(self, program: Program, sizes: Mapping[Symbol, int], outer: Workspace | None = None,
                 arena: Pointer | None = None, stop: int = 0):
        self._program, self.device, self.plan = program, program._device, program.plan
        device, graph = self.device, program.graph
        self.sizes: Mapping[Symbol, int] = sizes
        self.stop: int = stop
        self._root: Workspace = outer._root if outer else self
        self._offset, total = layout(self.plan, sizes)
        self.read_in_place = self.plan.read_in_place(sizes)
        self._arena = arena or device.allocate(max(total, 1))
        self.cells = len(graph.inputs) + len(graph.outputs) + len(self.plan.cells)
        counters = [op.numbers(sizes).get("counter", 0) if isinstance(op, Launch) else 0 for op in self.plan.ops]
        self._counters = device.zeros(max(sum(counters), 1))
        self._counter: dict[Hashable, int] = dict(enumerate(accumulate([self._counters.ptr, *counters])))
        self._room: Pointer = outer._room if outer else device.allocate(
            blas.ROOM if any(p.plan.products for p in program.all) else 1)
        self.make_tables(1)
        widest = max((value(size_of(t.shape), sizes) for n in graph.nodes for t in n.types), default=0)
        self._index: type[ctypes.c_longlong | ctypes.c_int] = ctypes.c_longlong if widest >= _WIDE else ctypes.c_int
        self._text = source(self.plan, wide=widest >= _WIDE)
        self._loops = {}
        for op in self.plan.ops:
            if isinstance(op, loops.Loop):
                for start, *buffers in zip(op.starts, op.results, op.spares, strict=False):
                    self._offset[start] = self._offset[buffers[not op.starts_in_result(sizes)]]
                self._loops[op.node] = loops.Unrolled(op, self)
        if outer is None:
            n = self.cells
            self._cells = (ctypes.c_uint64 * (-(-n // _CELLS) * _CELLS))()
            self._pack = struct.Struct(f"={n}Q").pack_into
            lent = {slot: (slot, 0) for slot in self.read_in_place.values()}
            self.parts = self.divided(self.work(0, lent), [self._bind(k, min(n - k, _CELLS))
                                                           for k in range(0, n, _CELLS)])

    # -- memory ---------------------------------------------------------------------------------------------

    def make_tables(self, steps: int) -> None:
        """Allocate a table for each of some steps."""
        self._table = self.device.allocate(8 * max(self.cells, 1) * max(steps, 1))
        # Function, blocks and arguments of each launch, for the first table.
        self._launches: dict[Hashable, tuple[object, int, list[Number]]] = {}

    def table(self, step: int) -> int:
        """Return the address of a step's table."""
        return self._table.ptr + 8 * self.cells * step

    def memory(self, key: Key) -> Pointer:
        """Return the pointer to a value in the arena."""
        return self._arena + self._offset[key]

    def address(self, key: Key) -> int:
        """Return the address of a value in the arena, or of a constant."""
        if key in self._offset:
            return self._arena.ptr + self._offset[key]
        if key in self.read_in_place:
            return 0  # the copy is not made
        assert isinstance(key, Node), key
        return self._program.constant(key).data.ptr

    def operand(self, key: Key, lent: Mapping[int, loops.Address]) -> loops.Address:
        """Return the address of an operand of a product, which may be an argument whose address is given."""
        return lent[self.read_in_place[key]] if key in self.read_in_place else (None, self.address(key))

    def _bind(self, first: int, count: int) -> Launched:
        """Return the launch that writes cells into the table."""
        return self.device.function(COMMON, "mg_bind"), 1, -(-count // 32) * 32, pack(
            [(ctypes.c_uint64 * _CELLS).from_buffer(self._cells, 8 * first),
             ctypes.c_uint64(self._table.ptr + 8 * first), ctypes.c_int(count)])

    # -- launches -------------------------------------------------------------------------------------------

    def divided(self, work: Iterable[Work], first: Sequence[Launched] = ()) -> list[Part]:
        """Return work in parts: segments of launches, loops, and evaluations."""
        segment = partial(Segment, self.device, self._root.plan.notes, "timing" not in self._program.without)
        parts: list[Part] = [last := segment(first)]
        for one in work:
            if isinstance(one, (Evaluate, loops.Repeat)):
                parts += [one, last := segment()]
            else:
                last.calls.append(one)
        return [p for p in parts if not isinstance(p, Segment) or p.first or p.calls]

    def captured(self, work: Iterable[Work]) -> list[loops.Part]:
        """Return the work of a loop's steps, which has no evaluations, in parts."""
        return [part for part in self.divided(work) if not isinstance(part, Evaluate)]

    def work(self, step: int, lent: Mapping[int, loops.Address]) -> Iterator[Work]:
        """Yield a step's launches, parts of loops, and evaluations, in order.

        `lent` has the addresses of the arguments that products read in place.
        """
        for number, op in enumerate(self.plan.ops):
            if isinstance(op, Evaluate):
                yield op
            elif isinstance(op, loops.Loop):
                yield from self._loops[op.node].work(step, lent)
            else:
                yield from self._calls(number, op, step, lent)

    def common(self, name: str, blocks: int, *args: Key | int) -> Call:
        """Return a launch of a kernel that all programs share; keys stand for addresses."""
        values = [ctypes.c_longlong(a if isinstance(a, int) else self.address(a)) for a in args]
        return partial(self.device.launch, self.device.function(COMMON, name), blocks, THREADS, pack(values))

    def _calls(self, number: Hashable, op: Op, step: int, lent: Mapping[int, loops.Address]) -> Sequence[Call]:
        device = self.device
        if isinstance(op, Launch):
            if number not in self._launches:
                function = device.function(self._text, op.name)
                self._launches[number] = function, op.numbers(self.sizes)["blocks"], self._arguments(number, op)
            function, blocks, values = self._launches[number]
            if not blocks:
                return []
            if step:  # the steps differ in their tables
                table = ctypes.c_uint64(self.table(step))
                values = [table if p.kind == "table" else x for p, x in zip(op.params, values, strict=True)]
            return [partial(device.launch, function, blocks, THREADS, pack(values))]
        if isinstance(op, ZeroTail):
            width, end = op.dtype.itemsize // 2, value(op.count, self.sizes)
            return [self.common("mg_clear", blocks_for(end * width, 8 * THREADS, 1024), self.table(step),
                                self.plan.cells[op.count], op.key, width, end * width)]
        if isinstance(op, SortByPlace):
            return [self.common(name, blocks, *arguments) for name, blocks, arguments in op.launches(self.sizes)]
        if isinstance(op, ConcurrentProducts):
            return [Fork(device, [self._product(number, p, step, lent, k, len(op.products))
                                  for k, p in enumerate(op.products)])]
        assert isinstance(op, Multiply), op
        return [self._product(number, op, step, lent)]

    def _product(self, number: Hashable, op: Multiply, step: int, lent: Mapping[int, loops.Address], k: int = 0,
                 beside: int = 1) -> ProductCall:
        """Return the call of a product, which uses part `k` of the workspace that `beside` products share."""
        program, node = self._program, op.product.node
        batch, rows, columns, inner = (value(n, self.sizes) for n in op.product.sizes)
        item, room = node.dtype.itemsize, blas.ROOM // beside // ALIGN * ALIGN
        matrices = [gemm.numbers(matrix, self.sizes) for _, matrix in op.operands]
        x, y = (layout for _, layout in matrices[:2])
        spec = Spec(node.dtype, program._precision, (batch, rows, columns, inner), x, y, room)
        ways = [(program.product(spec), self.address(node))]
        add_bias: Sequence[Call] = ()
        if op.launch is not None:
            ways.insert(0, (program.product(replace(spec, epilogue="bias")), self.address(*op.launch.writes)))
            add_bias = self._calls((number, k), op.launch, step, lent)
        operands = [(slot, start + offset * item) for (key, _), (offset, _) in zip(op.operands, matrices, strict=True)
                    for slot, start in [self.operand(key, lent)]]
        return ProductCall(self._root, operands, self._room.ptr + room * k, ways, add_bias)

    def _arguments(self, number: Hashable, op: Launch) -> list[Number]:
        own = {**op.numbers(self.sizes), "counter": self._counter.get(number, 0)}
        if ("partial", number) in self._offset:
            own["partial"] = self.address(("partial", number))
        fixed = {"table": self.table(0), "flag": self._program.flag_at, "stop": self.stop}

        def argument(p: Param) -> int:
            if isinstance(p.content, Symbol):
                return self.sizes[p.content]
            if isinstance(p.content, (Node, tuple)) and p.kind == "key":
                return self.address(p.content)
            return own[p.content] if p.kind == "own" else fixed[p.kind]

        return [(self._index if p.text.startswith("const I ") else ctypes.c_uint64)(argument(p)) for p in op.params]

    # -- evaluations ----------------------------------------------------------------------------------------

    def _evaluate(self, op: Evaluate, arrays: Sequence[Any], run: RunPlan) -> None:
        """Evaluate a node by CuPy, on arrays of the run's own sizes."""
        node, xp, held = op.node, self.device.xp, self._program.held
        if node not in run.evaluations:
            run.evaluations[node] = held[node].bind(run.sizes) if node in held else partial(
                node.prim.eval, xp, **concrete(node.params, run.sizes))
        values = run.evaluations[node](*(self._operand(i, arrays, run.sizes) for i in node.inputs))
        values = values if isinstance(node.type, TupleType) else (values,)
        for key, part, x in zip(op.results, node.types, values, strict=True):
            self._array(key, part, run.sizes)[...] = xp.asarray(x)

    def _array(self, key: Key, node: Node | ArrayType, sizes: Mapping[Symbol, int]) -> DeviceArray:
        """Return a value in the arena as an array."""
        shape = tuple(value(n, sizes) for n in node.shape)
        return self.device.array(shape, node.dtype, self._arena + self._offset[key])

    def _operand(self, node: Node, arrays: Sequence[Any], sizes: Mapping[Symbol, int]) -> Any:
        """Return an operand of an evaluation as an array."""
        graph = self._program.graph
        if node in self.plan.cells:
            return self.device.array((), node.dtype, self._table + 8 * self.plan.cells[node])
        if node.prim is input_:
            return arrays[graph.inputs.index(node)]
        if node.prim is const:
            return self._program.constant(node)
        if (key := key_of(node)) in self._offset:
            return self._array(key, node, sizes)
        inputs = [self._operand(i, arrays, sizes) for i in node.inputs[:1]]
        inputs += [None] * (len(node.inputs) - len(inputs))
        return node.prim.eval(self.device.xp, *inputs, **concrete(node.params, sizes))

    # -- running --------------------------------------------------------------------------------------------

    def run(self, arrays: Sequence[Any], run: RunPlan) -> list[Any]:
        """Run the program on arrays and numbers."""
        device = self.device
        cells, numbers = run.cells(arrays)
        blocks = [device.allocate(n) for n in run.blocks]
        self.pointers = [*[0 if dtype is None else a.data.ptr
                           for a, dtype in zip(arrays, self._program._dtypes, strict=True)],
                         *[blocks[b].ptr + offset for b, offset, _, _ in run.places]]
        self._pack(self._cells, 0, *self.pointers, *cells)
        read_in_place = tuple([self.pointers[k] for k in self.read_in_place.values()])
        for part in self.parts:
            if isinstance(part, Evaluate):
                self._evaluate(part, arrays, run)
            else:
                part(read_in_place)
        results: list[Any] = [device.array(shape, dtype, blocks[b] + offset) for b, offset, shape, dtype in run.places]
        for k, views in enumerate(run.views):
            for v in views:
                results[k] = v.prim.eval(device.xp, results[k], *[None] * (len(v.inputs) - 1),
                                         **concrete(v.params, run.sizes))
        for k, number in numbers.items():
            results[k] = number
        return results


class Segment:
    """Launches without an evaluation between them: run one by one at first, and as a graph from the second time on.

    The arguments of the `first` ones change from run to run. A graph serves one set of addresses of the arguments that
    products read in place; the segment keeps few sets.
    """

    def __init__(self, device: Device, notes: list[str], timing: bool, first: Sequence[Launched] = ()):
        self._device, self._notes, self._timing, self.first = device, notes, timing, first
        self.calls: list[Call] = []
        # None after the first run with these addresses.
        self.graphs: Bounded[tuple[int, ...], CapturedGraph | None] = Bounded(KEPT)
        self._refused = False

    def __call__(self, read_in_place: tuple[int, ...]) -> None:
        graph = self.graphs.get(read_in_place)
        if read_in_place not in self.graphs:
            self.graphs.keep(read_in_place, None)
        elif graph is None and not self._refused and len(self.first) + len(self.calls) > 1:
            try:
                for call in self.calls:
                    if self._timing and isinstance(call, (ProductCall, Fork)):
                        call.tune()
                graph = self.graphs[read_in_place] = self._device.capture(self.first, self._each)
            except MinigradError as error:  # it works without, only slower
                self._refused = True
                self._notes.append(f"not captured: {error}")
        if graph is not None:
            graph.launch()
            return
        for launched in self.first:
            self._device.launch(*launched)
        self._each()

    def _each(self) -> None:
        for call in self.calls:
            call()

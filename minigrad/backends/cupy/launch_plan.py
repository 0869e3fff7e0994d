"""`LaunchPlan`: the launches, products and evaluations of a program, in order, and the memory that they need.

A group of statements becomes as few launches as possible; all kernels form one CUDA source. CuPy evaluates operations
without a kernel on whole arrays, and a note lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...graph import ArrayType, Graph, Node, TupleType, reachable
from ...ops.block_einsum import block_einsum
from ...ops.constants import const
from ...ops.einsum import einsum
from ...ops.index import gather_sum
from ...ops.loops import scan, while_
from ...ops.random import random_bits
from ...ops.segments import segment_ids
from ...ops.subgraph import symbols_of
from ...passes.fuse import terminal
from ...passes.lower_einsum import canonical
from ...passes.schedule import Plan, Step
from ...primitive import PART, Primitive, input_
from ...symbolic import Dim, Symbol, size_of, value
from ..numpy_text import managed
from ..workspace import grows
from . import block_einsum as block_kernels
from . import gemm, library_kernels, segment_kernels
from .codegen import INDEXED, Cell, Key, Memory, NotInReach, Place, Slot, key_of, printable
from .elementwise_kernels import Columns, Elements, Tiles
from .gemm import ConcurrentProducts, Multiply
from .horizontal_fusion import arrange, merge
from .host_scalars import HostScalars
from .kernels import THREADS, Count, Launch, Op, Root, Sizes, few_and_long, in_arena, stoppable
from .loops import Loop, may_end, state_of
from .prelude import PRELUDE
from .row_kernels import Rows

if TYPE_CHECKING:
    from .program import Program

PARTS = ("cublaslt", "epilogues", "timing", "forks")  # optional; MINIGRAD_GPU_WITHOUT names those to leave out
COPIED = 8 << 20  # bytes of arguments that a call copies for products, at most
# Statements that always have a launch of their own.
OWN: dict[Primitive, str] = {random_bits: "random_bits", segment_ids: "segment_ids",
                             **dict.fromkeys(library_kernels.TOTALS, "running")}
# Primitives with kernels of their own that can write into a result.
_WRITTEN = INDEXED.keys() | OWN.keys() | segment_kernels.SCATTERS | {block_einsum}
_ADDRESSED = ("product", "evaluate", "loop")  # kinds of statements for which values must lie in the arena


@dataclass
class ZeroTail(Op):
    """Zeros behind the elements of an array, which products read where sizes are rounded up."""

    key: Key
    dtype: np.dtype
    count: int | Dim

    @property
    def touched(self) -> list[Key]:
        return [self.key]


@dataclass
class Evaluate(Op):
    """A node that CuPy evaluates on whole arrays, between the launches."""

    node: Node
    reads: list[Key]
    results: list[Key]

    @property
    def touched(self) -> list[Key]:
        return [*self.reads, *self.results]


CellKey: TypeAlias = "Node | Symbol | Dim | int | tuple[Program, CellKey]"  # a number that the host writes into a table


@dataclass
class LaunchPlan:
    """The operations and the memory of a program.

    Attributes
    ----------
    text : str
        The CUDA source.
    ops : list of Op
    bytes : dict
        The memory of each value in the arena, as a function of the sizes.
    span : dict
        The first and the last op that touches each value.
    direct : dict of Node to int
        The values that kernels write into an output, and its number.
    cells : dict
        The numbers that the host writes into the table, and their cells: sizes, scalars, and the numbers of the
        programs of loops, as (program, key).
    rounded : frozenset of Symbol
        The sizes that kernels read from the table, so that memory and launches for larger ones serve many sizes.
    arguments : dict of Key to int
        Copies of arguments for products, and the slots of the arguments.
    lent : frozenset of int, or None
        The arguments whose addresses are known where the program is a step of a loop: products read them in place.
    numbers : dict of int to Node
        The outputs that the host computes and returns as Python numbers.
    checked : dict of Node to int
        The nodes whose indices kernels check, and the numbers, counted from 1, that kernels report.
    notes : list of str
        The nodes that are not fused or not captured, and why.
    """

    schedule: Plan
    text: str = ""
    ops: list[Op] = field(default_factory=list)
    bytes: dict[Key, Count] = field(default_factory=dict)
    span: dict[Key, tuple[int, int]] = field(default_factory=dict)
    direct: dict[Node, int] = field(default_factory=dict)
    cells: dict[CellKey, int] = field(default_factory=dict)
    rounded: frozenset[Symbol] = frozenset()
    arguments: dict[Key, int] = field(default_factory=dict)
    lent: frozenset[int] | None = None
    numbers: dict[int, Node] = field(default_factory=dict)
    checked: dict[Node, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def products(self) -> list[Multiply]:
        """The matrix products."""
        return [p for op in self.ops for p in (op.products if isinstance(op, ConcurrentProducts) else [op])
                if isinstance(p, Multiply)]

    def read_in_place(self, sizes: Sizes) -> dict[Key, int]:
        """Return the copies of arguments that are not made, since products read the argument: the largest ones.

        A graph then serves one address of the argument; a small argument is copied, so that a graph serves all.
        """
        if self.lent is not None:
            return {key: slot for key, slot in self.arguments.items() if slot in self.lent}
        nbytes = {key: self.bytes[key](sizes) for key in self.arguments}
        order = sorted(nbytes, key=nbytes.__getitem__)
        totals = accumulate(nbytes[key] for key in order)
        return {key: self.arguments[key] for key, total in zip(order, totals, strict=True) if total > COPIED}


def written(node: Node) -> bool:
    """Return whether a kernel can write the node into a result."""
    return node.prim in _WRITTEN or managed(node)


def leaving(step: Step) -> list[Node]:
    """Return the values of a step that later steps read."""
    return [n for n in step.group.nodes if n not in step.scratch and n not in step.heads]


def kind_of(node: Node) -> str:
    """Return the kind of a statement: ``kernel``, or the method of `Planner` that adds its operations."""
    if node.prim is einsum and canonical(node.params["subscripts"]) and node.dtype.name in gemm.FLOATS:
        return "product"
    if node.prim in OWN:
        return OWN[node.prim]
    if node.prim is block_einsum and node.dtype.kind in "fiu":
        return "blocks"
    if node.prim in (scan, while_):
        held = [n for g in node.params.values() if isinstance(g, Graph) for n in g.nodes]
        return "evaluate" if any(kind_of(n) == "evaluate" for n in held) else "loop"
    if printable(node) or Root(node, True).reduced:
        return "kernel"
    return "scatter" if node.prim in segment_kernels.SCATTERS else "evaluate"


class Planner:
    """The maker of the `LaunchPlan` of a schedule.

    Parameters
    ----------
    schedule : Plan
    host : HostScalars
    numbers : collection of int
        The outputs that may be Python numbers.
    loops : dict of Node to list of Program
        The programs of loops that run as launches.
    lent : frozenset of int, optional
        Of a loop's step: the arguments whose addresses are known.
    stops : bool
        Whether the program is a step of a loop that may end before it.
    without : collection of str
        Of `PARTS`.
    """

    def __init__(self, schedule: Plan, host: HostScalars, numbers: Collection[int], loops: Mapping[Node, list[Program]],
                 lent: frozenset[int] | None, stops: bool, without: Collection[str]):
        self.schedule, self.graph, self.roles, self.host = schedule, schedule.graph, schedule.roles, host.nodes
        self.loops = {n: Loop(n, programs) for n, programs in loops.items()}
        self.stops, self._forks = stops, "forks" not in without
        self.plan = LaunchPlan(schedule, lent=lent, numbers={
            k: n for k in numbers if (n := schedule.graph.outputs[k]) in host.nodes})
        self.memory = Memory(self.place, self.report)
        self.slot: dict[Key, int] = {n: k for k, n in enumerate(self.graph.inputs)}
        self.done: set[Key] = set()  # the values in memory
        self.known: dict[Key, Node] = {}  # aliases of values
        self.counts: dict[Key, Node] = {}  # of each example's elements and tiles, from block_einsum.py
        self.readers: dict[Node, list[Node]] = {}
        for n in self.graph.nodes:
            for i in n.inputs:
                self.readers.setdefault(i, []).append(n)
        self.kind = {n: kind_of(n) for s in schedule.steps for n in s.group.nodes if n not in host.nodes}
        self.biased = {} if {"cublaslt", "epilogues"}.intersection(without) else dict(self._biased())
        for total, (product, _) in self.biased.items():
            self.kind[total] = self.kind.pop(product)
        self.products = {n: gemm.Product(self.biased[n][0] if n in self.biased else n, self.roles)
                         for n, kind in self.kind.items() if kind == "product"}
        self.plan.rounded = self._rounded()
        self.inlined = self._inlined()
        whole = {self.roles.root[i] for n, kind in self.kind.items() if kind in _ADDRESSED for i in self._inputs(n)}
        self.plan.direct = {n: k for n, k in schedule.outputs.items() if n not in whole
                              and self.kind.get(n, "evaluate") not in _ADDRESSED}
        outputs: list[tuple[Key, int]] = [(("out", k), k) for k in range(len(self.graph.outputs))]
        outputs += self.plan.direct.items()
        self.slot |= {key: len(self.graph.inputs) + k for key, k in outputs}

    def _inlined(self) -> set[Node]:
        """Return the values with one reader, a scatter whose kernel can compute them inline."""
        kept = {n for s in self.schedule.steps for n in leaving(s)}
        taken = [(n, n.inputs[0]) for n, kind in self.kind.items() if kind == "scatter" and n.prim is not gather_sum]
        return {u for n, u in taken if self.kind.get(u) == "kernel" and self.readers[u] == [n]
                and u not in self.graph.outputs and all(map(printable, reachable([u], end=kept - {u})))}

    def _inputs(self, node: Node) -> Sequence[Node]:
        """Return the operands of a statement, and those of the product to which it adds a bias."""
        return [*self.biased[node][0].inputs, *node.inputs] if node in self.biased else node.inputs

    def _biased(self) -> Iterator[tuple[Node, tuple[Node, gemm.Strided]]]:
        """Yield each sum of a product and a bias, with both, where products alone read the sum.

        A kernel that reads a sum adds the bias itself, at no cost.
        """
        for node in [n for n, kind in self.kind.items() if kind == "product" and n.dtype.name in gemm.BIASED]:
            view = node
            while (total := self._reader(view)) is not None and self.roles.root[total] is node:
                view = total
            if total is None:
                continue
            bias = gemm.bias_of(view, total, gemm.Product(node, self.roles), self.roles)
            if bias is not None and self._in_memory(bias.root) and self._read_by_products(total):
                yield total, (node, bias)

    def _reader(self, node: Node) -> Node | None:
        """Return the only reader of a value, or None if the value is a result or has several readers."""
        readers = self.readers.get(node, ())
        return readers[0] if len(readers) == 1 and node not in self.graph.outputs else None

    def _in_memory(self, node: Node) -> bool:
        """Return whether a kernel, or the caller, leaves a value in memory."""
        return node in self.kind or not in_arena(node) or (node in self.slot and node not in self.host)

    def _read_by_products(self, node: Node) -> bool:
        return node not in self.graph.outputs and all(
            self._read_by_products(r) if self.roles.is_view(r) else self.kind.get(r) == "product"
            for r in self.readers[node])

    def build(self) -> LaunchPlan:
        """Return the plan."""
        for scalar, steps in groupby(self.schedule.steps, self._is_scalar):  # scalars in a row are one launch
            for group in [list(steps)] if scalar else [[step] for step in steps]:
                self._steps(group)
        self._outputs()
        self._finish()
        return self.plan

    def _is_scalar(self, step: Step) -> bool:
        return all(self.kind[n] == "kernel" and not n.ndim and n.prim.kind == "elementwise" for n in self.nodes(step))

    def _finish(self) -> None:
        """Merge launches, name the kernels, and find the lifetime of each value."""
        plan = self.plan
        names: dict[str, str] = {}
        functions: dict[str, str] = {}
        ops: list[Op] = []
        for number, group in enumerate(arrange(plan.ops, len(self.graph.inputs), self._forks)):
            op, products = group[0], [p for p in group if isinstance(p, Multiply)]
            if len(group) > 1:
                op = ConcurrentProducts(products) if products else merge(
                    [p for p in group if isinstance(p, Launch)], self.memory,
                    lambda text: functions.setdefault(text, f"f{len(functions) + 1}"))
            ops.append(op)
            for launch in (op, *(p.launch for p in products)):
                if isinstance(launch, Launch):
                    launch.name = names.setdefault(launch.body, f"k{len(names) + 1}")
            for key in op.touched:
                first, _ = plan.span.get(key, (number, number))
                plan.span[key] = first, number
        for loop in self.loops.values():  # its first state is written into one of two buffers, depending on the sizes
            for start, *buffers in zip(loop.starts, loop.results, loop.spares, strict=False):
                first, _ = plan.span[start]
                plan.span |= {key: (first, plan.span[key][1]) for key in buffers}
        plan.ops = ops
        plan.text = "\n\n".join([PRELUDE, *(f"DEVICE void {name}{text}" for text, name in functions.items()), *(
            f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}{body}'
            for body, name in names.items())]) + "\n"

    def nodes(self, step: Step) -> list[Node]:
        """Return the statements of a step that the device computes."""
        return [n for n in step.group.nodes if n in self.kind]

    # -- places of values -----------------------------------------------------------------------------------

    def place(self, key: Key | Symbol) -> Place | None:
        """Return the place of a value or a symbol, or where a launch writes a value (``("to", node)``)."""
        if isinstance(key, Symbol):
            return Cell(self.cell(key)) if key in self.plan.rounded else None
        key = self.known.get(key, key)
        if isinstance(key, tuple):
            key = key[1] if key[0] == "to" and isinstance(key[1], Node) else key
        elif key in self.host:
            return Cell(self.cell(key))
        elif key not in self.done and key.prim not in (input_, const):
            return None
        return Slot(self.slot[key]) if key in self.slot else key

    def cell(self, key: CellKey) -> int:
        """Return the cell of a number that the host writes into the table."""
        return self.plan.cells.setdefault(key, len(self.graph.inputs) + len(self.graph.outputs) + len(self.plan.cells))

    def report(self, node: Node) -> int:
        """Return the number under which kernels report a bad index of a node."""
        return self.plan.checked.setdefault(node, len(self.plan.checked) + 1)

    def keep(self, key: Key, array: Node | ArrayType) -> None:
        """Note that an operation makes an array, which needs memory in the arena unless it is a result."""
        size, item = size_of(array.shape), array.dtype.itemsize
        if key not in self.slot:
            self.plan.bytes[key] = lambda sizes: value(size, sizes) * item
        self.done.add(key)

    # -- emitting -------------------------------------------------------------------------------------------

    def emit(self, launch: Launch) -> None:
        """Add a launch."""
        for key, node in launch.writes.items():
            self.keep(key, node)
        self.plan.ops.append(self._ending(launch))

    def _ending(self, launch: Launch) -> Launch:
        """Return a launch that does nothing after the end of the loop around the program."""
        return stoppable(launch) if self.stops else launch

    def copy(self, node: Node, key: Key) -> None:
        """Write a value, which may be a view or an argument, to memory of its own."""
        if key in self.done:
            return
        launch = self._single(node, key)
        if key in self.plan.arguments:
            numbers = launch.numbers
            launch.numbers = lambda sizes: {
                **numbers(sizes), **({"blocks": 0} if key in self.plan.read_in_place(sizes) else {})}
        self.emit(launch)

    # -- steps ----------------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[Step]) -> None:
        nodes = [n for s in steps for n in self.nodes(s)]
        inside = set(nodes)
        kept = {n for s in steps for n in leaving(s)} & inside - self.inlined
        whole = [n for n in nodes if self.kind[n] in (*_ADDRESSED, "blocks")]
        kept |= {self.roles.root[i] for n in whole for i in self._inputs(n)} & inside
        todo = [Root(n, n in kept or terminal(n)) for n in nodes
                if n in kept or self.kind[n] != "kernel" or Root(n, False).reduced]
        while todo:
            node = todo[0].node
            if self.kind[node] != "kernel":
                getattr(self, f"_{self.kind[node]}")(node)
                todo = todo[1:]
            else:
                todo = self._launch(todo)

    def _launch(self, todo: list[Root]) -> list[Root]:
        """Add a launch with as many roots as it takes; return the others."""
        for opener in dict.fromkeys([next((r for r in todo if r.within), todo[0]), todo[0]]):
            launch = self._open(opener, todo)
            later: list[Root] = []
            for root in todo:
                try:
                    if self.kind[root.node] != "kernel" or self._waits(root, later):
                        raise NotInReach(root.node)
                    launch.add(root)
                except NotInReach:
                    later.append(root)
            if opener not in later:
                break
        else:
            raise AssertionError(f"{opener.node.where}: no launch takes {opener.node.prim.name}")
        if isinstance(launch, Elements) and launch.transposed is not None and not launch.terminals:
            launch = Tiles(launch, launch.transposed)
        if isinstance(launch, Rows):
            own = {r.node for r in launch.roots if r.within and not r.stored}
            for node in [n for n in self._needed(later) if n in own]:
                launch.keep(node)
        self.emit(launch.done())
        return later

    def _waits(self, root: Root, later: Sequence[Root]) -> bool:
        """Return whether a root needs a reduction, or a statement without a kernel, among `later` roots."""
        missing = {r.node for r in later if r.reduced or self.kind[r.node] != "kernel"}
        return bool(missing) and any(n in missing for n in self._needed([root]))

    def _needed(self, roots: Sequence[Root]) -> list[Node]:
        """Return the statements that roots depend on and that are not in memory yet."""
        needed: dict[Node, None] = {}
        stack = [i for r in roots for i in r.node.inputs]
        while stack:
            n = stack.pop()
            if n not in needed and n not in self.done:
                needed[n] = None
                stack.extend(n.inputs)
        return list(needed)

    def _open(self, root: Root, todo: Sequence[Root]) -> Columns | Elements | Rows:
        node = root.node
        if root.within and not few_and_long(node):
            return Rows(node.shape, size_of(node.inputs[0].shape[a] for a in root.reduced), self.memory)
        if not root.reduced:  # a reduction over the same elements may come along
            shape = node.shape
            root = next((r for r in todo if r.terminal and r.node.inputs[0].shape == shape), root)
        shape = root.node.inputs[0].shape if root.reduced else node.shape
        kept = [a for a in range(len(shape)) if a not in root.reduced] if root.reduced else []
        return Columns(shape, kept, self.memory) if kept else Elements(shape, self.memory)

    # -- statements with operations of their own ------------------------------------------------------------

    def _random_bits(self, node: Node) -> None:
        self.emit(library_kernels.random_bits(node, self.memory))

    def _running(self, node: Node) -> None:
        totals: Key = "totals", node
        self.plan.bytes[totals] = lambda sizes: 16 * value(
            library_kernels.lines(node), sizes) * library_kernels.chunks(node, sizes)[0]
        for write_totals in (True, False):
            self.emit(library_kernels.running(node, totals, write_totals, self.memory))

    def _single(self, node: Node, target: Key | None = None) -> Launch:
        """Return the launch that computes one statement, or copies a value to memory elsewhere."""
        w = Elements(node.shape, self.memory, target)
        w.add(Root(node, True, known=target is not None))
        return w.done()

    def _ends(self, lengths: Node) -> Node:
        """Return the offsets behind each segment, after a launch that computes them if none has."""
        if ("ends", lengths) not in self.known:
            self.known["ends", lengths] = segment_kernels.totals(lengths)
            self._running(self.known["ends", lengths])
        return self.known["ends", lengths]

    def _segment_ids(self, node: Node) -> None:
        self._ends(node.inputs[0])
        self.emit(self._single(node))

    def _scatter(self, node: Node) -> None:
        lengths = segment_kernels.lengths_of(node)
        if lengths is not None:
            self.emit(segment_kernels.reduce(node, self._ends(lengths), None, self.memory))
            return
        order = segment_kernels.SortByPlace(node)
        if order.ends not in self.done:
            self.plan.bytes |= order.bytes()
            self.emit(segment_kernels.place_of_each(node, order.places, self.memory))
            self.plan.ops.append(order)
            self.done.add(order.ends)
        self.emit(segment_kernels.reduce(node, order.ends, order.order, self.memory))

    def _blocks(self, node: Node) -> None:
        self.emit(block_kernels.product(block_kernels.Blocks(node), self._ends, self.counts, self.memory))

    def _rounded(self) -> frozenset[Symbol]:
        """Return the sizes of ragged axes, which differ from batch to batch, if all operations can round them up."""
        rows = frozenset(s for s in symbols_of(self.graph) if s.rows)
        fit = [*(gemm.stretches(product, rows) for product in self.products.values()),
               *(loop.stretches(rows) for loop in self.loops.values())]
        return rows if grows(self.schedule) and all(fit) else frozenset()

    def _product(self, node: Node) -> None:
        product = self.products[node]
        operands: list[tuple[Key, gemm.Matrix]] = []
        for v, m in product.arrays:
            key = self._contiguous(v)
            operands.append((key, m))
            if gemm.depends(product.sizes[3], self.plan.rounded) and ("clear", key) not in self.done:
                self.plan.ops.append(ZeroTail(key, v.dtype, count := size_of(v.shape)))
                self.cell(count)
                self.done.add(("clear", key))
        self.keep(product.node, product.node)
        launch = None
        if node in self.biased:
            bias = self.biased[node][1]
            operands.append((self._contiguous(bias.root), gemm.Matrix(bias.offset, False, 0, 0)))
            launch = self._ending(self._single(node))
            self.keep(node, node)
        self.plan.ops.append(Multiply(product, operands, launch))

    def _contiguous(self, v: Node) -> Key:
        """Return the key of a value in contiguous memory, after a copy where the value is elsewhere."""
        key = key_of(v)
        if v.prim is not const and key not in self.done:  # an argument, or a view that BLAS cannot take as it is
            key = "copy", v
            if v in self.slot and not any(gemm.depends(n, self.plan.rounded) for n in v.shape):
                self.plan.arguments[key] = self.slot[v]
            self.copy(v, key)
        return key

    def _loop(self, node: Node) -> None:
        loop = self.loops[node]
        for start, spare, v in zip(loop.starts, loop.spares, node.inputs[loop.first:], strict=False):
            self.keep(spare, v)
            self.copy(v, start)
            del self.plan.bytes[start]
        read = {k for p in loop.programs for k in p.plan.arguments.values()}
        for k, v in enumerate(node.inputs):
            if k in state_of(node):
                continue
            if v in self.host:
                loop.places[k] = Cell(self.cell(v))
            elif v in self.slot and k not in read:
                loop.places[k] = Slot(self.slot[v])
            else:
                loop.places[k] = self._contiguous(v)
        for arena, program in zip(loop.arenas, loop.programs, strict=True):
            self.plan.bytes[arena] = program.arena_bytes
        for number in loop.numbers():
            self.cell(number)
        self.plan.bytes[loop.go] = lambda sizes: 8
        self._results(node)
        if may_end(node):
            self.plan.notes.append(f"{node.where}: while is a graph of a few steps, launched until the device has "
                                     "noted the end")
        self.plan.ops.append(loop)

    def _evaluate(self, node: Node) -> None:
        for root in [self.roles.root[i] for i in node.inputs]:
            if root in self.host:
                self.cell(root)
        reads = [k for i in node.inputs for k in self._sources(i)]
        results = self._results(node)
        self.plan.notes.append(f"{node.where}: {node.prim.name} is evaluated by CuPy, outside the captured graph")
        self.plan.ops.append(Evaluate(node, reads, results))

    def _results(self, node: Node) -> list[Key]:
        """Note that an operation makes a node's results, and return their keys."""
        keys: list[Key] = [(node, i) for i in range(len(node.types))] if isinstance(node.type, TupleType) else [node]
        for key, part in zip(keys, node.types, strict=True):
            self.keep(key, part)
        self.done.add(node)
        return keys

    def _sources(self, node: Node) -> list[Key]:
        """Return the values of the arena that hold an operand."""
        if self.roles.is_view(node) and node.prim.view is not PART:
            return self._sources(node.inputs[0])
        key = key_of(node)
        return [key] if key not in self.slot and key in self.done else []

    # -- results --------------------------------------------------------------------------------------------

    def _outputs(self) -> None:
        for k, n in enumerate(self.graph.outputs):
            if k not in self.plan.numbers and self.plan.direct.get(self.roles.root[n]) != k:
                self.copy(n, ("out", k))

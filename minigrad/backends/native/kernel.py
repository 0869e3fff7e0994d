"""A fused group as one LLVM function: loops over blocks of rows, on explicit vectors.

The function has the form of every step, ``void f(i64* args, i8** bases)``. It hands its blocks to the threads'
pool or runs them itself; how the rows are cut depends on sizes alone, so results do not depend on the number of
threads. Sums are taken in short runs that are added up in a tree, as error bounds want it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from ...dims import Dim, size_of
from ...graph import ArrayType, Node
from ...passes.fuse import REDUCTIONS, lockstep, rows_of, terminal
from ...passes.schedule import Plan, Step
from . import expressions as ex
from .access import Access, access
from .loops import Loop, itself, loops, space_of

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
VOID, PTR = ir.VoidType(), ir.PointerType()
STEP = ir.FunctionType(VOID, [PTR, PTR])
BLOCK = ir.FunctionType(VOID, [PTR, I64, I64])
RUN = 16  # vectors that are added up one after the other, before their sum is added to the others
HEAD = 4  # what each block of arguments begins with: items, how many threads may share them, rows of an item, rows


@dataclass(frozen=True)
class Kernel:
    """The code of a group, and what its argument block holds.

    Attributes
    ----------
    name : str
        The function's.
    text : str
        The module.
    params : tuple
        What stands behind the head of the argument block: ``("size", n)``, ``("base", memory)``,
        ``("offset", memory, view)``, ``("stride", view, axis)``, ``("scratch",)`` or ``("row", n)``; a memory is a
        node, or ``("scratch", node)``, ``("parts", node)``.
    scratch : tuple of Node
        The values that lie in memory for one block of rows.
    parts : tuple of Node
        The values that are combined of the blocks' own.
    """

    name: str
    text: str
    params: tuple[Any, ...]
    scratch: tuple[Node, ...]
    parts: tuple[Node, ...]


def unable(node: Node) -> str | None:
    """Return why a statement that is row-local cannot be part of a kernel; None if it can."""
    types = [*(i.type for i in node.inputs), node.type]
    bad = next((t for t in types if not isinstance(t, ArrayType) or t.dtype.name not in ex.DTYPES), None)
    if bad is not None:
        return f"{node.prim.name} of {bad}"
    if any(isinstance(d, int) and d == 0 for t in types for d in t.shape):
        return f"{node.prim.name} of nothing"
    if node.prim.kind == "elementwise":
        return ex.unable(node)
    if node.prim.name in REDUCTIONS:
        return None
    if node.prim.name == "gather":
        return None
    if node.prim.name == "scatter_add" and lockstep(node) and node.inputs[1].ndim == 1:
        return None
    return node.prim.name


def rows(node: Node) -> Any:
    """Return the number of rows that a statement works on one by one in a kernel; None where it does not."""
    return rows_of(node) if unable(node) is None else None


@dataclass(eq=False)
class Reference:
    """A place in memory that a loop reads or writes, by the axes of the loop's space."""

    memory: Any
    view: Node
    dtype: np.dtype
    axes: tuple[int | None, ...]  # per axis of the space: the view's axis, or None where it repeats
    linked: tuple[bool, ...]
    last: int | None  # the space's axis of the view's last one that does not repeat
    by_rows: bool = True  # whether axis 0 counts rows of the whole and not of the block


class Writer:
    """Writes one kernel."""

    def __init__(self, plan: Plan, step: Step, name: str):
        self.plan, self.step, self.roles, self.name = plan, step, plan.roles, name
        self.module = ir.Module(name)
        self.params: dict[Any, int] = {}
        self.members = set(step.group.nodes)
        self.loops = loops(plan, step)
        loop_of = {n: loop for loop in self.loops for n in loop.nodes}
        self.kept = {n for n in step.group.nodes if n in plan.place}
        crossing = {self.roles.root[i] for n in step.group.nodes for i in n.inputs
                    if self.roles.root[i] in self.members
                    and (loop_of[self.roles.root[i]] is not loop_of[n] or self.roles.root[i].prim.name in REDUCTIONS)}
        self.scratch = tuple(n for n in step.group.nodes if n in crossing and n not in self.kept)
        self.parts = tuple(n for n in step.group.nodes if terminal(n))
        floats = [t.dtype.itemsize for n in step.group.nodes for t in (n.type, *(i.type for i in n.inputs))
                  if t.dtype.kind == "f"]
        self.lanes = 8 if max(floats, default=4) == 8 else 16

    # -- the functions -------------------------------------------------------------------------------

    def write(self) -> Kernel:
        step = ir.Function(self.module, STEP, self.name)
        if self.step.group.rows is None:
            self._number(step)
        else:
            block = ir.Function(self.module, BLOCK, f"{self.name}.block")
            block.linkage = "internal"
            self._block(block)
            self._step(step, block)
        return Kernel(self.name, str(self.module), tuple(self.params), self.scratch, self.parts)

    def _begin(self, f: ir.Function, args: Callable[[ir.IRBuilder], tuple[ir.Value, ir.Value]]) -> None:
        self.entry = f.append_basic_block("entry")
        self.b = ir.IRBuilder(f.append_basic_block("body"))
        self.e = ir.IRBuilder(self.entry)  # what is loaded once goes here
        self.args, self.bases = args(self.e)
        self.loaded: dict[Any, ir.Value] = {}

    def _end(self) -> None:
        self.b.ret_void()
        self.e.branch(self.entry.function.basic_blocks[1])

    def _block(self, f: ir.Function) -> None:
        context, self.item, self.thread = f.args
        self._begin(f, lambda b: (b.load(context, typ=PTR), b.load(at(b, context, 8), typ=PTR)))
        size, total = self.head(2), self.head(3)
        self.low = self.e.mul(self.item, size)
        self.count = least(self.e, self.e.sub(total, self.low), size)
        for loop in self.loops:
            LoopWriter(self, loop).write()
        self._end()

    def _number(self, f: ir.Function) -> None:
        """Emit statements whose results are single numbers."""
        self._begin(f, lambda b: f.args)
        for loop in self.loops:
            LoopWriter(self, loop).write()
        self._end()

    def _step(self, f: ir.Function, block: ir.Function) -> None:
        self._begin(f, lambda b: f.args)
        items = self.head(0)
        context = self.e.alloca(PTR, size=I64(2))
        b = self.b
        b.store(f.args[0], context)
        b.store(f.args[1], at(b, context, 8))
        with b.if_else(b.icmp_signed(">", self.head(1), I64(1))) as (together, alone):
            with together:
                pool = ir.Function(self.module, ir.FunctionType(VOID, [PTR, PTR, I64, I64]), "mg_parallel_upto")
                b.call(pool, [block, context, items, self.head(1)])
            with alone, self.counting(items) as i:
                b.call(block, [context, i, I64(0)])
        if self.parts:
            with b.if_then(b.icmp_signed(">", items, I64(1))):
                for n in self.parts:
                    self._combine(n, items)
        self._end()

    def _combine(self, n: Node, items: ir.Value) -> None:
        """Add up the blocks' parts, neighbours first, then neighbouring sums, and so on; the total is the result."""
        self.b.call(self._combiner(n), [self.pointer(("parts", n), n), self.pointer(n, n),
                                        self.size(size_of(n.shape)), items])

    def _combiner(self, n: Node) -> ir.Function:
        """Return a function that combines parts: one for all reductions of a kind and dtype."""
        name = f"{self.name}.{n.prim.name}.{n.dtype.name}"
        if name in self.module.globals:
            return self.module.globals[name]
        f = ir.Function(self.module, ir.FunctionType(VOID, [PTR, PTR, I64, I64]), name)
        f.linkage = "internal"
        first, out, count, items = f.args
        outer = self.b, self.e
        self.e, self.b = ir.IRBuilder(f.append_basic_block("entry")), ir.IRBuilder(f.append_basic_block("body"))
        b, item = self.b, I64(n.dtype.itemsize)
        nbytes = b.mul(count, item)
        distance = self.e.alloca(I64)
        b.store(I64(1), distance)
        tests, body, end = (b.append_basic_block(name) for name in ("level", "pairs", "combined"))
        b.branch(tests)
        b.position_at_end(tests)
        d = b.load(distance, typ=I64)
        b.cbranch(b.icmp_signed("<", d, items), body, end)
        b.position_at_end(body)
        with self.counting(b.sub(items, d), b.shl(d, I64(1))) as i:
            left = at(b, first, b.mul(i, nbytes))
            right = at(b, left, b.mul(d, nbytes))
            to = b.select(b.icmp_signed(">=", b.shl(d, I64(1)), items), out, left)  # the last pair's is the result
            with self.counting(count, I64(self.lanes)) as k:
                mask, where = self.mask(count, k, self.lanes), b.mul(k, item)
                x, y = (self.load(n.dtype, at(b, p, where), self.lanes, mask) for p in (left, right))
                self.store(self.combined(n, x, y), n.dtype, at(b, to, where), self.lanes, mask)
        b.store(b.shl(d, I64(1)), distance)
        b.branch(tests)
        b.position_at_end(end)
        b.ret_void()
        self.e.branch(f.basic_blocks[1])
        self.b, self.e = outer
        return f

    # -- arguments -----------------------------------------------------------------------------------

    def head(self, i: int) -> ir.Value:
        return self.argument(("head", i), i)

    def argument(self, key: Any, index: int) -> ir.Value:
        if key not in self.loaded:
            self.loaded[key] = self.e.load(at(self.e, self.args, 8 * index), typ=I64)
        return self.loaded[key]

    def param(self, *what: Any) -> ir.Value:
        return self.argument(what, HEAD + self.params.setdefault(what, len(self.params)))

    def size(self, n: int | Dim) -> ir.Value:
        return self.param("size", n) if isinstance(n, Dim) else I64(n)

    def pointer(self, memory: Any, view: Node) -> ir.Value:
        """Return the address of a view's first element, of its memory's first row."""
        key = ("pointer", memory, view)
        if key not in self.loaded:
            e = self.e
            slot = self.param("base", memory)
            base = e.load(at(e, self.bases, e.shl(slot, I64(3))), typ=PTR)
            base = at(e, base, self.param("offset", memory, view))
            if isinstance(memory, tuple) and memory[0] == "scratch":
                base = at(e, base, e.mul(self.thread, self.param("scratch")))
            self.loaded[key] = base
        return self.loaded[key]

    # -- pieces of code ------------------------------------------------------------------------------

    @contextmanager
    def counting(self, n: ir.Value, by: ir.Value = I64(1)) -> Iterator[ir.Value]:
        """Emit a loop: the body is what is emitted inside the ``with`` block."""
        b = self.b
        counter = self.e.alloca(I64)
        b.store(I64(0), counter)
        test, body, end = (b.append_basic_block(name) for name in ("test", "loop", "end"))
        b.branch(test)
        b.position_at_end(test)
        i = b.load(counter, typ=I64)
        b.cbranch(b.icmp_signed("<", i, n), body, end)
        b.position_at_end(body)
        yield i
        b.store(b.add(i, by), counter)
        b.branch(test)
        b.position_at_end(end)

    def mask(self, count: ir.Value, i: ir.Value, lanes: int) -> ir.Value | None:
        """Return which of the lanes from `i` on are less than `count`; None where all always are."""
        if lanes == 1 or (isinstance(count, ir.Constant) and count.constant % lanes == 0):
            return None
        b = self.b
        left = b.trunc(least(b, b.sub(count, i), I64(lanes)), I32)
        iota = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return b.icmp_unsigned("<", iota, ex.splat(b, left, lanes))

    def load(self, dtype: np.dtype, pointer: ir.Value, lanes: int, mask: ir.Value | None) -> ir.Value:
        """Load neighbouring elements; lanes that are masked off hold 0."""
        t = memory_type(dtype, lanes)
        if mask is None:
            x = self.b.load(pointer, typ=t, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.load.{ex.suffix(t)}.p0", t, [PTR, I32, mask.type, t])
            x = self.b.call(f, [pointer, I32(dtype.itemsize), mask, ir.Constant(t, None)])
        return self.from_memory(x, dtype)

    def gather(self, dtype: np.dtype, pointer: ir.Value, offsets: ir.Value, lanes: int,
               mask: ir.Value | None) -> ir.Value:
        """Load elements at offsets in bytes, one per lane."""
        if lanes == 1:
            return self.load(dtype, at(self.b, pointer, offsets), 1, None)
        t = memory_type(dtype, lanes)
        pointers = self.b.gep(pointer, [offsets], source_etype=I8)
        pointers.type = ir.VectorType(PTR, lanes)
        mask = mask or ir.Constant(ir.VectorType(I1, lanes), [1] * lanes)
        f = self.intrinsic(f"llvm.masked.gather.{ex.suffix(t)}.v{lanes}p0", t, [pointers.type, I32, mask.type, t])
        return self.from_memory(self.b.call(f, [pointers, I32(dtype.itemsize), mask, ir.Constant(t, None)]), dtype)

    def store(self, x: ir.Value, dtype: np.dtype, pointer: ir.Value, lanes: int, mask: ir.Value | None) -> None:
        t = memory_type(dtype, lanes)
        x = self.b.zext(x, t) if dtype.kind == "b" else x
        if mask is None:
            self.b.store(x, pointer, align=dtype.itemsize)
        else:
            f = self.intrinsic(f"llvm.masked.store.{ex.suffix(t)}.p0", VOID, [t, PTR, I32, mask.type])
            self.b.call(f, [x, pointer, I32(dtype.itemsize), mask])

    def from_memory(self, x: ir.Value, dtype: np.dtype) -> ir.Value:
        return self.b.icmp_unsigned("!=", x, ex.constant(x.type, 0)) if dtype.kind == "b" else x

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def combined(self, n: Node, x: ir.Value, y: ir.Value) -> ir.Value:
        """Return what a reduction makes of two values."""
        b, name, unsigned = self.b, n.prim.name, n.dtype.kind == "u"
        if name == "sum":
            return b.fadd(x, y) if n.dtype.kind == "f" else b.add(x, y)
        if name in ("any", "all"):
            return (b.or_ if name == "any" else b.and_)(x, y)
        return (ex.maximum if name == "max" else ex.minimum)(b, x, y, unsigned)

    def identity(self, n: Node, lanes: int) -> ir.Constant:
        t, name = ex.vector_type(n.dtype, lanes), n.prim.name
        if name in ("sum", "any", "all"):
            return ex.constant(t, name == "all")
        if n.dtype.kind == "f":
            return ex.constant(t, -math.inf if name == "max" else math.inf)
        if n.dtype.kind == "b":
            return ex.constant(t, name == "min")
        info = np.iinfo(n.dtype)
        return ex.constant(t, info.min if name == "max" else info.max)

    def across(self, n: Node, x: ir.Value, lanes: int) -> ir.Value:
        """Return what a reduction makes of all lanes."""
        if lanes == 1:
            return x
        name = f"{self.name}.across.{n.prim.name}.{ex.suffix(x.type)}{n.dtype.kind}"
        f = self.module.globals.get(name)
        if f is None:
            f = ir.Function(self.module, ir.FunctionType(ex.element(x.type), [x.type]), name)
            f.linkage = "internal"
            outer, self.b = self.b, ir.IRBuilder(f.append_basic_block("entry"))
            self.b.ret(self._halved(n, f.args[0], lanes))
            self.b = outer
        return self.b.call(f, [x])

    def _halved(self, n: Node, x: ir.Value, lanes: int) -> ir.Value:
        """Combine halves, and halves of that: the order is that of a tree."""
        b = self.b
        while lanes > 1:
            lanes //= 2
            nothing = ir.Constant(x.type, ir.Undefined)
            halves = [b.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(I32, lanes), list(range(k, k + lanes))))
                      for k in (0, lanes)]
            x = self.combined(n, *halves)
        return b.extract_element(x, I32(0))


def at(b: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """Return an address `offset` bytes further."""
    if isinstance(offset, int):
        if not offset:
            return pointer
        offset = I64(offset)
    return b.gep(pointer, [offset], source_etype=I8)


def least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def memory_type(dtype: np.dtype, lanes: int) -> ir.Type:
    """Return the type of neighbouring elements in memory."""
    scalar = I8 if dtype.kind == "b" else ex.scalar_type(dtype)
    return ir.VectorType(scalar, lanes) if lanes > 1 else scalar


@dataclass(eq=False)
class Axis:
    """One loop of the nest: axes of the space that lie in one piece for all that is read and written."""

    axes: tuple[int, ...]
    count: ir.Value


class LoopWriter:
    """Writes the loops of one space."""

    def __init__(self, kernel: Writer, loop: Loop):
        self.k, self.loop, self.plan, self.roles = kernel, loop, kernel.plan, kernel.roles
        self.members = set(loop.nodes)
        self.references: dict[Any, Reference] = {}
        self.reads: dict[tuple[Node, int], Any] = {}  # (statement, its operand's number) -> reference, node or constant
        self.indexed: set[int] = set()  # axes whose own index is wanted
        for n in loop.nodes:
            self._operands(n)
        self.writes = {n: self._result(n) for n in loop.nodes if n in kernel.kept or n in kernel.scratch}
        self.reductions = [n for n in loop.nodes if n.prim.name in REDUCTIONS]
        groups = self._collapsed()
        self.axes = [Axis(g, self._count(g)) for g in groups]
        inner = math.prod(n for n in (loop.space[a] for a in groups[-1])) if groups and all(
            isinstance(loop.space[a], int) and a for a in groups[-1]) else None
        self.lanes = 1 if not groups else kernel.lanes
        while inner is not None and self.lanes // 2 >= inner:
            self.lanes //= 2
        self.values: dict[Any, ir.Value] = {}

    # -- what is read and written -----------------------------------------------------------------------

    def _operands(self, n: Node) -> None:
        name = n.prim.name
        if name == "gather":
            return self._gather_operands(n)
        if name == "scatter_add":
            return self._scatter_operands(n)
        for k, i in enumerate(n.inputs):
            self.reads[n, k] = self._read(i)

    def _read(self, operand: Node) -> Any:
        """Return what an operand of the loop's space is: a node of this loop, a number, or a place in memory."""
        node = operand
        while node.prim.name == "barrier":
            node = node.inputs[0]
        if node in self.members and itself(operand, self.roles) and node.prim.name not in REDUCTIONS:
            return node
        if self.roles.root[node].prim.name == "full":
            return self.roles.root[node]
        a = access(node, self.roles)
        return self._reference(a, node, tuple(range(node.ndim)))

    def _reference(self, a: Access, view: Node, axes: Sequence[int | None]) -> Reference:
        """Return the place of a view, of which ``axes[k]`` belongs to the space's axis k."""
        memory: Any = a.root
        inside = a.root in self.k.members and a.root in self.k.scratch
        if inside:
            memory = ("scratch", a.root)
        own = tuple(None if v is None or a.repeated[v] else v for v in axes)
        linked = tuple(v is not None and a.linked[v] for v in own)
        last = a.last()
        where = next((k for k, v in enumerate(own) if v is not None and v == last), None)
        key = (memory, view, own)
        found = self.references.get(key)
        if found is None:
            found = self.references[key] = Reference(memory, view, view.dtype, own, linked, where, not inside)
        return found

    def _gather_operands(self, n: Node) -> None:
        array, *indices = n.inputs
        count, ndim = len(indices), indices[0].ndim
        own = lockstep(n)
        a = access(array, self.roles)
        trailing = [None] * ndim + list(range(count, array.ndim))
        if own:
            trailing[0] = 0
        self.reads[n, 0] = self._reference(a, array, trailing)
        for k, i in enumerate(indices, 1):
            if k > 1 or not own:
                view = access(i, self.roles)
                self.reads[n, k] = self._reference(view, i, [*range(ndim), *[None] * (n.ndim - ndim)]) \
                    if self.roles.root[i].prim.name != "full" else self.roles.root[i]

    def _scatter_operands(self, n: Node) -> None:
        update, _, *indices = n.inputs
        count = 1 + len(indices)
        spread = [0, *[None] * (count - 1), *range(1, update.ndim)]
        for k, i in [(0, update), *enumerate(indices, 2)]:
            where = spread if not k else [0, *[None] * (n.ndim - 1)]
            self.reads[n, k] = self.roles.root[i] if self.roles.root[i].prim.name == "full" else self._reference(
                access(i, self.roles), i, where)
        self.indexed |= set(range(1, count))

    def _result(self, n: Node) -> Reference:
        if n.prim.name not in REDUCTIONS:
            return self._reference(access(n, self.roles), n, range(n.ndim))
        left = iter(range(n.ndim))
        axes = [None if k in n.params["axes"] else next(left) for k in range(len(self.loop.space))]
        if not terminal(n):
            return self._reference(Access(n, (False,) * n.ndim, (True,) * n.ndim), n, axes)
        kept = tuple(a is not None for a in axes)
        last = max((k for k, v in enumerate(kept) if v), default=None)
        ref = Reference(("parts", n), n, n.dtype, tuple(axes), kept, last, by_rows=False)
        self.references[ref.memory, n, ref.axes] = ref
        return ref

    # -- the nest of loops -----------------------------------------------------------------------------

    def _collapsed(self) -> list[tuple[int, ...]]:
        groups: list[list[int]] = []
        for a in range(len(self.loop.space)):
            if groups and self._together(a - 1, a):
                groups[-1].append(a)
            else:
                groups.append([a])
        return [tuple(g) for g in groups]

    def _together(self, a: int, b: int) -> bool:
        if a in self.indexed or b in self.indexed:
            return False
        if any((a in n.params["axes"]) != (b in n.params["axes"]) for n in self.reductions):
            return False
        for r in self.references.values():
            if (r.axes[a] is None) != (r.axes[b] is None) or (r.axes[a] is not None and not r.linked[a]):
                return False
        return all(n.prim.name != "gather" or (a < n.inputs[1].ndim) == (b < n.inputs[1].ndim)
                   for n in self.loop.nodes)

    def _count(self, group: Sequence[int]) -> ir.Value:
        """Return how many steps a loop takes; a constant where it is known."""
        k, known, count = self.k, 1, None
        for a in group:
            n = self.loop.space[a]
            if a and isinstance(n, int):
                known *= n
                continue
            size = k.count if not a else k.size(n)
            count = size if count is None else k.e.mul(count, size)
        if count is None:
            return I64(known)
        return k.e.mul(count, I64(known)) if known != 1 else count

    def _whole_vectors(self, axis: Axis) -> bool:
        """Tell whether a loop's count is a multiple of the number of lanes, whatever the sizes."""
        known = math.prod(n for a in axis.axes if a and isinstance(n := self.loop.space[a], int))
        return known % self.lanes == 0

    def write(self) -> None:
        k = self.k
        self.where = {r: self._start(r) for r in self.references.values()}
        self.index: dict[int, ir.Value] = {}  # an axis whose index is wanted -> where the nest stands
        for n in self.reductions:
            if self._in_memory(n):
                self._initialise(n)
        self.sums: dict[Node, ir.Value] = {}  # accumulators: room for one vector each
        self._nest(0, dict(self.where))
        assert not k.b.block.is_terminated

    def _start(self, r: Reference) -> ir.Value:
        k = self.k
        pointer = k.pointer(r.memory, r.view)
        if isinstance(r.memory, tuple) and r.memory[0] == "parts":
            return self._part(r.memory[1])
        if r.by_rows and r.axes and r.axes[0] is not None:
            pointer = at(k.e, pointer, k.e.mul(k.low, self._stride(r, 0)))
        return pointer

    def _part(self, n: Node) -> ir.Value:
        """Return where a block's own part of a reduction over the rows goes: of the only block, the result's place."""
        k, e = self.k, self.k.e
        nbytes = e.mul(k.size(size_of(n.shape)), I64(n.dtype.itemsize))
        own = at(e, k.pointer(("parts", n), n), e.mul(k.item, nbytes))
        return e.select(e.icmp_signed("==", k.head(0), I64(1)), k.pointer(n, n), own)

    def _stride(self, r: Reference, a: int) -> ir.Value:
        if r.linked[a] and a == r.last:
            return I64(r.dtype.itemsize)
        return self.k.param("stride", r.view, r.axes[a])

    def _moving(self, r: Reference, axis: Axis) -> bool:
        return r.axes[axis.axes[-1]] is not None

    def _register(self, n: Node) -> int:
        """Return from which depth on a reduction is kept in a register: all loops from there reduce."""
        depth = len(self.axes)
        while depth and self.axes[depth - 1].axes[-1] in n.params["axes"]:
            depth -= 1
        return depth

    def _in_memory(self, n: Node) -> bool:
        """Tell whether a reduction adds to what is in memory already."""
        outside = range(self._register(n))
        return any(self.axes[d].axes[-1] in n.params["axes"] for d in outside)

    def _initialise(self, n: Node) -> None:
        k, b, r = self.k, self.k.b, self.writes[n]
        count = k.size(size_of(n.shape if terminal(n) else n.shape[1:]))
        if not terminal(n):
            count = b.mul(count, k.count)
        start = self.where[r]
        with k.counting(count, I64(k.lanes)) as i:
            k.store(k.identity(n, k.lanes), n.dtype, at(b, start, b.mul(i, I64(n.dtype.itemsize))), k.lanes,
                    k.mask(count, i, k.lanes))

    def _nest(self, depth: int, where: dict[Reference, ir.Value]) -> None:
        k, b = self.k, self.k.b
        opened = [n for n in self.reductions if self._register(n) == depth]
        for n in opened:
            self.sums[n] = k.e.alloca(ex.vector_type(n.dtype, self.lanes))
            b.store(k.identity(n, self.lanes), self.sums[n])
        if depth == len(self.axes):
            self._element(where)
        elif depth == len(self.axes) - 1:
            self._vectors(self.axes[depth], where)
        else:
            axis = self.axes[depth]
            with k.counting(axis.count) as i:
                self.index[axis.axes[-1]] = i
                self._nest(depth + 1, {r: at(b, p, b.mul(i, self._stride(r, axis.axes[-1]))) if self._moving(r, axis)
                                       else p for r, p in where.items()})
        for n in opened:
            self._close(n, where)

    def _close(self, n: Node, where: dict[Reference, ir.Value]) -> None:
        k, b, r = self.k, self.k.b, self.writes[n]
        x = k.across(n, b.load(self.sums[n], typ=ex.vector_type(n.dtype, self.lanes)), self.lanes)
        if self._in_memory(n):
            x = k.combined(n, k.load(n.dtype, where[r], 1, None), x)
        k.store(x, n.dtype, where[r], 1, None)

    def _element(self, where: dict[Reference, ir.Value]) -> None:
        """Emit a space without axes: one element."""
        self._body(None, None, None, where, {})

    def _vectors(self, axis: Axis, where: dict[Reference, ir.Value]) -> None:
        """Emit the innermost loop, vector by vector."""
        k, b = self.k, self.k.b
        fixed = {r: k.load(r.dtype, where[r], 1, None) for r in self._read_only() if not self._moving(r, axis)
                 and not self._dynamic(r)}
        fixed = {r: ex.splat(b, x, self.lanes) for r, x in fixed.items()}
        lanes, running = I64(self.lanes), [n for n in self.reductions if n in self.sums and n.prim.name == "sum"]
        count = axis.count
        small = isinstance(count, ir.Constant) and count.constant <= self.lanes
        whole = self._whole_vectors(axis)

        def body(i: ir.Value) -> None:
            self._body(axis, i, None if whole else k.mask(count, i, self.lanes), where, fixed)

        if small:
            body(I64(0))
        elif not running or (isinstance(count, ir.Constant) and count.constant <= RUN * self.lanes):
            with k.counting(count, lanes) as i:
                body(i)
        else:  # sums in runs
            totals = {n: self.sums[n] for n in running}
            for n in running:
                self.sums[n] = k.e.alloca(ex.vector_type(n.dtype, self.lanes))
            with k.counting(count, I64(RUN * self.lanes)) as j:
                for n in running:
                    b.store(k.identity(n, self.lanes), self.sums[n])
                with k.counting(least(b, b.sub(count, j), I64(RUN * self.lanes)), lanes) as i:
                    body(b.add(i, j))
                for n in running:
                    t = ex.vector_type(n.dtype, self.lanes)
                    b.store(k.combined(n, b.load(totals[n], typ=t), b.load(self.sums[n], typ=t)), totals[n])
            self.sums.update(totals)

    def _read_only(self) -> list[Reference]:
        read = {id(r) for r in self.reads.values() if isinstance(r, Reference)}
        return [r for r in self.references.values() if id(r) in read]

    def _dynamic(self, r: Reference) -> bool:
        """Tell whether a place is the array of a gather, whose elements are found by index."""
        return any(self.reads[n, 0] is r for n in self.loop.nodes if n.prim.name == "gather")

    # -- one vector of elements --------------------------------------------------------------------------

    def _body(self, axis: Axis | None, i: ir.Value | None, mask: ir.Value | None, where: dict[Reference, ir.Value],
              fixed: dict[Reference, ir.Value]) -> None:
        self.axis, self.i, self.mask, self.now, self.values = axis, i, mask, where, dict(fixed)
        for n in self.loop.nodes:
            name = n.prim.name
            if name in REDUCTIONS:
                self._accumulate(n)
                continue
            if name == "gather":
                value = self._gathered(n)
            elif name == "scatter_add":
                value = self._scattered(n)
            else:
                value = ex.emit(self.k.b, n, [self._value(self.reads[n, j]) for j in range(len(n.inputs))])
            self.values[n] = value
            if n in self.writes:
                r = self.writes[n]
                self.k.store(value, n.dtype, self._address(r), self.lanes, mask)

    def _address(self, r: Reference) -> ir.Value:
        if self.axis is None or not self._moving(r, self.axis):
            return self.now[r]
        return at(self.k.b, self.now[r], self.k.b.mul(self.i, self._stride(r, self.axis.axes[-1])))

    def _value(self, read: Any) -> ir.Value:
        k = self.k
        if isinstance(read, Node) and read not in self.values:  # a number
            return ex.constant(ex.vector_type(read.dtype, self.lanes), read.params["value"])
        if read not in self.values:
            self.values[read] = self._load(read)
        assert k is self.k
        return self.values[read]

    def _load(self, r: Reference) -> ir.Value:
        k = self.k
        if self.axis is None:
            return k.load(r.dtype, self.now[r], 1, None)
        inner = self.axis.axes[-1]
        if r.last == inner and r.linked[inner]:
            return k.load(r.dtype, self._address(r), self.lanes, self.mask)
        return k.gather(r.dtype, self._address(r), self._steps(self._stride(r, inner)), self.lanes, self.mask)

    def _steps(self, stride: ir.Value) -> ir.Value:
        """Return how far each lane is from the first."""
        b = self.k.b
        if self.lanes == 1:
            return I64(0)
        iota = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        return b.mul(iota, ex.splat(b, stride, self.lanes))

    def _accumulate(self, n: Node) -> None:
        k, b = self.k, self.k.b
        x = self._value(self.reads[n, 0])
        if n in self.sums:
            place, old = self.sums[n], b.load(self.sums[n], typ=x.type)
            if self.mask is not None:
                x = b.select(self.mask, x, k.identity(n, self.lanes))
            b.store(k.combined(n, old, x), place)
            return
        r = self.writes[n]
        address = self._address(r)
        if self._in_memory(n):
            x = k.combined(n, k.load(n.dtype, address, self.lanes, self.mask), x)
        k.store(x, n.dtype, address, self.lanes, self.mask)

    def _position(self, n: Node, k: int, size: int | Dim) -> ir.Value:
        """Return an index as a count from 0; one that is out of range is noted, and taken as 0."""
        b = self.k.b
        read = self.reads[n, k]
        i = self._value(read)
        dtype = read.dtype
        i = ex.cast(b, i, dtype, np.dtype(np.int64))
        length = ex.splat(b, self.k.size(size), self.lanes)
        zero = ex.constant(i.type, 0)
        i = b.select(b.icmp_signed("<", i, zero), b.add(i, length), i)
        bad = b.icmp_unsigned(">=", i, length)
        wrong = bad if self.mask is None else b.and_(bad, self.mask)
        if self.lanes > 1:
            reduce = self.k.intrinsic(f"llvm.vector.reduce.or.v{self.lanes}i1", I1, [wrong.type])
            wrong = b.call(reduce, [wrong])
        with b.if_then(wrong, likely=False):
            b.store(I64(1), self.k.pointer(("flag",), n))
        return b.select(bad, zero, i)

    def _gathered(self, n: Node) -> ir.Value:
        k, b = self.k, self.k.b
        array, *indices = n.inputs
        r = self.reads[n, 0]
        own = lockstep(n)
        total = None
        for j in range(1, len(n.inputs)):
            if j == 1 and own:
                continue
            step = self._position(n, j, array.shape[j - 1])
            step = b.mul(step, ex.splat(b, k.param("stride", array, j - 1), self.lanes))
            total = step if total is None else b.add(total, step)
        ndim = indices[0].ndim
        if self.axis is None:
            return k.load(r.dtype, at(b, self.now[r], total) if total is not None else self.now[r], 1, None)
        inner = self.axis.axes[-1]
        base = self._address(r)
        if inner >= ndim:  # rows of the array: one index for all lanes
            if total is not None:
                base = at(b, base, b.extract_element(total, I32(0)) if self.lanes > 1 else total)
            if self._moving(r, self.axis) and r.last == inner and r.linked[inner]:
                return k.load(r.dtype, base, self.lanes, self.mask)
            return k.gather(r.dtype, base, self._steps(self._stride(r, inner)), self.lanes, self.mask)
        if self._moving(r, self.axis):
            steps = self._steps(self._stride(r, inner))
            total = steps if total is None else b.add(total, steps)
        if total is None:  # the row's own number, for every column
            return ex.splat(b, k.load(r.dtype, base, 1, None), self.lanes)
        return k.gather(r.dtype, base, total, self.lanes, self.mask)

    def _scattered(self, n: Node) -> ir.Value:
        """Return a row's element that an index names, and 0 elsewhere: none is named twice."""
        b = self.k.b
        hit = None
        for j in range(2, len(n.inputs)):
            a = j - 1
            wanted = self._position(n, j, n.shape[a])
            if self.axis is not None and self.axis.axes[-1] == a:
                here = b.add(ex.splat(b, self.i, self.lanes), self._steps(I64(1)))
            else:
                here = ex.splat(b, self.index[a], self.lanes)
            same = b.icmp_signed("==", here, wanted)
            hit = same if hit is None else b.and_(hit, same)
        update = self._value(self.reads[n, 0])
        return update if hit is None else b.select(hit, update, ex.constant(update.type, 0))


def kernel(plan: Plan, step: Step, name: str) -> Kernel:
    """Return the code of a group all of whose statements `unable` has let pass."""
    return Writer(plan, step, name).write()


__all__ = ["HEAD", "Kernel", "kernel", "rows", "space_of", "unable"]

"""A fused group as one LLVM function: loops over blocks of rows, on explicit vectors.

The function has the form of every step, ``void f(i64* args, i8** bases)``. It hands its blocks to the threads'
pool or runs them itself; how the rows are key depends on sizes alone, so results do not depend on the number of
threads. Sums are taken in short runs that are added up in a tree, as error bounds want it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ....graph import ArrayType, Node
from ....ops.index import gather, lockstep, scatter_add
from ....passes.fuse import rows_of, terminal
from ....passes.schedule import Plan, Step
from ....symbolic import Dim, size_of
from . import expressions as ex
from .emit import I64, PTR, VOID, Emitter, at, least
from .kernel_key import KernelKey, coded, decoded, plan_of
from .loop_codegen import LoopWriter
from .loop_groups import loops

STEP = ir.FunctionType(VOID, [PTR, PTR])
BLOCK = ir.FunctionType(VOID, [PTR, I64, I64])
_UNNAMED = "kernel"  # what a function is called while it is written
HEAD = 4  # what each block of arguments begins with: items, how many threads may share them, rows of an item, rows


@dataclass(frozen=True)
class Kernel:
    """The code of a group, and what its argument block holds.

    Attributes
    ----------
    name : str
        The function's.
    params : tuple
        What stands behind the head of the argument block: ``("size", n)``, ``("base", memory)``,
        ``("offset", memory, view)``, ``("stride", view, axis)``, ``("scratch",)`` or ``("row", n)``; a memory is a
        node, or ``("scratch", node)``, ``("parts", node)``, ``("chains", node, first, last, limit)``.
    scratch : tuple of Node
        The values that lie in memory for one block of rows.
    parts : tuple of Node
        The values that are combined of the blocks' own.
    chains : tuple of (Node, int, int, int)
        The sums in memory that are taken in chains: over which axes of their operand, first and last, and how many
        sums of chains their total takes.
    """

    name: str
    params: tuple[Any, ...]
    scratch: tuple[Node, ...]
    parts: tuple[Node, ...]
    chains: tuple[tuple[Node, int, int, int], ...]


def unable(node: Node) -> str | None:
    """Return why a statement that is row-local cannot be part of a kernel; None if it can."""
    types = [*(i.type for i in node.inputs), node.type]
    bad = next((t for t in types if not isinstance(t, ArrayType) or t.dtype not in ex.DTYPES), None)
    if bad is not None:
        return f"{node.prim.name} of {bad}"
    if any(isinstance(d, int) and d == 0 for t in types for d in t.shape):
        return f"{node.prim.name} of nothing"
    if node.prim.kind == "elementwise":
        return ex.unable(node)
    if node.prim.kind == "reduce" or node.prim is gather:
        return None
    if node.prim is scatter_add and lockstep(node) and node.inputs[1].ndim == 1:
        return None
    return node.prim.name


def rows(node: Node) -> Any:
    """Return the number of rows that a statement works on one by one in a kernel; None where it does not."""
    return rows_of(node) if unable(node) is None else None


class Writer(Emitter):
    """Writes one kernel."""

    def __init__(self, plan: Plan, step: Step, name: str):
        floats = [t.dtype.itemsize for n in step.group.nodes for t in (n.type, *(i.type for i in n.inputs))
                  if t.dtype.kind == "f"]
        super().__init__(name, 8 if max(floats, default=4) == 8 else 16)
        self.plan, self.step, self.roles = plan, step, plan.roles
        self.params: dict[Any, int] = {}
        self.chains: dict[tuple[Node, int, int, int], None] = {}
        self.members = set(step.group.nodes)
        self.loops = loops(plan, step)
        loop_of = {n: loop for loop in self.loops for n in loop.nodes}
        self.kept = {n for n in step.group.nodes if n in plan.place}
        crossing = {self.roles.root[i] for n in step.group.nodes for i in n.inputs
                    if self.roles.root[i] in self.members
                    and (loop_of[self.roles.root[i]] is not loop_of[n] or self.roles.root[i].prim.kind == "reduce")}
        self.scratch = tuple(n for n in step.group.nodes if n in crossing and n not in self.kept)
        self.parts = tuple(n for n in step.group.nodes if terminal(n))

    # -- the functions -------------------------------------------------------------------------------

    def write(self) -> str:
        """Return the module's text."""
        step = ir.Function(self.module, STEP, self.name)
        if self.step.group.rows is None:
            self._number(step)
        else:
            block = ir.Function(self.module, BLOCK, f"{self.name}.block")
            block.linkage = "internal"
            self._block(block)
            self._step(step, block)
        return str(self.module)

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
        with self.function(name, [PTR, PTR, I64, I64]) as f:
            first, out, count, items = f.args
            b = self.b
            nbytes = b.mul(count, I64(n.dtype.itemsize))
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
                self.combine(n, left, right, to, count)
            b.store(b.shl(d, I64(1)), distance)
            b.branch(tests)
            b.position_at_end(end)
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
            if isinstance(memory, tuple) and memory[0] in ("scratch", "chains"):
                base = at(e, base, e.mul(self.thread, self.param("scratch")))
            self.loaded[key] = base
        return self.loaded[key]


def written(key: KernelKey) -> tuple[str, Any]:
    """Return the code of a group all of whose statements `unable` has let pass, and what `kernel` wants to know of it.

    Both depend on the signature alone; in the note, nodes and sizes are numbers. The function is named by its code, so
    that groups which differ in nothing that the code shows, such as the widths of two layers, have the same.
    """
    plan, step, nodes, symbols = plan_of(key)
    writer = Writer(plan, step, _UNNAMED)
    text = writer.write()
    name = "k" + hashlib.sha256(text.encode()).hexdigest()[:20]
    text = text.replace(f'"{_UNNAMED}', f'"{name}')
    number, sizes = {n: i for i, n in enumerate(nodes)}, {s: i for i, s in enumerate(symbols)}

    def plain(x: Any) -> Any:
        if isinstance(x, Node):
            return ["node", number[x]]
        if isinstance(x, Dim):
            return ["size", coded(x, sizes)]
        return ["tuple", *map(plain, x)] if isinstance(x, tuple) else x

    return text, plain((name, tuple(writer.params), writer.scratch, writer.parts, tuple(writer.chains)))


def kernel(key: KernelKey, note: Any) -> Kernel:
    """Return a group's kernel, given what `written` has noted of it."""

    def real(x: Any) -> Any:
        if not isinstance(x, list):
            return x
        what, *rest = x
        if what == "node":
            return key.nodes[rest[0]]
        return decoded(rest[0], key.symbols) if what == "size" else tuple(map(real, rest))

    return Kernel(*real(note))


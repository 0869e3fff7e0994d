"""A fused group as one LLVM function: loops over blocks of rows, on explicit vectors.

The function has the form of every step, ``void f(i64* args, i8** bases)``. It hands its blocks to the threads'
pool or runs them itself; how the rows are key depends on sizes alone, so results do not depend on the number of
threads. Sums are taken in short runs that are added up in a tree, as error bounds want it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ....graph import ArrayType, Node
from ....immutable import Record
from ....ops.index import gather, lockstep, scatter_add
from ....passes.fuse import SINGLE, rows_of, terminal
from ....passes.schedule import Plan, Step
from ....symbolic import Dim, size_of
from ..llvm import ir
from ..llvm.builder import ONE, at, least
from ..llvm.values import I64, PTR
from . import expressions as ex
from .kernel_emitter import KernelEmitter, Memory, Param
from .kernel_key import KernelKey, coded, decoded, plan_of
from .loop_codegen import LoopWriter
from .loop_groups import loops

_UNNAMED = "kernel"  # the function's name while it is written


class Kernel(Record):
    """The code of groups with one signature and the same sizes, and the contents of their argument blocks.

    Attributes
    ----------
    name : str
        The function's.
    nodes : tuple of Node
        Those of the first such group, in the order of its key: the other attributes name them.
    params : tuple of Param
        The numbers behind the head of the argument block.
    scratch : tuple of Node
        The values that lie in memory for one block of rows.
    parts : tuple of Node
        The values that are combined from the blocks' parts.
    chains : tuple of Memory
        The sums in memory that are taken in chains.
    """

    name: str
    nodes: tuple[Node, ...]
    params: tuple[Param, ...]
    scratch: tuple[Node, ...]
    parts: tuple[Node, ...]
    chains: tuple[Memory, ...]


def unable(node: Node) -> str | None:
    """Return why a statement that is row-local cannot be part of a kernel; None if it can."""
    empty = False
    for n in (*node.inputs, node):
        t = n.type
        if not isinstance(t, ArrayType) or t.dtype not in ex.DTYPES:
            return f"{node.prim.name} of {t}"
        empty = empty or 0 in t.shape
    if empty:
        return f"{node.prim.name} of nothing"
    if node.prim.kind == "elementwise":
        return ex.unable(node.prim, node.dtype)
    if node.prim.kind == "reduce" or node.prim is gather:
        return None
    if node.prim is scatter_add and lockstep(node) and node.inputs[1].ndim == 1:
        return None
    return node.prim.name


def rows(node: Node) -> int | Dim | None:
    """Return the number of rows that a statement works on one by one in a kernel, or `SINGLE`; None for others."""
    own = SINGLE if node.prim.kind == "elementwise" and not node.ndim else rows_of(node)
    return None if own is None or unable(node) is not None else own


class Writer(KernelEmitter):
    """Writes one kernel."""

    def __init__(self, plan: Plan, step: Step, name: str):
        floats = [v.dtype.itemsize for n in step.group.nodes for v in (n, *n.inputs) if v.dtype.kind == "f"]
        super().__init__(name, 8 if max(floats, default=4) == 8 else 16, plan)
        self.group, self.loops = step.group, loops(plan, step)
        self.members = set(step.group.nodes)
        self.kept = {n for n in step.group.nodes if n in plan.place}
        loop_of = {n: loop for loop in self.loops for n in loop.nodes}
        root = plan.roles.root
        crossing = {root[i] for n in step.group.nodes for i in n.inputs if root[i] in self.members
                    and (loop_of[root[i]] is not loop_of[n] or root[i].prim.kind == "reduce")}
        self.scratch = tuple(n for n in step.group.nodes if n in crossing and n not in self.kept)
        self.parts = tuple(n for n in step.group.nodes if terminal(n))

    # -- functions -----------------------------------------------------------------------------------

    def write(self) -> str:
        """Return the module's text."""
        if self.group.rows is None:  # the statements' results are single numbers
            with self.step(self.name):
                self._loops()
            return str(self.module)
        with self.block(f"{self.name}.block") as block:
            _, self.item, self.thread = block.args
            size, total = self.head(2), self.head(3)
            self.low = self.e.mul(self.item, size)
            self.count = least(self.e, self.e.sub(total, self.low), size)
            self._loops()
        with self.step(self.name):
            items = self.head(0)
            self.parallel_for(block, items, self.head(1))
            if self.parts:
                with self.b.if_then(self.b.icmp_signed(">", items, ONE)):
                    for n in self.parts:
                        parts, total = (self.pointer(Memory(kind, n), n) for kind in ("parts", "value"))
                        self.b.call(self._combiner(n), [parts, total, self.size(size_of(n.shape)), items])
        return str(self.module)

    def _loops(self) -> None:
        for loop in self.loops:
            LoopWriter(self, loop).write()

    def _combiner(self, n: Node) -> ir.Function:
        """Return the function that combines the blocks' parts of a reduction, one for all of its kind and dtype.

        Neighbours are combined first, then neighbouring results, and so on; the last pair's is the total.
        """
        name = f"{self.name}.{n.prim.name}.{n.dtype.name}"
        if name in self.module.functions:
            return self.module.functions[name]
        with self.function(name, [PTR, PTR, I64, I64]) as f:
            first, out, count, items = f.args
            b = self.b
            nbytes = b.mul(count, I64(n.dtype.itemsize))
            distance = self.variable(ONE)
            with self.repeated(lambda: b.icmp_signed("<", self.get(distance), items)):
                d = self.get(distance)
                with self.counting(I64(0), b.sub(items, d), b.shl(d, ONE)) as i:
                    left = at(b, first, b.mul(i, nbytes))
                    right = at(b, left, b.mul(d, nbytes))
                    to = b.select(b.icmp_signed(">=", b.shl(d, ONE), items), out, left)
                    self.combine(n, left, right, to, count)
                b.store(b.shl(d, ONE), distance)
        return f


def written(key: KernelKey) -> tuple[str, object]:
    """Return the code of a group whose statements are all `able`, and the note that `kernel` reads.

    Both depend on the signature alone; in the note, nodes and sizes are numbers. The function is named by its code, so
    that groups with the same code, such as the layers of two widths, have one function.
    """
    plan, step, nodes, symbols = plan_of(key)
    writer = Writer(plan, step, _UNNAMED)
    text = writer.write()
    name = "k" + hashlib.sha256(text.encode()).hexdigest()[:20]
    text = text.replace(f'"{_UNNAMED}', f'"{name}')
    number, sizes = {n: i for i, n in enumerate(nodes)}, {s: i for i, s in enumerate(symbols)}

    def memory(m: Memory) -> list[object]:
        return [m.kind, number[m.node], *m[2:]]

    params = [[p.kind, p.memory and memory(p.memory), None if p.view is None else number[p.view], p.axis,
               coded(p.size, sizes)] for p in writer.params]
    values = [[number[n] for n in group] for group in (writer.scratch, writer.parts)]
    return text, [name, params, *values, [memory(m) for m in writer.chains]]


def kernel(key: KernelKey, note: Any) -> Kernel:
    """Return the kernel of a group, given the note of `written`."""
    nodes = key.nodes

    def memory(kind: str, node: int, *chains: int) -> Memory:
        return Memory(kind, nodes[node], *chains)

    name, params, scratch, parts, chains = note
    return Kernel(name, nodes, tuple([Param(kind, m and memory(*m), None if view is None else nodes[view], axis,
                                     decoded(size, key.symbols) if size else 0)
                               for kind, m, view, axis, size in params]),
                  tuple([nodes[i] for i in scratch]), tuple([nodes[i] for i in parts]),
                  tuple([memory(*m) for m in chains]))

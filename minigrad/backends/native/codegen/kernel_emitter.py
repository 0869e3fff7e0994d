"""A kernel while it is written: the numbers of its argument block, its memory, and reductions of vectors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import NamedTuple

from ....combiners import combiner_of
from ....graph import Node
from ....passes.schedule import Plan
from ....symbolic import Dim
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I64, element, suffix
from . import expressions as ex
from .emit import Emitter, halved

HEAD = 4  # numbers at the head of an argument block: items, threads that may share them, rows of an item, rows


class Memory(NamedTuple):
    """A piece of memory that a kernel reads or writes.

    Attributes
    ----------
    kind : str
        ``"value"`` for a value's own memory, ``"scratch"`` for the rows of one block, ``"parts"`` for the blocks'
        parts of a reduction, ``"chains"`` for the chains of a sum.
    node : Node
    first, last, limit : int
        Of chains: the axes of the operand that they go over, and how many sums of chains the total takes.
    """

    kind: str
    node: Node
    first: int = 0
    last: int = 0
    limit: int = 0


class Param(NamedTuple):
    """A number of a kernel's argument block.

    Attributes
    ----------
    kind : str
        ``"size"``, ``"base"`` of a memory, ``"offset"`` of a view in a memory, ``"stride"`` of a view along an axis,
        ``"scratch"``, the bytes of a thread's scratch memory, or ``"flag"``, the base of the flag of a bad index.
    """

    kind: str
    memory: Memory | None = None
    view: Node | None = None
    axis: int = 0
    size: int | Dim = 0


class KernelEmitter(Emitter):
    """Writes code that reads a kernel's arguments, and reduces rows by vectors of `lanes` elements.

    Attributes
    ----------
    params : dict of Param to int
        The numbers behind the head of the argument block, in order.
    chains : dict of Memory to None
        The sums in memory that are taken in chains.
    members : collection of Node
        The statements of the group.
    kept, scratch : collection of Node
        Those whose values leave the group, and those whose values lie in memory for one block of rows.
    item, thread : ir.Value
        The number of the block that is worked on, and of the thread.
    low, count : ir.Value
        The first row of the block, and its rows.
    """

    members: Collection[Node]
    kept: Collection[Node]
    scratch: Collection[Node]
    item: ir.Value
    thread: ir.Value
    low: ir.Value
    count: ir.Value

    def __init__(self, name: str, lanes: int, plan: Plan):
        super().__init__(name)
        self.lanes, self.plan, self.roles = lanes, plan, plan.roles
        self.params: dict[Param, int] = {}
        self.chains: dict[Memory, None] = {}
        self._loaded: dict[tuple[ir.IRBuilder, Hashable], ir.Value] = {}

    # -- arguments -----------------------------------------------------------------------------------

    def _once(self, key: Hashable, load: Callable[[], ir.Value]) -> ir.Value:
        """Return a value that the current function loads once, in its entry block."""
        if (self.e, key) not in self._loaded:
            self._loaded[self.e, key] = load()
        return self._loaded[self.e, key]

    def head(self, i: int) -> ir.Value:
        return self._once(i, lambda: self.number(i))

    def param(self, param: Param) -> ir.Value:
        return self._once(param, lambda: self.number(HEAD + self.params.setdefault(param, len(self.params))))

    def size(self, n: int | Dim) -> ir.Value:
        return self.param(Param("size", size=n)) if isinstance(n, Dim) else I64(n)

    def stride(self, view: Node, axis: int) -> ir.Value:
        return self.param(Param("stride", view=view, axis=axis))

    def flag(self) -> ir.Value:
        """Return the address of the number that becomes 1 where an index is out of range."""
        return self._once("flag", lambda: self.base(self.param(Param("flag"))))

    def pointer(self, memory: Memory, view: Node) -> ir.Value:
        """Return the address of a view's first element, of its memory's first row."""
        def load() -> ir.Value:
            e = self.e
            pointer = at(e, self.base(self.param(Param("base", memory))), self.param(Param("offset", memory, view)))
            if memory.kind in ("scratch", "chains"):
                pointer = at(e, pointer, e.mul(self.thread, self.param(Param("scratch"))))
            return pointer

        return self._once((memory, view), load)

    # -- reductions ------------------------------------------------------------------------------------

    def combined(self, n: Node, x: ir.Value, y: ir.Value) -> ir.Value:
        """Return the combination of two values by a reduction."""
        return ex.combined(self.b, combiner_of(n), x, y, n.dtype.kind == "u")

    def identity(self, n: Node, lanes: int) -> ir.Value:
        return ex.identity(combiner_of(n), n.dtype, lanes)

    def combine(self, n: Node, left: ir.Value, right: ir.Value, to: ir.Value, count: ir.Value,
                begins: ir.Value | None = None) -> None:
        """Combine `count` elements of two rows by a reduction into a third; where it `begins`, copy the right row."""
        b = self.b
        with self.counting(I64(0), count, I64(self.lanes)) as i:
            mask, offset = self.mask(count, i, self.lanes), b.mul(i, I64(n.dtype.itemsize))
            x, y = (self.load(n.dtype, at(b, p, offset), self.lanes, mask) for p in (left, right))
            if begins is not None:
                x = b.select(begins, self.identity(n, self.lanes), x)
            self.store(self.combined(n, x, y), n.dtype, at(b, to, offset), mask)

    def begin(self, n: Node, to: ir.Value, count: ir.Value) -> None:
        """Store the identity of a reduction in `count` elements."""
        b = self.b
        with self.counting(I64(0), count, I64(self.lanes)) as i:
            self.store(self.identity(n, self.lanes), n.dtype, at(b, to, b.mul(i, I64(n.dtype.itemsize))),
                       self.mask(count, i, self.lanes))

    def across(self, n: Node, x: ir.Value, lanes: int) -> ir.Value:
        """Return the combination of all lanes by a reduction."""
        if lanes == 1:
            return x
        name = f"{self.name}.across.{n.prim.name}.{suffix(x.type)}{n.dtype.kind}"
        f = self.module.functions.get(name)
        if f is None:
            f = ir.Function(self.module, ir.FunctionType(element(x.type), [x.type]), name)
            f.linkage = "internal"
            outer, self.b = self.b, ir.IRBuilder(f.append_basic_block("entry"))
            self.b.ret(halved(self.b, partial(self.combined, n), f.args[0], lanes))
            self.b = outer
        return self.b.call(f, [x])

"""A kernel while it is written: the numbers of its argument block, and the memory that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple

from llvmlite import ir

from ....graph import Node
from ....passes.schedule import Plan
from ....symbolic import Dim
from ..llvm.builder import at
from ..llvm.values import I64
from .emit import VectorEmitter

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


class KernelEmitter(VectorEmitter):
    """Writes code that reads a kernel's arguments.

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
        super().__init__(name, lanes)
        self.plan, self.roles = plan, plan.roles
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

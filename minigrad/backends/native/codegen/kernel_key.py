"""The key of a kernel: everything that the code of a fused group depends on, in any program.

Two groups with one signature have the same code, so that twenty layers of one network have one kernel, and a kernel on
disk is found without being generated again. The signature is complete, because code is generated from it alone:
`plan_of` makes a plan of one group from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ....graph import ArrayType, Graph, Node
from ....immutable import Frozen, Record, cached_property
from ....ops.constants import full, iota
from ....passes.fuse import Group, Roles
from ....passes.schedule import Plan, Step
from ....primitive import input_
from ....symbolic import Dim, Symbol, polynomial
from .strides import is_view

SizeCode: TypeAlias = "int | tuple[tuple[tuple[int, ...], int], ...]"  # a number, or a polynomial's terms
Entry: TypeAlias = ("tuple[tuple[str | None, ...], tuple[int, ...], tuple[tuple[str, object], ...], np.dtype, "
                    "tuple[SizeCode, ...], int | None, bool]")  # a node in a signature
Signature: TypeAlias = tuple[bool, tuple[int, ...], tuple[Entry, ...]]
_KNOWN = (full, iota)  # leaves whose parameters code depends on; of others just the type matters
_symbols: list[Symbol] = []  # the sizes of all signatures, by number


class KernelKey(Frozen, Record):
    """A group's signature, and the nodes and sizes that its numbers stand for.

    Attributes
    ----------
    signature : tuple
        Whether the group has rows, its statements' numbers, and all nodes in order. Each is its primitive's name,
        kernel and kind, its inputs, parameters, dtype and shape, its memory, and whether it is written over an operand.
        Nodes, sizes and memories are numbers. Equal signatures have equal code.
    nodes : tuple of Node
    symbols : tuple of Symbol
    """

    signature: Signature
    nodes: tuple[Node, ...]
    symbols: tuple[Symbol, ...]

    @cached_property
    def text(self) -> str:
        """The signature as text, which names the code in the cache."""
        return repr(self.signature)


def kernel_key(plan: Plan, step: Step) -> KernelKey:
    """Return the key of a group's kernel: nodes, sizes and memories are numbered in the order of a traversal."""
    traversal = _Traversal(plan, step.group.nodes)
    group = tuple([traversal.number(n) for n in step.group.nodes])
    signature = step.group.rows is not None, group, tuple(traversal.entries)
    return KernelKey(signature, tuple(traversal.numbers), tuple(traversal.symbols))


class _Traversal:
    """Numbers the nodes of a group and their operands; a recursive function in its place would be in a cycle."""

    def __init__(self, plan: Plan, group: Sequence[Node]):
        self.roles, self.place, self.takes, self.members = plan.roles, plan.place, plan.takes, set(group)
        self.numbers: dict[Node, int] = {}
        self.entries: list[Entry] = []
        self.symbols: dict[Symbol, int] = {}
        self.places: dict[int, int] = {}

    def number(self, n: Node) -> int:
        """Return the number of a node, whose operands have smaller ones."""
        numbers, prim, place = self.numbers, n.prim, self.place.get(n)
        if n in numbers:
            return numbers[n]
        inputs: tuple[int, ...] = ()
        view = prim.view is not None and is_view(n, self.roles)
        if view or n in self.members:
            operands = n.inputs[:1] if view else n.inputs  # a barrier orders
            inputs = tuple([numbers[i] if i in numbers else self.number(i) for i in operands])
        elif prim not in _KNOWN:
            prim = input_
        operation: tuple[str | None, ...] = (prim.name,)
        params: tuple[tuple[str, object], ...] = ()
        if prim is not input_:
            operation = prim.name, prim.kernel, prim.kind
            if prim.kind != "elementwise":  # the parameters of those are in their kernel
                params = tuple([(k, self._param(v)) for k, v in n.params.items()])
        if place is not None:
            place = self.places.setdefault(place, len(self.places))
        shape: tuple[SizeCode, ...] = n.shape  # type: ignore[assignment]  # without symbolic sizes
        if Dim in map(type, shape):
            shape = tuple([coded(d, self.symbols) for d in n.shape])
        self.entries.append((operation, inputs, params, n.dtype, shape, place, n in self.takes))
        numbers[n] = new = len(numbers)
        return new

    def _param(self, v: object) -> object:
        """Return a parameter with numbers for its symbols, and floats that are equal only if their bits are."""
        if isinstance(v, tuple):
            return "tuple", tuple([self._param(x) for x in v])
        if isinstance(v, float):
            return "float", v.hex()
        return ("size", coded(v, self.symbols)) if isinstance(v, Dim) else v


def coded(d: int | Dim, symbols: dict[Symbol, int]) -> SizeCode:
    """Return a size with numbers for its symbols: an int, or the terms of a polynomial."""
    if not isinstance(d, Dim):
        return d
    return tuple(sorted([(tuple(sorted([symbols.setdefault(s, len(symbols)) for s in m])), f) for m, f in d.terms]))


def decoded(code: SizeCode, symbols: Sequence[Symbol]) -> int | Dim:
    """Undo `coded`."""
    if isinstance(code, int):
        return code
    return polynomial({tuple([symbols[i] for i in m]): f for m, f in code})


def plan_of(key: KernelKey) -> tuple[Plan, Step, list[Node], list[Symbol]]:
    """Return a plan of this group alone, its step, and the nodes and symbols by number, made from the signature."""
    has_rows, group, entries = key.signature
    count = 0
    nodes: list[Node] = []
    place: dict[Node, int] = {}
    takes: dict[Node, Node] = {}

    def size(code: SizeCode) -> int | Dim:
        nonlocal count
        if not isinstance(code, int):
            count = max(count, 1 + max((i for m, _ in code for i in m), default=-1))
            while len(_symbols) < count:
                _symbols.append(Symbol(f"n{len(_symbols)}"))
        return decoded(code, _symbols)

    def param(v: Any) -> Any:
        if not isinstance(v, tuple):
            return v
        kind, code = v
        if kind == "float":
            return float.fromhex(code)
        return tuple([param(x) for x in code]) if kind == "tuple" else size(code)

    for k, ((name, *_), inputs, params, dtype, shape, memory, over) in enumerate(entries):
        prim = input_ if name == input_.name else key.nodes[k].prim
        n = Node(prim, tuple([nodes[i] for i in inputs]), {key: param(v) for key, v in params},
                 ArrayType(tuple(map(size, shape)), np.dtype(dtype)), like=nodes[0] if nodes else None)
        nodes.append(n)
        if memory is not None:
            place[n] = memory
        if over:
            takes[n] = n
    members = tuple([nodes[i] for i in group])
    graph = Graph(tuple(n for n in nodes if n.prim is input_), members)
    rows = True if has_rows else None
    step = Step(Group(members, rows), {}, [], {})
    return Plan(graph, Roles.of(graph), [step], [], place, {}, {}, takes), step, nodes, _symbols[:count]

"""The key of a kernel: everything that the code of a fused group depends on, in any program.

Two groups with one signature have the same code, so that twenty layers of one network have one kernel, and a kernel on
disk is found without being generated again. The signature is complete, because code is generated from it alone:
`plan_of` makes a plan of one group from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ....graph import ArrayType, Graph, Node
from ....ops.constants import full, iota
from ....passes.fuse import Group, Roles
from ....passes.schedule import Plan, Step
from ....primitive import PART, input_
from ....symbolic import Dim, Symbol, polynomial

SizeCode: TypeAlias = "int | tuple[tuple[tuple[int, ...], int], ...]"  # a number, or a polynomial's terms
Entry: TypeAlias = ("tuple[tuple[str | None, ...], tuple[int, ...], tuple[tuple[str, object], ...], str, "
                    "tuple[SizeCode, ...], int | None, bool]")  # a node in a signature
_KNOWN = (full, iota)  # leaves whose parameters code depends on; of others just the type matters
_symbols: list[Symbol] = []  # the sizes of all signatures, by number


@dataclass(frozen=True)
class KernelKey:
    """A group's signature, and the nodes and sizes that its numbers stand for.

    Attributes
    ----------
    signature : tuple
        Whether the group has rows, its statements' numbers, and all nodes in order. Each is its primitive's name,
        kernel and kind, its inputs, parameters, dtype and shape, its memory, and whether it is written over an operand.
        Nodes, sizes and memories are numbers. Its ``repr`` tells signatures apart, where ``==`` takes 0.0 for -0.0.
    nodes : tuple of Node
    symbols : tuple of Symbol
    """

    signature: tuple[bool, tuple[int, ...], tuple[Entry, ...]]
    nodes: tuple[Node, ...]
    symbols: tuple[Symbol, ...]


def kernel_key(plan: Plan, step: Step) -> KernelKey:
    """Return the key of a group's kernel."""
    return _Reader(plan, step).read()


class _Reader:
    """Numbers nodes, sizes and memories in the order of a traversal."""

    def __init__(self, plan: Plan, step: Step):
        self.plan, self.step, self.members = plan, step, set(step.group.nodes)
        self.number: dict[Node, int] = {}
        self.entries: list[Entry] = []
        self.symbols: dict[Symbol, int] = {}
        self.places: dict[int, int] = {}

    def read(self) -> KernelKey:
        group = tuple([self._node(n) for n in self.step.group.nodes])
        signature = self.step.group.rows is not None, group, tuple(self.entries)
        return KernelKey(signature, tuple(self.number), tuple(self.symbols))

    def _node(self, n: Node) -> int:
        known = self.number.get(n)
        if known is not None:
            return known
        roles, prim = self.plan.roles, n.prim
        view = roles.is_view(n) and prim.view is not PART
        inputs: tuple[int, ...] = ()
        if n in self.members or view:
            inputs = tuple([self._node(i) for i in (n.inputs[:1] if view else n.inputs)])  # a barrier orders
        elif prim not in _KNOWN:
            prim = input_
        named = prim is not input_ and prim.kind != "elementwise"  # the parameters of those are in their kernel
        params = tuple([(k, self._param(v)) for k, v in n.params.items()]) if named else ()
        place = self.plan.place.get(n)
        if place is not None:
            place = self.places.setdefault(place, len(self.places))
        operation = (prim.name, prim.kernel, prim.kind) if prim is not input_ else (prim.name,)
        self.entries.append((operation, inputs, params, n.dtype.str, tuple([self._size(d) for d in n.shape]), place,
                             n in self.plan.takes))
        self.number[n] = len(self.number)
        return self.number[n]

    def _param(self, v: object) -> object:
        if isinstance(v, tuple):
            return "tuple", tuple([self._param(x) for x in v])
        return ("size", self._size(v)) if isinstance(v, Dim) else v

    def _size(self, d: int | Dim) -> SizeCode:
        return coded(d, self.symbols) if isinstance(d, Dim) else d


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
        if isinstance(v, tuple):
            return tuple(map(param, v[1])) if v[0] == "tuple" else size(v[1])
        return v

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

"""The loops of a fused group: the statements of each, and their order.

All statements of a loop have one space, the axes it runs over; a reduction's is that of its operand. A statement
that reads another element by element joins its loop, and the value stays in registers; one that reads it in another
way (broadcast, reduced, reshaped) needs a later loop, and the value lies in memory between them.
"""

from __future__ import annotations

from ....graph import Node
from ....immutable import Record
from ....ops.index import INDEXED_AXES
from ....passes.fuse import Roles
from ....passes.schedule import Plan, Step
from ....symbolic import Shape
from ....views import SAME


class Loop(Record):
    """Statements that run together over one space, row by row."""

    space: Shape
    level: int
    nodes: list[Node]


def space_of(node: Node) -> Shape:
    """Return the axes that the loop of a statement runs over."""
    return node.inputs[0].shape if node.prim.kind == "reduce" else node.shape


def behind(operand: Node) -> Node:
    """Return the node behind an operand, without views that change nothing."""
    while operand.prim.view is SAME:
        operand = operand.inputs[0]
    return operand


def itself(operand: Node, roles: Roles) -> bool:
    """Return whether an operand has the elements of a value in their order."""
    return not roles.is_view(behind(operand))


def by_index(node: Node) -> bool:
    """Return whether the operands of a statement are indices."""
    return node.prim.axes is INDEXED_AXES


def loops(plan: Plan, step: Step) -> list[Loop]:
    """Return the loops of a group, in the order in which they run."""
    roles = plan.roles
    level: dict[Node, int] = {}
    readers: dict[int | None, list[tuple[Node, bool]]] = {}  # per buffer; whether by element
    for n in step.group.nodes:
        space, own = space_of(n), 0
        for i in n.inputs:
            source = roles.root[i]
            if source in level:
                near = (itself(i, roles) and source.prim.kind != "reduce" and space_of(source) == space
                        and not by_index(n))
                own = max(own, level[source] + (not near))
        buffer = plan.place.get(n)
        if n in plan.takes:  # readers of the memory that is overwritten come first
            for reader, near in readers.get(buffer, ()):
                own = max(own, level[reader] + (not (near and space_of(reader) == space)))
        level[n] = own
        for i in n.inputs:
            buffer = plan.place.get(roles.root[i])
            if buffer is not None:
                readers.setdefault(buffer, []).append((n, itself(i, roles) and not by_index(n)))
    by_level: dict[tuple[int, Shape], Loop] = {}
    for n in step.group.nodes:
        key = level[n], space_of(n)
        by_level.setdefault(key, Loop(key[1], key[0], [])).nodes.append(n)
    return sorted(by_level.values(), key=lambda loop: loop.level)  # stable: equal levels in the program's order

"""From a fused group to loops: which statements share a loop, and in which order the loops run.

All statements of a loop have one space, the axes it runs over; a reduction's is that of its operand. A statement
that reads another element by element stands in the same loop, in registers; one that reads it in another way
(spread along an axis, reduced, reshaped) stands in a later loop, and the value lies in memory between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ....graph import Node
from ....ops.index import INDEXED_AXES
from ....passes.fuse import Roles
from ....passes.schedule import Plan, Step
from ....symbolic import Shape
from ....views import SAME


@dataclass
class Loop:
    """Statements that run together over one space, row by row."""

    space: Shape
    level: int
    nodes: list[Node] = field(default_factory=list)


def space_of(node: Node) -> Shape:
    """Return the axes that the loop of a statement runs over."""
    return node.inputs[0].shape if node.prim.kind == "reduce" else node.shape


def behind(operand: Node) -> Node:
    """Return the node that an operand is another name of."""
    while operand.prim.view is SAME:
        operand = operand.inputs[0]
    return operand


def itself(operand: Node, roles: Roles) -> bool:
    """Tell whether an operand is a value element by element."""
    return not roles.is_view(behind(operand))


def by_index(node: Node) -> bool:
    """Tell whether a statement reads or writes at places that its operands name."""
    return node.prim.axes is INDEXED_AXES


def loops(plan: Plan, step: Step) -> list[Loop]:
    """Return the loops of a group, in the order in which they run."""
    roles = plan.roles
    level: dict[Node, int] = {}
    readers: dict[int | None, list[tuple[Node, bool]]] = {}  # buffer -> who reads it, and whether element by element
    for n in step.group.nodes:
        space, at = space_of(n), 0
        for i in n.inputs:
            source = roles.root[i]
            if source in level:
                near = (itself(i, roles) and source.prim.kind != "reduce" and space_of(source) == space
                        and not by_index(n))
                at = max(at, level[source] + (not near))
        place = plan.place.get(n)
        if n in plan.takes:  # what is written over must have been read
            for reader, near in readers.get(place, ()):
                at = max(at, level[reader] + (not (near and space_of(reader) == space)))
        level[n] = at
        for i in n.inputs:
            place = plan.place.get(roles.root[i])
            if place is not None:
                readers.setdefault(place, []).append((n, itself(i, roles) and not by_index(n)))
    found: dict[tuple[int, Shape], Loop] = {}
    for n in step.group.nodes:
        key = level[n], space_of(n)
        found.setdefault(key, Loop(key[1], key[0])).nodes.append(n)
    return sorted(found.values(), key=lambda loop: loop.level)  # stable: in the program's order where levels are equal

"""Scheduling, Graph -> `Plan`: the order of the groups, and the memory and lifetime of each value.

A value that leaves its group has a buffer. A buffer has a first and a last step: buffers whose lifetimes do not overlap
can share memory. A value that stays inside its group has a scratch slot, which holds one block of rows. A value may
take the memory of an operand whose last reader it is (in place).
"""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Graph, Node
from ..immutable import Record
from ..symbolic import Dim, size_of
from ..views import is_whole
from .fuse import Group, Roles, RowCount, by_rows, fuse, reads_rows, rows_of, terminal
from .record import Stage
from .topological import in_order


class Buffer:
    """A piece of memory.

    Attributes
    ----------
    nbytes : int or Dim
    first, last : int
        The steps of its lifetime, both included.
    output : int or None
        The position of the output that it becomes; None for memory of the workspace.
    """

    def __init__(self, nbytes: int | Dim, first: int, last: int, output: int | None = None):
        self.nbytes, self.first, self.last, self.output = nbytes, first, last, output


class Slot(Record):
    """Scratch memory for one block of rows, of `row` bytes each."""

    row: int | Dim


class Step:
    """One group with its memory.

    Attributes
    ----------
    group : Group
    scratch : dict of Node to int
        The slot of each value that stays inside the group.
    slots : list of Slot
    heads : dict of Node to Node
        Values that stay inside, but use the memory of a later value that leaves.
    """

    def __init__(self, group: Group, scratch: dict[Node, int], slots: list[Slot], heads: dict[Node, Node]):
        self.group, self.scratch, self.slots, self.heads = group, scratch, slots, heads


class Plan(Record):
    """The program of a graph, before a backend prints it.

    Attributes
    ----------
    graph : Graph
    roles : Roles
    steps : list of Step
        In the order in which they run.
    buffers : list of Buffer
    place : dict of Node to int
        The buffer of each value that leaves its group.
    last_use : dict of Node to int
        The last step that reads each of those values.
    outputs : dict of Node to int
        The values that are computed straight into an output, and its position.
    takes : dict of Node to Node
        The values that overwrite an operand whose last readers they are.
    """

    graph: Graph
    roles: Roles
    steps: list[Step]
    buffers: list[Buffer]
    place: dict[Node, int]
    last_use: dict[Node, int]
    outputs: dict[Node, int]
    takes: dict[Node, Node]

    @property
    def stages(self) -> list[Stage]:
        """The groups and the buffers, in words."""
        fused = [s for s in self.steps if len(s.group.nodes) > 1]
        lines = "\n".join(f"{', '.join(n.prim.name for n in s.group.nodes)}: "
                          f"{'single numbers' if s.group.rows is None else f'over rows {s.group.rows}'}" for s in fused)
        statements = sum(len(s.group.nodes) for s in self.steps)
        places = [f"step {b.first} to {b.last}: {b.nbytes} bytes" + (" (an output)" if b.output is not None else "")
                  for b in self.buffers]
        return [Stage("fuse", self.graph, lines, f"{statements} statements run in {len(self.steps)} steps, "
                      f"{len(fused)} of them fused"),
                Stage("schedule", lines, "\n".join(places),
                      f"{len(self.place)} values live in {len(self.buffers)} buffers")]


def nbytes(node: Node) -> int | Dim:
    """Return the bytes of a node's array."""
    return size_of(node.shape) * node.dtype.itemsize


def row_bytes(node: Node) -> int | Dim:
    """Return the bytes of one row."""
    return size_of(node.shape[1:]) * node.dtype.itemsize


def schedule(graph: Graph, managed: Callable[[Node], bool] = lambda node: False,
             rows_of: Callable[[Node], RowCount] = rows_of) -> Plan:
    """Plan the graph.

    Parameters
    ----------
    graph : Graph
    managed : callable, optional
        Whether a statement, beside row-local ones, writes into given memory; the others allocate their results.
    rows_of : callable, optional
        As of `fuse`.
    """
    roles = Roles.of(graph)
    groups = _order(roles, fuse(graph, roles, rows_of))
    step_of = {n: k for k, g in enumerate(groups) for n in g.nodes}
    last_use = dict(step_of)
    leaving: set[Node] = set()
    end = len(groups)
    for k, g in enumerate(groups):
        for n in g.nodes:
            for d in roles.behind[n]:
                if step_of[d] != k:
                    leaving.add(d)
                    last_use[d] = k
            if terminal(n) or (g.rows is None and len(g.nodes) == 1):
                leaving.add(n)
    for n in graph.outputs:
        source = roles.root[n]
        if source in step_of:
            leaving.add(source)
            last_use[source] = end
    has_buffer = {n for g in groups for n in g.nodes
                  if n in leaving and (g.rows is not None or n.prim.kind == "elementwise" or managed(n))}
    outputs = _claim_outputs(graph, roles, has_buffer)
    plan = Plan(graph, roles, [], [], {}, last_use, outputs, {})
    for k, g in enumerate(groups):
        _place(plan, k, g, leaving, has_buffer)
    return plan


def _claim_outputs(graph: Graph, roles: Roles, has_buffer: set[Node]) -> dict[Node, int]:
    """Return the values that are computed straight into an output, each at most once."""
    claimed: dict[Node, int] = {}
    plain = sorted(range(len(graph.outputs)), key=lambda k: roles.is_view(graph.outputs[k]))
    for k in plain:
        n = graph.outputs[k]
        while roles.is_view(n) and is_whole(n):
            n = n.inputs[0]
        if not roles.is_view(n) and n in has_buffer:
            claimed.setdefault(n, k)
    return claimed


def _order(roles: Roles, groups: list[Group]) -> list[Group]:
    """Order the groups by their operands, and otherwise as in the program."""
    groups = sorted(groups, key=lambda g: g.nodes[-1].serial)
    group_of = {n: k for k, g in enumerate(groups) for n in g.nodes}
    if all(group_of[d] <= k for k, g in enumerate(groups) for n in g.nodes for d in roles.behind[n]):
        return groups
    before = {k: {group_of[d] for n in g.nodes for d in roles.behind[n]} - {k} for k, g in enumerate(groups)}
    order = [groups[k] for (k,) in in_order(before, lambda k: k, lambda k: k)]
    assert len(order) == len(groups), "groups wait for each other"
    return order


# -- memory ------------------------------------------------------------------------------------------------


def _place(plan: Plan, k: int, group: Group, leaving: set[Node], has_buffer: set[Node]) -> None:
    roles, nodes = plan.roles, group.nodes
    takers = {n for n in nodes if n.prim.kind == "elementwise" and n in has_buffer and n not in plan.outputs}
    inside = [n for n in nodes if n not in leaving]
    sharing = nodes if takers or inside else ()  # such values may lie where others have been
    position = {n: i for i, n in enumerate(sharing)}
    last = dict(position)  # a node of this group or a buffered operand -> its last reader
    taken: set[Node] = set()
    for i, n in enumerate(sharing):
        for operand in n.inputs:
            source = roles.root[operand]
            if source in position or source in plan.place:
                last[source] = i
    chain, start = _chains(group, position, last, leaving) if inside else ({}, position)
    for n in nodes:
        if n not in has_buffer:
            continue
        place = _take_over(plan, k, group, n, start[n], last, taken, position) if n in takers else None
        if place is None:
            place = len(plan.buffers)
            plan.buffers.append(Buffer(nbytes(n), k, k, plan.outputs.get(n)))
        plan.place[n] = place
        buffer = plan.buffers[place]
        buffer.last = max(buffer.last, plan.last_use[n])
    scratch, slots = _slots(inside, chain, position, last, leaving)
    plan.steps.append(Step(group, scratch, slots, {n: head for n, head in chain.items() if head in leaving}))


def _chains(group: Group, position: dict[Node, int], last: dict[Node, int], leaving: set[Node]
            ) -> tuple[dict[Node, Node], dict[Node, int]]:
    """Return the values in the memory of later ones, and the first writers.

    The first writer of a memory is a position in the group.

    The values of a chain share memory, each in place of the value before it; chains are built from the end.
    """
    chain: dict[Node, Node] = {}
    start = dict(position)
    for n in reversed(group.nodes if group.rows is not None else ()):
        head = chain.get(n, n)
        if terminal(n) or n.prim.kind != "elementwise":
            continue
        for operand in _in_place(n):
            if (operand in position and operand not in leaving and operand not in chain and last[operand] == position[n]
                    and start[head] == position[n] and _same_memory(operand, n) and not terminal(operand)):
                chain[operand] = head
                start[head] = position[operand]
                break
    return chain, start


def _in_place(n: Node) -> list[Node]:
    """Return the operands whose memory the result may take.

    Element i is written after element i is read.
    """
    if n.prim.overwrites is None:
        return list(n.inputs)
    return [n.inputs[i] for i in n.prim.overwrites if n.inputs.count(n.inputs[i]) == 1]


def _same_memory(a: Node, b: Node) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _take_over(plan: Plan, k: int, group: Group, n: Node, first_write: int, last: dict[Node, int], taken: set[Node],
               position: dict[Node, int]) -> int | None:
    """Return the buffer of an operand without later readers, or None."""
    writer = group.nodes[first_write]
    for operand in dict.fromkeys(i for m in group.nodes[:first_write + 1] for i in m.inputs):
        place = plan.place.get(operand)
        if (place is None or operand in position or operand in taken or plan.roles.is_view(operand)
                or not _same_memory(operand, n) or plan.last_use[operand] != k or plan.buffers[place].last != k
                or plan.buffers[place].output is not None or last[operand] > first_write):
            continue
        if last[operand] == first_write and not (
                writer.prim.kind == "elementwise" and operand in _in_place(writer)
                and all(i is operand or plan.roles.root[i] is not operand for i in writer.inputs)):
            continue
        if not _read_by_rows(group, operand, plan.roles):
            continue
        taken.add(operand)
        plan.takes[n] = operand
        return place
    return None


def _read_by_rows(group: Group, source: Node, roles: Roles) -> bool:
    """Return whether no block of rows reads rows of an operand that belong to other blocks."""
    return all(by_rows(i, roles) and reads_rows(n, i) for n in group.nodes for i in n.inputs if roles.root[i] is source)


def _slots(nodes: list[Node], chain: dict[Node, Node], position: dict[Node, int], last: dict[Node, int],
           leaving: set[Node]) -> tuple[dict[Node, int], list[Slot]]:
    """Assign slots to the values that stay inside the group."""
    slots: list[Slot] = []
    scratch: dict[Node, int] = {}
    until: list[int] = []  # slot -> the last reader of its value
    for n in nodes:  # in order of first write
        head = chain.get(n, n)
        if head in leaving:
            continue
        if head in scratch:
            scratch[n] = scratch[head]
            continue
        row = row_bytes(n)
        free = [s for s, end in enumerate(until) if end < position[n]]
        same = [s for s in free if slots[s].row == row]
        larger = sorted((have, s) for s in free
                        if isinstance(row, int) and isinstance(have := slots[s].row, int) and have >= row)
        if same or larger:
            s = same[0] if same else larger[0][1]
        else:
            s = len(slots)
            slots.append(Slot(row))
            until.append(-1)
        until[s] = last[head]
        scratch[head] = scratch[n] = s
    return scratch, slots

"""schedule: in which order groups run, where each value lives, and for how long. Graph -> `Plan`.

A value that leaves its group lives in a buffer; a buffer has a first and a last step, so that buffers whose
times do not overlap can share memory. A value that stays inside its group lives in a scratch slot, which holds
one block of rows only. A value may take over the memory of an operand that dies with it (in place).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..graph import Graph, Node
from ..primitive import Primitive
from ..symbolic import Dim, Symbol, size_of, symbols
from ..views import is_whole
from .fuse import Group, Roles, by_rows, dependencies, fuse, reads_rows, rows_of, terminal
from .record import Stage


@dataclass
class Buffer:
    """A piece of memory.

    Attributes
    ----------
    nbytes : int or Dim
    first, last : int
        The steps during which it is in use, both included.
    output : int or None
        Which output it is handed out as; None for memory of the workspace.
    """

    nbytes: int | Dim
    first: int
    last: int
    output: int | None = None


@dataclass
class Slot:
    """Scratch memory for one block of rows: `row` bytes for each."""

    row: int | Dim


@dataclass
class Step:
    """One group with its places.

    Attributes
    ----------
    group : Group
    scratch : dict of Node to int
        The slot of each value that stays inside.
    slots : list of Slot
    heads : dict of Node to Node
        Values that stay inside, but use the rows of one that leaves before that is written.
    """

    group: Group
    scratch: dict[Node, int]
    slots: list[Slot]
    heads: dict[Node, Node]


@dataclass
class Plan:
    """What a backend prints.

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
        The values that are computed straight into an output, and which one.
    takes : dict of Node to Node
        The values that are written over an operand that dies with them.
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
        """What fusing and scheduling made of the graph, in words."""
        fused = [s for s in self.steps if len(s.group.nodes) > 1]
        lines = "\n".join(f"{', '.join(n.prim.name for n in s.group.nodes)}: over rows {s.group.rows}" for s in fused)
        statements = sum(len(s.group.nodes) for s in self.steps)
        places = [f"step {b.first} to {b.last}: {b.nbytes} bytes" + (" (an output)" if b.output is not None else "")
                  for b in self.buffers]
        return [Stage("fuse", self.graph, lines, f"{statements} statements run in {len(self.steps)} steps, "
                      f"{len(fused)} of them fused"),
                Stage("schedule", lines, "\n".join(places),
                      f"{len(self.place)} values live in {len(self.buffers)} buffers")]


def symbols_of(graph: Graph) -> set[Symbol]:
    """Return the sizes that a program depends on: in types, in parameters, and in the graphs that nodes hold.

    Those of arguments that nothing reads do not count.
    """
    found: set[Symbol] = set()
    unread = set(graph.inputs).difference(graph.outputs, *(n.inputs for n in graph.nodes))
    for n in [n for n in graph.nodes if n not in unread]:
        sizes = [d for t in n.types for d in t.shape]
        sizes += [d for p in n.params.values() for d in (p if isinstance(p, tuple) else (p,))]
        found |= symbols(sizes).union(*(symbols_of(p) for p in n.params.values() if isinstance(p, Graph)))
        # The lengths of a chunk are the node's own.
        found -= symbols([n.params.get("dim"), *(d for d, _ in n.params.get("packed", ()))])
    return found


def nbytes(node: Node) -> int | Dim:
    """Return the bytes of a node's array."""
    return size_of(node.shape) * node.dtype.itemsize


def row_bytes(node: Node) -> int | Dim:
    """Return the bytes of one row."""
    return size_of(node.shape[1:]) * node.dtype.itemsize


def schedule(graph: Graph, managed: Collection[Primitive] = (),
             rows_of: Callable[[Node], Any] = rows_of) -> Plan:
    """Plan the graph.

    Parameters
    ----------
    graph : Graph
    managed : collection of Primitive
        The primitives that write into given memory, beside row-local statements; the results of others are
        made by themselves and have no buffer.
    rows_of : callable, optional
        The number of rows that a statement works on one by one, None where it does not: what the backend fuses.
    """
    roles = Roles.of(graph)
    groups = _order(graph, roles, fuse(graph, roles, rows_of))
    step_of = {n: k for k, g in enumerate(groups) for n in g.nodes}
    last_use = dict(step_of)
    leaving: set[Node] = set()
    end = len(groups)
    for k, g in enumerate(groups):
        for n in g.nodes:
            for d in dependencies(n, roles):
                if step_of[d] != k:
                    leaving.add(d)
                    last_use[d] = max(last_use[d], k)
    for n in graph.outputs:
        source = roles.root[n]
        if source in step_of:
            leaving.add(source)
            last_use[source] = end
    for g in groups:
        if g.rows is None:
            leaving.update(g.nodes)
        else:
            leaving.update(n for n in g.nodes if terminal(n))
    has_buffer = {n for n in leaving if rows_of(n) is not None or n.prim.kind == "elementwise"
                  or n.prim in managed}
    outputs = _claim_outputs(graph, roles, has_buffer)
    plan = Plan(graph, roles, [], [], {}, last_use, outputs, {})
    for k, g in enumerate(groups):
        _place(plan, k, g, leaving, has_buffer)
    return plan


def _claim_outputs(graph: Graph, roles: Roles, has_buffer: set[Node]) -> dict[Node, int]:
    """Say which values are computed straight into an output: each at most once."""
    claimed: dict[Node, int] = {}
    plain = sorted(range(len(graph.outputs)), key=lambda k: roles.is_view(graph.outputs[k]))
    for k in plain:
        n = graph.outputs[k]
        while roles.is_view(n) and is_whole(n):
            n = n.inputs[0]
        if not roles.is_view(n) and n in has_buffer:
            claimed.setdefault(n, k)
    return claimed


def _order(graph: Graph, roles: Roles, groups: list[Group]) -> list[Group]:
    """Order the groups so that each runs after what it reads, otherwise as the program was written."""
    at = {n: i for i, n in enumerate(graph.nodes)}
    group_of = {n: k for k, g in enumerate(groups) for n in g.nodes}
    waits = [0] * len(groups)
    then: list[set[int]] = [set() for _ in groups]
    for k, g in enumerate(groups):
        for n in g.nodes:
            for d in dependencies(n, roles):
                j = group_of[d]
                if j != k and k not in then[j]:
                    then[j].add(k)
                    waits[k] += 1
    key = [max(at[n] for n in g.nodes) for g in groups]
    ready = [(key[k], k) for k, n in enumerate(waits) if not n]
    heapq.heapify(ready)
    order = []
    while ready:
        _, k = heapq.heappop(ready)
        order.append(groups[k])
        for j in then[k]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, (key[j], j))
    assert len(order) == len(groups), "groups wait for each other"
    return order


# -- places ------------------------------------------------------------------------------------------------


def _place(plan: Plan, k: int, group: Group, leaving: set[Node], has_buffer: set[Node]) -> None:
    roles, nodes = plan.roles, group.nodes
    at = {n: i for i, n in enumerate(nodes)}
    last = dict(at)  # node of this group, or buffered operand of it -> the last statement that reads it
    whole: set[Node] = set()  # operands of which each block may read all rows
    for i, n in enumerate(nodes):
        for operand in n.inputs:
            source = roles.root[operand]
            if source in at or source in plan.place:
                last[source] = i
                if not (by_rows(operand, roles) and reads_rows(n, operand)):
                    whole.add(source)
    chain, start = _chains(group, at, last, leaving)
    for n in nodes:
        if n not in has_buffer:
            continue
        place = None
        if n.prim.kind == "elementwise" and n not in plan.outputs:
            place = _take_over(plan, k, group, n, start[n], last, whole, at)
        if place is None:
            place = len(plan.buffers)
            plan.buffers.append(Buffer(nbytes(n), k, k, plan.outputs.get(n)))
        plan.place[n] = place
        buffer = plan.buffers[place]
        buffer.last = max(buffer.last, plan.last_use[n])
    scratch, slots = _slots([n for n in nodes if n not in leaving], chain, at, last, leaving)
    plan.steps.append(Step(group, scratch, slots, {n: head for n, head in chain.items() if head in leaving}))


def _chains(group: Group, at: dict[Node, int], last: dict[Node, int], leaving: set[Node]
            ) -> tuple[dict[Node, Node], dict[Node, int]]:
    """Return the values that use the memory of a later one, and the first write to each last value's memory.

    Values in a chain share memory, each in place of the one before it: chains are built from the end.
    """
    chain: dict[Node, Node] = {}
    start = dict(at)
    for n in reversed(group.nodes if group.rows is not None else ()):
        head = chain.get(n, n)
        if terminal(n) or n.prim.kind != "elementwise":
            continue
        for operand in _in_place(n):
            if (operand in at and operand not in leaving and operand not in chain and last[operand] == at[n]
                    and start[head] == at[n] and _same_memory(operand, n) and not terminal(operand)):
                chain[operand] = head
                start[head] = at[operand]
                break
    return chain, start


def _in_place(n: Node) -> list[Node]:
    """Return the operands whose memory the result may take: it writes element i after it has read element i."""
    if n.prim.overwrites is None:
        return list(n.inputs)
    return [n.inputs[i] for i in n.prim.overwrites if n.inputs.count(n.inputs[i]) == 1]


def _same_memory(a: Node, b: Node) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _take_over(plan: Plan, k: int, group: Group, n: Node, first_write: int, last: dict[Node, int], taken: set[Node],
               at: dict[Node, int]) -> int | None:
    """Return the buffer of an operand that dies in this group before `n`'s memory is first written."""
    writer = group.nodes[first_write]
    for operand in dict.fromkeys(i for m in group.nodes[:first_write + 1] for i in m.inputs):
        place = plan.place.get(operand)
        if (place is None or operand in at or operand in taken or plan.roles.is_view(operand)
                or not _same_memory(operand, n) or plan.last_use[operand] != k or plan.buffers[place].last != k
                or plan.buffers[place].output is not None or last[operand] > first_write):
            continue
        if last[operand] == first_write and not (
                writer.prim.kind == "elementwise" and operand in _in_place(writer)
                and all(i is operand or plan.roles.root[i] is not operand for i in writer.inputs)):
            continue
        taken.add(operand)
        plan.takes[n] = operand
        return place
    return None


def _slots(nodes: list[Node], chain: dict[Node, Node], at: dict[Node, int], last: dict[Node, int],
           leaving: set[Node]) -> tuple[dict[Node, int], list[Slot]]:
    """Give each value that stays inside a slot, which is free again after the last statement that reads it."""
    slots: list[Slot] = []
    scratch: dict[Node, int] = {}
    until: list[int] = []  # slot -> the last statement that needs what is in it
    for n in nodes:  # in order of first write
        head = chain.get(n, n)
        if head in leaving:
            continue
        if head in scratch:
            scratch[n] = scratch[head]
            continue
        row = row_bytes(n)
        free = [s for s, end in enumerate(until) if end < at[n]]
        same = [s for s in free if slots[s].row == row]
        roomy = [s for s in free if isinstance(row, int) and isinstance(slots[s].row, int) and slots[s].row >= row]
        if same or roomy:
            s = (same or sorted(roomy, key=lambda s: slots[s].row))[0]
        else:
            s = len(slots)
            slots.append(Slot(row))
            until.append(-1)
        until[s] = last[head]
        scratch[head] = scratch[n] = s
    return scratch, slots

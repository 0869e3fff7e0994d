"""Fusion of statements into groups that run together, one cache-sized block of rows after the other.

The batch axis is the block axis. A group is a set of row-local statements with a common leading size ``R``: elementwise
ones of shape ``(R, …)``, reductions over other axes than 0, and, at its end, reductions over axis 0, whose partial
results are combined. Softmax, cross-entropy and their derivatives over ``(B, 10)`` are one group.

Every node has a level, which never falls along an edge, and rises along each edge that leaves a group. The statements
of a group have one level, so that groups form no cycle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from math import prod

from ..axes import INDEXED, PARALLEL, POINTWISE, axis_rule
from ..graph import Graph, Node, constant_of
from ..immutable import Record
from ..ops.control import barrier
from ..ops.index import gather, scatter_add
from ..ops.reduce import argmax, argmin
from ..ops.shape import reshape
from ..primitive import View
from ..symbolic import Dim
from ..views import window

_BY_ROWS = (argmax, argmin, reshape, gather, scatter_add)  # run row by row where they are row-local
_DEPTH = 6  # operands of operands that `_sink` considers to move along
_ASSUMED = 256  # the value of every symbolic size in weights of arrays, so that groups do not depend on hints
LONGEST = 256  # statements in one group: a person can read as many, and Python compiles them quickly

RowCount = int | Dim | None  # the number of rows of a row-local statement
SINGLE = -1  # in its place for single numbers, where a backend runs several of them at once


class Group(Record):
    """Statements that run together.

    Attributes
    ----------
    nodes : tuple of Node
        In the order in which they run, without views.
    rows : int, Dim or None
        Their leading size; None for single numbers, and for a statement that is not row-local.
    """

    nodes: tuple[Node, ...]
    rows: RowCount


class Roles(Record):
    """The role of each node in a program: leaf, view, or statement.

    Attributes
    ----------
    root : dict
        The leaf or statement whose memory holds the node: itself, unless the node is a view.
    plain : dict
        Whether a node is contiguous in row-major order, so that reshaping it is free.
    behind : dict
        The statements that must have run before a node may read its operands.
    """

    root: dict[Node, Node]
    plain: dict[Node, bool]
    behind: dict[Node, tuple[Node, ...]]

    @classmethod
    def of(cls, graph: Graph) -> Roles:
        """Return the roles of a graph's nodes, which are found once."""
        known: Roles | None = vars(graph).get("storage_roles")
        return known or vars(graph).setdefault("storage_roles", cls._found(graph))

    @classmethod
    def _found(cls, graph: Graph) -> Roles:
        roles = cls({}, {}, {})
        root, plain, behind = roles.root, roles.plain, roles.behind
        for n in graph.nodes:
            before: dict[Node, None] = {}
            for i in n.inputs:
                if root[i] is not i:
                    before.update(dict.fromkeys(behind[i]))
                elif i.prim.kind != "leaf":
                    before[i] = None
            behind[n] = tuple(before)
            view = n.prim.view
            if view is None or not (view.free or plain[n.inputs[0]]):
                root[n], plain[n] = n, True
            else:
                source = n.inputs[0]
                root[n] = root[source]
                plain[n] = plain[source] and _is_contiguous(n, view)
        return roles

    def is_view(self, node: Node) -> bool:
        return self.root[node] is not node

    def is_statement(self, node: Node) -> bool:
        return self.root[node] is node and node.prim.kind != "leaf"


def _is_contiguous(node: Node, view: View) -> bool:
    """Return whether a view of a contiguous array is contiguous."""
    if view.in_order:
        return True
    if node.shape[1:] != node.inputs[0].shape[1:]:
        return False
    part = window(node)
    return part is not None and part.axes == tuple(range(node.ndim)) and all(s == 1 for s in part.step)


def terminal(node: Node) -> bool:
    """Return whether `node` reduces over the rows, so that it ends a group."""
    return node.prim.kind == "reduce" and 0 in node.params["axes"]


def rows_of(node: Node) -> RowCount:
    """Return the number of rows of a row-local statement, else None."""
    if node.prim.kind == "elementwise":
        return node.shape[0] if node.ndim else None
    if node.prim.kind == "reduce":
        return node.inputs[0].shape[0] if node.params["axes"] else None
    return node.shape[0] if node.prim in _BY_ROWS and keeps_rows(node) else None


def reads_rows(node: Node, operand: Node) -> bool:
    """Return whether row i of `node` depends on row i alone of `operand`."""
    if node.prim.axes is POINTWISE:
        return True
    rule = axis_rule(node)
    return rule is None or all(f.kind is not INDEXED for i, axes in zip(node.inputs, rule.operands, strict=True)
                               if i is operand for axis in axes[:1] for f in axis)


def keeps_rows(node: Node) -> bool:
    """Return whether row i of a node depends on row i of one of its operands at least."""
    rule = axis_rule(node)
    if rule is None or not node.ndim:
        return False
    rows = rule.results[0][0]
    return all(f.kind is PARALLEL for f in rows) and any(axes[:1] == (rows,) for axes in rule.operands)


def fuse(graph: Graph, roles: Roles, rows_of: Callable[[Node], RowCount] = rows_of) -> list[Group]:
    """Return the graph's statements in groups, the nodes of each in topological order.

    Parameters
    ----------
    graph : Graph
    roles : Roles
    rows_of : callable
        The number of rows of a statement that the backend can run row by row, `SINGLE` for one that it can run with
        other single numbers; None for the others.
    """
    root = roles.root
    rows = {n: rows_of(n) for n in graph.nodes if root[n] is n and n.prim.kind != "leaf"}
    near = {n: [r is not None and rows.get(root[i]) == r and fusible(n, i, roles) for i in n.inputs]
            for n, r in rows.items()}
    level = _levels(graph, roles, rows, near)
    _sink(graph, roles, rows, near, level)
    parent: dict[Node, Node] = {}

    def find(n: Node) -> Node:
        while (p := parent.get(n, n)) is not n:
            parent[n] = parent.get(p, p)
            n = p
        return n

    readers: dict[tuple[int, RowCount, Node], Node] = {}
    for n, r in rows.items():
        if r is None:
            continue
        for i, fits in zip(n.inputs, near[n], strict=True):
            other = source = root[i]
            if not fits or level[source] != level[n]:  # two readers of one large value read it once
                if i.shape[:1] != (r,) or constant_of(source) is not None:
                    continue
                other = readers.setdefault((level[n], r, source), n)
            if other is not n:
                parent[find(n)] = find(other)
    members: dict[Node, list[Node]] = {}
    for n in rows:
        members.setdefault(find(n), []).append(n)
    return [Group(tuple(nodes[i:i + LONGEST]), None if rows[nodes[0]] == SINGLE else rows[nodes[0]])
            for nodes in members.values() for i in range(0, len(nodes), LONGEST)]


def fusible(node: Node, operand: Node, roles: Roles) -> bool:
    """Return whether the edge from `operand` to `node`, which have as many rows, may stay in one group."""
    return not terminal(roles.root[operand]) and by_rows(operand, roles) and reads_rows(node, operand)


def by_rows(operand: Node, roles: Roles) -> bool:
    """Return whether row i of an operand is a view of row i of its root."""
    root = roles.root[operand]
    while operand is not root:
        if not keeps_rows(operand):
            return False
        operand = operand.inputs[0]
    return True


def _levels(graph: Graph, roles: Roles, rows: Mapping[Node, RowCount], near: Mapping[Node, list[bool]]
            ) -> dict[Node, int]:
    level: dict[Node, int] = {}
    root = roles.root
    for n in graph.nodes:
        if n in rows:  # a reader in another group is a level later
            level[n] = max([level[i] + (not fits and rows.get(root[i]) is not None)
                            for i, fits in zip(n.inputs, near[n], strict=True)], default=0)
        elif root[n] is not n:
            level[n] = level[n.inputs[0]]
            if n.prim is barrier:
                level[n] = max(level[n], level[n.inputs[1]] + (rows.get(root[n.inputs[1]]) is not None))
        else:
            level[n] = 0
    return level


def _sink(graph: Graph, roles: Roles, rows: dict[Node, RowCount], near: Mapping[Node, list[bool]],
          level: dict[Node, int]) -> None:
    """Move statements to the level of their readers, where memory allows.

    The backward pass alone reads ``1 - h * h`` of the forward pass, when ``h`` is in memory anyway.
    """
    readers = _readers(roles, near)
    kept = {roles.root[n] for n in graph.outputs}
    memory = _Memory(roles, rows, level, readers, kept, functools.cache(_weight))
    for n in reversed(rows):
        if rows[n] is None or n in kept or not readers[n]:
            continue
        target = min([level[c] - (not fits) for c, fits in readers[n]])
        if target > level[n] and not terminal(n):
            joins = any(fits and level[c] == target for c, fits in readers[n])
            if memory.until(n, target, frozenset((n,)), _DEPTH) < memory.weight(n) + joins:
                level[n] = target


class _Memory(Record):
    """The memory of values that statements at later levels read."""

    roles: Roles
    rows: Mapping[Node, RowCount]
    level: Mapping[Node, int]
    readers: Mapping[Node, list[tuple[Node, bool]]]
    kept: set[Node]
    weight: Callable[[Node], int]

    def until(self, n: Node, target: int, moved: frozenset[Node], depth: int) -> int:
        """Return the bytes in memory until level `target` if `n` and the nodes that have `moved` are computed there."""
        total, level = 0, self.level
        for d in self.roles.behind[n]:
            if d in self.kept or any(level[c] >= target and c not in moved for c, _ in reversed(self.readers[d])):
                continue
            cost = self.weight(d)
            if depth and self.rows[d] is not None and all(c in moved or level[c] - (not fits) >= target
                                                          for c, fits in self.readers[d]):
                cost = min(cost, self.until(d, target, moved | {d}, depth - 1))
            total += cost
        return total


def _readers(roles: Roles, near: Mapping[Node, list[bool]]) -> dict[Node, list[tuple[Node, bool]]]:
    """Return the readers of each statement, and whether they may share a group."""
    readers: dict[Node, list[tuple[Node, bool]]] = {n: [] for n in near}
    root = roles.root
    for c, fitting in near.items():
        roots = [root[i] for i in c.inputs] if True in fitting else ()
        for d in roles.behind[c]:  # x and x[::-1]: needs all rows
            joined = d in roots and (d, False) not in zip(roots, fitting, strict=True)
            readers[d].append((c, joined and not _waits(c, d, roles)))
    return readers


def _waits(reader: Node, source: Node, roles: Roles) -> bool:
    """Return whether a barrier makes `reader` wait for `source`."""
    root = roles.root
    stack = [i for i in reader.inputs if root[i] is not i]
    while stack:
        n = stack.pop()
        if n.prim is barrier and root[n.inputs[1]] is source:
            return True
        stack.extend([i for i in n.inputs if root[i] is not i])
    return False


def _weight(node: Node) -> int:
    """Return the bytes of a node's array, for typical sizes."""
    return sum(prod((n if isinstance(n, int) else _ASSUMED for n in t.shape), start=t.dtype.itemsize)
               for t in node.types)

"""Roles of a traced program's values in a batch: shared by all examples, one row per example, or a sum over them.

A node's role follows from its axis rule and the sizes that differ between the parts of a batch (`Cut`): a result with
such an axis has rows, if no row depends on the rows of another part; a result without one is a sum over the examples,
or it mixes them. `microbatch` runs values with rows part by part, and adds or concatenates the results of the parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

import numpy as np

from ..axes import INDEXED, ORDERED, PARALLEL, PERMUTED, REDUCE, SEGMENTED, Axes, Axis, AxisRule, Factor, axis_rule
from ..combiners import MAX, MIN
from ..defined_sizes import definitions, symbols_of_node
from ..families import is_linear
from ..graph import ArrayType, Graph, Node, TupleType
from ..ops.checks import picked
from ..ops.constants import iota
from ..ops.custom import PerExample
from ..ops.index import counting_indices, unexpanded
from ..ops.loops import keeps_ended
from ..ops.packed_scan import rows_of
from ..ops.packed_steps import inside
from ..ops.segments import segment_ids
from ..ops.selection import flatnonzero
from ..ops.shape import concatenate
from ..ops.sort import cumsum
from ..ops.strict_index import PLACES, row_or_null
from ..ops.subgraph import fixed_point, signature
from ..ops.tree_scan import Counts as Counting
from ..ops.tree_scan import Outs, tree_heights
from ..symbolic import Dim
from .partition import NONE, Cut, Facts, Size, Spans, agree, merged, scaled


class Role(Enum):
    """The dependence of a value on the examples of the batch."""

    SHARED = "shared"  # independent of the examples
    ROWS = "rows"  # with the batch axis: each row depends on its own example
    SUM = "sum"  # over all examples: the sums of the chunks add up to it
    WHOLE = "whole"  # dependent on all examples in another way


SHARED, ROWS, SUM, WHOLE = Role
Roles = Role | tuple[Role, ...]  # of an array, or of each result of a node with several


def results_roles(roles: Roles) -> tuple[Role, ...]:
    """Return the role of each result of a node."""
    return roles if isinstance(roles, tuple) else (roles,)


class Mixes(Exception):
    """A node that mixes examples, with the reason, the way out, and that of `microbatch` alone."""

    def __init__(self, node: Node, why: str, instead: str = "Compute it within the example",
                 in_microbatch: str | None = None):
        super().__init__(why)
        self.node, self.why, self.instead, self.in_microbatch = node, why, instead, in_microbatch


class Counts(Mixes):
    """A node that computes with positions in the batch."""

    def __init__(self, node: Node, points: Spans, cut: Cut):
        examples = all(n == cut.dim for _, n in points)
        super().__init__(node, "it counts the examples" if examples else "it computes with positions of rows, and the "
                         "rows of a part are counted from its first one")


class Reading:
    """The roles of a program's nodes, and the facts about those that have rows.

    Attributes
    ----------
    cut : Cut
    roles : dict of Node to Roles
    facts : dict of Node to Facts
    local : dict of Node to set of Node
        Sizes of a part that displace an index, and their users.
    """

    def __init__(self, cut: Cut, roles: Mapping[Node, Roles], facts: Mapping[Node, Facts]):
        self.cut, self.roles, self.facts = cut, dict(roles), dict(facts)
        self.local: dict[Node, set[Node]] = {}

    def read(self, nodes: Iterable[Node]) -> None:
        """Find the roles of `nodes`, in topological order.

        Raises
        ------
        Mixes
            At the first node that mixes examples.
        """
        nodes = list(nodes)
        # the rows of each example, whose sum is the size that a node defines: others may read them before that node
        counts = {n.inputs[0].inputs[0]: s for s, n in definitions(nodes).items() if s in self.cut.defined}
        for node in nodes:
            if node not in self.roles:
                self.roles[node] = self._role(node, [self.roles.get(i, SHARED) for i in node.inputs])
                if node in counts and not self.cut.counts(counts[node], self.facts_of(node).count):
                    self.facts[node] = replace(self.facts_of(node), count=self.cut.defined[counts[node]])
        for node in nodes:
            if any(i in self.local and node not in self.local[i] for i in node.inputs):
                raise Mixes(node, "it uses a number of rows of the part, which an index needs, for another value")

    def has_axis(self, node: Node) -> bool:
        """Return whether the node, or one of its results, has a cut axis."""
        return any(self.cut.crosses(t.shape) for t in node.types)

    def is_size(self, node: Node) -> bool:
        """Return whether the node is the number of examples, or of rows, as a value."""
        return node.prim.name == "size" and self.cut.crosses((node.params["size"],))

    def role(self, node: Node) -> Role:
        """Return the role of a node with one result."""
        (role,) = results_roles(self.roles[node])
        return role

    def facts_of(self, node: Node) -> Facts:
        """Return the facts about a value."""
        if node not in self.facts:
            rows = self.roles.get(node, SHARED) is not SHARED
            layout = self.cut.straight(node.type) if rows and isinstance(node.type, ArrayType) else NONE
            self.facts[node] = Facts(layout)
        return self.facts[node]

    def _role(self, node: Node, operand_roles: Sequence[Roles]) -> Roles:
        if node.prim.name == "proj":
            (whole,) = operand_roles
            return whole[node.params["index"]] if isinstance(whole, tuple) else whole
        if node.prim.defines and node.params[node.prim.defines].symbol in self.cut.defined:
            return ROWS  # of the part alone
        mine = self.has_axis(node)
        if not mine and all(r is SHARED for r in operand_roles):
            return SHARED  # including the number of examples of the whole batch
        rows = mine or ROWS in operand_roles
        held = _HELD.get(node.prim.name)
        if held is not None and rows:
            return held(self, node, operand_roles)
        late = any(r in (SUM, WHOLE) for r in operand_roles)
        if node.prim.name == "barrier" and (not late or operand_roles[0] in (SUM, WHOLE)):
            self.facts[node] = self.facts_of(node.inputs[0])
            return operand_roles[0]  # a barrier waits for its other operand, without depending on it
        if rows and late:
            raise _statistic(node)
        if late:
            return SUM if _adds_up(node, operand_roles) else WHOLE
        return self._by_axes(node)

    # -- nodes without a graph of their own ------------------------------------------------------------------

    def _by_axes(self, node: Node) -> Roles:
        """Return the role of the results by the node's axis rule."""
        if node.prim is flatnonzero:
            return self._selected(node)
        if node.prim is tree_heights:
            return self._heights(node)
        rule = axis_rule(node)
        if rule is None:
            raise Mixes(node, "it is not known to keep examples apart")
        counting = counting_indices(node)
        read = {k for k, i in enumerate(node.inputs) if i in counting} if counting else set()
        factors, indices = self._cut_factors(node, rule)
        read |= indices
        result_axes = [self._cut_axis(node, "its result", values, t)
                 for values, t in zip(rule.results, node.types, strict=True)]
        kinds, points = {f.kind for f in factors}, NONE
        placed = [int(axis[0].by) for axis in result_axes if axis and axis[0].kind is INDEXED]
        if placed and kinds <= {REDUCE, PARALLEL} and all(
                self._names_rows(node.inputs[k], NONE, self.cut.size_of_axis(node.types[0])) for k in placed):
            read.update(placed)  # rows of the part go to places of the part
            layout = merged(self.facts_of(node.inputs[k]).points for k in placed)
            role: Roles = ROWS
        elif kinds == {SEGMENTED}:
            read.update(self._segments(node, rule, result_axes))
            role, layout = ROWS, self.cut.straight(node.types[0])
            if node.prim is segment_ids:
                points = self.cut.straight(node.inputs[0].types[0])
        elif node.prim is concatenate and kinds == {PERMUTED}:
            role, layout = ROWS, self._end_to_end(node)
        elif node.prim is cumsum and kinds == {ORDERED} and (rows := self._rows_before(node)) is not None:
            role, layout, points = ROWS, self.cut.straight(node.types[0]), frozenset({(0, rows)})
        else:
            role, layout = self._by_factor(node, factors, result_axes)
            if node.prim is iota:
                points = layout
        if not isinstance(node.type, TupleType):
            self.facts[node] = Facts(layout, points) if points else self._values(node, read, layout)
        else:
            self.refuse_positions(node, (i for k, i in enumerate(node.inputs) if k not in read))
        return role

    def _selected(self, node: Node) -> Roles:
        """Return the role of the positions of true elements, which follow each other as the elements do."""
        mask = node.inputs[0]
        straight = self.cut.straight(mask.types[0])
        if self.facts_of(mask).layout - straight:
            raise Mixes(node, "it moves elements across the batch axis")
        self.facts[node] = Facts(self.cut.straight(node.types[0]), straight)
        return ROWS

    def _heights(self, node: Node) -> Roles:
        """Return the role of the heights of nodes, whose parents are nodes of the same example."""
        straight = self.cut.straight(node.types[0])
        if any(self.facts_of(i).layout - straight for i in node.inputs) or not (
                self.facts_of(node.inputs[0]).points <= straight):
            raise Mixes(node, "its trees are not within the examples")
        self.facts[node] = Facts(straight)
        return ROWS

    def _cut_factors(self, node: Node, rule: AxisRule) -> tuple[dict[Factor, list[tuple[Node, Size]]], set[int]]:
        """Return the factors of the operands' cut axes, with the operands and sizes; and the indices into such axes."""
        factors: dict[Factor, list[tuple[Node, Size]]] = {}
        indices: set[int] = set()
        for values, x in zip(rule.operands, node.inputs, strict=True):
            axis = self._cut_axis(node, "an operand", values, x.type)
            if axis is None:
                continue
            (factor, *_), size = axis, x.shape[values.index(axis)]
            if factor.kind is not INDEXED:
                factors.setdefault(factor, []).append((x, size))
            elif self._names_rows(node.inputs[int(factor.by)], self.facts_of(x).layout, size):
                indices.add(int(factor.by))
            else:
                other = self.facts_of(node.inputs[int(factor.by)]).points
                raise Mixes(node, "its index points at rows of another axis" if other else _MIXES[INDEXED])
        return factors, indices

    def _cut_axis(self, node: Node, where: str, values: Axes, t: ArrayType | TupleType) -> Axis | None:
        """Return the factors of the axis along which the parts follow each other, or None without such an axis."""
        if isinstance(t, TupleType) or not self.cut.crosses(t.shape):
            return None
        axis = self.cut.axis_of(t)
        if axis is None:
            raise Mixes(node, f"{where} has the batch axis twice, or merged with another")
        return values[axis]

    def refuse_positions(self, node: Node, values: Iterable[Node]) -> None:
        """Raise `Mixes` at `node` if values are positions in the batch."""
        if points := merged(self.facts_of(x).points for x in values):
            raise Counts(node, points, self.cut)

    def _names_rows(self, index: Node, layout: Spans, size: Size) -> bool:
        """Return whether an index points at rows of the part, along an axis of the given layout and size.

        Apart from the stretches of its layout, the axis repeats a constant in every part, as the rows do that a scatter
        leaves out: there the index must stay within the size.
        """
        facts = self.facts_of(index)
        if facts.null and index.prim is not row_or_null:  # -1 is the last row of the whole batch, not of a part
            return False
        return bool(facts.points) and all(
            span in layout or (_positive(size - span[0] - span[1]) and all(_apart(span, other) for other in layout))
            for span in facts.points)

    def _segments(self, node: Node, rule: AxisRule, result_axes: Sequence[Axis | None]) -> set[int]:
        """Return the operands that name segments; refuse segments that may continue in the next part."""
        names = {int(f.by) for axes in rule.operands for axis in axes for f in axis if f.kind is SEGMENTED}
        if any(axis is None or axis[0].kind is not SEGMENTED for axis in result_axes) or any(
                self.facts_of(i).layout - self.cut.straight(i.types[0]) for i in node.inputs if self.has_axis(i)):
            raise Mixes(node, _MIXES[ORDERED])
        lengths = {i.shape[:1] for i in (node, *node.inputs) if self.has_axis(i)}
        ids = names if len(lengths) == 1 else set()  # else the operands have lengths
        if any(not self.facts_of(node.inputs[k]).points for k in ids) or (node.prim is segment_ids and self.cut.counted(
                node.inputs[0].shape[0], self.facts_of(node.inputs[0]).count) != node.shape[0]):
            raise Mixes(node, _MIXES[ORDERED])
        return ids

    def _rows_before(self, node: Node) -> Size | None:
        """Return the length of the axis into which a running sum of row counts points, or None if it is unknown."""
        (x,) = node.inputs
        straight = node.ndim == 1 and not self.facts_of(x).layout - self.cut.straight(x.types[0])
        return self.cut.counted(x.shape[0], self.facts_of(x).count) if straight else None

    def _end_to_end(self, node: Node) -> Spans:
        """Return the layout of operands that follow each other along the cut axis."""
        spans: list[tuple[Size, Size]] = []
        before: Size = 0
        for x in node.inputs:
            n = x.shape[node.params["axis"]]
            spans += [(start + before, length) for start, length in self.facts_of(x).layout or {(0, n)}]
            before = before + n
        return frozenset(spans)

    def _by_factor(self, node: Node, factors: Mapping[Factor, list[tuple[Node, Size]]],
                   result_axes: Sequence[Axis | None]) -> tuple[Roles, Spans]:
        """Return the role of a node along the one factor of the cut axes, and the layout of its rows."""
        if len(factors) > 1:
            raise Mixes(node, "its operands have the batch axis at different places")
        if not factors:
            if node.inputs and any(axis and axis[0].kind is not PARALLEL for axis in result_axes):
                raise Mixes(node, "its operand is not a row of the batch")
            # The same for all examples, or a counter: its users are checked.
            straight = self.cut.straight(node.types[0]) if node.prim is iota else NONE
            return _as_many(node, [ROWS if axis else SHARED for axis in result_axes]), straight
        ((factor, operands),) = factors.items()
        if factor.kind is REDUCE and factor.by in ("add", "mean") and not any(result_axes):
            return SUM if factor.by == "add" else WHOLE, NONE
        if factor.kind is REDUCE and gathers_rows(node):
            return WHOLE, NONE
        if factor.kind is not PARALLEL:
            raise Mixes(node, _MIXES[factor.kind])
        if any(axis is None or axis[0] is not factor for axis in result_axes):
            raise Mixes(node, "it moves elements across the batch axis")
        return _as_many(node, [ROWS for _ in result_axes]), self._common_layout(node, operands)

    def _common_layout(self, node: Node, operands: Sequence[tuple[Node, Size]]) -> Spans:
        """Return the layout of the result's rows, which are the rows of the operands."""
        if isinstance(node.type, TupleType):
            return NONE
        to = self.cut.size_of_axis(node.types[0])
        spans = {scaled(self.facts_of(x).layout, n, to) for x, n in operands}
        known = {s for s in spans if s is not None}
        layout = merged(known)
        if len(known) < len(spans) or (len(known) > 1 and not agree(layout, to)):
            raise Mixes(node, "it moves elements across the batch axis")
        return layout

    # -- the integers among the rows ---------------------------------------------------------------------------

    def _values(self, node: Node, read: set[int], layout: Spans) -> Facts:
        """Return the facts about a result; the operands at positions `read` are indices."""
        if not node.inputs:
            value = node.params.get("value")
            return Facts(layout, count=value if type(value) is int and self.cut.crosses(node.shape) else None)
        if node.prim.name in PLACES and (n := self._displacement(node.inputs[1])) is not None and self.cut.is_defined(
                (n,)):  # the whole batch has no such number before its last part
            self._own(node.inputs[1], node)
        operand_facts = [self.facts_of(i) for i in node.inputs]
        if all(not f.points and f.count is None for f in operand_facts):
            return Facts(layout)
        operands = [i for k, i in enumerate(node.inputs) if k not in read]
        return self._values_of_rows(node, operands, operand_facts, layout)

    def _values_of_rows(self, node: Node, operands: Sequence[Node], operand_facts: Sequence[Facts],
                        layout: Spans) -> Facts:
        """Return the facts about a result of row indices and counts; `operands` are those that are not indices."""
        sources = [i for i in picked(node) if i in operands]
        facts = [self.facts_of(i) for i in sources]
        if sources and not any(self.facts_of(i).points for i in operands if i not in sources) and len(
                {bool(f.points) for f in facts}) == 1:
            counts, null = {f.count for f in facts}, any(f.null for f in facts)
            if node.dtype.kind == "b" or (null and node.dtype.kind == "u"):  # these have no rows added to them
                self.refuse_positions(node, operands)
            return Facts(layout, merged(f.points for f in facts), null, counts.pop() if len(counts) == 1 else None)
        if not any(self.facts_of(i).points for i in operands):
            return Facts(layout, count=self._count(node, operand_facts))
        points = self._displaced(node, operand_facts)
        if points is None:
            raise Counts(node, merged(self.facts_of(i).points for i in operands), self.cut)
        return Facts(layout, points)

    def _count(self, node: Node, operand_facts: Sequence[Facts]) -> Size | None:
        """Return the row count of sums and products of row counts, or None for another value."""
        counts = [f.count for f in operand_facts if f.count is not None]
        known = counts and len(counts) == len(operand_facts)
        if node.prim.kind != "elementwise" or node.dtype.kind not in "iu" or not known:
            return None
        if node.prim.linear == "jointly":
            return sum((c * s for c, s in zip(counts, _signs(node), strict=True)), 0)
        return counts[0] * counts[1] if node.prim.linear == "separately" else None

    def _displaced(self, node: Node, operand_facts: Sequence[Facts]) -> Spans | None:
        """Return the stretches that sums and differences of pointers point into, or None if they are unknown."""
        if node.prim.kind != "elementwise":
            return None
        if node.dtype.kind == "b":
            return NONE if _same_in_each_part(node, operand_facts) else None
        if node.prim.linear != "jointly":
            return None
        # The user's own node, also with an axis from `vmap`; a rule moves positions only within the example.
        moved_by_user = not node.rules or (node.source is not None and node.source.prim is node.prim)
        if moved_by_user and any(f.null for f in operand_facts):  # -1 has no rows to move by
            return None
        terms: list[Spans] = []
        for f, i in zip(operand_facts, node.inputs, strict=True):
            size = self._displacement(i) if not f.points else None
            if size is None and not f.points and moved_by_user:
                return None  # a position moved by the user's code may be one of the next part
            terms.append(f.points or frozenset({(0 if size is None else size, 0)}))
            if size is not None:
                self._own(i, node)
        signs = _signs(node)
        out = {tuple(sum((n * s for n, s in zip(ns, signs, strict=True)), 0) for ns in zip(*spans, strict=True))
               for spans in itertools.product(*terms)}
        return NONE if out == {(0, 0)} else frozenset(out)

    def _own(self, size: Node, user: Node) -> None:
        """Enter a number of rows as that of the part."""
        operand: Node | None = size
        while operand is not None:
            self.local.setdefault(operand, set()).add(user)
            user, operand = operand, next(iter(operand.inputs), None)

    def _displacement(self, node: Node) -> Size | None:
        """Return the number of rows that a node repeats, or None for another value."""
        node, _ = unexpanded(node)
        return node.params["size"] if self.is_size(node) else None


def _adds_up(node: Node, operand_roles: Sequence[Roles]) -> bool:
    """Return whether the node is linear in sums over chunks, and independent of all other values of the batch."""
    summed = [r is SUM for r in operand_roles]
    if node.prim.linear == "jointly":  # of the constants, only 0 adds up with a sum
        return all(s or _is_zero(i) for s, i in zip(summed, node.inputs, strict=True))
    return WHOLE not in operand_roles and is_linear(node, summed)


def _same_in_each_part(node: Node, operand_facts: Sequence[Facts]) -> bool:
    """Return whether a comparison of pointers gives the same result in every part.

    Both move by the same number of rows, or one operand is a negative number, which names no row.
    """
    none = [not f.points and _negative(i) for f, i in zip(operand_facts, node.inputs, strict=True)]
    if sum(none) == len(operand_facts) - 1:
        return all(_positive(n) for f in operand_facts for span in f.points for n in span)
    (points, *others) = {f.points for f in operand_facts}
    return not others and len(points) == 1 and not any(f.null for f in operand_facts)


def _is_zero(node: Node) -> bool:
    node, _ = unexpanded(node)
    value = node.params.get("value")
    return node.prim.name in ("full", "const") and not np.any(value)


def _negative(node: Node) -> bool:
    """Return whether a node repeats a number below zero."""
    node, _ = unexpanded(node)
    return node.prim.name == "full" and node.params["value"] < 0


def _positive(n: Size) -> bool:
    """Return whether a number of rows is zero or more for all sizes."""
    return all(factor > 0 for _, factor in n.terms) if isinstance(n, Dim) else n >= 0


def _apart(a: tuple[Size, Size], b: tuple[Size, Size]) -> bool:
    """Return whether two stretches of an axis have no row in common, for all sizes."""
    return _positive(b[0] - a[0] - a[1]) or _positive(a[0] - b[0] - b[1])


def _signs(node: Node) -> list[int]:
    """Return the factor of each operand in a sum or a difference."""
    ones = np.eye(len(node.inputs), dtype=np.int64)
    return [int(node.prim.eval(np, *own, **node.params)) for own in ones]


_MIXES = {ORDERED: "it works along the batch axis", PERMUTED: "it works along the batch axis",
          SEGMENTED: "it works along the batch axis", INDEXED: "it picks examples by an index",
          REDUCE: "it reduces the batch axis by something other than a sum or a mean, or a maximum or minimum along "
                  "that axis alone"}


def gathers_rows(node: Node) -> bool:
    """Return whether the node is a maximum or minimum along one axis.

    It runs once, on the rows of all parts: an example's row has the size of the result, and the gradient is shared
    among ties of all parts.
    """
    return node.prim.combiner in (MAX, MIN) and len(node.params.get("axes", ())) == 1


def _as_many(node: Node, roles: list[Role]) -> Roles:
    return tuple(roles) if isinstance(node.type, TupleType) else roles[0]


def _of_callback(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> Role:
    """Return the role of a Python function's result; refuse a function that is called with several examples."""
    _check_operands(reading, node, operand_roles)
    calls = [mapped for size, mapped in node.params["batches"] if size == reading.cut.dim]
    stated = any(reading.cut.crosses(shape) for shape, _ in node.params["result"])
    if len(calls) != 1 or stated or calls[0] != tuple(map(reading.has_axis, node.inputs)):
        raise Mixes(node, "the function is called once for several examples")
    return ROWS


def _of_effect(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> Role:
    """Return the role of an effect: once for each example, or once for values of the batch as a whole."""
    calls = [mapped for size, mapped in node.params["batches"] if size == reading.cut.dim]
    if ROWS not in operand_roles and not calls:
        _check_operands(reading, node, operand_roles)
        return WHOLE
    function = node.params["function"].function
    packed = function.is_packed() if isinstance(function, PerExample) else [False] * len(node.inputs)
    if len(calls) != 1 or [*calls[0]] != [reading.has_axis(i) and not p
                                          for i, p in zip(node.inputs, packed, strict=True)]:
        raise Mixes(node, "the function is called once for several examples")
    return ROWS


# -- nodes that hold graphs --------------------------------------------------------------------------------


def _inside(reading: Reading, node: Node, graph: Graph, operand_roles: Sequence[Roles]) -> list[Role]:
    """Return the roles of a held graph's outputs; the node's operands are the last of its inputs."""
    operands = zip(reversed(graph.inputs), reversed(node.inputs), strict=False)
    inner = Reading(reading.cut, dict(zip(graph.inputs, operand_roles, strict=True)),
                    {own: reading.facts_of(x) for own, x in operands})
    try:
        inner.read(graph.nodes)
        for n in graph.outputs:
            inner.refuse_positions(n, [n])
            if inner.facts_of(n).layout - reading.cut.straight(n.types[0]):
                raise Mixes(n, "it moves elements across the batch axis")
    except Mixes as error:
        raise Mixes(node, f"in the {node.prim.name}, {error.node.prim.name} at {error.node.where}: {error.why}",
                    error.instead, error.in_microbatch) from None
    for size in graph.nodes:
        if inner.is_size(size) and size not in inner.local:
            raise Mixes(node, f"in the {node.prim.name}, {size.prim.name} at {size.where}: it is the number of "
                        "examples, which a chunk does not know", "Pass it in from outside")
    return [inner.role(n) for n in graph.outputs]


def _only_sums(node: Node, out: Sequence[Role]) -> tuple[Role, ...]:
    if WHOLE in out:
        raise Mixes(node, f"in the {node.prim.name}, the batch axis is summed away, and the result computed from the "
                    "sum is not a sum")
    return tuple(out)


def _statistic(node: Node) -> Mixes:
    outside = "Take the gradient outside, mg.grad(mg.microbatch(f, size))" if "vjp" in node.rules else None
    return Mixes(node, "it uses a value of the whole batch (a batch statistic), which is known only after the last "
                 "chunk", in_microbatch=outside)


def _check_operands(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> None:
    """Refuse operands that a loop over rows must not have: positions of rows, and values of the whole batch.

    A sum over the chunks is allowed where the graph uses it linearly.
    """
    reading.refuse_positions(node, node.inputs)
    _check_late(node, operand_roles)


def _check_late(node: Node, operand_roles: Sequence[Roles]) -> None:
    if WHOLE in operand_roles:
        raise _statistic(node)


def _by_type(reading: Reading, nodes: Sequence[Node]) -> list[Role]:
    return [ROWS if reading.has_axis(n) else SHARED for n in nodes]


def _of_graph(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of the results of a `checkpoint` or a function with rules of its own."""
    _check_late(node, operand_roles)
    if SUM in operand_roles and node.prim.name == "custom":
        raise _statistic(node)  # its rules may use the sum nonlinearly
    out = _only_sums(node, _inside(reading, node, node.params["graph"], operand_roles))
    if isinstance(rule := node.params.get("vjp"), Graph):
        # The cotangent of a row is a row; that of a shared value is a sum over the examples.
        back = _inside(reading, node, rule, _by_type(reading, rule.inputs))
        floats = [r for r, i in zip(operand_roles, node.inputs, strict=True) if i.type.floating]
        if any(b is not (ROWS if r is ROWS else SUM) and not _is_zero(o)
               for b, r, o in zip(back, floats, rule.outputs, strict=False)):
            raise Mixes(node, "its derivative rule mixes examples")
    if isinstance(rule := node.params.get("jvp"), Graph):
        forth = _inside(reading, node, rule, _by_type(reading, rule.inputs))
        floats = [r for r, o in zip(out, node.params["graph"].outputs, strict=True) if o.type.floating]
        if any(f is not r and not _is_zero(o) for f, r, o in zip(forth, floats, rule.outputs, strict=True)):
            raise Mixes(node, "its derivative rule mixes examples")
    return out


def _of_scan(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of a scan's results. A carry that starts at zero may add up sums over the examples."""
    roles = signature(node)
    if reading.cut.crosses((node.params["length"],)):
        return _of_steps(reading, node, operand_roles)
    reading.refuse_positions(node, node.inputs[roles.n_shared:])  # a step may index rows by a shared operand
    _check_late(node, operand_roles)

    def widen(start: list[Roles]) -> tuple[list[Roles], list[Role]]:
        out = _inside(reading, node, node.params["body"], start)
        after = dict(zip(roles.carry(range(len(start))), out, strict=False))
        return [SUM if r is SHARED and after.get(i) in (SUM, WHOLE) and _is_zero(node.inputs[i]) else r
                for i, r in enumerate(start)], out

    start, out = fixed_point(widen, list(operand_roles))
    if roles.ends(out)[0] != roles.carry(start):
        out[0] = WHOLE
    return _only_sums(node, out)


def _of_steps(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of the results of a scan along the batch axis: without a carry, steps are independent."""
    roles = signature(node)
    shared, _, slices = roles.split(list(zip(node.inputs, operand_roles, strict=True)))
    if roles.n_carry or any(role is not SHARED for _, role in shared):
        raise Mixes(node, "it goes along the batch axis")
    reading.refuse_positions(node, node.inputs)
    for x, _ in slices:
        if reading.cut.axis_of(x.types[0]) != 0 or reading.facts_of(x).layout - reading.cut.straight(x.types[0]):
            raise Mixes(node, "it goes along the batch axis, and an operand does not")
    return (ROWS,) * len(node.types)


def _of_packed_scan(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of a packed scan's results: values with rows in a step have them, and others are sums."""
    roles, body, packed = signature(node), node.params["body"], node.params["packed"]
    _check_operands(reading, node, operand_roles)
    if operand_roles[0] is SHARED:

        def widen(start: list[Roles]) -> tuple[list[Roles], list[Role]]:
            out = _inside(reading, node, body, start)
            return [ROWS if ROWS in pair else r for r, *pair in zip(
                start, start, [SHARED] * roles.n_shared + out[:roles.n_carry], strict=False)] + start[
                    roles.n_shared + roles.n_carry:], out

        return _only_sums(node, fixed_point(widen, list(operand_roles))[1])
    for own, operand, role in zip(body.inputs, node.inputs, operand_roles, strict=True):
        if role is SUM:
            raise _statistic(node)
        if role is ROWS and (rows_of(own.types[0], inside(packed)) is None
                             or reading.facts_of(operand).layout - reading.cut.straight(operand.types[0])):
            raise Mixes(node, "an operand has the batch axis beside that of the rows")
    return tuple(SUM if rows_of(o.types[0], inside(packed)) is None else ROWS for o in body.outputs)


def _of_chunked(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of the results of passes over another axis, or over one example after the other."""
    if reading.cut.crosses((node.params["total"], *(n for _, n in node.params["packed"]))):
        if _one_by_one(reading, node, operand_roles):
            return tuple(SUM if axis is None else ROWS for axis in node.params["out_axes"])
        raise Mixes(node, "it is computed in passes already", "Give the function without microbatch",
                    "Call microbatch once")
    _check_operands(reading, node, operand_roles)
    return _only_sums(node, _inside(reading, node, node.params["graph"], operand_roles))


def _one_by_one(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> bool:
    """Return whether each pass holds one example and nothing of the others: a part of the batch has some of them."""
    facts = [(reading.facts_of(n), n.types[0], axis) for n, role, axis in zip(
        node.inputs, operand_roles, node.params["in_axes"], strict=True) if role is ROWS]
    return node.params["size"] == 1 and SUM not in operand_roles and WHOLE not in operand_roles and all(
        not own.layout - reading.cut.straight(t) and not own.points and reading.cut.axis_of(t) == axis
        for own, t, axis in facts) and all(
            symbols_of_node(n).isdisjoint(reading.cut.totals) for n in node.params["graph"].nodes)


def _of_trees(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of the results of a loop over trees, which are within the examples."""
    roles, outs = Counting(*node.params["counts"]), Outs(*node.params["outs"])
    parent, heights, *operands = node.inputs
    if any(r in (SUM, WHOLE) for r in operand_roles):
        raise _statistic(node)
    shared, *others = roles.split(list(zip(operands, operand_roles[2:], strict=True)))
    straight = reading.cut.straight(parent.types[0])
    rows = [(parent, operand_roles[0]), (heights, operand_roles[1]), *(pair for role in others for pair in role)]
    if any(r is not SHARED for _, r in shared) or any(
            r is ROWS and reading.facts_of(n).layout - reading.cut.straight(n.types[0]) for n, r in rows) or not (
            straight and reading.facts_of(parent).points <= straight):
        raise Mixes(node, "its trees are not within the examples")
    reading.refuse_positions(node, (n for n, _ in rows[1:]))
    states, sums, own, child = outs.split(node.types)
    return (*(ROWS for _ in states), *(SUM for _ in sums), *(ROWS for _ in (*own, *child)))


def _of_while(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of a loop's results. A loop over running examples must keep the state of the others."""
    test, body, count = (node.params[k] for k in ("test", "body", "count"))
    reading.refuse_positions(node, node.inputs[count:])  # the body may index rows by a shared operand
    _check_late(node, operand_roles)
    out = _inside(reading, node, body, operand_roles)
    if out != list(operand_roles[count:]) or SUM in operand_roles:
        raise Mixes(node, "in the while, the batch axis is summed away")
    (end,) = test.outputs
    while end.prim.name == "any" and not reading.has_axis(end):
        (end,) = end.inputs
    (ends,) = _inside(reading, node, test.replace(outputs=(end,)), operand_roles)
    if ends is not SHARED and (ends is not ROWS or SHARED in out or not keeps_ended(test, body, count)):
        raise Mixes(node, "its test mixes examples")
    return tuple(out)


def _of_switch(reading: Reading, node: Node, operand_roles: Sequence[Roles]) -> tuple[Role, ...]:
    """Return the roles of a switch's results, with a branch per example or one branch for all."""
    _check_late(node, operand_roles)
    if operand_roles[0] is SUM:
        raise _statistic(node)
    if operand_roles[0] is not ROWS:
        graphs = node.params["graphs"]
        ways = zip(*(_inside(reading, node, g, operand_roles[1:]) for g in graphs), strict=True)
        return _only_sums(node, [_either(roles, [g.outputs[k] for g in graphs]) for k, roles in enumerate(ways)])
    reading.refuse_positions(node, node.inputs)
    if SUM in operand_roles:
        raise _statistic(node)
    choices = reading.cut.axis_of(node.inputs[0].types[0])
    if any(r is ROWS and (reading.cut.axis_of(i.types[0]) != choices or not rows)
           for i, r, rows in zip(node.inputs[1:], operand_roles[1:], node.params["rows"], strict=True)):
        raise Mixes(node, "an operand has the batch axis beside that of the choices")
    return tuple(SUM if s else ROWS for s in node.params["sums"])


def _either(ways: Sequence[Role], outputs: Sequence[Node]) -> Role:
    """Return the role of the result of any one of several branches."""
    if set(ways) == {SHARED, SUM}:  # every chunk adds the shared result of its branch: only zeros add up
        return SUM if all(_is_zero(o) for o, w in zip(outputs, ways, strict=True) if w is SHARED) else WHOLE
    return ways[0] if len(set(ways)) == 1 else WHOLE


_Held = Callable[[Reading, Node, Sequence[Roles]], Roles]
_HELD: dict[str, _Held] = {"checkpoint": _of_graph, "custom": _of_graph, "scan": _of_scan,
                           "packed_scan": _of_packed_scan, "tree_scan": _of_trees, "while": _of_while,
                           "chunked": _of_chunked, "switch": _of_switch, "callback": _of_callback, "effect": _of_effect}

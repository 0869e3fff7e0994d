"""Loops of Python, whose steps a trace has written out one by one, become scans.

A loop of a thousand steps is traced to a thousand copies of its body. Every rewrite of them, and the compiler, would
take a thousand times as long as for one. The copies are found by their period: nodes of a step have the primitive,
type, parameters and line of the nodes one period before, and operands that lie in the same step, a fixed number of
steps before, or outside. Slices that move along an array from step to step, and constants that differ from step to
step, become rows that the scan steps along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, pairwise

import numpy as np

from .. import interpreters
from ..graph import CALLS, ArrayType, Graph, Node, TupleType, zeros_like
from ..primitive import input_, move_axis, placeholder
from ..tracing import LOOP_NODES, made_by
from .broadcast import broadcast_along
from .checks import checks_of
from .constants import const, constant, full
from .control import parts
from .index import gather
from .loops import scan
from .shape import concatenate, flip, reshape, section, slice_

STEPS = 16  # a loop of fewer steps stays written out
_CANDIDATES = 8  # periods that are tried
_FEW = 4  # nodes in a row that tell a place in a step from others
_STRETCH = LOOP_NODES // 4  # nodes of the last steps, which read nothing from before the loop that others do not
_ATTEMPTS = 3  # starts of a loop that are tried: the first steps may read values from before it
_FIXED = frozenset(("barrier", "callback", "label"))  # operations that stay where they are


def rolled(outputs: Sequence[Node], since: int) -> list[Node]:
    """Return the outputs of a program whose long loops, of nodes made after `since`, are scans.

    Parameters
    ----------
    outputs : sequence of Node
    since : int
        Nodes with smaller serial numbers belong to the trace around.
    """
    roots = list(outputs)
    if max((n.serial for n in roots), default=since) - since < LOOP_NODES - 1:  # fewer nodes were made
        return roots
    while len(nodes := _as_read(roots, since)) >= LOOP_NODES and _undivided(nodes) >= _STRETCH:
        found = _longest(nodes)
        if found is None:
            break
        steps, period = found
        for _ in range(_ATTEMPTS):
            new = _Loop(steps, period).replaced(roots, nodes)
            if new is not None or len(steps) < (STEPS + 1) * period:
                break
            steps = steps[period:]
        if new is None:
            break
        roots = new
    return roots


def _as_read(roots: Sequence[Node], since: int) -> list[Node]:
    """Return the nodes made after `since` in the order in which the operands of `roots` lead to them.

    Serial numbers would not do: nodes that depend on a loop are made anew when it becomes a scan, the others are not.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[Node | None] = [*reversed(roots)]
    while stack:
        n = stack.pop()
        if n is None:  # the operands of the next node are in order
            order.append(stack.pop())  # type: ignore[arg-type]
        elif n.serial >= since and n not in seen:
            seen.add(n)
            if n.inputs:
                stack += (n, None, *n.inputs[::-1])
            else:
                order.append(n)
    return order


def _undivided(nodes: Sequence[Node]) -> int:
    """Return the most nodes in a row that read no input of their own, as layers read their weights.

    Results that no node reads do not count: the gradients of such weights are next to each other.
    """
    readers = Counter(chain.from_iterable([n.inputs for n in nodes]))
    own = {x for x, count in readers.items() if x.prim is input_ and count < STEPS}
    read = [n.inputs for n in nodes if n in readers]
    ends = [k for k, inputs in enumerate(read) if not own.isdisjoint(inputs)]
    return max(end - begin for begin, end in pairwise([-1, *ends, len(read)])) - 1


def _longest(nodes: Sequence[Node]) -> tuple[Sequence[Node], int] | None:
    """Return the nodes of the loop with the most of them, and how many a step has."""
    beside = _leaves(nodes)
    steps = [n for n in nodes if n not in beside]
    ids: dict[object, int] = {}
    try:
        keys = [ids.setdefault((n.prim, n.type, n.loc, len(n.inputs), *n.params.items()), len(ids)) for n in steps]
    except TypeError:  # a parameter without a hash
        return None
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}  # the last places: a step may have two
    gaps: Counter[int] = Counter()
    for i, few in enumerate(zip(*(keys[k:] for k in range(_FEW)), strict=False)):
        before = seen.get(few, ())
        for j in before:
            gaps[i - j] += 1
        seen[few] = (i, *before[:1])
    numbers = np.array(keys)
    best, most = None, LOOP_NODES - 1
    for period, _ in gaps.most_common(_CANDIDATES):
        same = np.concatenate(([False], numbers[period:] == numbers[:-period], [False]))
        for begin, end in np.flatnonzero(same[1:] != same[:-1]).reshape(-1, 2).tolist():
            count = (end - begin) // period + 1
            if count >= STEPS and count * period > most:
                best, most = (steps[begin:begin + count * period], period), count * period
    return best


def _leaves(nodes: Sequence[Node]) -> set[Node]:
    """Return constants, inputs, and the sections of arrays that many sections are taken of."""
    sections = Counter(n.inputs[0] for n in nodes if n.prim is slice_)
    leaves = {n for n in nodes if n.prim in (full, const, input_)}
    leaves |= {n for n in nodes if n.prim is slice_ and sections[n.inputs[0]] >= STEPS}
    return leaves | {n for n in nodes if n.prim is reshape and n.inputs[0].prim is slice_ and n.inputs[0] in leaves}


def _lines(x: Node, begin: int, n: int) -> Node:
    """Return `n` lines of an array along axis 0."""
    return x if x.shape[0] == n else section(x, 0, begin, n)


@dataclass(frozen=True)
class _Back:
    """The value of node `place` of a step some steps before; `first` are those of the first steps."""

    place: int
    first: tuple[Node, ...]


@dataclass(eq=False, repr=False)
class _Loop:
    """Nodes of equal steps, one after the other."""

    nodes: Sequence[Node]
    period: int
    shared: dict[Node, Node] = field(default_factory=dict)  # outer values -> inputs of the step
    back: dict[_Back, list[Node]] = field(default_factory=dict)  # -> inputs of the step, of the last step at the end
    rows: dict[Hashable, tuple[Node, Node]] = field(default_factory=dict)  # -> input of the step, and the stack of all

    @property
    def count(self) -> int:
        return len(self.nodes) // self.period

    def replaced(self, roots: Sequence[Node], everything: Sequence[Node]) -> list[Node] | None:
        """Return the roots with a scan in the place of the steps; None if they are no loop."""
        step = self.nodes[:self.period]
        if any(n.prim.name in _FIXED for n in step) or self._has_own_inputs() or checks_of(step):
            return None
        place = {n: divmod(i, self.period) for i, n in enumerate(self.nodes)}
        body: dict[int, Node] = {}
        with made_by("roll") as working_on:
            for j, node in enumerate(step):
                working_on(node)
                operands = []
                for column in zip(*(n.inputs for n in self.nodes[j::self.period]), strict=True):
                    operand = self._operand(column, place, body)
                    if operand is None:
                        return None
                    operands.append(operand)
                body[j] = interpreters.rebuilt(node, tuple(operands))
            working_on(step[0])
            return interpreters.substitute(roots, self._scan(roots, everything, place, body))

    def _has_own_inputs(self) -> bool:
        """Return whether the last steps read an input each, as layers do their weights: they are no rows of an array.

        This is seen without a look at each step.
        """
        return any(a is not b and b.prim is input_ for n, last in zip(
            self.nodes[-2 * self.period:-self.period], self.nodes[-self.period:], strict=True)
            for a, b in zip(n.inputs, last.inputs, strict=True))

    # -- the operands of a step ------------------------------------------------------------------------------------

    def _operand(self, column: tuple[Node, ...], place: dict[Node, tuple[int, int]], body: dict[int, Node]
                 ) -> Node | None:
        """Return the step's own node for the operands of one node in all steps; None without a rule for them."""
        last = place.get(column[-1])
        if last is None:
            return None if any(n in place for n in column) else self._outer(column)
        back, j = self.count - 1 - last[0], last[1]
        if any(place.get(n) != (r - back, j) for r, n in enumerate(column) if r >= back):
            return None
        if not back:
            return body[j]
        first, t = column[:back], self.nodes[j].type
        if isinstance(t, TupleType) or any(n in place or n.type != t for n in first):
            return None
        return self.back.setdefault(_Back(j, first), [placeholder(t) for _ in first])[0]

    def _outer(self, column: tuple[Node, ...]) -> Node | None:
        """Return the input of the step for values that are none of the steps'."""
        x = column[0]
        if all(n is x for n in column):
            return self._shared(x)
        if any(n.types != x.types for n in column):
            return None
        if all(n.prim is x.prim for n in column) and x.prim in (full, const):
            values = [n.params["value"] for n in column]
            if all(v is values[0] or np.array_equal(v, values[0], equal_nan=True) for v in values):
                return self._shared(x)
            t = ArrayType((), x.dtype) if x.prim is full else x.types[0]
            row = self._row(column, t, lambda: constant(np.stack([np.asarray(v, x.dtype) for v in values])))
            return broadcast_along(row, x.shape, tuple(range(x.ndim))) if x.prim is full else row
        return self._section(column)

    def _shared(self, x: Node) -> Node:
        return x if x.prim is full else self.shared.setdefault(x, placeholder(x.types[0]))

    def _row(self, key: Hashable, t: ArrayType, stack: Callable[[], Node]) -> Node:
        if key not in self.rows:
            self.rows[key] = placeholder(t), stack()
        return self.rows[key][0]

    def _section(self, column: tuple[Node, ...]) -> Node | None:
        """Return the row of an array, if each step reads one section of it."""
        x = column[0]
        sections = [n.inputs[0] if n.prim is reshape else n for n in column]
        if any(n.prim is not slice_ or n.inputs != sections[0].inputs for n in sections):
            return None
        source = sections[0].inputs[0]
        starts, stops = (np.array([n.params[k] for n in sections], object) for k in ("start", "stop"))
        moving = np.flatnonzero((starts != starts[0]).any(axis=0))
        if not len(moving) and (stops == stops[0]).all():
            return self._shared(x)
        if len(moving) != 1 or any(n.params["step"] != (1,) * source.ndim for n in sections):
            return None
        (axis,) = moving.tolist()
        begins, width = starts[:, axis].tolist(), stops[0, axis] - starts[0, axis]
        others = [a for a in range(source.ndim) if a != axis]
        if (stops[:, others] != stops[0, others]).any() or not isinstance(source.shape[axis], int):
            return None
        key = source, axis, tuple(begins), width, tuple(starts[0, others]), tuple(stops[0, others]), x.shape

        def stack() -> Node:
            start, stop = (tuple(m if a == axis else n for a, (n, m) in enumerate(zip(of_first, whole, strict=True)))
                           for of_first, whole in ((starts[0], (0,) * source.ndim), (stops[0], source.shape)))
            whole = not any(start) and stop == source.shape
            lines = source if whole else slice_(source, start=start, stop=stop, step=(1,) * source.ndim)
            lines = move_axis(lines, axis, 0)
            steps = np.diff(begins)
            if width == 1 and (abs(steps) == 1).all() and (steps == steps[0]).all():
                lines = _lines(lines, min(begins), len(begins))
                lines = lines if steps[0] == 1 else flip(lines, axes=(0,))
            else:
                lines = gather(lines, constant(np.add.outer(begins, np.arange(width))))
                lines = move_axis(lines, 1, axis + 1)
            return reshape(lines, shape=(len(begins), *x.shape))

        return self._row(key, x.types[0], stack)

    # -- the scan --------------------------------------------------------------------------------------------------

    def _scan(self, roots: Sequence[Node], everything: Sequence[Node], place: dict[Node, tuple[int, int]],
              body: dict[int, Node]) -> dict[Node, Node]:
        """Return what replaces the steps' nodes that others use."""
        read = {i for n in everything if n not in place for i in n.inputs}.union(roots)
        used = [n for n in self.nodes if n in read]
        ends: dict[tuple[int, int], int] = {}  # (step, place) -> position in the final carry
        carry: list[Node] = []
        starts: list[Node] = []
        following: list[Node] = []
        for key, inputs in self.back.items():
            for k, n in enumerate(inputs, self.count - len(inputs)):
                ends[k, key.place] = len(carry)
                carry.append(n)
            starts += key.first
            following += [*inputs[1:], body[key.place]]
        stacked: dict[int, int] = {}
        for r, j in map(place.__getitem__, used):
            if (r, j) not in ends:
                stacked.setdefault(j, len(stacked))
        earlier = {place[n][1] for n in used if place[n][0] < self.count - 1}
        for j in [j for j in stacked if j not in earlier]:
            ends[self.count - 1, j] = len(carry)
            carry.append(placeholder(body[j].types[0]))
            starts.append(zeros_like(body[j]))
            following.append(body[j])
            del stacked[j]
        stacked = {j: k for k, j in enumerate(stacked, len(carry))}
        outputs = rolled([*following, *(body[j] for j in stacked)], self.nodes[-1].serial)
        step = Graph((*self.shared.values(), *carry, *(n for n, _ in self.rows.values())), tuple(outputs), name="step")
        results = parts(scan(*self.shared, *starts, *(x for _, x in self.rows.values()), body=step,
                             counts=(len(self.shared), len(carry)), length=self.count, reverse=False))
        new: dict[Node, Node] = {}
        for n in used:
            r, j = place[n]
            new[n] = results[ends[r, j]] if (r, j) in ends else reshape(
                section(results[stacked[j]], 0, r, 1), shape=n.shape)
        return new | self._joined(everything, place, {j: results[k] for j, k in stacked.items()}, new)

    def _joined(self, everything: Sequence[Node], place: dict[Node, tuple[int, int]], stacks: dict[int, Node],
                new: dict[Node, Node]) -> dict[Node, Node]:
        """Return what replaces arrays that were joined of one value of each step, and perhaps of earlier ones."""
        joined = {}
        for node in everything:
            if node.prim is not concatenate or node in place or len(node.inputs) < STEPS:
                continue
            axis, operands = node.params["axis"], list[Node]()
            origins = [n.inputs[0] if n.prim is reshape and n not in place else n for n in node.inputs]
            runs = [(j, r - k) if n.shape[axis] == 1 else (-1, k) for k, (n, (r, j)) in enumerate(
                zip(node.inputs, [place.get(o, (0, -1)) for o in origins], strict=True))]
            for (j, _), group in groupby(range(len(runs)), runs.__getitem__):
                members = list(group)
                if j in stacks:
                    each = node.inputs[members[0]].shape
                    lines = _lines(stacks[j], place[origins[members[0]]][0], len(members))
                    lines = reshape(lines, shape=(len(members), *each[:axis], *each[axis + 1:]))
                    operands.append(move_axis(lines, 0, axis))
                else:
                    operands += [node.inputs[k] for k in members]
            if len(operands) < len(node.inputs):
                joined[node] = concatenate(*interpreters.substitute(operands, new), axis=axis)
        return joined


CALLS["shorter"] = rolled

"""The checks of indices that a program makes, and which of them are the same.

The rule: *a program refuses every index that the function it was made of refuses.* A gather or a scatter checks the
indices that it reads, and a node that holds a graph makes the checks of that graph, as often as it runs it
(`checks_of`). A rewrite may do without the reading: the sum over all places is the sum of all rows, the gradient of a
sum is 1, a result is dropped. Then the check is tied to a result that stays: as `in_range`, or, of a node that holds a
graph, as that node with nothing left of it but its checks (`results.keep_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..axes import POINTWISE, axis_rule, rearranges
from ..families import discrete
from ..graph import ArrayType, Graph, Node, TupleType, reachable
from ..primitive import FIRST, ArrayNamespace, Sample, fail
from ..symbolic import Dim
from .refusals import first_where
from .subgraph import fixed_point, graphs_of

# An index, and the size of the axis that it is an index of; or a node that holds a graph with checks, and None.
Check = tuple[Node, "int | Dim | None"]

_VIEWS = ("reshape", "transpose", "flip")


def _in_range_eval(xp: ArrayNamespace, index: np.ndarray, *, size: int) -> Any:
    if not index.ndim and xp is np and -size <= index < size:
        return index
    if bad := first_where(xp, (index < 0) & (index + size < 0) | (index >= size), index):
        raise IndexError(f"index {bad[1]} is out of range for an axis of size {size}")
    return index


def _in_range_type(index: ArrayType, *, size: int | Dim) -> ArrayType:
    if index.dtype.kind not in "iu":
        raise fail("in_range", "needs integers", index)
    return index


in_range = discrete(
    "in_range", _in_range_type, _in_range_eval, axes=POINTWISE, picks=FIRST,
    samples=lambda: [Sample((np.array([[0, 2], [-3, 1]]),), {"size": 4}, order=0)])


_READS: dict[str, Callable[[Node], Iterable[Check]]] = {
    "gather": lambda node: zip(node.inputs[1:], node.inputs[0].shape, strict=False),
    **dict.fromkeys(("scatter_add", "scatter_max", "scatter_min"),
                    lambda node: zip(node.inputs[1:], node.params["shape"], strict=False)),
    "gather_sum": lambda node: zip(node.inputs[1:], (node.inputs[0].shape[0], node.params["size"]), strict=True),
    "in_range": lambda node: [(node.inputs[0], node.params["size"])]}


def checks_of(nodes: Iterable[Node]) -> dict[Check, Node]:
    """Return the checks that nodes make, but for those of indices that are known to be in range, and who makes each."""
    found: dict[Check, Node] = {}
    for check, node in _made(nodes):
        found.setdefault(check, node)
    return found


def _made(nodes: Iterable[Node]) -> Iterator[tuple[Check, Node]]:
    for node in nodes:
        read = _READS.get(node.prim.name)
        if read is not None:
            for index, size in read(node):
                index = _viewed(index)
                if not _within(index, size):
                    yield (index, size), node
        elif type(node.type) is TupleType and any(
                next(_made(graph.nodes), None) is not None for graph, _ in graphs_of(node)):
            yield (node, None), node


def _viewed(index: Node) -> Node:
    """Return the array that an index is a view of, with the same elements."""
    while index.prim.name in _VIEWS or (index.prim.name == "expand" and all(
            index.shape[a] != 0 for a in index.params["axes"])):
        (index,) = index.inputs
    return index


def _within(index: Node, size: int | Dim) -> bool:
    """Tell whether an index is known to be in range."""
    name = index.prim.name
    if name == "iota":
        return index.params["size"] == size
    if name == "segment_ids":
        return index.inputs[0].shape[0] == size
    if name in ("const", "full") and isinstance(size, int):
        value = index.params["value"]
        return not np.size(value) or bool(-size <= np.min(value) and np.max(value) < size)
    return False


# -- which elements the elements of a result are ---------------------------------------------------------------


def picked(node: Node) -> tuple[Node, ...]:
    """Return the operands whose elements the elements of the result are."""
    if node.prim.view is not None and type(node.type) is ArrayType:
        return node.inputs[:1]
    if node.prim.kind == "elementwise" or len(node.inputs) != 1 or isinstance(node.type, TupleType):
        return node.inputs[node.prim.picks]
    rule = axis_rule(node)
    permutes = rule is not None and rearranges(rule) and node.type.size == node.inputs[0].type.size
    return node.inputs if permutes else node.inputs[node.prim.picks]


# -- which are the same ----------------------------------------------------------------------------------------


def unmade(wanted: Mapping[Check, Node], have: Collection[Check]) -> dict[Check, Node]:
    """Return those of the checks `wanted` that none of `have` makes."""
    left = {check: node for check, node in wanted.items() if check not in have}
    if left and have:
        same, known = _Same(), {}
        made = set(same.checks(have, known))
        left = {check: node for check, node in left.items() if not made.issuperset(same.checks([check], known))}
    return left


class _Same:
    """Equal keys for checks of equal indices: a derivative makes those of its function at other nodes.

    Whether a value waits for another one (`barrier`) makes no difference. All slices of an index are in range if the
    index is; so what a loop makes of its slices element by element is known by what the same makes of the whole.
    """

    def __init__(self):
        self._ids: dict[object, int] = {}
        self._whole: dict[int, int] = {}  # from the number of slices to that of what they are slices of

    def _number(self, *key: object) -> int:
        return self._ids.setdefault(key, len(self._ids))

    def _operand(self, number: int, how: Any) -> int:
        """Return the number of an input of a held graph."""
        if how == "whole":
            return number
        own = self._number(how, number)
        if how == "slice":
            self._whole[own] = number
        return own

    def _values(self, nodes: Iterable[Node], known: dict[Node, int]) -> None:
        """Number nodes, and all that they depend on: equal numbers are equal values, or a scalar and copies of it."""
        for n in reachable(nodes):
            if n in known:
                continue
            if n.prim.name == "barrier" or (n.prim.name == "expand" and not n.inputs[0].ndim):
                known[n] = known[n.inputs[0]]
                continue
            inputs = tuple([known[i] for i in n.inputs])
            own = n if n.prim.name == "input" else tuple(
                [(k, _key(v)) for k, v in n.params.items() if n.prim.name != "full" or k != "shape"])
            if n.prim.kind != "elementwise":
                known[n] = self._number(n.prim, inputs, own, tuple([i.type for i in n.inputs]))
                continue
            whole = tuple([self._whole.get(i, i) for i in inputs])
            number = self._number(n.prim, whole, own)
            known[n] = number if whole == inputs else self._operand(number, "slice")

    def checks(self, checks: Iterable[Check], known: dict[Node, int], when: tuple = ()) -> Iterator[tuple]:
        """Yield a key of each check, and of each one that a held graph makes.

        `known` has the numbers of the inputs, and `when` says under which condition the graph of the checks runs.
        """
        checks = list(checks)
        self._values([node for node, _ in checks], known)
        for node, size in checks:
            if size is not None:
                number = known[node]
                while number in self._whole:
                    number = self._whole[number]
                # Copies of a scalar are as good as it, unless there may be none.
                yield when, number, size, frozenset(n for n in node.shape if isinstance(n, Dim) or not n)
                continue
            for graph, inner, more in self._graphs(node, known):
                yield from self.checks(checks_of(graph.nodes), inner, when + more)

    def _graphs(self, node: Node, known: Mapping[Node, int]) -> Iterator[tuple[Graph, dict[Node, int], tuple]]:
        """Yield each graph that a node holds, the numbers of its inputs, and the condition under which it runs."""
        held, p = graphs_of(node), node.params
        state = [known[given] for _, given, how in held[0][1] if how == "carry"]
        inner = [{own: self._operand(known[given], how) for own, given, how in inputs if how != "carry"}
                 for _, inputs in held]
        loop = self._loop(held, inner, state, p.get("length"), p.get("reverse")) if state else None
        for k, ((graph, _), numbers) in enumerate(zip(held, inner, strict=True)):
            match node.prim.name:
                case "switch":
                    yield graph, numbers, ((known[node.inputs[0]], k, len(held)),)
                case "chunked":
                    yield graph, numbers, ((p["dim"], p["size"], p["total"], p["packed"]),)
                case "while":
                    yield graph, numbers, (loop,)
                case "scan" if isinstance(p["length"], Dim) or not p["length"]:
                    yield graph, numbers, (p["length"],)
                case _:
                    yield graph, numbers, ()

    def _loop(self, held: list[tuple[Graph, list]], inner: list[dict[Node, int]], start: list[int], *turns: Any) -> int:
        """Number the state of a loop, as far as checks depend on it, by its start and by what a turn makes of it.

        The last graph is the body, which makes the next state; before it stands the test, if there is one.
        """
        *tests, body = [g for g, _ in held]
        states = [[own for own, _, how in inputs if how == "carry"] for _, inputs in held]
        ends = [n for g, _ in held for n, _ in checks_of(g.nodes)] + [n for g in tests for n in g.outputs]

        def widen(live: list[int]) -> tuple[list[int], None]:
            needed = set(reachable([*ends, *(body.outputs[i] for i in live)]))
            return [i for i in range(len(start)) if any(own[i] in needed for own in states)], None

        live, _ = fixed_point(widen, [])
        made = []
        for graph, numbers, own in zip((*tests, body), inner, states, strict=True):
            numbers = numbers | {own[i]: self._number("state", k) for k, i in enumerate(live)}
            results = [body.outputs[i] for i in live] if graph is body else graph.outputs
            self._values(results, numbers)
            made += [numbers[n] for n in results]
        loop = self._number("loop", *made, *(start[i] for i in live), *turns)
        for numbers, own in zip(inner, states, strict=True):
            numbers |= {own[i]: self._number(loop, k) for k, i in enumerate(live)}
        return loop


def _key(value: Any) -> Any:
    """Return what tells static parameters apart: 0.0 and -0.0 are equal, and differ."""
    return id(value) if isinstance(value, np.ndarray) else repr(value) if isinstance(value, float) else value

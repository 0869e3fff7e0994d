"""Checks of equal indices, which derivatives and rewrites make at other nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..graph import Graph, Node, reachable
from ..symbolic import Dim
from .checks import Check, checks_of
from .subgraph import HELD, Access, fixed_point, graphs_of

Key = tuple[object, ...]


def missing_checks(required: Mapping[Check, Node], present: Collection[Check]) -> dict[Check, Node]:
    """Return the checks of `required` that `present` does not imply, each with its reader."""
    missing = {check: node for check, node in required.items() if check not in present}
    if missing and present:
        values = _ValueNumbers()
        known: dict[Node, int] = {}
        keys = set(values.checks(present, known))
        missing = {check: node for check, node in missing.items()
                   if not keys.issuperset(values.checks([check], known))}
    return missing


class _ValueNumbers:
    """Global value numbering: checks of equal indices get equal keys.

    Barriers are ignored. An index is in range if and only if all its slices are; so an elementwise function of slices
    gets a number that refers to the function of the whole array.
    """

    def __init__(self) -> None:
        self._ids: dict[object, int] = {}
        self._whole: dict[int, int] = {}  # the number of a slice -> the number of the array that it is cut from

    def _number(self, *key: object) -> int:
        return self._ids.setdefault(key, len(self._ids))

    def _operand(self, number: int, access: Access) -> int:
        """Return the number of an input of a held graph."""
        if access == "whole":
            return number
        own = self._number(access, number)
        if access == "slice":
            self._whole[own] = number
        return own

    def _values(self, nodes: Iterable[Node], known: dict[Node, int]) -> None:
        """Number nodes and operands: values, up to broadcasts of scalars, by equal numbers."""
        for n in reachable(nodes):
            if n in known:
                continue
            if n.prim.name == "barrier" or (n.prim.name == "expand" and not n.inputs[0].ndim):
                known[n] = known[n.inputs[0]]
                continue
            inputs = tuple([known[i] for i in n.inputs])
            if n.prim.name == "input":
                own: object = n
            elif n.inputs and n.prim.key is not None:
                own = n.prim.key(n.params)
            else:
                own = tuple([(k, _key(v)) for k, v in n.params.items() if n.prim.name != "full" or k != "shape"])
            if n.prim.kind != "elementwise":
                known[n] = self._number(n.prim, inputs, own, tuple([i.type for i in n.inputs]))
                continue
            whole = tuple([self._whole.get(i, i) for i in inputs])
            number = self._number(n.prim, whole, own)
            known[n] = number if whole == inputs else self._operand(number, "slice")

    def checks(self, checks: Iterable[Check], known: dict[Node, int], when: Key = ()) -> Iterator[Key]:
        """Yield a key of each check, and of each check in a held graph.

        `known` has the numbers of the inputs; `when` is the condition under which the graph of the checks runs.
        """
        checks = list(checks)
        self._values([node for node, _ in checks], known)
        for node, size in checks:
            if size is not None:
                number = known[node]
                while number in self._whole:
                    number = self._whole[number]
                # A broadcast scalar is checked as the scalar, unless its shape may be empty.
                yield when, number, size, frozenset(n for n in node.shape if isinstance(n, Dim) or not n)
                continue
            if node.prim.effect:  # all copies of a node are its one effect
                yield "effect", node.params["order"]
                continue
            if node.prim.name not in HELD:
                yield when, known[node]
                continue
            for graph, inner, more in self._graphs(node, known):
                yield from self.checks(checks_of(graph.nodes), inner, when + more)

    def _graphs(self, node: Node, known: Mapping[Node, int]) -> Iterator[tuple[Graph, dict[Node, int], Key]]:
        """Yield the graphs of a node, the numbers of their inputs, and their conditions."""
        held, p = graphs_of(node), node.params
        state = [known[operand] for _, operand, access in held[0][1] if access == "carry"]
        inner = [{own: self._operand(known[operand], access) for own, operand, access in inputs if access != "carry"}
                 for _, inputs in held]
        turns = [known[i] for i in node.inputs[:HELD[node.prim.name].first]]
        loop = self._loop(held, inner, state, p.get("length"), p.get("reverse"), *turns) if state else None
        for k, ((graph, _), numbers) in enumerate(zip(held, inner, strict=True)):
            match node.prim.name:
                case "switch":
                    yield graph, numbers, ((known[node.inputs[0]], k, len(held)),)
                case "chunked":
                    yield graph, numbers, ((p["dim"], p["size"], p["total"], p["packed"]),)
                case "while":
                    yield graph, numbers, (loop,)
                case "packed_scan" | "tree_scan":
                    yield graph, numbers, (known[node.inputs[0]],)
                case "scan" if isinstance(p["length"], Dim) or not p["length"]:
                    yield graph, numbers, (p["length"],)
                case _:
                    yield graph, numbers, ()

    def _loop(self, held: Sequence[tuple[Graph, list[tuple[Node, Node, Access]]]], inner: list[dict[Node, int]],
              start: Sequence[int], *turns: object) -> int:
        """Number the state of a loop on which checks depend, by its start and its next state.

        The last graph is the body, which computes the next state; the test comes before it, if there is one.
        """
        *tests, body = [g for g, _ in held]
        states = [[own for own, _, access in inputs if access == "carry"] for _, inputs in held]
        ends = [n for g, _ in held for n, _ in checks_of(g.nodes)] + [n for g in tests for n in g.outputs]

        def widen(live: list[int]) -> tuple[list[int], None]:
            needed = set(reachable([*ends, *(body.outputs[i] for i in live)]))
            return [i for i in range(len(start)) if any(own[i] in needed for own in states)], None

        nothing: list[int] = []
        live, _ = fixed_point(widen, nothing)
        numbered: list[int] = []
        for graph, numbers, own in zip((*tests, body), inner, states, strict=True):
            numbers = numbers | {own[i]: self._number("state", k) for k, i in enumerate(live)}
            results = [body.outputs[i] for i in live] if graph is body else graph.outputs
            self._values(results, numbers)
            numbered += [numbers[n] for n in results]
        loop = self._number("loop", *numbered, *(start[i] for i in live), *turns)
        for numbers, own in zip(inner, states, strict=True):
            numbers |= {own[i]: self._number(loop, k) for k, i in enumerate(live)}
        return loop


def _key(value: object) -> object:
    """Return a key of a static parameter; 0.0 and -0.0, which are equal, have different ones."""
    return id(value) if isinstance(value, np.ndarray) else repr(value) if isinstance(value, float) else value

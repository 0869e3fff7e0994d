"""Running the graphs that nodes hold: chunks of a batch, steps of a scan or a loop, branches of a switch.

Each kind has a class that is made once for a node, with a program per held graph, and bound once per set
of sizes; what it returns is called like any evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import passes
from ..errors import printable
from ..graph import Graph, Node
from ..ops.accumulators import RUN, Chains, accumulator
from ..ops.branches import rows_graph, switch, taken
from ..ops.control import Span, chunk_spans, chunked, section_of, sizes_of
from ..ops.loops import scan, while_
from ..ops.subgraph import signature
from ..primitive import Primitive
from ..symbolic import Symbol, value

Sizes = Mapping[Symbol, int]
Evaluation = Callable[..., tuple[np.ndarray, ...]]


def _empty(node: Node, sizes: Sizes) -> list[tuple[tuple[int, ...], np.dtype]]:
    return [(tuple(value(n, sizes) for n in t.shape), t.dtype) for t in node.type.parts]


class Held(ABC):
    """The programs of one node.

    Attributes
    ----------
    xp : namespace
        Of the arrays that the programs take and return.
    programs : list of (str, Program, dict)
        What each is, for the reader of the source; the program; and the symbolic sizes that it has beside
        those around the node, with what they count as when memory is estimated.
    """

    def __init__(self, node: Node, build: Callable[[Graph], Any], xp: Any = np):
        self.node, self.xp = node, xp
        self.programs: list[tuple[str, Any, dict[Symbol, Any]]] = []
        self._build = build

    def add(self, what: str, graph: Graph, own: Mapping[Symbol, Any] | None = None) -> Any:
        program = self._build(graph)
        self.programs.append((f"{what}: {printable(graph.name)}", program, dict(own or {})))
        return program

    def sources(self) -> Iterator[str]:
        for what, program, _ in self.programs:
            yield f"# -- {what}\n\n{program.source}"

    def workspace_bytes(self, sizes: Sizes) -> int:
        """Return the memory that the programs keep, the largest symbolic sizes assumed."""
        return sum(p.workspace_bytes({**sizes, **{s: value(n, sizes) for s, n in own.items()}})
                   for _, p, own in self.programs)

    @abstractmethod
    def bind(self, sizes: Sizes) -> Evaluation:
        """Return the evaluation of the node for one set of sizes."""


class Chunks(Held):
    """A `chunked` node: only one chunk's temporaries exist at a time."""

    def __init__(self, node: Node, build: Callable[[Graph], Any], xp: Any = np):
        super().__init__(node, build, xp)
        p = node.params
        largest = {p["dim"].symbol: p["size"], **{d.symbol: n for d, n in p["packed"]}}
        self._program = self.add("on each chunk", p["graph"], largest)

    def bind(self, sizes: Sizes) -> Evaluation:
        total = value(self.node.params["total"], sizes)
        known = None if self.node.params["packed"] else self._chunks(sizes, total, ())
        return partial(self._run, known, sizes, total, _empty(self.node, sizes))

    def _chunks(self, sizes: Sizes, total: int, counts: Sequence[Any]) -> list[tuple[list, list, dict[Symbol, int]]]:
        """Return, per chunk, the part of each operand and of each result, and the symbolic sizes."""
        p = self.node.params

        def parts(span: Span, nodes: Sequence[Node], axes: Sequence[int | None]) -> list[tuple[slice, ...] | None]:
            return [None if axis is None else (slice(None),) * axis + (section_of(span, n.shape[axis], sizes),)
                    for n, axis in zip(nodes, axes, strict=True)]

        return [(parts(span, p["graph"].inputs, p["in_axes"]), parts(span, p["graph"].outputs, p["out_axes"]),
                 {**sizes, **sizes_of(span)}) for span in chunk_spans(total, p, counts)]

    def _run(self, known: list | None, sizes: Sizes, total: int, types: list, *xs: np.ndarray
             ) -> tuple[np.ndarray, ...]:
        out_axes, packed = self.node.params["out_axes"], self.node.params["packed"]
        chunks = known if known is not None else self._chunks(sizes, total, xs[:len(packed)])
        results: list[Any] = [None if axis is None else self.xp.empty(t[0], dtype=t[1])
                              for t, axis in zip(types, out_axes, strict=True)]
        sums = {i: Chains(self._add) for i, axis in enumerate(out_axes) if axis is None}
        wide = [None if accumulator(dtype) == dtype else accumulator(dtype) for _, dtype in types]
        for n, (cuts, places, own_sizes) in enumerate(chunks, 1):
            own = [x if cut is None else x[cut] for x, cut in zip(xs, cuts, strict=True)]
            for i, (made, place) in enumerate(zip(self._program(own, own_sizes), places, strict=True)):
                if place is not None:
                    results[i][place] = made
                elif results[i] is None:
                    results[i] = made if wide[i] is None else made.astype(wide[i])
                else:
                    self.xp.add(results[i], made, out=results[i])
            if n % RUN == 0 or n == len(chunks):  # the end of a chain
                for i, chains in sums.items():
                    chains.take(results[i])
                    results[i] = None
        for i, chains in sums.items():
            whole, (shape, dtype) = chains.total(), types[i]
            results[i] = self.xp.zeros(shape, dtype=dtype) if whole is None else whole.astype(dtype, copy=False)
        return tuple(results)

    def _add(self, total: Any, x: Any) -> Any:
        return self.xp.add(total, x, out=total)


class Scan(Held):
    """A `scan` node: one call of the step's program per step."""

    def __init__(self, node: Node, build: Callable[[Graph], Any], xp: Any = np):
        super().__init__(node, build, xp)
        self._roles = signature(node)
        self._program = self.add("at each step", node.params["body"])

    def bind(self, sizes: Sizes) -> Evaluation:
        return partial(self._run, sizes, value(self.node.params["length"], sizes), _empty(self.node, sizes))

    def _run(self, sizes: Sizes, length: int, types: list, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        roles = self._roles
        shared, carry, slices = roles.split(xs)
        stacked = [self.xp.empty(t[0], dtype=t[1]) for t in roles.ends(types)[1]]
        program = self._program
        for t in range(length - 1, -1, -1) if self.node.params["reverse"] else range(length):
            out = program((*shared, *carry, *[x[t, ...] for x in slices]), sizes)
            carry, made = roles.ends(out)
            for s, y in zip(stacked, made, strict=True):
                s[t] = y
        return (*carry, *stacked)


class While(Held):
    """A `while` node: the test's program and the body's, in turn."""

    def __init__(self, node: Node, build: Callable[[Graph], Any], xp: Any = np):
        super().__init__(node, build, xp)
        self._test = self.add("as long as", node.params["test"])
        self._body = self.add("do", node.params["body"])

    def bind(self, sizes: Sizes) -> Evaluation:
        return partial(self._run, sizes)

    def _run(self, sizes: Sizes, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        shared, state = xs[:self.node.params["count"]], xs[self.node.params["count"]:]
        while self._test((*shared, *state), sizes)[0]:
            state = self._body((*shared, *state), sizes)
        return tuple(state)


class Switch(Held):
    """A `switch` node: the branch taken, or each branch once, on the examples that take it."""

    def __init__(self, node: Node, build: Callable[[Graph], Any], xp: Any = np):
        super().__init__(node, build, xp)
        p = node.params
        self._branches = []
        for graph in p["graphs"]:
            if node.inputs[0].ndim == 0:
                self._branches.append((self.add("one branch", graph), None))
                continue
            body, n = rows_graph(graph, p["rows"], p["sums"])
            program = self.add("on the examples that take this branch", passes.run(body)[0],
                               {n.symbol: node.inputs[0].type.size})
            self._branches.append((program, n.symbol))

    def bind(self, sizes: Sizes) -> Evaluation:
        return partial(self._one if self.node.inputs[0].ndim == 0 else self._each, sizes, _empty(self.node, sizes))

    def _one(self, sizes: Sizes, types: list, index: np.ndarray, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        program, _ = self._branches[min(max(int(index), 0), len(self._branches) - 1)]
        return tuple(program(xs, sizes))

    def _each(self, sizes: Sizes, types: list, index: np.ndarray, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, sums = self.node.params["rows"], self.node.params["sums"]
        out = [(self.xp.zeros if s else self.xp.empty)(t[0], dtype=t[1]) for t, s in zip(types, sums, strict=True)]
        for i, (program, n) in enumerate(self._branches):
            at = self.xp.nonzero(taken(self.xp, index, i, len(self._branches)))
            if not len(at[0]):
                continue
            results = program([x[at] if r else x for x, r in zip(xs, rows, strict=True)], {**sizes, n: len(at[0])})
            for o, result, s in zip(out, results, sums, strict=True):
                if s:
                    self.xp.add(o, result, out=o)
                else:
                    o[at] = result
        return tuple(out)


KINDS: dict[Primitive, type[Held]] = {chunked: Chunks, scan: Scan, while_: While, switch: Switch}

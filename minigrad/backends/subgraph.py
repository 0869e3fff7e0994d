"""Programs of the graphs that nodes hold: chunks of a batch, steps of a scan or a loop, branches of a switch.

Each kind of node has a class. An instance has a program per held graph; bound to a set of sizes, it is an evaluation of
the node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import passes
from ..budgets import Budget
from ..errors import printable
from ..graph import Graph, Node, held_graphs
from ..interpreters import specialise
from ..ops.accumulators import RUN, Chains, accumulator, waiting
from ..ops.branches import rows_graph, switch, taken
from ..ops.control import chunked, section_of
from ..ops.cuts import Limit, Span, by_memory, by_number, sizes_of, spans_between, symbol_of
from ..ops.loops import scan, while_
from ..ops.packed_scan import kept_bytes, packed_scan
from ..ops.packed_scan import run as run_packed
from ..ops.subgraph import part, signature
from ..ops.tree_scan import level_of, tree_scan
from ..ops.tree_scan import run as run_trees
from ..primitive import PART, ArrayNamespace, Primitive
from ..symbolic import Dim, Symbol, size_of, value
from .protocol import Executable

Sizes = Mapping[Symbol, int]
Build = Callable[[Graph], Executable]
Evaluation = Callable[..., tuple[np.ndarray, ...]]
ArraySpec = tuple[tuple[int, ...], np.dtype]  # shape and dtype
Section = tuple[slice, ...] | None  # the part of an array that one chunk takes; None: all of it
Chunk = tuple[list[Section], list[Section], dict[Symbol, int]]  # parts of the operands and results, and the sizes


def array_specs(node: Node, sizes: Sizes) -> list[ArraySpec]:
    """Return the shape and dtype of each result of a node."""
    return [(tuple(value(n, sizes) for n in t.shape), t.dtype) for t in node.types]


class NodePrograms(ABC):
    """The programs of one node.

    Attributes
    ----------
    xp : namespace
        The library of the arrays that the programs take and return.
    programs : list of (str, Executable, dict)
        The title of each in the source; the program; and its own symbolic sizes, beside those around the node, each
        with its largest value.
    """

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        self.node, self.xp = node, xp
        self.programs: list[tuple[str, Executable, dict[Symbol, int | Dim]]] = []
        self._build = build

    def add(self, title: str, graph: Graph, own: Mapping[Symbol, int | Dim] | None = None) -> Executable:
        """Build and return the program of a held graph."""
        program = self._build(graph)
        self.programs.append((f"{title}: {printable(graph.name)}", program, dict(own or {})))
        return program

    def sources(self) -> Iterator[str]:
        """Yield the text of each program."""
        for title, program, _ in self.programs:
            yield f"# -- {title}\n\n{program.source}"

    def workspace_bytes(self, sizes: Sizes) -> int:
        """Return the bytes that the programs keep, for the largest own sizes."""
        return sum(p.workspace_bytes({**sizes, **{s: value(n, sizes) for s, n in own.items()}})
                   for _, p, own in self.programs)

    def passing_bytes(self, sizes: Sizes) -> int:
        """Return the bytes that an evaluation needs at its peak beside its results and the bytes that it keeps."""
        known = [(p, {**sizes, **{s: value(n, sizes) for s, n in own.items()}}) for _, p, own in self.programs]
        return max(p.memory(own) - p.workspace_bytes(own) for p, own in known)

    @abstractmethod
    def bind(self, sizes: Sizes) -> Evaluation:
        """Return the evaluation of the node for one set of sizes."""


def has_budget(node: Node) -> bool:
    """Return whether a node runs passes within a budget of memory."""
    return node.prim is chunked and isinstance(node.params["size"], Budget)


def budgets_in(graph: Graph) -> dict[Budget, int]:
    """Return the budgets of a graph's loops, and of the graphs within, each with the number of its loops."""
    count: dict[Budget, int] = {}
    for n in graph.holders:
        if isinstance(size := n.params.get("size"), Budget):
            count[size] = count.get(size, 0) + 1
        for _, held in held_graphs(n):
            for budget, loops in budgets_in(held).items():
                count[budget] = count.get(budget, 0) + loops
    return count


def is_new(node: Node, outputs: Sequence[Node]) -> bool:
    """Return whether an output is new memory of passes, which the caller gets as it is."""
    return node.prim.view is PART and node.inputs[0].prim is chunked and outputs.count(node) == 1


def has_two_sizes(node: Node) -> bool:
    """Return whether a node runs passes of one length, but for the last one."""
    return node.prim is chunked and not node.params["packed"]


class Chunks(NodePrograms):
    """A `chunked` node: only one chunk's temporaries exist at a time."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        self._program = self.add("on each chunk", node.params["graph"])

    def bind(self, sizes: Sizes) -> Evaluation:
        total = value(self.node.params["total"], sizes)
        known = None if self.node.params["packed"] else self._chunks(sizes, total, ())
        return partial(self._run, known, sizes, total, array_specs(self.node, sizes))

    # -- memory ------------------------------------------------------------------------------------------------

    def workspace_bytes(self, sizes: Sizes) -> int:
        """Return the bytes that passes keep: those of the largest one."""
        size = self._length(sizes)
        return self._program.workspace_bytes(self._largest(sizes, size)) if size else self._left(sizes)

    def passing_bytes(self, sizes: Sizes) -> int:
        size = self._length(sizes)
        if not size:
            return 0
        largest = self._largest(sizes, size)
        inside = self._pass_bytes(largest) - self._program.workspace_bytes(largest)
        passes = -(-value(self.node.params["total"], sizes) // size)
        sums = self._sum_bytes(sizes)
        return inside - min(sums, inside) if passes == 1 else inside + sums * waiting(passes)

    def _length(self, sizes: Sizes) -> int:
        """Return the number of examples of a pass; 0 if it differs from pass to pass, or there are no bytes for any."""
        p = self.node.params
        total = value(p["total"], sizes)
        if isinstance(p["size"], int):
            return p["size"]
        if not (left := self._left(sizes)):
            if sizes.get(p["size"], 0) < 0 and not p["packed"]:  # the rest of the program takes more than all of it
                self._edges(sizes, total, ())
            return 0
        if self._pass_bytes(self._largest(sizes, total)) <= left:
            return total
        return 0 if p["packed"] else self._edges(sizes, total, ())[1]

    def _largest(self, sizes: Sizes, size: int) -> dict[Symbol, int]:
        """Return the sizes of the largest pass of `size` examples: any may have all rows, unless `sizes` tells more."""
        p = self.node.params
        rows = {symbol_of(d): value(n, sizes) for d, n in p["packed"]}
        return {**rows, **sizes, symbol_of(p["dim"]): min(size, value(p["total"], sizes))}

    def _left(self, sizes: Sizes) -> int:
        """Return the bytes of a budget that passes may take."""
        budget: Budget = self.node.params["size"]
        return max(int(sizes.get(budget, budget.nbytes)), 0)

    def _sum_bytes(self, sizes: Sizes) -> int:
        """Return the bytes of the sums over all passes."""
        types = zip(self.node.types, self.node.params["out_axes"], strict=True)
        return sum(value(size_of(t.shape), sizes) * accumulator(t.dtype).itemsize for t, axis in types if axis is None)

    def _pass_bytes(self, sizes: Sizes) -> int:
        """Return the bytes that one pass needs at its peak, with copies of sections that are not contiguous."""
        p = self.node.params
        body: Graph = p["graph"]
        copies = sum(value(size_of(n.shape), sizes) * n.dtype.itemsize
                     for n, axis in zip(body.inputs, p["in_axes"], strict=True) if axis)
        return self._program.memory(sizes) + copies

    # -- passes ------------------------------------------------------------------------------------------------

    def _edges(self, sizes: Sizes, total: int, counts: Sequence[np.ndarray]) -> list[int]:
        """Return the first example of each pass, and the number of examples."""
        p = self.node.params
        if isinstance(p["size"], int):
            return by_number(total, p["size"])
        nbytes = p["size"].nbytes
        limit = Limit(nbytes, int(sizes.get(p["size"], nbytes)), self._sum_bytes(sizes))
        return by_memory(total, p, counts, limit, lambda own: self._pass_bytes({**sizes, **own}),
                         f"microbatch({p['graph'].name})")

    def _chunks(self, sizes: Sizes, total: int, counts: Sequence[np.ndarray]) -> list[Chunk]:
        p = self.node.params

        def section(span: Span, n: Node, axis: int | None) -> Section:
            if axis is None:
                return None
            length = n.shape[axis]
            assert isinstance(length, Dim), n
            return (slice(None),) * axis + (section_of(span, length, sizes),)

        def sections(span: Span, nodes: Sequence[Node], axes: Sequence[int | None]) -> list[Section]:
            return [section(span, n, axis) for n, axis in zip(nodes, axes, strict=True)]

        return [(sections(span, p["graph"].inputs, p["in_axes"]), sections(span, p["graph"].outputs, p["out_axes"]),
                 {**sizes, **sizes_of(span)}) for span in spans_between(self._edges(sizes, total, counts), p, counts)]

    def _run(self, known: list[Chunk] | None, sizes: Sizes, total: int, specs: list[ArraySpec], *xs: np.ndarray
             ) -> tuple[np.ndarray, ...]:
        out_axes, packed = self.node.params["out_axes"], self.node.params["packed"]
        chunks = known if known is not None else self._chunks(sizes, total, xs[:len(packed)])
        results: list[Any] = [None if axis is None else self.xp.empty(shape, dtype=dtype)
                              for (shape, dtype), axis in zip(specs, out_axes, strict=True)]
        sums = {i: Chains(self._add) for i, axis in enumerate(out_axes) if axis is None}
        wide = [None if accumulator(dtype) == dtype else accumulator(dtype) for _, dtype in specs]
        for n, (sections, places, own_sizes) in enumerate(chunks, 1):
            own = [x if part is None else x[part] for x, part in zip(xs, sections, strict=True)]
            for i, (result, place) in enumerate(zip(self._program(own, own_sizes), places, strict=True)):
                if place is not None:
                    results[i][place] = result
                elif results[i] is None:
                    results[i] = result if wide[i] is None else result.astype(wide[i])
                else:
                    self.xp.add(results[i], result, out=results[i])
                del result  # before the next pass
            if n % RUN == 0 or n == len(chunks):  # the end of a chain
                for i, chains in sums.items():
                    chains.take(results[i])
                    results[i] = None
        for i, chains in sums.items():
            whole, (shape, dtype) = chains.total(), specs[i]
            results[i] = self.xp.zeros(shape, dtype=dtype) if whole is None else whole.astype(dtype, copy=False)
        return tuple(results)

    def _add(self, total: np.ndarray, x: np.ndarray) -> np.ndarray:
        total = self.xp.add(total, x, out=total)
        return total


class Scan(NodePrograms):
    """A `scan` node: one call of the step's program per step."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        self._roles = signature(node)
        self._program = self.add("at each step", node.params["body"])

    def bind(self, sizes: Sizes) -> Evaluation:
        return partial(self._run, sizes, value(self.node.params["length"], sizes), array_specs(self.node, sizes))

    def _run(self, sizes: Sizes, length: int, specs: list[ArraySpec], *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        roles = self._roles
        shared, carry, slices = roles.split(xs)
        stacked = [self.xp.empty(shape, dtype=dtype) for shape, dtype in roles.ends(specs)[1]]
        program = self._program
        for t in range(length - 1, -1, -1) if self.node.params["reverse"] else range(length):
            out = program((*shared, *carry, *[x[t, ...] for x in slices]), sizes)
            carry, slices_of_results = roles.ends(out)
            for s, y in zip(stacked, slices_of_results, strict=True):
                s[t] = y
        return (*carry, *stacked)


class PackedScan(NodePrograms):
    """A `packed_scan` node: one call of the step's program per step, on the examples that still run."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        own = {n.symbol: whole for n, whole, _ in node.params["packed"]}
        self._program = self.add("at each step", node.params["body"], own)

    def passing_bytes(self, sizes: Sizes) -> int:
        return super().passing_bytes(sizes) + kept_bytes(self.node, sizes)

    def bind(self, sizes: Sizes) -> Evaluation:
        p = self.node.params
        body = specialise(p["body"], sizes)
        shapes = [shape for shape, _ in array_specs(self.node, sizes)]
        return partial(run_packed, self.xp, partial(self._call, sizes), shapes, body=body, counts=p["counts"],
                       packed=p["packed"], reverse=p["reverse"], once=p["once"])

    def _call(self, sizes: Sizes, operands: Sequence[np.ndarray], own: Sizes, examples: np.ndarray
              ) -> Sequence[np.ndarray]:
        with part(self.node.params["packed"][0][0], examples):
            return self._program(operands, {**sizes, **own})


class Trees(NodePrograms):
    """A `tree_scan` node: one call of a level's program per level."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        p, total = node.params, node.inputs[0].shape[0]
        self._level, self._names = level_of(p["graph"], p["dim"], p["counts"], p["outs"], p["reverse"])
        self._program = self.add("on each level", passes.run(self._level)[0],
                                 dict.fromkeys(self._names.values(), total))

    def bind(self, sizes: Sizes) -> Evaluation:
        p = self.node.params
        return partial(run_trees, self.xp, partial(self._call, sizes), array_specs(self.node, sizes),
                       counts=p["counts"], outs=p["outs"], reverse=p["reverse"])

    def _call(self, sizes: Sizes, operands: Sequence[np.ndarray], own: Mapping[str, int]) -> Sequence[np.ndarray]:
        return self._program(operands, {**sizes, **{self._names[k]: n for k, n in own.items()}})


class While(NodePrograms):
    """A `while` node: the programs of the test and of the body, in turn."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        self._count: int = node.params["count"]
        self._test = self.add("as long as", node.params["test"])
        self._body = self.add("do", node.params["body"])

    def bind(self, sizes: Sizes) -> Evaluation:
        return partial(self._run, sizes)

    def _run(self, sizes: Sizes, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        shared, state = xs[:self._count], xs[self._count:]
        while self._test((*shared, *state), sizes)[0]:
            state = tuple(self._body((*shared, *state), sizes))
        return state


class Switch(NodePrograms):
    """A `switch` node: the chosen branch, or each branch on its examples."""

    def __init__(self, node: Node, build: Build, xp: ArrayNamespace = np):
        super().__init__(node, build, xp)
        p, index = node.params, node.inputs[0]
        self._branches: list[Executable] = []
        self._counts: list[Symbol] = []  # the number of examples of each branch
        for graph in p["graphs"]:
            if index.ndim == 0:
                self._branches.append(self.add("one branch", graph))
                continue
            body, n = rows_graph(graph, p["rows"], p["sums"])
            (count,) = n.symbols
            self._counts.append(count)
            self._branches.append(self.add("on the examples that take this branch", passes.run(body)[0],
                                           {count: size_of(index.shape)}))

    def bind(self, sizes: Sizes) -> Evaluation:
        if not self._counts:
            return partial(self._one, sizes)
        return partial(self._each, sizes, array_specs(self.node, sizes))

    def _one(self, sizes: Sizes, index: np.ndarray, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        program = self._branches[min(max(int(index), 0), len(self._branches) - 1)]
        return tuple(program(xs, sizes))

    def _each(self, sizes: Sizes, specs: list[ArraySpec], index: np.ndarray, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, sums = self.node.params["rows"], self.node.params["sums"]
        out = [(self.xp.zeros if s else self.xp.empty)(shape, dtype=dtype)
               for (shape, dtype), s in zip(specs, sums, strict=True)]
        for i, (program, count) in enumerate(zip(self._branches, self._counts, strict=True)):
            own = self.xp.nonzero(taken(self.xp, index, i, len(self._branches)))
            n = len(own[0])
            if not n:
                continue
            results = program([x[own] if r else x for x, r in zip(xs, rows, strict=True)], {**sizes, count: n})
            for o, result, s in zip(out, results, sums, strict=True):
                if s:
                    self.xp.add(o, result, out=o)
                else:
                    o[own] = result
        return tuple(out)


KINDS: dict[Primitive, type[NodePrograms]] = {
    chunked: Chunks, scan: Scan, packed_scan: PackedScan, tree_scan: Trees, while_: While, switch: Switch}

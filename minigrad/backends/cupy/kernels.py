"""Launches, and the parts that all generated kernels share.

A launch takes roots: values that it writes to memory (stores), reductions over the rows (terminals), and reductions
within a row. A sweep (`elementwise_kernels`) visits every element of one shape once, and its reductions end it. `Rows`
assigns a team of threads, which work in one loop after the other, to each place that reductions within rows keep.

A terminal's partial results, one per block, are combined in a fixed order by the block that finishes last (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from ...combiners import ADD, combiner_of
from ...graph import Node
from ...ops.accumulators import RUN
from ...ops.constants import const
from ...symbolic import Dim, Symbol, size_of, value
from . import cuda_expr
from .codegen import Cell, Index, KernelWriter, Key, Memory, Param, Slot

THREADS = 256
_UNHINTED = 256  # the value of a symbolic size without a hint, in shapes of launches
WIDEST = 16384  # blocks of a launch
REDUCING = 1024  # blocks of a launch that has terminals
_FEW, _LONG = 256, 16384  # rows, and elements of each, where blocks share a row
_UNROLLED = 4  # elements that a thread loads before it needs the first
Sizes: TypeAlias = Mapping[Symbol, int]
Count: TypeAlias = Callable[[Sizes], int]  # a number that depends on the sizes of a run
Numbers: TypeAlias = Callable[[Sizes], dict[Key | str, int]]


@dataclass(frozen=True)
class Root:
    """A node that a launch computes, and whether it writes the value to memory; a `known` value is only copied."""

    node: Node
    stored: bool
    known: bool = False

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that a reduction reduces over."""
        p = self.node.params
        if self.known:
            return ()
        return p["axes"] if self.node.prim.kind == "reduce" else (p["axis"],) if finds_position(self.node) else ()

    @property
    def terminal(self) -> bool:
        return not self.known and self.node.prim.kind == "reduce" and 0 in self.reduced

    @property
    def within(self) -> bool:
        """Whether it is a reduction within a row."""
        return bool(self.reduced) and not self.terminal


@dataclass(kw_only=True)
class Op:
    """An operation of a launch plan.

    Attributes
    ----------
    simple : bool
        Whether it is a launch whose blocks are independent, so that it may share one.
    slots, slots_made : frozenset of int
        The slots of the table that it reads or writes, and those that it writes.
    """

    simple: bool = False
    slots: frozenset[int] = frozenset()
    slots_made: frozenset[int] = frozenset()

    @property
    def touched(self) -> list[Key]:
        """The values of the arena and the constants that it reads or writes."""
        raise NotImplementedError

    @property
    def made(self) -> set[Key]:
        """The values of the arena that it writes."""
        return set(self.touched)

    @property
    def needs(self) -> set[Key]:
        """The values of the arena that it reads."""
        return set(filter(in_arena, self.touched)) - self.made


@dataclass
class Launch(Op):
    """A kernel with its arguments.

    Attributes
    ----------
    body : str
        The parameters and statements; the name comes before.
    params : list of Param
    writes : dict of Key to Node
        The values that it makes, by the keys of their memory.
    numbers : callable
        For some sizes: the number of ``blocks``, the bytes of ``partial`` results and of the ``counter`` of finished
        blocks, and numbers for the other parameters of kind ``own``. A run's sizes may be smaller: a kernel takes the
        symbols that the table holds from there.
    """

    body: str
    params: list[Param]
    writes: dict[Key, Node]
    numbers: Numbers
    nodes: list[Node] = field(default_factory=list)
    name: str = ""

    @property
    def touched(self) -> list[Key]:
        return [key for key, _ in self._keys()]

    @property
    def made(self) -> set[Key]:
        return {key for key, text in self._keys() if not text.startswith("const ")}

    def _keys(self) -> list[tuple[Key, str]]:
        return [(p.content, p.text) for p in self.params if p.kind == "key" and isinstance(p.content, (Node, tuple))]


def in_arena(key: Key) -> bool:
    """Return whether a key's memory belongs to the arena; constants have memory of their own."""
    return isinstance(key, tuple) or key.prim is not const


def finds_position(node: Node) -> bool:
    """Return whether a node reduces to the position of an element."""
    return node.prim.combiner is not None and node.prim.combiner.position


def stoppable(launch: Launch) -> Launch:
    """Return a launch whose kernel returns at once after the end of the loop around it."""
    stop = Param("stop", "", "stop", "const u64* __restrict__ stop")
    head, _, statements = launch.body.partition(") {")
    body = f"{head}{', ' * bool(launch.params)}{stop.text}) {{\n    if (*stop) return;{statements}"
    return replace(launch, body=body, params=[*launch.params, stop])


def few_and_long(node: Node) -> bool:
    """Return whether a reduction has few and long rows, so that several blocks must share a row."""
    n = typical(size_of(node.shape))
    return n <= _FEW and typical(size_of(node.inputs[0].shape)) >= n * _LONG


def typical(n: int | Dim) -> int:
    """Return a size, or an estimate of it."""
    return n if isinstance(n, int) else n.hint or _UNHINTED


def power_of_two(n: int | Dim, most: int) -> int:
    """Return the smallest power of two that is at least `n`, or at least its estimate, up to a power of two."""
    return min(1 << max(typical(n) - 1, 0).bit_length(), most)


def accumulator(node: Node) -> tuple[str, str]:
    """Return the C type of a reduction's accumulator, and its first value."""
    by, dtype = combiner_of(node), node.inputs[0].dtype
    kind = cuda_expr.accumulated(dtype)
    first = f"({kind}){cuda_expr.identity(by, dtype)}"
    if by.position:  # worse than every element, and behind them
        kind, first = f"At<{kind}>", f"{{{first}, 0x7fffffffffffffffLL}}"
    return f"Acc<{by.functor}, {kind}>", f"{{{first}}}"


def chained(node: Node) -> bool:
    """Return whether a reduction adds in chains."""
    return node.prim.combiner is ADD and node.inputs[0].dtype.kind == "f"


def finished(node: Node, name: str) -> str:
    """Return a reduction's result, given the name of its accumulator."""
    return f"{name}.v.at" if finds_position(node) else cuda_expr.cast(f"({name}.v)", node.dtype)


def blocks_for(total: int, each: int = THREADS, most: int = WIDEST) -> int:
    """Return the number of blocks that work on `total` items, `each` per block."""
    return max(min(-(-total // each), most), 1)


class Kernel(KernelWriter):
    """A kernel that writes results; `target` is the memory of a result that is written elsewhere."""

    def __init__(self, memory: Memory, target: Key | None = None):
        super().__init__(memory)
        self.destination = target
        self.roots: list[Root] = []
        self.terminals: list[tuple[Node, str]] = []  # and the name of the accumulator
        self.writes: dict[Key, Node] = {}

    def own(self, name: str, ctype: str = "const I") -> str:
        """Return a parameter whose argument the launch provides."""
        return self.param("own", name, ctype, name)

    def grid_loop(self, total: str) -> AbstractContextManager[None]:
        """Open a loop over `total` items, one per thread."""
        self.emit(f"const I total = {total};")
        step = f"gridDim.x * {THREADS}"
        return self.scope(f"for (I t = blockIdx.x * {THREADS} + threadIdx.x; t < total; t += {step})", ["t"])

    def result(self, node: Node) -> str:
        """Return the name of the pointer to the memory that the launch writes a node to."""
        self.writes[self.destination or node] = node
        return self.pointer(self.destination or ("to", node), node.dtype, write=True)

    def write(self, node: Node, idx: Index, text: str) -> None:
        pointer = self.result(node)
        self.emit(cuda_expr.store(self.target(pointer, self.linear(idx, node.shape), node.dtype), text, node.dtype))

    def target(self, pointer: str, offset: str, dtype: np.dtype) -> str:
        """Return the place that an element is written to."""
        return f"{pointer}[{offset}]"

    def collect(self, node: Node, acc: str, idx: Index) -> None:
        """Write the statement that adds one element to a reduction."""
        x = self.value(node.inputs[0], idx)
        self.emit(f"{acc}.take({{{x}, (i64){idx[node.params['axis']]}}});" if finds_position(node) else
                  f"{acc}.take({x});")

    def begin(self, node: Node, level: int) -> str:
        """Declare the accumulator of a reduction."""
        kind, first = accumulator(node)
        return self.declare(kind, "a", first, level)

    @contextmanager
    def rounds(self, counter: str, start: str, end: str, step: str, sums: Sequence[str],
               most: int = RUN) -> Iterator[None]:
        """Write into a loop; the accumulators `sums` add up in chains, which end after `most` turns."""
        head = f"for (I {counter} = {start}; {counter} < {end};"
        if not sums:
            with self.scope(f"{head} {counter} += {step})", [counter]):
                yield
            return
        with self.scope(f"{head} {', '.join(f'{a}.fold()' for a in sums)})", [counter]):
            self.emit(f"const int turns = turns_of<{most}>({end} - {counter}, {step});")
            lines = self.scopes[-1].lines
            begin = len(lines)
            with self.scope(f"for (int turn = 0; turn < turns; turn++, {counter} += {step})", [counter]):
                yield
            # No load moves ahead of a branch, so unrolling over branches would only take registers.
            branches = any(line.lstrip().startswith("if (") for line in lines[begin:])
            lines.insert(begin, f"#pragma unroll {1 if branches else _UNROLLED * most // RUN}")

    def _finish(self, width: int, part: str, parts: str, group: str, column: str, columns: str) -> None:
        """Write the end of a kernel with terminals: partial results, and their combination by the last block."""
        partial, counter = self.own("partial", "char*"), self.own("counter", "unsigned*")
        accs = ", ".join(acc for _, acc in self.terminals)
        with self.scope(f"if (finish<{width}>({partial}, {counter} + {group}, {part}, {parts}, {column}, {columns}, "
                        f"{accs}) && threadIdx.x < {width} && {column} < {columns})"):
            for node, acc in self.terminals:
                self.emit(cuda_expr.store(f"{self.result(node)}[{column}]", finished(node, acc), node.dtype))

    def by_parts(self, rows: int | Dim, each: int, columns: int | Dim | None = None, width: int = 1) -> Launch:
        """Return the launch of a kernel that gives parts of the rows to its blocks, `each` rows at a time.

        If there are `columns`, a block has `width` of them side by side.
        """
        cells = sum(16 if finds_position(node) else 8 for node, _ in self.terminals)  # bytes
        if cells:
            self._finish(width, *(("blockIdx.x", "gridDim.x", "0", "0", "1") if columns is None else
                                  ("part", self.own("parts"), "group", "column", "columns")))

        def numbers(sizes: Sizes) -> dict[Key | str, int]:
            n = 1 if columns is None else value(columns, sizes)
            groups = max(-(-n // width), 1)
            parts = blocks_for(value(rows, sizes), each, (REDUCING if cells else WIDEST) // groups)
            return {"blocks": parts * groups, "parts": parts, "partial": cells * parts * n,
                    "counter": 4 * groups if cells else 0}

        return self.launch(numbers)

    def launch(self, numbers: Numbers) -> Launch:
        """Return the launch of the kernel."""
        params = list(self.params.values())
        head = f"({', '.join(p.text for p in params)})"
        table = sorted(self.table.items(), key=lambda item: isinstance(item[0], Cell))
        lines = [text + ";" for _, (_, text) in table] + self.scopes[0].lines
        body = "\n".join([f"{head} {{", *("    " + line for line in lines), "}"])
        slots = {place.number: text for place, (_, text) in table if isinstance(place, Slot)}
        return Launch(body, params, self.writes, numbers, nodes=[r.node for r in self.roots], slots=frozenset(slots),
                      slots_made=frozenset(k for k, text in slots.items() if not text.startswith("const ")))

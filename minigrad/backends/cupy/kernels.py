"""Launches, and what their kernels are written with.

A launch takes roots: values that it writes to memory (stores), reductions over the rows (terminals), and reductions
within a row. A sweep (`elementwise_kernels`) visits every element of one shape once, and its reductions end it. `Rows`
has a team of threads for each place that reductions within rows keep, which works in one loop after the other.

A terminal's partial results, one per block, are combined in a fixed order by the block that finishes last (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ...combiners import ADD
from ...graph import Node
from ...ops.accumulators import RUN
from ...ops.constants import const
from ...symbolic import Dim, Symbol, size_of
from . import cuda_expr
from .codegen import Index, KernelWriter, Key, Param

THREADS = 256
_TYPICAL = 256  # what a symbolic size counts as, where the example at hand does not tell
WIDEST = 16384  # blocks of a launch
REDUCING = 1024  # of one that has terminals
_FEW, _LONG = 256, 16384  # rows, and elements of each, where blocks share a row
_UNROLLED = 4  # elements that a thread loads before it needs the first
Sizes = Mapping[Symbol, int]


@dataclass(frozen=True)
class Root:
    """A node that a launch must compute, and whether its value is written to memory; `known` if it only is copied."""

    node: Node
    stored: bool
    known: bool = False

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that it reduces over; none where it is no reduction."""
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


@dataclass
class Launch:
    """A kernel with what it takes to launch it.

    Attributes
    ----------
    body : str
        Its parameters and statements; the name comes before.
    params : list of Param
    writes : list of Key
        The values that it makes.
    blocks : callable
        The number of blocks, for some sizes. The symbols that the table holds may be smaller in a run than they are
        here, and in all that follows: a kernel takes the sizes of its run from the table.
    partials, counters : callable
        Bytes for partial results, and for counters of finished blocks.
    arguments : callable
        Numbers for the parameters of kind ``own``.
    simple : bool
        Whether its blocks know nothing of each other, so that it may share a launch.
    slots, slots_made : frozenset of int
        Of the table: what it reads or writes, and what it writes.
    """

    body: str
    params: list[Any]
    writes: list[Key]
    blocks: Callable[[Sizes], int]
    partials: Callable[[Sizes], int] = lambda sizes: 0
    counters: Callable[[Sizes], int] = lambda sizes: 0
    arguments: Callable[[Sizes], dict[str, int]] = lambda sizes: {}
    nodes: list[Node] = field(default_factory=list)
    simple: bool = False
    name: str = ""
    slots: frozenset[int] = frozenset()
    slots_made: frozenset[int] = frozenset()

    @property
    def touched(self) -> list[Key]:
        """What it reads or writes in the arena, and the constants that it reads."""
        return [p.what for p in self.params if p.kind == "key"]

    @property
    def made(self) -> set[Key]:
        """What it writes in the arena."""
        return {p.what for p in self.params if p.kind == "key" and not p.text.startswith("const ")}

    @property
    def needs(self) -> set[Key]:
        """What it reads in the arena."""
        return set(filter(in_arena, self.touched)) - self.made


def in_arena(key: Key) -> bool:
    """Tell whether a key's memory belongs to the arena; constants have memory of their own."""
    return isinstance(key, tuple) or key.prim is not const


def finds_position(node: Node) -> bool:
    """Tell whether a node is a reduction to the position of an element."""
    return node.prim.combiner is not None and node.prim.combiner.position


def stoppable(launch: Launch) -> Launch:
    """Return a launch whose kernel returns at once where the loop around it has ended."""
    stop = Param("stop", None, "stop", "const u64* __restrict__ stop")
    head, _, rest = launch.body.partition(") {")
    params = [*launch.params, stop]
    body = f"{head}{', ' * bool(launch.params)}{stop.text}) {{\n    if (*stop) return;{rest}"
    return replace(launch, body=body, params=params)


def few_and_long(node: Node) -> bool:
    """Tell whether a reduction within rows has so few rows that several blocks must work on each."""
    n = typical(size_of(node.shape))
    return n <= _FEW and typical(size_of(node.inputs[0].shape)) >= n * _LONG


def typical(n: int | Dim) -> int:
    """Return a size, or about what it will be."""
    return n if isinstance(n, int) else n.hint or _TYPICAL


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least `n`."""
    return 1 << max(n - 1, 0).bit_length()


def accumulator(node: Node) -> tuple[str, str]:
    """Return the C type that a reduction is collected in, and what an accumulator of it begins with."""
    by, dtype = node.prim.combiner, node.inputs[0].dtype
    kind = cuda_expr.accumulated(dtype)
    first = f"({kind}){cuda_expr.identity(by, dtype)}"
    if by.position:  # worse than every element, and behind them
        kind, first = f"At<{kind}>", f"{{{first}, 0x7fffffffffffffffLL}}"
    return f"Acc<{by.functor}, {kind}>", f"{{{first}}}"


def chained(node: Node) -> bool:
    """Tell whether a reduction adds up in chains."""
    return node.prim.combiner is ADD and node.inputs[0].dtype.kind == "f"


def finished(node: Node, name: str) -> str:
    """Return a reduction's result, given the name of what it was collected in."""
    if finds_position(node):
        return f"{name}.v.at"
    return f"({cuda_expr.computed(node.dtype)})({name}.v)" if node.dtype.kind != "b" else f"({name}.v != 0)"


def over(w: KernelWriter, total: str) -> Any:
    """Open the loop of a kernel over `total` things, one per thread."""
    w.emit(f"const I total = {total};")
    return w.scope(f"for (I t = blockIdx.x * {THREADS} + threadIdx.x; t < total; t += gridDim.x * {THREADS})", ["t"])


def blocks_for(total: Callable[[Sizes], int]) -> Callable[[Sizes], int]:
    """Return the blocks of a kernel with `total` threads."""
    return lambda sizes: max(min(-(-total(sizes) // THREADS), WIDEST), 1)


def split_text(w: KernelWriter, at: str, axes: Sequence[tuple[int, int | Dim]]) -> list[str]:
    """Return the statement that takes the number `at` apart into ``{at}_{axis}``."""
    if len(axes) < 2:
        return []
    parts, rest = [], at
    for k, (a, n) in reversed(list(enumerate(axes))):
        size = w.size(n)
        parts.append(f"{at}_{a} = {rest} % {size}" if k else f"{at}_{a} = {rest}")
        rest = f"({rest} / {size})"
    return [f"const I {', '.join(parts)};"]


class Kernel(KernelWriter):
    """What both kinds of launch share."""

    def __init__(self, place: Any, report: Any, slot_of: Callable[[Node], Any]):
        super().__init__(place, report)
        self.slot_of = slot_of
        self.roots: list[Root] = []
        self.terminals: list[tuple[Node, str]] = []  # and the name of the accumulator
        self.writes: list[Key] = []

    def own(self, name: str, ctype: str = "const I") -> str:
        """Return a parameter whose argument the launch provides."""
        return self.param("own", name, ctype, name)

    def write(self, node: Node, idx: Index, text: str) -> None:
        pointer = self.pointer(self.slot_of(node), node.dtype, write=True)
        self.emit(cuda_expr.store(self.target(pointer, self.linear(idx, node.shape), node.dtype), text, node.dtype))
        if node not in self.writes:
            self.writes.append(node)

    def target(self, pointer: str, offset: str, dtype: Any) -> str:
        """Return where an element is written to."""
        return f"{pointer}[{offset}]"

    def collect(self, node: Node, acc: str, idx: Index) -> None:
        """Write the statement that takes one more element into a reduction."""
        x = self.value(node.inputs[0], idx)
        self.emit(f"{acc}.take({{{x}, (i64){idx[node.params['axis']]}}});" if finds_position(node) else
                  f"{acc}.take({x});")

    def begin(self, node: Node, letter: str, level: int) -> str:
        """Declare what a reduction is collected in."""
        acc = self.name(letter)
        kind, first = accumulator(node)
        self.scopes[level].names.add(acc)
        self.emit(f"{kind} {acc}{first};", level)
        return acc

    @contextmanager
    def rounds(self, at: str, start: str, end: str, step: str, sums: Sequence[str], most: int = RUN) -> Iterator[None]:
        """Write into a loop; the accumulators `sums` add up in chains, which end after `most` turns."""
        head = f"for (I {at} = {start}; {at} < {end};"
        if not sums:
            with self.scope(f"{head} {at} += {step})", [at]):
                yield
            return
        with self.scope(f"{head} {', '.join(f'{a}.fold()' for a in sums)})", [at]):
            self.emit(f"const int turns = turns_of<{most}>({end} - {at}, {step});")
            lines = self.scopes[-1].lines
            begin = len(lines)
            with self.scope(f"for (int turn = 0; turn < turns; turn++, {at} += {step})", [at]):
                yield
            # No load moves ahead of a branch, so unrolling over branches would only take registers.
            branches = any(line.lstrip().startswith("if (") for line in lines[begin:])
            lines.insert(begin, f"#pragma unroll {1 if branches else _UNROLLED * most // RUN}")

    def finish(self, width: int, part: str, parts: str, group: str, column: str = "0", columns: str = "1") -> None:
        """Write the end of a kernel with terminals: partial results, and their combination by the last block."""
        partial, counter = self.own("partial", "char*"), self.own("counter", "unsigned*")
        accs = ", ".join(acc for _, acc in self.terminals)
        with self.scope(f"if (finish<{width}>({partial}, {counter} + {group}, {part}, {parts}, {column}, {columns}, "
                        f"{accs}) && threadIdx.x < {width} && {column} < {columns})"):
            for node, acc in self.terminals:
                pointer = self.pointer(self.slot_of(node), node.dtype, write=True)
                text = cuda_expr.rounded(finished(node, acc), node.dtype)
                self.emit(cuda_expr.store(f"{pointer}[{column}]", text, node.dtype))
                self.writes.append(node)

    def launch(self, blocks: Any, **more: Any) -> Launch:
        params = list(self.params.values())
        head = f"({', '.join(p.text for p in params)})"
        lines = [text + ";" for _, text in (*self.slots.values(), *self.cells.values())] + self.scopes[0].lines
        body = "\n".join([f"{head} {{", *("    " + line for line in lines), "}"])
        return Launch(body, params, list(self.writes), blocks, nodes=[r.node for r in self.roots],
                      slots=frozenset(self.slots), slots_made=frozenset(self.slots_written), **more)

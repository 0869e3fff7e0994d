"""Kernels: what one launch computes of a group of statements.

A launch takes roots: values that it writes to memory (stores), reductions over the rows (terminals), and reductions
within a row. `Columns` has no reduction within a row: every element of one shape is visited once, and what the
terminals keep is spread over the columns of the blocks. `Rows` has: a team of threads works on each place that the
reductions keep, in one loop after the other.

A terminal's partial results, one per block, are combined in a fixed order by the block that finishes last (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...dims import Dim, Symbol, size_of, value
from ...graph import Node
from ...ops.accumulators import RUN
from ...ops.scatter import worst
from ...passes.fuse import REDUCTIONS
from . import scalar
from .element import Element, Elsewhere, Index, Key, Scope

THREADS = 256
_TYPICAL = 256  # what a symbolic size counts as, where the example at hand does not tell
_FUNCTORS = {"sum": "Sum", "max": "Max", "min": "Min", "any": "Any", "all": "All", "argmax": "ArgMax",
             "argmin": "ArgMin"}
_WIDEST = 16384  # blocks of a launch
_REDUCING = 1024  # of one that has terminals
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
        return p["axes"] if self.node.prim.name in REDUCTIONS else (p["axis"],) if self.node.prim.name in (
            "argmax", "argmin") else ()

    @property
    def terminal(self) -> bool:
        return not self.known and self.node.prim.name in REDUCTIONS and 0 in self.reduced

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
        return {k for k in self.touched if isinstance(k, tuple) or k.prim.name != "const"} - self.made


def typical(n: int | Dim) -> int:
    """Return a size, or about what it will be."""
    return n if isinstance(n, int) else n.hint or _TYPICAL


def power(n: int) -> int:
    """Return the smallest power of two that is at least `n`."""
    return 1 << max(n - 1, 0).bit_length()


def start(node: Node) -> str:
    """Return what a reduction begins with."""
    name, dtype = node.prim.name, node.inputs[0].dtype
    if name in ("sum", "any", "all"):
        return str(int(name == "all"))
    least = name in ("max", "argmax")
    return str(int(not least)) if dtype.kind == "b" else scalar.literal(worst(dtype, least), dtype)


def accumulator(node: Node) -> tuple[str, str]:
    """Return the C type that a reduction is collected in, and what an accumulator of it begins with."""
    kind = scalar.accumulated(node.inputs[0].dtype)
    first = f"({kind}){start(node)}"
    if node.prim.name.startswith("arg"):  # worse than every element, and behind them
        kind, first = f"At<{kind}>", f"{{{first}, 0x7fffffffffffffffLL}}"
    return f"Acc<{_FUNCTORS[node.prim.name]}, {kind}>", f"{{{first}}}"


def chained(node: Node) -> bool:
    """Tell whether a reduction adds up in chains."""
    return node.prim.name == "sum" and node.inputs[0].dtype.kind == "f"


def finished(node: Node, name: str) -> str:
    """Return a reduction's result, given the name of what it was collected in."""
    if node.prim.name.startswith("arg"):
        return f"{name}.v.at"
    return f"({scalar.computed(node.dtype)})({name}.v)" if node.dtype.kind != "b" else f"({name}.v != 0)"


class _Kernel(Element):
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
        self.emit(scalar.store(pointer, self.linear(idx, node.shape), text, node.dtype))
        if node not in self.writes:
            self.writes.append(node)

    def collect(self, node: Node, acc: str, idx: Index) -> None:
        """Write the statement that takes one more element into a reduction."""
        x = self.value(node.inputs[0], idx)
        self.emit(f"{acc}.take({{{x}, (i64){idx[node.params['axis']]}}});" if "axis" in node.params else
                  f"{acc}.take({x});")

    def begin(self, node: Node, letter: str, level: int) -> str:
        """Declare what a reduction is collected in."""
        acc = self.name(letter)
        kind, first = accumulator(node)
        self.scopes[level].names.add(acc)
        self.emit(f"{kind} {acc}{first};", level)
        return acc

    def rounds(self, at: str, start: str, end: str, step: str, lines: Sequence[str], sums: Sequence[str]) -> None:
        """Write a loop whose body is `lines`; accumulators `sums` add up in chains."""
        if not sums:
            with self.scope(f"for (I {at} = {start}; {at} < {end}; {at} += {step})"):
                self.scopes[-1].lines += lines
            return
        with self.scope(f"for (I {at} = {start}; {at} < {end};)"):
            with self.scope(f"for (int run = 0; run < RUN && {at} < {end}; run++, {at} += {step})"):
                self.scopes[-1].lines += lines
            self.emit(" ".join(f"{a}.fold();" for a in sums))

    def finish(self, width: int, part: str, parts: str, group: str, column: str = "0", columns: str = "1") -> None:
        """Write the end of a kernel with terminals: partial results, and their combination by the last block."""
        partial, counter = self.own("partial", "char*"), self.own("counter", "unsigned*")
        accs = ", ".join(acc for _, acc in self.terminals)
        with self.scope(f"if (finish<{width}>({partial}, {counter} + {group}, {part}, {parts}, {column}, {columns}, "
                        f"{accs}) && threadIdx.x < {width} && {column} < {columns})"):
            for node, acc in self.terminals:
                pointer = self.pointer(self.slot_of(node), node.dtype, write=True)
                self.emit(scalar.store(pointer, column, scalar.rounded(finished(node, acc), node.dtype), node.dtype))
                self.writes.append(node)

    def launch(self, blocks: Any, **more: Any) -> Launch:
        params = list(self.params.values())
        head = f"({', '.join(p.text for p in params)})"
        lines = [text + ";" for _, text in (*self.slots.values(), *self.cells.values())] + self.scopes[0].lines
        body = "\n".join([f"{head} {{", *("    " + line for line in lines), "}"])
        return Launch(body, params, list(self.writes), blocks, nodes=[r.node for r in self.roots],
                      slots=frozenset(self.slots), slots_made=frozenset(self.slots_written), **more)


# -- every element of one shape, once ----------------------------------------------------------------------


class Columns(_Kernel):
    """Stores of one shape, and terminals over values of that shape that keep the same axes.

    The kept axes run along the columns; `width` threads of a block stand next to each other there, and the others
    take different rows.
    """

    def __init__(self, shape: Sequence[int | Dim], kept: Sequence[int], *args: Any):
        super().__init__(*args)
        self.shape, self.kept = tuple(shape), tuple(kept)
        down = tuple(a for a in range(len(self.shape)) if a not in self.kept)
        self.axes = {"column": self.kept, "row": down}
        self.columns, self.rows = (size_of(self.shape[a] for a in axes) for axes in (self.kept, down))
        self.width = 1 if not self.kept else min(power(typical(self.columns)), 32)
        if self.kept:
            parts = self.own("parts")
            self.emit(f"const I part = blockIdx.x % {parts}, group = blockIdx.x / {parts};")
            self.emit(f"const I column = group * {self.width} + threadIdx.x % {self.width};")
            self.emit(f"const I columns = {self.size(self.columns)};")
        self.emit(f"const I rows = {self.size(self.rows)};")
        names = {a: name for at, axes in self.axes.items() for a, name in self.names(at, axes).items()}
        self.idx: Index = tuple(names[a] for a in range(len(self.shape)))
        if not self.kept:  # the elements stand in the order in which they are visited
            self.flat[self.idx, self.shape] = "row"
        self.blocks = [Scope(names={"column", *self.idx} - {"row"}), Scope(names={"row"})]
        self.blocks[0].names -= set(self.names("row", down).values())
        self.blocks[1].names |= set(self.names("row", down).values()) - {"0"}

    def names(self, at: str, axes: Sequence[int]) -> dict[int, str]:
        """Return the name of each axis's index, where `at` counts through the axes together."""
        many = [a for a in axes if self.shape[a] != 1]
        return {a: at if many == [a] else f"{at}_{a}" if a in many else "0" for a in axes}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Write into the loop over the rows."""
        self.scopes = [self.scopes[0], *self.blocks]
        try:
            with self.attempt():
                yield
        finally:
            self.scopes = self.scopes[:1]

    def add(self, root: Root) -> None:
        node = root.node
        shape = node.inputs[0].shape if root.terminal else node.shape
        kept = tuple(a for a in range(len(shape)) if a not in root.reduced)
        if root.within or tuple(shape) != self.shape or (root.terminal and kept != self.kept):
            raise Elsewhere(node)
        with self.inside():
            if root.terminal:
                acc = self.begin(node, "a", 0)
                self.collect(node, acc, self.idx)
                self.terminals.append((node, acc))
            else:
                self.write(node, self.idx, self.value(node, self.idx))
        self.roots.append(root)

    def done(self) -> Launch:
        step = THREADS // self.width
        heads = {at: split_text(self, at, [(a, self.shape[a]) for a in axes if self.shape[a] != 1])
                 for at, axes in self.axes.items()}
        outer, inner = self.blocks
        sums = [acc for node, acc in self.terminals if chained(node)]
        lines = [*heads["row"], *inner.lines]
        if self.kept:
            parts = self.own("parts")
            with self.scope("if (column < columns)"):
                self.scopes[-1].lines += [*heads["column"], *outer.lines]
                first = f"part * {step} + threadIdx.x / {self.width}"
                self.rounds("row", first, "rows", f"{parts} * {step}", lines, sums)
        else:
            self.scopes[0].lines += outer.lines
            self.rounds("row", f"blockIdx.x * {THREADS} + threadIdx.x", "rows", f"gridDim.x * {THREADS}", lines, sums)
        if self.terminals and self.kept:
            self.finish(self.width, "part", parts, "group", "column", "columns")
        elif self.terminals:
            self.finish(1, "blockIdx.x", "gridDim.x", "0")
        width, n_terminals, all_rows, all_columns = self.width, len(self.terminals), self.rows, self.columns
        most, each = (_REDUCING, 4) if n_terminals else (_WIDEST, 1)

        def groups(sizes: Sizes) -> int:
            return max(-(-value(all_columns, sizes) // width), 1)

        def n_parts(sizes: Sizes) -> int:
            return max(min(-(-value(all_rows, sizes) // (step * each)), most // groups(sizes)), 1)

        return self.launch(
            lambda sizes: n_parts(sizes) * groups(sizes), simple=not self.terminals and not self.kept,
            arguments=lambda sizes: {"parts": n_parts(sizes)},
            partials=lambda sizes: 8 * n_terminals * n_parts(sizes) * value(all_columns, sizes),
            counters=lambda sizes: 4 * groups(sizes) if n_terminals else 0)


def split_text(w: Element, at: str, axes: Sequence[tuple[int, int | Dim]]) -> list[str]:
    """Return the statement that takes the number `at` apart into ``{at}_{axis}``."""
    if len(axes) < 2:
        return []
    parts, rest = [], at
    for k, (a, n) in reversed(list(enumerate(axes))):
        size = w.size(n)
        parts.append(f"{at}_{a} = {rest} % {size}" if k else f"{at}_{a} = {rest}")
        rest = f"({rest} / {size})"
    return [f"const I {', '.join(parts)};"]


# -- a team of threads for each row ------------------------------------------------------------------------


class Rows(_Kernel):
    """Reductions within rows, what is computed of them, and terminals that keep nothing.

    A row is a place that the reductions keep: an index of shape `shape`. Roots of one row are written in loops over
    the row's own axes, of which each takes as many roots as do not need what the loop itself collects.
    """

    def __init__(self, shape: Sequence[int | Dim], across: int | Dim, *args: Any):
        super().__init__(*args)
        self.shape = tuple(shape)
        n = typical(across)
        self.team = 256 if n > 1024 else min(power(n), 32)
        self.per_block = THREADS // self.team
        self.rows = size_of(self.shape)
        many = [a for a, d in enumerate(self.shape) if d != 1]
        self.idx: Index = tuple("row" if many == [a] else f"row_{a}" if a in many else "0"
                                for a in range(len(self.shape)))
        self.flat[self.idx, self.shape] = "row" if many else "0"
        self.row = Scope(names={"row", *self.idx} - {"0"})
        self.row.lines += split_text(self, "row", [(a, self.shape[a]) for a in many])
        self.domain: tuple | None = None  # of the loop that is open
        self.loop = Scope()
        self.open: list[tuple[Node, str, bool]] = []  # reductions that it collects
        self.sums: list[str] = []  # accumulators that add up in chains in it
        self.emit(f"const I rows = {self.size(self.rows)};")

    def _within(self, root: Root) -> tuple[tuple, Callable[[Index], Index]]:
        """Return the axes that a root's loop runs over, and the index of its element from theirs."""
        node, n = root.node, len(self.shape)
        if root.within:
            shape = node.inputs[0].shape
            kept = [a for a in range(len(shape)) if a not in root.reduced]
            if tuple(node.shape) != self.shape:
                raise Elsewhere(node)
            down = [a for a in range(len(shape)) if a in root.reduced]
        else:
            shape = node.inputs[0].shape if root.terminal else node.shape
            if tuple(shape[:n]) != self.shape or (root.terminal and len(root.reduced) < len(shape)):
                raise Elsewhere(node)
            kept, down = list(range(n)), list(range(n, len(shape)))
        at = {a: i for i, a in enumerate(down)}
        return tuple(shape[a] for a in down), lambda own: tuple(
            own[at[a]] if a in at else self.idx[kept.index(a)] for a in range(len(shape)))

    def add(self, root: Root) -> None:
        domain, index = self._within(root)
        if domain == self.domain:
            try:
                return self._add(root, index)
            except Elsewhere:
                pass  # it may need what this loop collects
        self.close()
        self.domain, self.loop = domain, Scope()
        many = [k for k, n in enumerate(domain) if n != 1]
        self.own_idx = tuple("at" if many == [k] else f"at_{k}" if k in many else "0" for k in range(len(domain)))
        self.loop.names |= {"at", *self.own_idx} - {"0"} if domain else set()
        return self._add(root, index)

    def _add(self, root: Root, index: Callable[[Index], Index]) -> None:
        node = root.node
        self.scopes = [self.scopes[0], self.row] + ([self.loop] if self.domain else [])
        idx = index(self.own_idx)
        try:
            with self.attempt():
                if self.domain and idx == (*self.idx, *self.own_idx):
                    n = size_of(self.domain)
                    self.flat[idx, (*self.shape, *self.domain)] = "row" if n == 1 else f"row * {self.size(n)} + at"
                if root.within or root.terminal:
                    acc = self.begin(node, "a", 1 if root.within else 0)
                    self.sums += [acc] * chained(node)
                    if self.domain:
                        self.collect(node, acc, idx)
                    else:
                        with self.scope("if (lane == 0)"):
                            self.collect(node, acc, idx)
                    if root.within:
                        self.open.append((node, acc, root.stored))
                    else:
                        self.terminals.append((node, acc))
                else:
                    text = self.value(node, idx)
                    if self.domain:
                        self.write(node, idx, text)
                    else:
                        with self.scope("if (lane == 0)"):
                            self.write(node, idx, text)
        finally:
            self.scopes = self.scopes[:1]
        self.roots.append(root)

    def close(self) -> None:
        """Write the open loop into the row, and what its reductions give."""
        if self.domain:
            many = [(k, n) for k, n in enumerate(self.domain) if n != 1]
            lines = [*split_text(self, "at", many), *self.loop.lines]
            n = size_of(self.domain)
            long = not isinstance(n, int) or n > RUN * self.team
            self.scopes = [self.scopes[0], self.row]
            self.rounds("at", "lane", self.size(n), str(self.team), lines, self.sums * long)
        self.scopes = [self.scopes[0], self.row]
        self.sums = []
        if self.open:
            self.emit(" ".join(f"{acc}.close();" for _, acc, _ in self.open))
            if self.team > 32:
                self.emit(f"block_reduce<1>({', '.join(acc for _, acc, _ in self.open)});")
            else:
                self.scopes[-1].lines += [f"team_reduce<{self.team}, 1>({acc});" for _, acc, _ in self.open]
        for node, acc, stored in self.open:
            out = self.declare(scalar.computed(node.dtype), "v", scalar.rounded(finished(node, acc), node.dtype), 1)
            self.know(node, self.idx, out, 1)
            if stored:
                self._store(node, out)
        self.open = []
        self.domain = None
        self.scopes = self.scopes[:1]

    def _store(self, node: Node, text: str) -> None:
        with self.scope("if (lane == 0)"):
            self.write(node, self.idx, text)

    def keep(self, node: Node) -> None:
        """Write the result of one of the rows' reductions to memory too."""
        self.close()
        self.scopes = [self.scopes[0], self.row]
        self._store(node, self.value(node, self.idx))
        self.scopes = self.scopes[:1]

    def done(self) -> Launch:
        self.close()
        self.scopes[0].lines.insert(0, f"const I lane = threadIdx.x % {self.team};")
        with self.scope(f"for (I row = blockIdx.x * {self.per_block} + threadIdx.x / {self.team}; row < rows; "
                        f"row += gridDim.x * {self.per_block})"):
            self.scopes[-1].lines += self.row.lines
            self.scopes[-1].lines += [f"{acc}.fold();" for node, acc in self.terminals if chained(node)]
        if self.terminals:
            self.finish(1, "blockIdx.x", "gridDim.x", "0")
        n_terminals, rows, per_block = len(self.terminals), self.rows, self.per_block
        most = _REDUCING if n_terminals else _WIDEST

        def blocks(sizes: Sizes) -> int:
            return max(min(-(-value(rows, sizes) // per_block), most), 1)

        return self.launch(blocks, partials=lambda sizes: 8 * n_terminals * blocks(sizes),
                           counters=lambda sizes: 4 if n_terminals else 0)

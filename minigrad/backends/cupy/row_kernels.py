"""Reductions within rows, and what is computed of them: a team of threads for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...graph import Node
from ...ops.accumulators import RUN
from ...symbolic import Dim, size_of, value
from . import cuda_expr
from .codegen import Index, NotInReach, Scope
from .kernels import (
    REDUCING,
    THREADS,
    WIDEST,
    Kernel,
    Launch,
    Root,
    Sizes,
    chained,
    finished,
    power_of_two,
    split_text,
    typical,
)


class Rows(Kernel):
    """Reductions within rows, what is computed of them, and terminals that keep nothing.

    A row is a place that the reductions keep: an index of shape `shape`. Roots of one row are written in loops over
    the row's own axes, of which each takes as many roots as do not need what the loop itself collects.
    """

    def __init__(self, shape: Sequence[int | Dim], across: int | Dim, *args: Any):
        super().__init__(*args)
        self.shape = tuple(shape)
        n = typical(across)
        self.team = 256 if n > 1024 else min(power_of_two(n), 32)
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
                raise NotInReach(node)
            down = [a for a in range(len(shape)) if a in root.reduced]
        else:
            shape = node.inputs[0].shape if root.terminal else node.shape
            if tuple(shape[:n]) != self.shape or (root.terminal and len(root.reduced) < len(shape)):
                raise NotInReach(node)
            kept, down = list(range(n)), list(range(n, len(shape)))
        at = {a: i for i, a in enumerate(down)}
        return tuple(shape[a] for a in down), lambda own: tuple(
            own[at[a]] if a in at else self.idx[kept.index(a)] for a in range(len(shape)))

    def add(self, root: Root) -> None:
        domain, index = self._within(root)
        if domain == self.domain:
            try:
                return self._add(root, index)
            except NotInReach:
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
                    if self.domain:
                        self.collect(node, acc, idx)
                    else:
                        with self.scope("if (lane == 0)"):
                            self.collect(node, acc, idx)
                    self.sums += [acc] * chained(node)
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
            with self.rounds("at", "lane", self.size(n), str(self.team), self.sums * long):
                self.scopes[-1].lines += lines
        self.scopes = [self.scopes[0], self.row]
        self.sums = []
        if self.open:
            self.emit(" ".join(f"{acc}.close();" for _, acc, _ in self.open))
            if self.team > 32:
                self.emit(f"block_reduce<1>({', '.join(acc for _, acc, _ in self.open)});")
            else:
                self.scopes[-1].lines += [f"team_reduce<{self.team}, 1>({acc});" for _, acc, _ in self.open]
        for node, acc, stored in self.open:
            out = self.declare(
                cuda_expr.computed(node.dtype), "v", cuda_expr.rounded(finished(node, acc), node.dtype), 1
            )
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
        most = REDUCING if n_terminals else WIDEST

        def blocks(sizes: Sizes) -> int:
            return max(min(-(-value(rows, sizes) // per_block), most), 1)

        return self.launch(blocks, partials=lambda sizes: 8 * n_terminals * blocks(sizes),
                           counters=lambda sizes: 4 if n_terminals else 0)

"""`Rows`: launches with a team of threads for each row, for reductions within rows and the values made of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from ...graph import Node
from ...ops.accumulators import RUN
from ...symbolic import Dim, size_of
from .codegen import Index, Memory, NotInReach, Scope
from .kernels import THREADS, Kernel, Launch, Root, chained, finished, power_of_two, typical


class Rows(Kernel):
    """Reductions within rows, the values made of them, and terminals that keep no axis.

    A row is a place that the reductions keep: an index of shape `shape`. Roots of one row are written in loops over
    the row's own axes; a loop takes all roots that do not need its own reductions.
    """

    def __init__(self, shape: Sequence[int | Dim], across: int | Dim, memory: Memory):
        super().__init__(memory)
        self.shape = tuple(shape)
        self.team = 256 if typical(across) > 1024 else power_of_two(across, 32)
        self.per_block = THREADS // self.team
        self.rows = size_of(self.shape)
        self.row = Scope(names={"row"})
        with self.within(self.row):
            self.idx: Index = self.split("row", self.shape)
        self.flat[self.idx, self.shape] = "row" if any(n != 1 for n in self.shape) else "0"
        self.domain: tuple[int | Dim, ...] | None = None  # of the open loop
        self.loop = Scope()
        self.open: list[tuple[Node, str, bool]] = []  # its reductions
        self.sums: list[str] = []  # its accumulators that add in chains
        self.emit(f"const I rows = {self.size(self.rows)};")

    def add(self, root: Root) -> None:
        shape = root.node.inputs[0].shape if root.reduced else root.node.shape
        inner = [a in root.reduced if root.within else a >= len(self.shape) for a in range(len(shape))]
        domain = tuple(n for n, own in zip(shape, inner, strict=True) if own)
        kept = tuple(n for n, own in zip(shape, inner, strict=True) if not own)
        if kept != self.shape or (root.terminal and len(root.reduced) < len(shape)):
            raise NotInReach(root.node)
        if domain == self.domain:
            with suppress(NotInReach):  # it may need this loop's reductions
                return self._add(root, inner)
        self.close()
        self.domain, self.loop = domain, Scope(names={"at"})
        with self.within(self.row, self.loop):
            self.own_idx = self.split("at", domain)
        self._add(root, inner)

    def _add(self, root: Root, inner: Sequence[bool]) -> None:
        """Write a root into the open loop; `inner` says which axes of its element are the loop's."""
        node, outer, own = root.node, iter(self.idx), iter(self.own_idx)
        idx = tuple(next(own if i else outer) for i in inner)
        with self.within(self.row, *([self.loop] if self.domain else [])):
            if self.domain and idx == (*self.idx, *self.own_idx):
                n = size_of(self.domain)
                self.flat[idx, (*self.shape, *self.domain)] = "row" if n == 1 else f"row * {self.size(n)} + at"
            if root.reduced:
                acc = self.begin(node, 1 if root.within else 0)
                with self.once():
                    self.collect(node, acc, idx)
                self.sums += [acc] * chained(node)
                if root.within:
                    self.open.append((node, acc, root.stored))
                else:
                    self.terminals.append((node, acc))
            else:
                text = self.value(node, idx)
                with self.once():
                    self.write(node, idx, text)
        self.roots.append(root)

    def once(self) -> AbstractContextManager[None]:
        """Write statements that run once per element: outside of a loop, by one thread."""
        return nullcontext() if self.domain else self.scope("if (lane == 0)")

    def close(self) -> None:
        """Write the open loop into the row, and the results of its reductions."""
        with self.within(self.row):
            if self.domain:
                n = size_of(self.domain)
                long = not isinstance(n, int) or n > RUN * self.team
                with self.rounds("at", "lane", self.size(n), str(self.team), self.sums * long):
                    self.scopes[-1].lines += self.loop.lines
            accs = [acc for _, acc, _ in self.open]
            if accs:
                self.emit(" ".join(f"{acc}.close();" for acc in accs))
                self.scopes[-1].lines += [f"block_reduce<1>({', '.join(accs)});"] if self.team > 32 else [
                    f"team_reduce<{self.team}, 1>({acc});" for acc in accs]
            for node, acc, stored in self.open:
                out, _ = self.computed(node, self.idx, finished(node, acc), 1)
                if stored:
                    self._store(node, out)
        self.open, self.sums, self.domain = [], [], None

    def _store(self, node: Node, text: str) -> None:
        with self.scope("if (lane == 0)"):
            self.write(node, self.idx, text)

    def keep(self, node: Node) -> None:
        """Write the result of a reduction within rows to memory too."""
        self.close()
        with self.within(self.row):
            self._store(node, self.value(node, self.idx))

    def done(self) -> Launch:
        self.close()
        self.scopes[0].lines.insert(0, f"const I lane = threadIdx.x % {self.team};")
        with self.scope(f"for (I row = blockIdx.x * {self.per_block} + threadIdx.x / {self.team}; row < rows; "
                        f"row += gridDim.x * {self.per_block})"):
            self.scopes[-1].lines += self.row.lines
            self.scopes[-1].lines += [f"{acc}.fold();" for node, acc in self.terminals if chained(node)]
        return self.by_parts(self.rows, self.per_block)

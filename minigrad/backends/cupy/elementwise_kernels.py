"""Sweeps: launches that visit every element of one shape once, for stores and for reductions that end them.

`Elements` reduces all axes or none: threads take elements in memory order, four at a time. `Columns` keeps some axes,
which run along the columns, and gives parts of the rows to different blocks. `Tiles` reads transposed operands through
square tiles in shared memory, so that loads and stores both are coalesced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...graph import Node
from ...ops.accumulators import RUN
from ...symbolic import Dim, size_of
from . import cuda_expr
from .codegen import Found, Index, Key, Memory, NotInReach, Scope
from .kernels import THREADS, Kernel, Launch, Root, chained, power_of_two, typical

_LANES = 4  # elements that a thread loads and stores at once
_FEW = 4096  # elements up to which vectors do not pay
_TILE = 32  # elements along either axis of a tile: a warp
_TILES = 4  # operands in tiles per launch


class _Sweep(Kernel):
    """Base class of sweeps; reductions keep the axes `kept`."""

    width = 1  # threads of a block that stand side by side along the columns
    each = 1  # elements of a thread

    def __init__(self, shape: Sequence[int | Dim], kept: Sequence[int], memory: Memory, target: Key | None = None):
        super().__init__(memory, target)
        self.shape, self.kept = tuple(shape), tuple(kept)
        self.down = tuple(a for a in range(len(self.shape)) if a not in self.kept)
        self.columns, self.rows = (size_of(self.shape[a] for a in axes) for axes in (self.kept, self.down))
        self.last = max((a for a, n in enumerate(self.shape) if n != 1), default=0)

    def open(self, outer: set[str], inner: set[str], **counters: Sequence[int]) -> None:
        """Begin the loops, which declare some names, and divide the counters of some axes into the index."""
        self.blocks = [Scope(names=outer), Scope(names=inner)]
        with self.within(*self.blocks):
            names = {a: i for counter, axes in counters.items() for a, i in zip(
                axes, self.split(counter, [self.shape[a] for a in axes]), strict=True)}
        self.idx: Index = tuple(names[a] for a in range(len(self.shape)))

    def add(self, root: Root) -> None:
        node = root.node
        shape = node.inputs[0].shape if root.reduced else node.shape
        kept = tuple(a for a in range(len(shape)) if a not in root.reduced)
        if tuple(shape) != self.shape or (root.reduced and kept != self.kept):
            raise NotInReach(node)
        with self.within(*self.blocks):
            if root.reduced:
                acc = self.begin(node, 0)
                self.collect(node, acc, self.idx)
                self.terminals.append((node, acc))
            else:
                self.write(node, self.idx, self.value(node, self.idx))
        self.roots.append(root)

    def loops(self, sums: Sequence[str]) -> None:
        """Write the loops; the accumulators `sums` add in chains."""
        raise NotImplementedError

    def done(self) -> Launch:
        self.loops([acc for node, acc in self.terminals if chained(node)])
        each = THREADS // self.width * (8 if self.terminals else self.each)
        return replace(self.by_parts(self.rows, each, self.columns if self.kept else None, self.width),
                       simple=type(self) is Elements and not self.terminals)


class Columns(_Sweep):
    """A block for some columns and a part of the rows; `width` threads stand side by side if the last axis is kept."""

    def __init__(self, shape: Sequence[int | Dim], kept: Sequence[int], memory: Memory):
        super().__init__(shape, kept, memory)
        self.width = power_of_two(self.columns, 32) if self.last in self.kept else 1
        parts = self.own("parts")
        self.emit(f"const I part = blockIdx.x % {parts}, group = blockIdx.x / {parts};")
        self.emit(f"const I column = group * {self.width} + threadIdx.x % {self.width};")
        self.emit(f"const I columns = {self.size(self.columns)}, rows = {self.size(self.rows)};")
        self.open({"column"}, {"row"}, column=self.kept, row=self.down)

    def loops(self, sums: Sequence[str]) -> None:
        parts, step = self.own("parts"), THREADS // self.width
        with self.scope("if (column < columns)"):
            self.scopes[-1].lines += self.blocks[0].lines
            first = f"part * {step} + threadIdx.x / {self.width}"
            with self.rounds("row", first, "rows", f"{parts} * {step}", sums):
                self.scopes[-1].lines += self.blocks[1].lines


class Elements(_Sweep):
    """Elements in memory order.

    Attributes
    ----------
    transposed : int or None
        The contiguous axis of an operand, if it is not the last one.
    """

    each = _LANES

    def __init__(self, shape: Sequence[int | Dim], memory: Memory, target: Key | None = None):
        super().__init__(shape, (), memory, target)
        self.emit(f"const I rows = {self.size(self.rows)};")
        self.open({"first"}, {"row"}, row=self.down)
        self.flat[self.idx, self.shape] = "row"
        self.transposed: int | None = None

    def other_axis(self, idx: Index) -> int | None:
        """Return the contiguous axis of an operand if it is another one than that of the results."""
        names = [i for i in idx if i != "0"]
        if not names or not set(names) <= set(self.idx) or names[-1] == self.idx[self.last]:
            return None
        axis = self.idx.index(names[-1])
        large = min(typical(self.shape[axis]), typical(self.shape[self.last])) >= _TILE
        return axis if large and self.idx[self.last] in names else None

    def _load(self, node: Node, key: Key, idx: Index, offset: str) -> Found:
        if self.transposed is None:
            self.transposed = self.other_axis(idx)
        if offset != "row":
            return super()._load(node, key, idx, offset)
        place = self.pack(self.pointer(key, node.dtype), node.dtype, "ld")
        return self.computed(node, idx, cuda_expr.load(place, node.dtype), 2)

    def target(self, pointer: str, offset: str, dtype: np.dtype) -> str:
        return self.pack(pointer, dtype, "st") if offset == "row" else super().target(pointer, offset, dtype)

    def pack(self, pointer: str, dtype: np.dtype, way: str) -> str:
        """Return one element of a vector that the kernel loads (``ld``) or stores (``st``) at once."""
        known = self.blocks[0].known
        if (way, pointer) not in known:
            known[way, pointer] = self.name("q"), 1
            text = f" = ld_pack<N>({pointer}, first)" if way == "ld" else ""
            self.emit(f"Pack<N, {cuda_expr.stored(dtype)}> {known[way, pointer][0]}{text};", 1)
        return f"{known[way, pointer][0]}.v[lane]"

    def loops(self, sums: Sequence[str]) -> None:
        """Write a loop over vectors, and one over the other elements: over all if a pointer is not aligned."""
        packs = {(str(way), str(pointer)): name for (way, pointer), (name, _) in self.blocks[0].known.items()
                 if way in ("ld", "st")}
        ways = [(1, "0", "rows")]
        if not (isinstance(self.rows, int) and self.rows < _FEW):
            pointers = ", ".join(dict.fromkeys(p for _, p in packs))
            self.emit(f"const I many = aligned({pointers}) ? rows / {_LANES} * {_LANES} : 0;")
            ways = [(_LANES, "0", "many"), (1, "many", "rows")]
        for n, start, end in ways:
            first = f"{start} + (blockIdx.x * {THREADS} + threadIdx.x) * {n}"
            with self.rounds("first", first, end, f"gridDim.x * {THREADS * n}", sums, RUN // n):
                self.emit(f"constexpr int N = {n};")
                self.scopes[-1].lines += [*self.blocks[0].lines, "#pragma unroll"]
                with self.scope("for (int lane = 0; lane < N; lane++)"):
                    self.emit("const I row = first + lane;")
                    self.scopes[-1].lines += self.blocks[1].lines
                self.scopes[-1].lines += [f"st_pack<N>({p}, first, {q});" for (w, p), q in packs.items() if w == "st"]


class Tiles(Elements):
    """The stores of `elements`, tile by tile: each block loads a transposed operand along its contiguous axis first."""

    def __init__(self, elements: Elements, transposed: int):
        super().__init__(elements.shape, elements.memory, elements.destination)
        self.transposed = self.axis = transposed
        self.flat = {}
        self.others = [a for a in self.down if a not in (self.last, transposed)]
        self.open({"row"}, {"own", "across"}, row=self.others, own=[transposed], across=[self.last])
        self.tiles: list[tuple[str, str]] = []  # name, and an element of the operand
        for root in elements.roots:
            self.add(root)

    def _load(self, node: Node, key: Key, idx: Index, offset: str) -> Found:
        if self.other_axis(idx) != self.axis or len(self.tiles) == _TILES:
            return Kernel._load(self, node, key, idx, offset)
        name = self.name("t")
        self.emit(f"__shared__ {cuda_expr.stored(node.dtype)} {name}[{_TILE}][{_TILE + 1}];", 0)
        self.tiles.append((name, f"ld({self.pointer(key, node.dtype)}, {offset})"))
        return self.computed(node, idx, cuda_expr.load(f"{name}[lane][k]", node.dtype), 2)

    def loops(self, sums: Sequence[str]) -> None:
        high, wide = (self.size(self.shape[a]) for a in (self.axis, self.last))
        self.emit(f"const I down = ({high} + {_TILE - 1}) / {_TILE}, beside = ({wide} + {_TILE - 1}) / {_TILE};")
        self.emit(f"const I tiles = down * beside * {self.size(size_of(self.shape[a] for a in self.others))};")
        self.emit(f"const int lane = threadIdx.x % {_TILE};")
        stage = [f"{name}[k][lane] = {text};" for name, text in self.tiles]
        with self.scope("for (I tile = blockIdx.x; tile < tiles; tile += gridDim.x)"):
            self.emit(f"const I left = tile % beside * {_TILE}, top = tile / beside % down * {_TILE};")
            self.emit("const I row = tile / beside / down;")
            self.scopes[-1].lines += self.blocks[0].lines
            for one, low, n, other, first, m, body in (("across", "left", wide, "own", "top", high, stage), (
                    "own", "top", high, "across", "left", wide, self.blocks[1].lines)):
                self.emit("__syncthreads();")
                with self.scope(f"for (int k = threadIdx.x / {_TILE}; k < {_TILE}; k += {THREADS // _TILE})"):
                    self.emit(f"const I {one} = {low} + k, {other} = {first} + lane;")
                    with self.scope(f"if ({one} < {n} && {other} < {m})"):
                        self.scopes[-1].lines += body

"""Scatters and segment reductions.

A stable radix sort orders updates by place, once for all scatters by the same indices; `ends` are the offsets behind
each place's updates. If lengths are known, `ends` is their cumulative sum, and the updates need no sort.

A team of threads reduces each piece of a place's updates, of a fixed length counted from the first one, and the block
that finishes a place's last piece combines them in order. Without atomics on numbers, every run gives the same bits,
and so does every batch that an example is part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...graph import Node
from ...ops.accumulators import RUN
from ...ops.elementwise import cast_to
from ...ops.index import gather_sum, scatter_add
from ...ops.scatter import scatter_max, scatter_min
from ...ops.segments import segment_ids
from ...ops.sort import cumsum
from ...symbolic import Dim, size_of, value
from . import cuda_expr
from .codegen import Key, Memory
from .kernels import THREADS, Count, Kernel, Launch, Op, Sizes, accumulator, blocks_for, chained, power_of_two, typical

SCATTERS = frozenset({scatter_add, gather_sum, scatter_max, scatter_min})
_DIGIT = 8  # bits
_BLOCKS = 256  # of a pass of the sort
_EACH = 2048  # keys that a block takes at least
COUNT = np.dtype(np.uint32)


# -- rows in order -----------------------------------------------------------------------------------------


def targets(node: Node) -> tuple[Node, ...]:
    """Return the indices of the places of a scatter's updates."""
    return node.inputs[2:] if node.prim is gather_sum else node.inputs[1:]


def places(node: Node) -> int | Dim:
    """Return the number of places of a scatter."""
    return size_of(node.shape[:len(targets(node))])


def updates(node: Node) -> int | Dim:
    """Return the number of updates of a scatter."""
    return size_of(targets(node)[0].shape)


def lengths_of(node: Node) -> Node | None:
    """Return the number of updates per place if the graph knows it; then updates are in order."""
    index = targets(node)[0]
    known = len(targets(node)) == 1 and index.prim is segment_ids and index.inputs[0].shape == node.shape[:1]
    return index.inputs[0] if known else None


@dataclass
class SortByPlace(Op):
    """The sort of a scatter's updates by their places.

    Attributes
    ----------
    places : key
        The place of each update; an earlier launch writes it.
    order, ends : key
        The permutation that sorts the updates by place, and the offset behind each place's updates.
    """

    node: Node

    def __post_init__(self) -> None:
        index = targets(self.node)  # scatters with equal indices and places share the sort

        def key(name: str) -> Key:
            return name, index, tuple(self.node.shape[:len(index)])

        self.places, self.order, self.ends = key("places"), key("order"), key("ends")
        self.keys, self.counts, self.spare = key("keys"), key("counts"), (key("other keys"), key("other order"))

    @property
    def touched(self) -> list[Key]:
        return [*self.bytes()]

    def bytes(self) -> dict[Key, Count]:
        """Return the sizes of the memory that it uses."""
        n, ends = updates(self.node), places(self.node)
        return {**dict.fromkeys((self.places, self.order, self.keys, *self.spare), lambda sizes: 4 * value(n, sizes)),
                self.ends: lambda sizes: 4 * value(ends, sizes),
                self.counts: lambda sizes: 4 * 256 * (1 + self._split(sizes)[0])}

    def _split(self, sizes: Sizes) -> tuple[int, int]:
        """Return the blocks of a pass, and the keys per block."""
        n = max(value(updates(self.node), sizes), 1)
        each = -(-max(-(-n // _BLOCKS), _EACH) // _EACH) * _EACH
        return -(-n // each), each

    def launches(self, sizes: Sizes) -> Iterator[tuple[str, int, list[Key | int]]]:
        """Yield kernel, blocks and arguments of each launch: keys stand for addresses."""
        n, ends = value(updates(self.node), sizes), value(places(self.node), sizes)
        blocks, each = self._split(sizes)
        passes = max(-(-ends.bit_length() // _DIGIT), 1)
        keys, order = self.places, self.order
        for k in range(passes):
            # Passes alternate between two pairs of buffers; the last pass writes to `keys` and `order`.
            to = self.spare if (passes - 1 - k) % 2 else (self.keys, self.order)
            numbers: list[Key | int] = [n, each, k * _DIGIT]
            yield "mg_count_digits", blocks, [keys, self.counts, *numbers, int(k == 0)]
            yield "mg_order_by_digit", blocks, [
                keys, order, self.places, self.counts, *to, *numbers, int(k == 0), int(k == passes - 1)]
            keys, order = to
        yield "mg_ends", max(-(-ends // THREADS), 1), [self.keys, self.ends, n, ends]


def place_of_each(node: Node, key: Key, memory: Memory) -> Launch:
    """Return the launch that writes each update's place; bad indices and padding get a place behind all others."""
    w = Kernel(memory)
    indices = targets(node)
    with w.grid_loop(w.own("total")):
        out = w.param("key", key, "unsigned* __restrict__", "p")
        w.emit(f"unsigned place = (unsigned){w.own('nowhere')};")
        with w.scope(f"if (t < {w.size(updates(node))})"):
            update = w.split(w.inner("t"), indices[0].shape)
            rows = [w.position(i, update, n) for i, n in zip(indices, node.shape, strict=False)]
            text = w.linear(tuple(row for row, _ in rows), node.shape[:len(rows)])
            w.emit(f"if ({' && '.join(c for _, c in rows if c) or 'true'}) place = (unsigned){text};")
            w.emit(f"else {w.flag(node)}")
        w.emit(f"{out}[t] = place;")
    return w.launch(lambda sizes: {"blocks": blocks_for(value(updates(node), sizes)), "total": value(
        updates(node), sizes), "nowhere": value(places(node), sizes)})


def totals(lengths: Node) -> Node:
    """Return the node of the offsets behind each segment."""
    return cumsum(cast_to(lengths, COUNT), axis=0)


# -- reductions --------------------------------------------------------------------------------------------


def reduce(node: Node, ends: Key, order: Key | None, memory: Memory) -> Launch:
    """Return the launch that reduces the updates of each place to their sum, largest or smallest."""
    w = Kernel(memory)
    u, k = node.inputs[0], len(targets(node))
    n, wide = updates(node), size_of(node.shape[k:])
    acc, first = accumulator(node)
    # A team has `across` threads along the columns of a place, and `along` threads along its updates.
    across = power_of_two(wide, 32)
    each = -(-typical(n) // max(typical(places(node)), 1))  # updates per place
    along = power_of_two(each, 32 // across)
    terms = max(power_of_two(each // (64 * along), RUN * RUN), 2 * RUN)  # of one thread
    team, piece = across * along, terms * along
    columns = f"(({w.size(wide)} + {across - 1}) / {across})"
    end, position = w.param("key", ends, "const unsigned* __restrict__", "p"), "at"
    w.emit(f"const I wide = {w.size(wide)}, places = {w.size(places(node))}, count = {w.size(n)};")
    w.emit(f"const I columns = {columns}, lane = threadIdx.x % {team};")
    w.emit(f"const I items = (places + count / {piece}) * columns;")
    partial, counter = w.own("partial", "char*"), w.own("counter", "unsigned*")
    with w.scope(f"for (I item = blockIdx.x * {THREADS // team}; item < items; item += gridDim.x * {THREADS // team})",
                 ["item"]):
        w.emit(f"const I own = item + threadIdx.x / {team}, slot = own / columns, group = own % columns;")
        w.emit(f"const I w = group * {across} + lane % {across};")
        w.emit(f"const Piece<I> piece = own < items ? piece_of<{piece}>({end}, slot, places) : Piece<I>();")
        w.emit(f"{acc} sum{first};")
        w.scopes[-1].names |= {"w", "piece", "sum"}
        w.emit("const I stop = w < wide ? piece.last : piece.first;")
        with w.rounds("at", f"piece.first + lane / {across}", "stop", str(along), ["sum"] * chained(node)):
            if order is not None:
                position = f"(I){w.param('key', order, 'const unsigned* __restrict__', 'p')}[at]"
            position = w.inner(position)
            rows = w.split(position, targets(node)[0].shape)
            idx = (*rows, *w.split("w", node.shape[k:]))
            if node.prim is gather_sum:  # the update is a row of another array
                row, condition = w.position(node.inputs[1], rows, u.shape[0])
                if condition:
                    w.emit(f"if (!({condition})) {{ {w.flag(node)} continue; }}")
                idx = (w.inner(f"(I){row}"), *idx[len(rows):])
            w.emit(f"sum.take({w.value(u, idx)});")
        total = cuda_expr.cast("total.v", node.dtype)
        store = cuda_expr.store(f"{w.result(node)}[place * wide + w]", total, node.dtype)
        w.emit(f"finish_pieces<{team}, {across}, {piece}>({partial}, {counter}, piece, group, columns, wide, sum, [&]("
               f"I place, I w, const {acc}& total) {{ {store} }});")

    def numbers(sizes: Sizes) -> dict[Key | str, int]:
        groups, pieces = -(-value(wide, sizes) // across), value(n, sizes) // piece
        return {"blocks": blocks_for((value(places(node), sizes) + pieces) * groups * team),
                "partial": 16 * (pieces + 1) * groups * across, "counter": 4 * (pieces + 1) * groups}

    return w.launch(numbers)

"""Products of blocks: one kernel for the matrix products of all examples of a packed batch (``block_einsum``).

A block of threads computes one tile of one example's product from tiles of both operands in shared memory. The kernel
reads the lengths and the offsets of the examples from device memory, so that one launch serves every batch.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence

from ...graph import PRIMITIVES, Node, full
from ...ops.broadcast import broadcast_along
from ...ops.constants import size_scalar
from ...ops.einsum import parse, split_subscripts
from ...ops.elementwise import cast_to
from ...symbolic import Dim, size_of, value
from . import cuda_expr
from .codegen import Key, Memory
from .kernels import THREADS, Kernel, Launch, blocks_for, typical
from .segment_kernels import COUNT

_SIDE = 16  # threads along each side of a tile
_DEPTH = 16  # terms of the sums that are in shared memory at once
_BLOCKS = 2048  # of the launch, at most: each takes one tile after the other


class Blocks:
    """A `block_einsum`: its subscripts by role, and the size of the tiles of its results.

    Attributes
    ----------
    lengths : dict of str to Node
        The ragged subscripts.
    groups : tuple of str
        Batch, rows, columns and inner: the subscripts of both operands and the result, of the left operand and the
        result, of the right one and the result, and of both operands alone, over which the product sums.
    rows, columns : int
        The elements that a thread computes along each side of a tile.
    """

    def __init__(self, node: Node):
        self.node, p = node, node.params
        self.terms, self.out = parse(p["subscripts"])
        self.arrays = [(v, t, kind) for v, t, kind in zip(node.inputs, self.terms, p["kinds"], strict=False)]
        self.lengths = dict(zip(p["ragged"], node.inputs[2:], strict=True))
        self.examples = node.inputs[2].shape[0]
        self.dense: dict[str, int | Dim] = {}
        for v, term, kind in self.arrays:
            own = [c for c in term if c not in self.lengths]
            self.dense |= zip(own, v.shape[kind != "shared":], strict=True)
        self.groups = split_subscripts(*self.terms, self.out)
        self.rows, self.columns = (self._each(group) for group in self.groups[1:3])

    def ragged(self, term: str) -> tuple[Node, ...]:
        """Return the lengths of a term's ragged subscripts."""
        return tuple(self.lengths[c] for c in term if c in self.lengths)

    def _each(self, group: str) -> int:
        n = math.prod(self._typical(c) for c in group)
        return 1 if n <= _SIDE else 2 if n <= 2 * _SIDE else 4

    def _typical(self, c: str) -> int:
        """Return a subscript's size, or the typical one of an example."""
        if c not in self.lengths:
            return typical(self.dense[c])
        packed = [(len(self.ragged(t)), v) for v, t, _ in (*self.arrays, (self.node, self.out, "")) if c in t]
        n, v = min(packed, key=lambda p: p[0])
        rows: float = typical(v.shape[0]) / max(typical(self.examples), 1)
        return round(math.pow(rows, 1 / n))

    def tiles(self, counts: dict[Key, Node]) -> Node | None:
        """Return the number of each example's tiles as a node, or None if all examples have the same number.

        Equal counts of several products share a node in `counts`.
        """
        batch, rows, columns, _ = self.groups
        parts = [(c, 1) for c in batch] + [(rows, _SIDE * self.rows), (columns, _SIDE * self.columns)]
        if not self.ragged(batch + rows + columns):
            return None
        key = "tiles", *((tuple(self.lengths.get(c, self.dense.get(c)) for c in group), side) for group, side in parts)
        if key not in counts:
            counts[key] = _product(self._over(self._count(group), side) for group, side in parts)
        return counts[key]

    def _count(self, group: str) -> Node:
        return _product(map(self._size, group)) if group else full(1, (self.examples,), COUNT)

    def _size(self, c: str) -> Node:
        if c in self.lengths:
            return cast_to(self.lengths[c], COUNT)
        return broadcast_along(size_scalar(self.dense[c], COUNT), (self.examples,), (0,))

    def _over(self, n: Node, side: int) -> Node:
        """Return the number of pieces of length `side` that cover `n`."""
        if side == 1:
            return n
        return PRIMITIVES["floor_divide"](n + full(side - 1, n.shape, COUNT), full(side, n.shape, COUNT))


def _product(nodes: Iterable[Node]) -> Node:
    return functools.reduce(operator.mul, nodes)


def segment(lengths: Sequence[Node], counts: dict[Key, Node]) -> Node:
    """Return the rows of each example of an array that is packed along axes of these lengths."""
    if len(lengths) == 1:
        return lengths[0]
    return counts.setdefault(("rows", *lengths), _product(cast_to(n, COUNT) for n in lengths))


def product(b: Blocks, ends: Callable[[Node], Key], counts: dict[Key, Node], memory: Memory) -> Launch:
    """Return the launch that computes a `block_einsum`; `ends` is the key of the offsets behind segments."""
    w, node = Kernel(memory), b.node
    batch, rows, columns, inner = b.groups
    kind, height, width = cuda_expr.accumulated(node.dtype), _SIDE * b.rows, _SIDE * b.columns
    tiles = b.tiles(counts)
    sizes: dict[str, str] = {}

    def count(group: str) -> str:
        return " * ".join(sizes[c] for c in group) or "1"

    def end_of(lengths: Node) -> str:
        return w.pointer(ends(lengths), COUNT)

    def before(end: str, k: str) -> str:
        return f"({k} ? (I){end}[{k} - 1] : 0)"

    def split(index: str, group: str) -> dict[str, str]:
        """Divide an index along a group into one along each of its subscripts."""
        return dict(zip(group, w.split(index, [sizes[c] for c in group]), strict=True))

    def index(term: str, name: str, layout: str, indices: dict[str, str]) -> tuple[str, ...]:
        first: tuple[str, ...] = ("example",) if layout == "stacked" else ()
        if layout == "packed":
            ragged = [c for c in term if c in b.lengths]
            row = w.linear(tuple(indices[c] for c in ragged), [sizes[c] for c in ragged])
            first = (w.inner(f"start_{name} + {row}"),)
        return (*first, *(indices[c] for c in term if c not in b.lengths))

    w.emit(f"const I examples = {w.size(b.examples)};")
    for c, n in b.dense.items():
        sizes[c] = w.size(n)
    if tiles is None:
        down, across = (f"(({count(g)} + {side - 1}) / {side})" for g, side in ((rows, height), (columns, width)))
        w.emit(f"const I each = {count(batch)} * {down} * {across}, items = examples * each;")
    else:
        end = end_of(tiles)
        w.emit(f"const I items = {before(end, 'examples')};")
    with w.scope("for (I item = blockIdx.x; item < items; item += gridDim.x)", ["item"]):
        w.scopes[-1].names |= {"example", "tile"}
        if tiles is None:
            w.emit("const I example = item / each, tile = item % each;")
        else:
            w.emit(f"const I example = segment_of({end}, examples, item), tile = item - {before(end, 'example')};")
        for c, n in b.lengths.items():
            sizes[c] = w.inner(f"(I){w.value(n, ('example',))}")
        arrays = [(v, t, k, layout) for k, (v, t, layout) in zip("xy", b.arrays, strict=True)]
        for term, k in [*((t, k) for _, t, k, _ in arrays), (b.out, "out")]:
            if lengths := b.ragged(term):
                w.emit(f"const I start_{k} = {before(end_of(segment(lengths, counts)), 'example')};")
        w.scopes[-1].names |= {"start_x", "start_y", "start_out", "rows", "columns", "inner", "row", "column"}
        w.emit(f"const I rows = {count(rows)}, columns = {count(columns)}, inner = {count(inner)};")
        w.emit(f"const I across = (columns + {width - 1}) / {width}, down = (rows + {height - 1}) / {height};")
        w.emit(f"const I row = tile / across % down * {height}, column = tile % across * {width};")
        outer = split(w.inner("tile / across / down"), batch)
        w.emit(f"{kind} sum[{b.rows}][{b.columns}] = {{}};")
        w.emit(f"__shared__ __align__(16) {kind} tile_x[{_DEPTH}][{height + 4}], tile_y[{_DEPTH}][{width + 4}];")
        with w.scope(f"for (I low = 0; low < inner; low += {_DEPTH})", ["low"]):
            for v, term, k, layout in arrays:
                own, side, first, most = (columns, width, "column", "columns") if k == "y" else (
                    rows, height, "row", "rows")
                w.emit("#pragma unroll")
                with w.scope(f"for (int e = threadIdx.x; e < {side * _DEPTH}; e += {THREADS})", ["e", "k", "i"]):
                    # Whether neighbours in memory, where ragged axes come first, are terms of one sum.
                    deep = max(term, key=lambda c: (c not in b.lengths, term.index(c))) in inner
                    by = (f"e % {_DEPTH}", f"e / {_DEPTH}") if deep else (f"e / {side}", f"e % {side}")
                    w.emit(f"const int d = {by[0]}, r = {by[1]};")
                    w.emit(f"const I k = low + d, i = {first} + r;")
                    w.emit(f"{kind} v = 0;")
                    with w.scope(f"if (k < inner && i < {most})"):
                        indices = {**outer, **split("k", inner), **split("i", own)}
                        w.emit(f"v = {w.value(v, index(term, k, layout, indices))};")
                    w.emit(f"tile_{k}[d][r] = v;")
            w.emit("__syncthreads();")
            w.emit("multiply_tiles(tile_x, tile_y, sum);")
            w.emit("__syncthreads();")
        w.emit("#pragma unroll")
        with w.scope(f"for (int e = 0; e < {b.rows * b.columns}; e++)", ["i", "j"]):
            w.emit(f"const I i = row + threadIdx.x / {_SIDE} * {b.rows} + e / {b.columns};")
            w.emit(f"const I j = column + threadIdx.x % {_SIDE} + e % {b.columns} * {_SIDE};")
            with w.scope("if (i < rows && j < columns)"):
                indices = {**outer, **split("i", rows), **split("j", columns)}
                place = w.linear(index(b.out, "out", "packed" if b.ragged(b.out) else "stacked", indices), node.shape)
                total = cuda_expr.cast(f"sum[e / {b.columns}][e % {b.columns}]", node.dtype)
                w.emit(cuda_expr.store(f"{w.result(node)}[{place}]", total, node.dtype))

    each = height * width // 4  # tiles are not full
    return w.launch(lambda sizes: {"blocks": blocks_for(
        value(size_of(node.shape), sizes) // each + value(b.examples, sizes), 1, _BLOCKS)})

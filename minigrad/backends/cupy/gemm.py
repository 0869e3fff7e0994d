"""Matrix products: the operands as they lie in memory, transposes folded in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...graph import Node
from ...ops.einsum import parse, split_subscripts
from ...ops.elementwise import add
from ...passes.fuse import Roles
from ...primitive import PART
from ...symbolic import Dim, Symbol, size_of, value
from ...views import dense_strides, strided, window
from .codegen import Key
from .kernels import Launch, in_arena

Size = int | Dim
FLOATS = ("float16", "float32", "float64")
BIASED = FLOATS[:2]  # to which cuBLAS adds a bias


@dataclass(frozen=True)
class Strided:
    """An array in memory: where it begins, and how far apart its elements are along each axis, in elements."""

    root: Node
    offset: Size
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]


def as_strides(node: Node, roles: Roles) -> Strided | None:
    """Return a view as strides on the value behind it, or None where it has none (or negative ones)."""
    chain, root = [], node
    while roles.is_view(root) and root.prim.view is not PART:
        if (found := window(root)) is not None and min(found.step, default=1) < 0:
            return None
        chain.append(root)
        root = root.inputs[0]
    offset, strides = 0, dense_strides(root.shape)
    for v in reversed(chain):
        offset, strides = strided(v, offset, strides)
    return Strided(root, offset, tuple(node.shape), strides)


@dataclass(frozen=True)
class Matrix:
    """An operand, row by row or column by column: ``rows × columns``, and how far apart matrices are."""

    offset: Size
    transposed: bool
    lead: Size
    apart: Size


def _matrix(x: Strided, batch: int, rows: bool, columns: bool) -> Matrix | None:
    """Return an operand as a matrix, where one of its axes has stride 1."""
    apart: Size = 0
    if batch:
        apart = x.strides[batch - 1]
        for a in range(batch - 1):
            if x.strides[a] != x.strides[a + 1] * x.shape[a + 1]:
                return None
    own = list(zip(x.shape[batch:], x.strides[batch:], strict=True))
    if not rows:
        own.insert(0, (1, own[0][0] if own[0][1] == 1 else 1))
    if not columns:
        own.append((1, own[0][0] if own[0][1] == 1 else 1))
    (n, down), (m, across) = own
    if across == 1 and _apart(down, m, n):
        return Matrix(x.offset, False, down, apart)
    if down == 1 and _apart(across, n, m):
        return Matrix(x.offset, True, across, apart)
    return None


def _apart(stride: Size, length: Size, count: Size) -> bool:
    """Tell whether lines `stride` apart do not overlap, as BLAS asks."""
    if isinstance(stride, int) and isinstance(length, int):
        return stride >= length
    return (stride != 0 and stride != 1) or length == 1


@dataclass(frozen=True)
class Product:
    """``out = x @ y`` for each of `batch` pairs of matrices, in row-major order."""

    node: Node
    x: Node
    y: Node
    sizes: tuple[Size, Size, Size, Size]  # batch, rows, columns, inner

    def matrices(self, roles: Roles, dense: Callable[[Node], bool]) -> list[tuple[Any, Matrix | None]]:
        """Return each operand as (root, matrix); where it must be copied first, as (itself, None)."""
        terms, out = parse(self.node.params["subscripts"])
        batch, left, right, _ = split_subscripts(*terms, out)
        found = []
        for v, rows, columns in ((self.x, bool(left), True), (self.y, True, bool(right))):
            s = as_strides(v, roles)
            if dense(v) or s is None:
                s, m = None, None
            else:
                m = _matrix(s, len(batch), rows, columns)
            found.append((s.root, m) if m is not None else (v, _matrix(Strided(v, 0, tuple(v.shape), dense_strides(
                v.shape)), len(batch), rows, columns)))
        return found


@dataclass
class Multiply:
    """A matrix product: each operand as the key of its memory and a matrix there.

    Attributes
    ----------
    launch : Launch or None
        The launch that adds `bias`, a vector, to each row of the product, unless cuBLAS adds it.
    """

    product: Product
    operands: list[tuple[Key, Matrix]]
    launch: Launch | None = None
    bias: tuple[Key, Size] | None = None

    @property
    def needs(self) -> set[Key]:
        """The values of the arena that it reads."""
        return set(filter(in_arena, self.touched)) - self.made

    @property
    def made(self) -> set[Key]:
        """The values of the arena that it writes."""
        return {self.product.node} if self.launch is None else {self.product.node, *self.launch.made}

    @property
    def touched(self) -> list[Key]:
        own = [*(k for k, _ in self.operands), self.product.node]
        return own if self.launch is None else [*own, self.bias[0], *self.launch.touched]

    @property
    def slots(self) -> frozenset[int]:
        return frozenset() if self.launch is None else self.launch.slots


@dataclass
class ConcurrentProducts:
    """Products that do not need each other, and may run at the same time."""

    products: list[Multiply]

    @property
    def touched(self) -> list[Key]:
        return [k for p in self.products for k in p.touched]


def product(node: Node) -> Product:
    """Return an einsum in canonical form as a product."""
    terms, out = parse(node.params["subscripts"])
    batch, left, right, inner = split_subscripts(*terms, out)
    size = {**dict(zip(terms[0], node.inputs[0].shape, strict=True)),
            **dict(zip(terms[1], node.inputs[1].shape, strict=True))}
    of = [size_of(size[c] for c in group) for group in (batch, left, right, inner)]
    return Product(node, node.inputs[0], node.inputs[1], tuple(of))


def stretches(found: Product, operands: Sequence[tuple[Node, Matrix]], rows: Collection[Symbol]) -> bool:
    """Tell whether a product may run with larger numbers for `rows` than its operands were written with.

    Then no stride depends on them, and the elements that are added to a sum lie behind all others of their array, where
    zeros can be written.

    Parameters
    ----------
    operands : sequence of (Node, Matrix)
        Each array in memory, and the matrix there.
    """
    batch, m, n, k = found.sizes
    single, loose = batch == 1, [depends(size, rows) for size in (batch, m, n, k)]
    if (not single and any(loose[1:])) or (loose[2] and m != 1):
        return False
    for right, (array, matrix) in enumerate(operands):
        inner = matrix.transposed != bool(right)  # whether the lines of memory count the terms of a sum
        lines = k if inner else n if right else m
        if depends(matrix.offset, rows) or (not single and depends(matrix.apart, rows)):
            return False
        if lines != 1 and depends(matrix.lead, rows):
            return False
        whole = size_of(array.shape)
        if loose[3] and not (whole == k * matrix.lead if inner else matrix.offset == 0 and whole == k):
            return False
    return True


def bias_of(view: Node, total: Node, found: Product, roles: Roles) -> Strided | None:
    """Return the vector that `total` adds to each row of a product, or None where it adds something else.

    `view` is the product in any shape.
    """
    if total.prim is not add or not roles.plain[view] or size_of(view.shape) != size_of(found.node.shape):
        return None
    bias = as_strides(total.inputs[total.inputs[0] is view], roles)
    if bias is None or bias.shape != view.shape or bias.root.dtype != found.node.dtype:
        return None
    rows = next((a for a, s in enumerate(bias.strides) if s != 0), len(bias.shape))
    row = bias.shape[rows:]
    return bias if bias.strides[rows:] == dense_strides(row) and size_of(row) == found.sizes[2] else None


def depends(n: Size, rows: Collection[Symbol]) -> bool:
    """Tell whether a size depends on any of some symbols."""
    return isinstance(n, Dim) and not n.symbols.isdisjoint(rows)


def numbers(matrix: Matrix, sizes: Mapping[Symbol, int]) -> tuple[int, bool, int, int]:
    """Return a matrix's offset, whether it is transposed, its leading size and the distance between matrices."""
    return (value(matrix.offset, sizes), matrix.transposed, max(value(matrix.lead, sizes), 1),
            value(matrix.apart, sizes))

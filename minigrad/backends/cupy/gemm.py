"""Matrix products: operands as matrices in memory, transposes folded in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ...graph import Node
from ...ops.einsum import parse, split_subscripts
from ...ops.elementwise import add
from ...passes.fuse import Roles
from ...primitive import PART
from ...symbolic import Dim, Symbol, size_of, value
from ...views import dense_strides, strided, window
from .codegen import LITERALS, Key
from .kernels import Launch, Op

Size: TypeAlias = int | Dim
FLOATS = ("float16", "float32", "float64")
BIASED = FLOATS[:2]  # to which cuBLAS adds a bias


@dataclass(frozen=True)
class Strided:
    """An array in memory: its offset, and its strides along each axis, in elements."""

    root: Node
    offset: Size
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]


def as_strides(node: Node, roles: Roles) -> Strided | None:
    """Return a view as strides on the value behind it, or None if a stride is negative."""
    chain, root = [], node
    while roles.is_view(root) and root.prim.view is not PART:
        if (view := window(root)) is not None and min(view.step, default=1) < 0:
            return None
        chain.append(root)
        root = root.inputs[0]
    offset: Size = 0
    strides = dense_strides(root.shape)
    for v in reversed(chain):
        offset, strides = strided(v, offset, strides)
    return Strided(root, offset, tuple(node.shape), strides)


@dataclass(frozen=True)
class Matrix:
    """Matrices in row-major or column-major order; `lead` and `apart` are the distances of lines and of matrices."""

    offset: Size
    transposed: bool
    lead: Size
    apart: Size


def _matrix(x: Strided, batch: int, rows: bool, columns: bool) -> Matrix | None:
    """Return an operand as a matrix, or None unless one of its axes has stride 1."""
    if any(x.strides[a] != x.strides[a + 1] * x.shape[a + 1] for a in range(batch - 1)):
        return None
    apart: Size = x.strides[batch - 1] if batch else 0
    own: list[tuple[Size, Size]] = list(zip(x.shape[batch:], x.strides[batch:], strict=True))
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
    """Return whether lines `stride` apart do not overlap, as BLAS demands."""
    if isinstance(stride, int) and isinstance(length, int):
        return stride >= length
    return (stride != 0 and stride != 1) or length == 1


class Product:
    """An einsum in canonical form: ``out = x @ y`` for each of `batch` pairs of matrices, in row-major order.

    Attributes
    ----------
    sizes : tuple of Size
        Batch, rows, columns and inner.
    arrays : list of (Node, Matrix)
        Each operand as an array and the matrix there: the operand itself where it must be copied first.
    """

    def __init__(self, node: Node, roles: Roles):
        terms, out = parse(node.params["subscripts"])
        size = {c: n for v, term in zip(node.inputs, terms, strict=True) for c, n in zip(term, v.shape, strict=True)}
        batch, left, right, inner = split_subscripts(*terms, out)
        self.node = node
        self.sizes = tuple(size_of(size[c] for c in group) for group in (batch, left, right, inner))
        self.arrays: list[tuple[Node, Matrix]] = []
        for v, rows, columns in zip(node.inputs, (bool(left), True), (True, bool(right)), strict=True):
            whole = Strided(v, 0, tuple(v.shape), dense_strides(v.shape))
            ways = [None if roles.root[v].prim in LITERALS else as_strides(v, roles), whole]
            self.arrays.append(next((s.root, m) for s in ways if s is not None and (
                m := _matrix(s, len(batch), rows, columns)) is not None))


@dataclass
class Multiply(Op):
    """A matrix product: each operand as the key of its memory and a matrix there.

    Attributes
    ----------
    launch : Launch or None
        The launch that adds a bias, the third operand, to each row of the product unless cuBLAS adds it.
    """

    product: Product
    operands: list[tuple[Key, Matrix]]
    launch: Launch | None = None

    def __post_init__(self) -> None:
        if self.launch is not None:
            self.slots = self.launch.slots

    @property
    def made(self) -> set[Key]:
        return {self.product.node} if self.launch is None else {self.product.node, *self.launch.made}

    @property
    def touched(self) -> list[Key]:
        return [*(k for k, _ in self.operands), self.product.node, *(self.launch.touched if self.launch else [])]


@dataclass
class ConcurrentProducts(Op):
    """Independent products, which may run at the same time."""

    products: list[Multiply]

    @property
    def touched(self) -> list[Key]:
        return [k for p in self.products for k in p.touched]


def stretches(product: Product, rows: Collection[Symbol]) -> bool:
    """Return whether a product may run with larger numbers for `rows` than those of its operands.

    Then no stride depends on them, and the elements that are added to a sum lie behind all others of their array, where
    zeros can be written.
    """
    batch, m, n, k = product.sizes
    single, loose = batch == 1, [depends(size, rows) for size in (batch, m, n, k)]
    if (not single and any(loose[1:])) or (loose[2] and m != 1):
        return False
    for right, (array, matrix) in enumerate(product.arrays):
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


def bias_of(view: Node, total: Node, product: Product, roles: Roles) -> Strided | None:
    """Return the vector that `total` adds to each row of a product, or None if it adds another array.

    `view` is the product in any shape.
    """
    if total.prim is not add or not roles.plain[view] or size_of(view.shape) != size_of(product.node.shape):
        return None
    bias = as_strides(total.inputs[total.inputs[0] is view], roles)
    if bias is None or bias.shape != view.shape or bias.root.dtype != product.node.dtype:
        return None
    rows = next((a for a, s in enumerate(bias.strides) if s != 0), len(bias.shape))
    row = bias.shape[rows:]
    return bias if bias.strides[rows:] == dense_strides(row) and size_of(row) == product.sizes[2] else None


def depends(n: Size, rows: Collection[Symbol]) -> bool:
    """Return whether a size depends on any of some symbols."""
    return isinstance(n, Dim) and not n.symbols.isdisjoint(rows)


def numbers(matrix: Matrix, sizes: Mapping[Symbol, int]) -> tuple[int, tuple[bool, int, int]]:
    """Return a matrix's offset, and its layout: whether it is transposed, leading size, distance between matrices."""
    return value(matrix.offset, sizes), (matrix.transposed, max(value(matrix.lead, sizes), 1),
                                         value(matrix.apart, sizes))

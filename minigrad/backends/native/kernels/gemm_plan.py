"""Plans of matrix products, made when a program is bound to its sizes: BLAS or generated code, and the blocking.

- BLAS computes products of a matrix and a vector, which run at the speed of memory, and those of matrices that
  `gemm_choice` gives it, by their size and layout.
- Generated code computes all others, and reads operands of any strides.

Both compute pieces of the result on the threads of the whole program. Only a BLAS whose own threads cannot be held
back gets a product whole: they spin for a while after it, and take the cores of others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ....blas import NO_TRANSPOSE, TRANSPOSE
from ....ops.einsum import parse, split_subscripts
from ..codegen.strides import View, merged
from ..codegen.vector_math.lanes import Lanes, maximum, select
from .gemm_choice import NARROW, OTHERS, Choice, Kind

GENERATED, MATRIX, VECTOR = range(3)  # methods: tiles, BLAS's product of matrices, BLAS's of matrix and vector

_DEPTH = 256  # terms of a chain: the first cache holds two vectors of columns of them while rows of the left pass
LONGEST = 288  # the same at most: a short chain reads and writes the result for few terms
COPIED_BYTES = 4 * LONGEST  # bytes of the terms of a chain at most, where the left operand is copied
WIDE = 2  # vectors of columns that are copied at a time; more of them where there are fewer terms
HIGH = 12  # rows of the highest tiles
_READ, _COPIED = (256, 128), (192, 512)  # the least sides of pieces, without and with a transposed left operand
_UNIT = 4  # rows of pieces are multiples of it: lower tiles are slower
# The costs of a vector's multiplications, of 4 bytes that are copied across, and of an element of a transposed result.
_MULTIPLIED, _CROSSED, _TRANSPOSED = 2, 1, 2
_SMALL = 1 << 10  # multiplications that take less time than a call of BLAS
_DOT = 32  # terms from which BLAS computes a stack of few rows with transposed matrices
_PIECE = 1 << 20  # multiplications of one piece of parallel work, at least
_FEW = 4  # pieces of a product that is large enough: at least so many for BLAS
_EACH = 2  # the same for each thread, without BLAS: each piece copies operands, so that few and large ones are faster
_PIECES = 32  # pieces that suffice for any number of threads
_ALONE = {MATRIX: 1 << 18, VECTOR: 1 << 13}  # multiplications for which OpenBLAS takes one thread
_BLAS_PIECE = 1 << 22  # multiplications of one piece for BLAS, at least
_SIDE = 64  # rows and columns of pieces for BLAS are multiples of it
_ROWS = 8  # the same of products of a matrix and a vector: a few long rows have pieces, too
TALL = 264  # rows of one piece, at most: their terms of one chain fill part of the second cache

# The positions of a step's arguments.
(METHOD, BATCH, M, N, K, A_BASE, A_OFFSET, B_BASE, B_OFFSET, C_BASE, C_OFFSET, A_ROW, A_COL, B_ROW,
 B_COL, C_LINE, C_STEP, FLIPPED, ROWS, COLS, GROUP, CHUNK, ROW_BLOCKS, COL_BLOCKS, GROUPS, TRANS_A, TRANS_B,
 LDA, LDB, LDC, AXES) = range(31)
HEAD = 31  # then four for each batch axis: size, and strides of left, right and result


Place: TypeAlias = tuple[int, int]  # a base, and an offset


def shared_by_blas(args: Sequence[int]) -> bool:
    """Return whether BLAS may share a product among threads of its own, given the step's arguments."""
    return args[METHOD] != GENERATED and args[M] * args[N] * args[K] > _ALONE[args[METHOD]]


def lanes(dtype: np.dtype) -> int:
    """Return the elements in one vector of the generated code."""
    return 64 // dtype.itemsize


class Resources(NamedTuple):
    """The BLAS, its products and the threads for them.

    Attributes
    ----------
    blas : bool
        Whether there is a BLAS to call.
    whole : bool
        Whether BLAS gets products whole, as it has threads of its own.
    choice : Choice
        The products that BLAS computes.
    threads : int
        Those that may work on one product. The result does not depend on it.
    """

    blas: bool
    whole: bool = False
    choice: Choice = OTHERS
    threads: int = 1


def gemm_args(subscripts: str, x: View, y: View, out: View, dtype: np.dtype, resources: Resources) -> list[int]:
    """Return the arguments of a step that computes ``out = einsum(subscripts, x, y)``.

    Parameters
    ----------
    subscripts : str
        Those of a matrix product, see `minigrad.passes.lower_einsum.canonical`.
    x, y, out : View
        The operands and the result, which overlaps neither, and is contiguous along its last axis.
    dtype : dtype
        Of all three: float32 or float64.
    resources : Resources

    Returns
    -------
    list of int
    """
    args = _args_anywhere(subscripts, *[v._replace(base=0, offset=0) for v in (x, y, out)], dtype, resources)
    return placed(args, *[(v.base, v.offset) for v in (x, y, out)])


def placed(args: Sequence[int], x: Place, y: Place, out: Place) -> list[int]:
    """Return the arguments of an equal product with operands and result at other places."""
    first, second = (y, x) if args[FLIPPED] else (x, y)
    return [*args[:A_BASE], *first, *second, *out, *args[C_OFFSET + 1:]]


@functools.lru_cache(maxsize=1024)  # equal layers have equal products
def _args_anywhere(subscripts: str, x: View, y: View, out: View, dtype: np.dtype, resources: Resources) -> list[int]:
    """Return the arguments of a step for operands at address 0."""
    terms, result = parse(subscripts)
    batch, left, right, inner = split_subscripts(*terms, result)
    n, item, width = len(batch), dtype.itemsize, lanes(dtype)

    def strides(view: View) -> list[int]:
        return [s // item for s in view.strides]

    (a, b, c) = map(strides, (x, y, out))
    m, k, columns = (x.shape[n] if left else 1), (x.shape[-1] if inner else 1), (y.shape[-1] if right else 1)
    product = Product(m, columns, k, x.base, x.offset, a[n] if left else 0, a[-1], y.base, y.offset, b[n],
                      b[n + 1] if right else 0)
    axes = merged((x.shape[i], a[i], b[i], c[i]) for i in range(n))
    stack = math.prod(axis[0] for axis in axes)
    method = _method(product, stack, width, resources) if resources.blas else GENERATED
    flipped = product.flip_pays(width) if method == GENERATED else method == VECTOR and m == 1
    if flipped:
        product = product.flipped()
        axes = [(size, right, left, to) for size, left, right, to in axes]
    generated = method == GENERATED
    rows, cols = _blocks(product, stack, width, resources.threads) if generated else _blas_blocks(product, method)
    group = max(1, min(_PIECE // 4 // max(rows * cols * k, rows * cols), -(-stack // _PIECES)))
    if resources.whole and not generated:
        rows, cols, group = (max(size, 1) for size in (product.m, product.n, stack))
    line = c[n] if left else 0
    head = product.head(stack, len(axes), width, (rows, cols, group),
                        [out.base, out.offset, line, c[-1] if right else 1, flipped])
    if not generated:
        _add_blas(head, product, method, 1 if flipped else line)
    return head + [v for axis in axes for v in axis]


Number: TypeAlias = Any  # an int, or `Lanes` of generated code


class Product(NamedTuple):
    """A product of two matrices whose sizes are numbers of the host or of generated code.

    Each operand has its place, a base and an offset, and the strides of its rows and columns in elements.
    """

    m: Number
    n: Number
    k: Number
    a_base: Number
    a_offset: Number
    a_row: Number
    a_col: Number
    b_base: Number
    b_offset: Number
    b_row: Number
    b_col: Number

    def flipped(self) -> Product:
        """Return the product of the transposes, ``(x y)ᵀ = yᵀ xᵀ``."""
        return Product(self.n, self.m, self.k, self.b_base, self.b_offset, self.b_col, self.b_row,
                       self.a_base, self.a_offset, self.a_col, self.a_row)

    def flip_pays(self, lanes: int) -> Number:
        """Return whether computing the result's transpose is cheaper: vectors then run along the rows."""
        return (_cost(self.n, self.m, self.k, self.a_row, lanes) + self.n * self.m * _TRANSPOSED
                < _cost(self.m, self.n, self.k, self.b_col, lanes))

    def head(self, stack: Number, axes: Number, lanes: int, shares: Sequence[Number], out: Sequence[Number]
             ) -> list[Number]:
        """Return the head of the arguments of generated code.

        Parameters
        ----------
        stack, axes : int
            The number of products, and of the axes of the stack.
        shares : (int, int, int)
            The rows and columns of one piece of parallel work, and the products of the stack that it works on.
        out : (int, int, int, int, bool)
            The base and the offset of the result, its strides, and whether its transpose is computed.
        """
        rows, cols, group = shares
        terms = (most(self.k, 1) + (lanes - 1)) // lanes * lanes
        head: list[Number] = [0] * HEAD
        m, n, k, a_base, a_offset, a_row, a_col, b_base, b_offset, b_row, b_col = self
        head[:C_BASE] = GENERATED, stack, m, n, k, a_base, a_offset, b_base, b_offset
        head[C_BASE:C_OFFSET + 1], head[C_LINE:FLIPPED + 1] = out[:2], out[2:]
        head[A_ROW:B_COL + 1] = a_row, a_col, b_row, b_col
        # Columns of the right operand are copied whole tiles at a time, as many as fit; a copy column by column writes
        # whole vectors of terms.
        head[ROWS:CHUNK + 1] = rows, cols, group, most(WIDE * _DEPTH // terms // WIDE * WIDE, WIDE) * lanes
        head[ROW_BLOCKS:GROUPS + 1] = ((m + (rows - 1)) // rows, (n + (cols - 1)) // cols,
                                       (stack + (group - 1)) // group)
        head[AXES] = axes
        return head


def most(x: Number, y: int) -> Number:
    return maximum(x, x.const(y)) if isinstance(x, Lanes) else max(x, y)


def _cost(m: Number, n: Number, k: Number, stride: Number, lanes: int) -> Number:
    """Return the approximate cycles of a product whose right operand has `stride` from column to column."""
    work = (n + (lanes - 1)) // lanes * k * most(m, 4) * _MULTIPLIED
    copied, copies = stride != 1, n * k * (_CROSSED * 16 // lanes)
    return work + (select(copied, copies, 0) if isinstance(copied, Lanes) else copied * copies)


# -- numbers of the host alone -------------------------------------------------------------------------------


def _method(p: Product, stack: int, lanes: int, resources: Resources) -> int:
    """Return the fastest method that BLAS's rules for strides allow."""
    left, right = _layout((p.a_row, p.a_col), p.m, p.k), _layout((p.b_row, p.b_col), p.k, p.n)
    work = p.m * p.n * p.k
    if p.m == 1 or p.n == 1:
        matrix, step = (right, p.a_col) if p.m == 1 else (left, p.b_row)
        worth = work > _SMALL or p.flip_pays(lanes)
        return VECTOR if matrix and step > 0 and p.k > 1 and worth else GENERATED
    if left is None or right is None:
        return GENERATED
    cuts = resources.choice.cuts[Kind(64 // lanes, min(p.m, p.n) < NARROW, left[0] == TRANSPOSE, right[0] == TRANSPOSE)]
    if stack == 1 and _SMALL < work <= cuts.small:
        return MATRIX
    if stack > 1 and p.m < 4 and p.k >= _DOT and p.b_col != 1 and cuts.small:  # few rows would read the operand's copy
        return MATRIX
    rows, cols = _blas_blocks(p, MATRIX)
    shared = stack * -(-p.m // rows) * -(-p.n // cols) >= _FEW
    return MATRIX if shared and work >= cuts.large else GENERATED


def _blocks(p: Product, stack: int, lanes: int, threads: int) -> tuple[int, int]:
    """Return the rows and columns of one piece of parallel work.

    Each piece copies its part of the right operand, for all its rows, and fetches its part of the left one from a
    distant cache, for all its columns. So rows are cut first, and columns where too few rows would be left; pieces
    with less than the least sides are made until each thread has one, or equally many. Products of few rows take as
    long as memory does, so that their pieces are smaller.
    """
    piece, blocks = _PIECE if p.m > 4 else _PIECE // 8, -(-p.m // TALL)
    work, board = stack * p.m * p.n * p.k, WIDE * lanes
    pieces = -(-min(_EACH * threads, work // piece) // max(stack, 1)) if threads > 1 else 1
    fewest = max(min(pieces, threads), 1)
    rows, columns = _COPIED if p.a_row == 1 else _READ
    by_row = _even(max(blocks, min(pieces, p.m // rows), 1), fewest)
    by_col = max(min(-(-pieces // by_row), p.n // columns), 1)
    if by_row == 1:
        by_col = max(min(_even(by_col, fewest), -(-p.n // board)), 1)
    if by_row * by_col < fewest:
        by_col = max(min(-(-fewest // by_row), -(-p.n // board)), 1)
        by_row = max(min(-(-fewest // by_col), -(-p.m // _UNIT)), by_row)
    return max(_share(p.m, by_row, _UNIT), 1), max(_share(p.n, by_col, board), 1)


def _even(count: int, threads: int) -> int:
    """Return no fewer parts, equally many for each thread; a single part is whole."""
    return count if count < 2 else -(-count // threads) * threads


def _share(size: int, count: int, unit: int) -> int:
    """Return the size of `count` parts, all multiples of `unit`; a single part is whole."""
    return size if count < 2 else -(-size // (count * unit)) * unit


def _blas_blocks(p: Product, method: int) -> tuple[int, int]:
    """Return the rows and columns of a piece for BLAS, for any number of threads.

    BLAS copies the operands of each piece anew: pieces of 512 rows and columns take 5 hundredths longer than the whole,
    those of 256 take 10 to 20, and smaller ones are worth it for the first few alone.
    """
    rows, cols, pieces = max(p.m, 1), max(p.n, 1), 1
    piece, large, side = (_PIECE // 8, _SIDE, _ROWS) if method == VECTOR else (_BLAS_PIECE, 8 * _SIDE, _SIDE)
    while (max(rows, cols) >= (large if pieces >= _FEW else 2 * side) and rows * cols * p.k >= 2 * piece
           and pieces < _PIECES):
        rows, cols = (_half(rows, side), cols) if rows >= cols else (rows, _half(cols, side))
        pieces = -(-p.m // rows) * -(-p.n // cols)
    return rows, cols


def _half(size: int, side: int) -> int:
    """Return about half of a size: a multiple of `side`."""
    return -(-size // (2 * side)) * side


def _add_blas(head: list[int], p: Product, method: int, line: int) -> None:
    """Add the arguments of BLAS, whose result has `line` elements from row to row."""
    head[METHOD] = method
    if left := _layout((p.a_row, p.a_col), p.m, p.k):
        head[TRANS_A], head[LDA] = left
    if method == MATRIX:
        if right := _layout((p.b_row, p.b_col), p.k, p.n):
            head[TRANS_B], head[LDB] = right
        head[LDC] = max(line, p.n)
        return
    head[LDB], head[LDC] = p.b_row, line


def _layout(strides: tuple[int, int], rows: int, cols: int) -> tuple[int, int] | None:
    """Return BLAS's transpose flag and leading dimension of a matrix, or None if it cannot read it."""
    row, col = strides
    if (col == 1 or cols == 1) and (row >= max(cols, 1) or rows == 1):
        return NO_TRANSPOSE, max(row if rows > 1 else 0, cols, 1)
    if (row == 1 or rows == 1) and (col >= max(rows, 1) or cols == 1):
        return TRANSPOSE, max(col if cols > 1 else 0, rows, 1)
    return None

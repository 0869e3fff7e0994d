"""Plans of matrix products, made when a program is bound to its sizes: BLAS or generated code, and the blocking.

- BLAS computes products of a matrix and a vector, which run at the speed of memory, those of two or three rows with
  the transpose of a matrix, and large products.
- Generated code computes all others: it is faster for few rows or columns, for outer products and stacks of small
  products, reads operands of any strides, and runs on the threads of the whole program. A BLAS has threads of its own,
  which spin for a while after a product and take the cores of others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ops.einsum import parse, split_subscripts
from ..codegen.strides import View, merged
from ..runtime.blas import NO_TRANSPOSE, TRANSPOSE

DEPTH = 1024  # bytes of the terms of one chain: the right operand's stay in the cache while rows of the left pass
WIDE = 4  # vectors of columns that are copied at a time; more of them where there are fewer terms
_SMALL = 1 << 10  # multiplications that take less time than a call of BLAS
_LARGE = 1 << 29  # multiplications from which BLAS is at least as fast
_PIECE = 1 << 20  # multiplications of one piece of parallel work, at least
_FEW = 4  # pieces, at least, of a product that is large enough
_PIECES = 32  # pieces that suffice for any number of threads
TALL = 128  # rows of one piece, at most

GENERATED, MATRIX, VECTOR = range(3)  # methods: tiles, BLAS's product of matrices, BLAS's of matrix and vector

# The positions of a step's arguments.
(METHOD, BATCH, M, N, K, A_BASE, A_OFFSET, B_BASE, B_OFFSET, C_BASE, C_OFFSET, A_ROW, A_COL, B_ROW,
 B_COL, C_LINE, C_STEP, FLIPPED, ROWS, COLS, GROUP, CHUNK, ROW_BLOCKS, COL_BLOCKS, GROUPS, TRANS_A, TRANS_B,
 LDA, LDB, LDC, AXES) = range(31)
HEAD = 31  # then four for each batch axis: size, and strides of left, right and result


def lanes(dtype: np.dtype) -> int:
    """Return the elements in one vector of the generated code."""
    return 64 // np.dtype(dtype).itemsize


def gemm_args(subscripts: str, x: View, y: View, out: View, dtype: np.dtype, blas: bool) -> list[int]:
    """Return the arguments of a step that computes ``out = einsum(subscripts, x, y)``.

    Parameters
    ----------
    subscripts : str
        Those of a matrix product, see `minigrad.passes.lower_einsum.canonical`.
    x, y, out : View
        The operands and the result, which overlaps neither, and is contiguous along its last axis.
    dtype : dtype
        Of all three: float32 or float64.
    blas : bool
        Whether the step has a BLAS to call.

    Returns
    -------
    list of int
    """
    terms, result = parse(subscripts)
    batch, left, right, inner = split_subscripts(*terms, result)
    n = len(batch)
    item = np.dtype(dtype).itemsize

    def strides(view: View) -> list[int]:
        return [s // item for s in view.strides]

    (a, b, c) = map(strides, (x, y, out))
    m, k, columns = (x.shape[n] if left else 1), (x.shape[-1] if inner else 1), (y.shape[-1] if right else 1)
    rows_a, cols_a = (a[n] if left else 0), a[-1]
    rows_b, cols_b = b[n], (b[n + 1] if right else 0)
    rows_c, cols_c = (c[n] if left else 0), (c[-1] if right else 1)
    axes = merged((x.shape[i], a[i], b[i], c[i]) for i in range(n))
    stack = math.prod(axis[0] for axis in axes)
    case = _Case(stack, m, columns, k, (rows_a, cols_a), (rows_b, cols_b), (rows_c, cols_c), lanes(dtype))
    return case.pack((x, y, out), axes, blas)


@dataclass(frozen=True)
class _Case:
    """The sizes of one product, and its strides in elements."""

    stack: int
    m: int
    n: int
    k: int
    a: tuple[int, int]
    b: tuple[int, int]
    c: tuple[int, int]
    lanes: int

    def pack(self, views: Sequence[View], axes: list[tuple[int, ...]], blas: bool) -> list[int]:
        x, y, out = views
        m, n, k, a, b, c = self.m, self.n, self.k, self.a, self.b, self.c
        method = self.method() if blas else GENERATED
        flipped = self.wants_flip() if method == GENERATED else method == VECTOR and m == 1
        if flipped:  # (x y)ᵀ = yᵀ xᵀ
            m, n, a, b, x, y = n, m, b[::-1], a[::-1], y, x
            axes = [(size, right, left, to) for size, left, right, to in axes]
        rows, cols = self.blocks(m, n)
        head = [0] * HEAD
        head[METHOD], head[BATCH], head[M], head[N], head[K] = method, self.stack, m, n, k
        head[A_BASE:C_OFFSET + 1] = [x.base, x.offset, y.base, y.offset, out.base, out.offset]
        head[A_ROW], head[A_COL] = a
        head[B_ROW], head[B_COL] = b
        head[C_LINE], head[C_STEP], head[FLIPPED] = *c, flipped
        group = self.group(rows * cols)
        head[ROWS], head[COLS], head[GROUP], head[CHUNK] = rows, cols, group, self.chunk()
        head[ROW_BLOCKS], head[COL_BLOCKS], head[GROUPS] = -(-m // rows), -(-n // cols), -(-self.stack // group)
        if method != GENERATED and (left := _layout(a, m, k)):
            head[TRANS_A], head[LDA] = left
        if method == MATRIX and (right := _layout(b, k, n)):
            head[TRANS_B], head[LDB] = right
            head[LDC] = max(c[0], n)
        elif method == VECTOR:
            head[LDB], head[LDC] = b[0], 1 if flipped else c[0]
            if head[TRANS_A] == TRANSPOSE:  # BLAS takes the sizes of the matrix as it lies there
                head[M], head[K] = k, m
        head[AXES] = len(axes)
        return head + [v for axis in axes for v in axis]

    def method(self) -> int:
        """Return the fastest method that BLAS's rules for strides allow."""
        left, right = _layout(self.a, self.m, self.k), _layout(self.b, self.k, self.n)
        work = self.m * self.n * self.k
        if self.m == 1 or self.n == 1:
            matrix, step = (right, self.a[1]) if self.m == 1 else (left, self.b[0])
            worth = work > _SMALL or self.wants_flip()
            return VECTOR if matrix and step > 0 and self.k > 1 and worth else GENERATED
        turned = self.m < 4 and self.wants_flip()  # most of each vector would be empty
        return MATRIX if left and right and (work > _LARGE or turned) else GENERATED

    def wants_flip(self) -> bool:
        """Return whether computing the result's transpose is cheaper: vectors then run along the rows."""
        return (_cost(self.n, self.m, self.k, self.a[0], self.lanes) + self.n * self.m
                < _cost(self.m, self.n, self.k, self.b[1], self.lanes))

    def chunk(self) -> int:
        """Return the columns of the right operand that are copied at a time: whole tiles that fit.

        A copy column by column writes whole vectors of terms.
        """
        depth, terms = DEPTH * self.lanes // 64, -(-max(self.k, 1) // self.lanes) * self.lanes
        return self.lanes * max(WIDE, WIDE * depth // terms // 2 * 2)

    def blocks(self, m: int, n: int) -> tuple[int, int]:
        """Return the rows and columns of one piece of parallel work, for any number of threads."""
        rows, cols = max(min(m, TALL), 1), WIDE * self.lanes
        piece = _PIECE if m > 4 else _PIECE // 8  # few rows take as long as memory does
        while cols < n and (rows * cols * self.k < piece or self.stack * -(-m // rows) * -(-n // cols) > _PIECES):
            cols *= 2
        cols = max(min(n, cols), 1)
        # A small result of many terms, as a weight's gradient: fewer rows, so that several threads have pieces.
        while self.stack * -(-m // rows) * -(-n // cols) < _FEW and rows * cols * self.k >= 2 * _PIECE and rows >= 16:
            rows = -(-rows // 16) * 8
        return rows, cols

    def group(self, elements: int) -> int:
        """Return the products of the stack in one piece of parallel work, given the elements of each."""
        return max(1, min(_PIECE // 4 // max(elements * self.k, elements), -(-self.stack // _PIECES)))


def _cost(m: int, n: int, k: int, stride: int, lanes: int) -> float:
    """Return the approximate cycles of a product whose right operand has `stride` from column to column."""
    vectors = -(-n // lanes)
    copied = 0.0 if stride == 1 else n * k * 1.0
    return vectors * k * max(m, 4) + copied


def _layout(strides: tuple[int, int], rows: int, cols: int) -> tuple[int, int] | None:
    """Return BLAS's transpose flag and leading dimension of a matrix, or None if it cannot read it."""
    row, col = strides
    if (col == 1 or cols == 1) and (row >= max(cols, 1) or rows == 1):
        return NO_TRANSPOSE, max(row if rows > 1 else 0, cols, 1)
    if (row == 1 or rows == 1) and (col >= max(rows, 1) or cols == 1):
        return TRANSPOSE, max(col if cols > 1 else 0, rows, 1)
    return None

"""Matrix products inside native programs: through NumPy's BLAS, by address, or in generated code.

Which of the two a product takes is decided when a program is bound to its sizes, where all sizes and strides are known:

- BLAS takes products of a matrix and a vector, which are as fast as memory is, those of two or three rows with the
  transpose of a matrix, and large products.
- Generated code takes all others: it is faster where there are few rows or columns, for outer products and stacks of
  small products, takes operands of any strides, and shares its work out over the threads that the rest of a program
  uses. A BLAS has threads of its own, which keep looking for work for a while and meanwhile take the cores of others.

The generated code works on tiles of a few rows and a few vectors of columns, which stay in registers while it runs
along the contracted axis. A tile's rows of the right operand are read where they are, or are first copied side by side
if their elements are not, or do not fill whole vectors. The result's transpose can be computed instead, so that an
operand that is already the way the tiles want it takes the right operand's place. Each element of the result is a
chain of fused multiply-adds over at most `_DEPTH` bytes of terms in order, and then a sum of those chains in order: it
depends neither on how a product is cut into tiles nor on the number of threads. (What BLAS computes may, in its last
bits, depend on the number of its own threads.)

A bias or an activation is not applied to pieces of the result while they are in the cache: measured on pieces of 128
rows, that was no faster than a pass after the product, beyond what measurements of the same scatter.

The blocking is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from ...ops.contract import parse, split_subscripts
from .blas import NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE
from .target import Target, has_fma, host

_I64, _I32, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)
_PTR, _VOID = ir.PointerType(), ir.VoidType()

_DEPTH = 1024  # bytes of the terms of one chain: the right operand's stay in the cache while rows of the left pass
_WIDE = 4  # vectors of columns that are copied at a time; more of them where there are fewer terms
_SMALL = 1 << 10  # multiplications that are done before BLAS has begun
_LARGE = 1 << 29  # multiplications from which on BLAS is at least as fast
_PIECE = 1 << 20  # multiplications of one piece of parallel work, at least
_PIECES = 32  # pieces that are enough for any number of threads to share them out
_TALL = 128  # rows of one piece, at most
_BOARD = 4  # vectors of columns that a tile has at most
_TURNED = 8  # rows that are turned into columns at a time: as many as a tile has at most

GENERATED, MATRIX, VECTOR = range(3)  # how: tiles, BLAS's matrix product, BLAS's matrix and vector

# The places of a step's arguments.
(_METHOD, _BATCH, _M, _N, _K, _A_BASE, _A_OFFSET, _B_BASE, _B_OFFSET, _C_BASE, _C_OFFSET, _A_ROW, _A_COL, _B_ROW,
 _B_COL, _C_LINE, _FLIPPED, _ROWS, _COLS, _GROUP, _CHUNK, _ROW_BLOCKS, _COL_BLOCKS, _GROUPS, _TRANS_A, _TRANS_B,
 _LDA, _LDB, _LDC, _AXES) = range(30)
_HEAD = 30  # then four for each batch axis: size, and strides of left, right and result


def lanes(dtype: np.dtype) -> int:
    """Return the elements in one vector of the generated code."""
    return 64 // np.dtype(dtype).itemsize


# -- what is decided when the sizes are known ----------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """An operand: where it is, and how its elements lie there.

    Attributes
    ----------
    base : int
        Which of the addresses that a call brings.
    offset : int
        Bytes from there to the first element.
    shape : tuple of int
    strides : tuple of int
        In bytes; of any sign, and 0 along axes that are repeated.
    """

    base: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def gemm_args(subscripts: str, x: View, y: View, out: View, dtype: np.dtype, blas: bool) -> np.ndarray:
    """Return the arguments of a step that computes ``out = einsum(subscripts, x, y)``.

    Parameters
    ----------
    subscripts : str
        Those of a matrix product, see `minigrad.passes.lower.canonical`.
    x, y, out : View
        The operands and the result, which overlaps neither, and whose elements are side by side along its last axis.
    dtype : dtype
        Of all three: float32 or float64.
    blas : bool
        Whether the step was made for a BLAS.

    Returns
    -------
    ndarray of int64
    """
    terms, result = parse(subscripts)
    batch, left, right, inner = split_subscripts(*terms, result)
    n = len(batch)
    item = np.dtype(dtype).itemsize

    def strides(view: View) -> list[int]:
        return [s // item for s in view.strides]

    (a, b, c) = map(strides, (x, y, out))
    size = dict(zip(terms[0] + terms[1], x.shape + y.shape, strict=True))
    m, columns, k = (size[group] if group else 1 for group in (left, right, inner))
    rows_a, cols_a = (a[n] if left else 0), a[-1]
    rows_b, cols_b = b[n], (b[n + 1] if right else 0)
    rows_c, cols_c = (c[n] if left else 0), (c[-1] if right else 1)
    axes = _merged([(size[letter], a[i], b[i], c[i]) for i, letter in enumerate(batch)])
    stack = int(np.prod([axis[0] for axis in axes], dtype=np.int64))
    case = _Case(stack, m, columns, k, (rows_a, cols_a), (rows_b, cols_b), (rows_c, cols_c), lanes(dtype))
    return case.pack((x, y, out), axes, blas)


def _merged(axes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Drop axes of one element, and join those along which each operand goes on as along the next."""
    found: list[tuple[int, ...]] = []
    for axis in axes:
        if axis[0] == 1:
            continue
        if found and all(outer == s * axis[0] for outer, s in zip(found[-1][1:], axis[1:], strict=True)):
            found[-1] = (found[-1][0] * axis[0], *axis[1:])
        else:
            found.append(axis)
    return found


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

    def pack(self, views: Sequence[View], axes: list[tuple[int, ...]], blas: bool) -> np.ndarray:
        x, y, out = views
        m, n, k, a, b, c = self.m, self.n, self.k, self.a, self.b, self.c
        method = self.method() if blas else GENERATED
        flipped = self.wants_flip() if method == GENERATED else method == VECTOR and m == 1
        if flipped:  # (x y)ᵀ = yᵀ xᵀ
            m, n, a, b, x, y = n, m, b[::-1], a[::-1], y, x
            axes = [(size, right, left, to) for size, left, right, to in axes]
        rows, cols = self.blocks(m, n)
        head = [0] * _HEAD
        head[_METHOD], head[_BATCH], head[_M], head[_N], head[_K] = method, self.stack, m, n, k
        head[_A_BASE:_C_OFFSET + 1] = [x.base, x.offset, y.base, y.offset, out.base, out.offset]
        head[_A_ROW], head[_A_COL] = a
        head[_B_ROW], head[_B_COL] = b
        head[_C_LINE], head[_FLIPPED] = c[0], flipped
        group = self.group(rows * cols)
        head[_ROWS], head[_COLS], head[_GROUP], head[_CHUNK] = rows, cols, group, self.chunk()
        head[_ROW_BLOCKS], head[_COL_BLOCKS], head[_GROUPS] = -(-m // rows), -(-n // cols), -(-self.stack // group)
        if method != GENERATED:
            head[_TRANS_A], head[_LDA] = _layout(a, m, k)
        if method == MATRIX:
            head[_TRANS_B], head[_LDB] = _layout(b, k, n)
            head[_LDC] = max(c[0], n)
        elif method == VECTOR:
            head[_LDB], head[_LDC] = b[0], 1 if flipped else c[0]
            if head[_TRANS_A] == TRANSPOSE:  # BLAS takes the sizes of the matrix as it lies there
                head[_M], head[_K] = k, m
        head[_AXES] = len(axes)
        return np.array(head + [v for axis in axes for v in axis], np.int64)

    def method(self) -> int:
        """Return which way is the fastest of those that BLAS's rules for strides leave."""
        left, right = _layout(self.a, self.m, self.k), _layout(self.b, self.k, self.n)
        work = self.m * self.n * self.k
        if self.m == 1 or self.n == 1:
            matrix, step = (right, self.a[1]) if self.m == 1 else (left, self.b[0])
            worth = work > _SMALL or self.wants_flip()
            return VECTOR if matrix and step > 0 and self.k > 1 and worth else GENERATED
        turned = self.m < 4 and self.wants_flip()  # most of each vector would be empty
        return MATRIX if left and right and (work > _LARGE or turned) else GENERATED

    def wants_flip(self) -> bool:
        """Tell whether the result's transpose is the better one to compute: vectors then run along the rows."""
        return (_cost(self.n, self.m, self.k, self.a[0], self.lanes) + self.n * self.m
                < _cost(self.m, self.n, self.k, self.b[1], self.lanes))

    def chunk(self) -> int:
        """Return how many columns of the right operand are copied at a time: whole tiles, so many that they fit."""
        depth = _DEPTH * self.lanes // 64
        return self.lanes * max(_WIDE, _WIDE * depth // max(self.k, 1) // 2 * 2)

    def blocks(self, m: int, n: int) -> tuple[int, int]:
        """Return how many rows and columns one piece of parallel work has; it does not depend on who does it."""
        rows, cols = max(min(m, _TALL), 1), _WIDE * self.lanes
        piece = _PIECE if m > 4 else _PIECE // 8  # few rows take as long as memory does
        while cols < n and (rows * cols * self.k < piece or self.stack * -(-m // rows) * -(-n // cols) > _PIECES):
            cols *= 2
        return rows, max(min(n, cols), 1)

    def group(self, elements: int) -> int:
        """Return how many products of the stack one piece of parallel work has, if it has so many elements of each."""
        return max(1, min(_PIECE // 4 // max(elements * self.k, elements), -(-self.stack // _PIECES)))


def _cost(m: int, n: int, k: int, stride: int, lanes: int) -> float:
    """Return the cycles, about, of a product whose right operand has `stride` from column to column."""
    vectors = -(-n // lanes)
    copied = 0.0 if stride == 1 else n * k * 1.0
    return vectors * k * max(m, 4) + copied


def _layout(strides: tuple[int, int], rows: int, cols: int) -> tuple[int, int] | None:
    """Return how BLAS would read a matrix: the transpose flag and the leading dimension; None if it cannot."""
    row, col = strides
    if (col == 1 or cols == 1) and (row >= max(cols, 1) or rows == 1):
        return NO_TRANSPOSE, max(row if rows > 1 else 0, cols, 1)
    if (row == 1 or rows == 1) and (col >= max(rows, 1) or cols == 1):
        return TRANSPOSE, max(col if cols > 1 else 0, rows, 1)
    return None


# -- the step in IR ------------------------------------------------------------------------------------------


def emit_gemm(module: ir.Module, name: str, dtype: np.dtype, blas_bits: int | None,
              machine: Target | None = None) -> ir.Function:
    """Add a step ``void name(i64 *args, i8 **bases)`` to a module: any matrix product of one dtype.

    Parameters
    ----------
    module : ir.Module
    name : str
    dtype : dtype
        float32 or float64.
    blas_bits : int or None
        The width of BLAS's integers. The module then needs the symbols of `blas.symbols`. None: generated code only.
    machine : Target, optional
        What the code is for; this machine otherwise.

    Notes
    -----
    The module needs the symbol ``mg_parallel``.
    """
    return _Gemm(module, name, np.dtype(dtype), blas_bits, machine or host()).step()


def module(dtype: np.dtype, blas_bits: int | None) -> str:
    """Return the text of a module whose function ``product`` is the step `emit_gemm` makes."""
    made = ir.Module("products")
    emit_gemm(made, "product", dtype, blas_bits)
    return str(made)


def tile(machine: Target, rows: int) -> int:
    """Return how many vectors of columns a tile of so many rows has at most.

    The sums of a tile fill half the registers or more: 16 vectors of 32 where a register holds a whole one, otherwise 6
    (12 registers of 16 with AVX2, 24 of 32 on ARM). The result does not depend on the tiles.
    """
    if not wide_registers(machine):
        return 1
    return 4 if rows <= 2 else 2


def heights(machine: Target) -> tuple[int, ...]:
    """Return how many rows tiles have: rows are cut into the highest, what is left into lower ones."""
    return (8, 4, 2, 1) if wide_registers(machine) else (6, 4, 2, 1)


def wide_registers(machine: Target) -> bool:
    """Tell whether the machine has 32 registers of 64 bytes."""
    return machine.cpu == "x86-64-v4" or "+avx512f" in machine.features.split(",")


class _Gemm:
    def __init__(self, module: ir.Module, name: str, dtype: np.dtype, blas_bits: int | None, machine: Target):
        self.module, self.name, self.dtype, self.blas_bits, self.machine = module, name, dtype, blas_bits, machine
        self.heights, self.fused = heights(machine), has_fma(machine)
        self.scalar = ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
        self.item, self.lanes, self.depth = dtype.itemsize, lanes(dtype), _DEPTH // dtype.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        suffix = f"v{self.lanes}f{8 * self.item}"
        self.fma = _declare(module, f"llvm.fma.{suffix}", self.vector, [self.vector] * 3)
        mask = ir.VectorType(_I1, self.lanes)
        self.masked_load = _declare(module, f"llvm.masked.load.{suffix}.p0", self.vector,
                                    [_PTR, _I32, mask, self.vector])
        self.masked_store = _declare(module, f"llvm.masked.store.{suffix}.p0", _VOID, [self.vector, _PTR, _I32, mask])

    def function(self, name: str, arguments: Sequence[ir.Type]) -> tuple[ir.Function, ir.IRBuilder]:
        f = ir.Function(self.module, ir.FunctionType(_VOID, arguments), f"{self.name}{name}")
        f.linkage = "internal" if name else ""
        return f, ir.IRBuilder(f.append_basic_block("entry"))

    # -- tiles

    def tile_function(self, rows: int, cols: int) -> ir.Function:
        """Emit ``a b`` for a tile; the sums go to a board of `_BOARD` vectors per row."""
        f, b = self.function(f"_{rows}x{cols}", [_I64, _PTR, _I64, _I64, _PTR, _I64, _PTR])
        k, left, a_row, a_col, right, b_row, board = f.args
        starts = [self.at(b, left, b.mul(_int(i), a_row)) for i in range(rows)]
        sums = [[self.local(b, self.vector, ir.Constant(self.vector, None)) for _ in range(cols)] for _ in range(rows)]
        with _loop(b, _int(0), k) as index:
            line_of_b = self.at(b, right, b.mul(index, b_row))
            columns = [self.load(b, self.at(b, line_of_b, _int(j * self.lanes))) for j in range(cols)]
            step = b.mul(index, a_col)
            for start, sums_of_row in zip(starts, sums, strict=True):
                factor = self.spread(b, b.load(self.at(b, start, step), typ=self.scalar))
                for column, place in zip(columns, sums_of_row, strict=True):
                    old = b.load(place, typ=self.vector)
                    b.store(self.multiply_add(b, factor, column, old), place)
        for i, row in enumerate(sums):
            for j, place in enumerate(row):
                self.store(b, b.load(place, typ=self.vector), self.at(b, board, _int((i * _BOARD + j) * self.lanes)))
        b.ret_void()
        return f

    def put(self) -> ir.Function:
        """Emit how a tile whose rows are the result's is written, or added; `width` columns of it are there."""
        f, b = self.function("_put", [_I64, _I64, _PTR, _PTR, _I64, _I64, _I1])
        rows, cols, board, out, line, width, add = f.args
        align, always = ir.Constant(_I32, self.item), self.spread(b, add)
        with _loop(b, _int(0), cols) as j:
            across = b.mul(j, _int(self.lanes))
            mask = self.first(b, b.sub(width, across))
            adding = b.and_(mask, always)
            with _loop(b, _int(0), rows) as i:
                value = self.load(b, self.at(b, board, b.add(b.mul(i, _int(_BOARD * self.lanes)), across)))
                place = self.at(b, out, b.add(b.mul(i, line), across))
                old = self.load_some(b, place, adding)
                b.call(self.masked_store, [b.fadd(old, value), place, align, mask])
        b.ret_void()
        return f

    def put_flipped(self) -> ir.Function:
        """Emit how a tile whose rows are the result's columns is written, or added."""
        f, b = self.function("_turn", [_I64, _I64, _PTR, _PTR, _I64, _I64, _I1])
        rows, cols, board, out, line, width, add = f.args
        part_type, groups = ir.VectorType(self.scalar, _TURNED), self.lanes // _TURNED
        bits, suffix = ir.VectorType(_I1, _TURNED), f"v{_TURNED}f{8 * self.item}"
        load = _declare(self.module, f"llvm.masked.load.{suffix}.p0", part_type, [_PTR, _I32, bits, part_type])
        store = _declare(self.module, f"llvm.masked.store.{suffix}.p0", _VOID, [part_type, _PTR, _I32, bits])
        align, nothing = ir.Constant(_I32, self.item), ir.Constant(part_type, None)
        numbers = ir.Constant(ir.VectorType(_I64, _TURNED), list(range(_TURNED)))
        with _loop(b, _int(0), cols) as j:
            across = b.mul(j, _int(self.lanes))
            tile_rows = [self.load(b, self.at(b, board, b.add(_int(i * _BOARD * self.lanes), across)))
                         for i in range(_TURNED)]
            for t, vector in enumerate(_transposed(b, tile_rows)):
                for g in range(groups):
                    lanes_of = ir.Constant(ir.VectorType(_I32, _TURNED), list(range(g * _TURNED, (g + 1) * _TURNED)))
                    part = b.shuffle_vector(vector, vector, lanes_of)
                    part.type = part_type
                    column = b.add(across, _int(t * groups + g))
                    there = b.select(b.icmp_signed("<", column, width), rows, _int(0))
                    mask = b.icmp_signed("<", numbers, _spread(b, there, _TURNED))
                    place = self.at(b, out, b.mul(column, line))
                    old = b.call(load, [place, align, b.and_(mask, _spread(b, add, _TURNED)), nothing])
                    b.call(store, [b.fadd(old, part), place, align, mask])
        b.ret_void()
        return f

    def tiles(self) -> ir.Function:
        """Emit the choice of the tile function by rows and vectors of columns, and of how its result is written."""
        kinds = [_I64, _PTR, _I64, _I64, _PTR, _I64]
        f, b = self.function("_tile", [_I64, _I64, _I1, *kinds, _PTR, _I64, _I64, _I1])
        rows, cols, flipped, *rest = f.args
        operands, written = rest[:len(kinds)], rest[len(kinds):]
        board = b.alloca(self.vector, size=_int(_TURNED * _BOARD), name="board")
        board.align = 64
        most = 16  # more than any tile has rows or columns
        done = f.append_basic_block("done")
        switch = b.switch(b.add(b.mul(cols, _int(most)), rows), done)
        for r in self.heights:
            for c in {1, tile(self.machine, r)}:
                block = f.append_basic_block(f"r{r}c{c}")
                with b.goto_block(block):
                    b.call(self.tile_function(r, c), [*operands, board])
                    b.branch(done)
                switch.add_case(_int(c * most + r), block)
        b.position_at_end(done)
        with b.if_else(flipped) as (turned, straight):
            with turned:
                b.call(self.put_flipped(), [rows, cols, board, *written])
            with straight:
                b.call(self.put(), [rows, cols, board, *written])
        b.ret_void()
        return f

    # -- blocks

    def packer(self) -> ir.Function:
        """Emit the copy of ``depth × width`` elements, side by side in lines of `line`, with zeros behind."""
        f, b = self.function("_pack", [_PTR, _I64, _I64, _I64, _I64, _PTR, _I64])
        source, row, col, depth, width, to, line = f.args
        one = _int(1)
        with b.if_then(b.icmp_signed("==", col, one)):
            self.pack_lines(b, source, row, depth, width, to, line)
            b.ret_void()
            b.position_at_end(f.append_basic_block("turned"))
        with b.if_then(b.icmp_signed("==", row, one)):
            self.pack_turned(b, source, col, depth, width, to, line)
            b.ret_void()
            b.position_at_end(f.append_basic_block("scattered"))
        with _loop(b, _int(0), depth) as i:
            from_line, to_line = self.at(b, source, b.mul(i, row)), self.at(b, to, b.mul(i, line))
            with _loop(b, _int(0), width) as j:
                value = b.load(self.at(b, from_line, b.mul(j, col)), typ=self.scalar)
                b.store(value, self.at(b, to_line, j))
            with _loop(b, width, line) as j:
                b.store(ir.Constant(self.scalar, 0), self.at(b, to_line, j))
        b.ret_void()
        return f

    def pack_lines(self, b: ir.IRBuilder, source: ir.Value, row: ir.Value, depth: ir.Value, width: ir.Value,
                   to: ir.Value, line: ir.Value) -> None:
        """Copy lines whose elements are side by side."""
        with _loop(b, _int(0), line, _int(self.lanes)) as j:
            mask = self.first(b, b.sub(width, j))
            with _loop(b, _int(0), depth) as i:
                value = self.load_some(b, self.at(b, source, b.add(b.mul(i, row), j)), mask)
                self.store(b, value, self.at(b, to, b.add(b.mul(i, line), j)))

    def pack_turned(self, b: ir.IRBuilder, source: ir.Value, col: ir.Value, depth: ir.Value, width: ir.Value,
                    to: ir.Value, line: ir.Value) -> None:
        """Copy columns whose elements are side by side: eight at a time, a vector of each."""
        part_type = ir.VectorType(self.scalar, _TURNED)
        with _loop(b, _int(0), line, _int(_TURNED)) as j, _loop(b, _int(0), depth, _int(self.lanes)) as i:
            below = b.sub(depth, i)
            columns = []
            for q in range(_TURNED):
                there = b.icmp_signed("<", b.add(j, _int(q)), width)
                mask = self.first(b, b.select(there, below, _int(0)))
                columns.append(self.load_some(b, self.at(b, source, b.add(b.mul(b.add(j, _int(q)), col), i)), mask))
            for t, vector in enumerate(_transposed(b, columns)):
                groups = self.lanes // _TURNED
                for g in range(groups):
                    part = b.shuffle_vector(vector, vector, ir.Constant(
                        ir.VectorType(_I32, _TURNED), list(range(g * _TURNED, (g + 1) * _TURNED))))
                    place = b.add(b.mul(b.add(i, _int(t * groups + g)), line), j)
                    part.type = part_type
                    b.store(part, self.at(b, to, place), align=self.item)

    def block(self) -> ir.Function:
        """Emit one piece of parallel work: some rows and columns of one product of the stack."""
        tiles, pack = self.tiles(), self.packer()
        f, b = self.function("_block", [_PTR, _I64, _I64])
        context, item, _ = f.args
        args = b.load(context, typ=_PTR)
        bases = b.load(b.gep(context, [_int(1)], source_etype=_PTR), typ=_PTR)
        packed = b.alloca(self.vector, size=_int(self.depth * _WIDE), name="packed")
        packed.align = 64

        def arg(place: int) -> ir.Value:
            return _arg(b, args, place)

        t, column = _divmod(b, item, arg(_COL_BLOCKS))
        group, row = _divmod(b, t, arg(_ROW_BLOCKS))
        first = b.mul(group, arg(_GROUP))
        with _loop(b, first, _min(b, b.add(first, arg(_GROUP)), arg(_BATCH))) as index:
            self.product(b, args, self.operands(b, args, bases, index), row, column, packed, tiles, pack)
        b.ret_void()
        return f

    def product(self, b: ir.IRBuilder, args: ir.Value, operands: list[ir.Value], row: ir.Value, column: ir.Value,
                packed: ir.Value, tiles: ir.Function, pack: ir.Function) -> None:
        """Emit one piece of one product: the rows and columns of the result that `row` and `column` count."""
        def arg(place: int) -> ir.Value:
            return _arg(b, args, place)

        a, right, out = operands
        a_row, a_col, b_row, b_col, line = (arg(p) for p in (_A_ROW, _A_COL, _B_ROW, _B_COL, _C_LINE))
        flipped = b.trunc(arg(_FLIPPED), _I1)
        out_row, out_col = b.select(flipped, _int(1), line), b.select(flipped, line, _int(1))
        low, left = b.mul(row, arg(_ROWS)), b.mul(column, arg(_COLS))
        rows = _min(b, arg(_ROWS), b.sub(arg(_M), low))
        cols = _min(b, arg(_COLS), b.sub(arg(_N), left))
        a = self.at(b, a, b.mul(low, a_row))
        right = self.at(b, right, b.mul(left, b_col))
        out = self.at(b, out, b.add(b.mul(low, out_row), b.mul(left, out_col)))
        chunk = arg(_CHUNK)
        # A product of no terms is zero: there is one turn then, of no depth.
        with _loop(b, _int(0), _max(b, arg(_K), _int(1)), _int(self.depth)) as k:
            depth = _min(b, _int(self.depth), b.sub(arg(_K), k))
            add = b.icmp_signed(">", k, _int(0))
            a_here = self.at(b, a, b.mul(k, a_col))
            with _loop(b, _int(0), cols, chunk) as j:
                width = _min(b, chunk, b.sub(cols, j))
                here = self.at(b, right, b.add(b.mul(k, b_row), b.mul(j, b_col)))
                vectors = b.sdiv(b.add(width, _int(self.lanes - 1)), _int(self.lanes))
                padded = b.mul(vectors, _int(self.lanes))
                direct = b.and_(b.icmp_signed("==", b_col, _int(1)), b.icmp_signed("==", width, padded))
                with b.if_then(b.not_(direct)):
                    b.call(pack, [here, b_row, b_col, depth, width, packed, padded])
                here = b.select(direct, here, packed)
                b_line = b.select(direct, b_row, padded)
                top = self.local(b, _I64, _int(0))
                with _while(b, lambda top=top: b.icmp_signed("<", b.load(top, typ=_I64), rows)):
                    i = b.load(top, typ=_I64)
                    high = self.highest(b, b.sub(rows, i))
                    b.store(b.add(i, high), top)
                    most = self.widest(b, high)
                    v = self.local(b, _I64, _int(0))
                    with _while(b, lambda v=v, vectors=vectors: b.icmp_signed("<", b.load(v, typ=_I64), vectors)):
                        first = b.load(v, typ=_I64)
                        count = b.select(b.icmp_signed(">=", b.sub(vectors, first), most), most, _int(1))
                        b.store(b.add(first, count), v)
                        j_tile = b.mul(first, _int(self.lanes))
                        to = self.at(b, out, b.add(b.mul(i, out_row), b.mul(b.add(j, j_tile), out_col)))
                        b.call(tiles, [high, count, flipped, depth, self.at(b, a_here, b.mul(i, a_row)), a_row,
                                       a_col, self.at(b, here, j_tile), b_line, to, line,
                                       _min(b, b.sub(width, j_tile), b.mul(count, _int(self.lanes))), add])

    def operands(self, b: ir.IRBuilder, args: ir.Value, bases: ir.Value, index: ir.Value) -> list[ir.Value]:
        """Return where the operands and the result of the `index`-th product of the stack begin."""
        left = self.local(b, _I64, index)
        offsets = [self.local(b, _I64, _int(0)) for _ in range(3)]
        axes = _arg(b, args, _AXES)
        with _loop(b, _int(0), axes) as step:  # the last axis first
            axis = b.add(_int(_HEAD), b.mul(_int(4), b.sub(b.sub(axes, _int(1)), step)))
            size, *strides = (b.load(b.gep(args, [b.add(axis, _int(i))], source_etype=_I64), typ=_I64)
                              for i in range(4))
            quotient, rest = _divmod(b, b.load(left, typ=_I64), size)
            b.store(quotient, left)
            for place, stride in zip(offsets, strides, strict=True):
                b.store(b.add(b.load(place, typ=_I64), b.mul(rest, stride)), place)
        found = []
        for place, offset in zip((_A_BASE, _B_BASE, _C_BASE), offsets, strict=True):
            base = b.load(b.gep(bases, [_arg(b, args, place)], source_etype=_PTR), typ=_PTR)
            start = b.gep(base, [_arg(b, args, place + 1)], source_etype=ir.IntType(8))
            found.append(self.at(b, start, b.load(offset, typ=_I64)))
        return found

    def step(self) -> ir.Function:
        block = self.block()
        f, b = self.function("", [_PTR, _PTR])
        args, bases = f.args
        for method, call in ((MATRIX, self.call_matrix), (VECTOR, self.call_vector)) if self.blas_bits else ():
            with b.if_then(b.icmp_signed("==", _arg(b, args, _METHOD), _int(method))):
                with _loop(b, _int(0), _arg(b, args, _BATCH)) as index:
                    call(b, args, *self.operands(b, args, bases, index))
                b.ret_void()
                b.position_at_end(f.append_basic_block("others"))
        context = b.alloca(_PTR, size=_int(2))
        b.store(args, context)
        b.store(bases, b.gep(context, [_int(1)], source_etype=_PTR))
        items = b.mul(_arg(b, args, _GROUPS), b.mul(_arg(b, args, _ROW_BLOCKS), _arg(b, args, _COL_BLOCKS)))
        with b.if_else(b.icmp_signed("==", items, _int(1))) as (one, several):
            with one:
                b.call(block, [context, _int(0), _int(0)])
            with several:
                parallel = _declare(self.module, "mg_parallel", _VOID, [_PTR, _PTR, _I64])
                b.call(parallel, [block, context, items])
        b.ret_void()
        return f

    def call_matrix(self, b: ir.IRBuilder, args: ir.Value, left: ir.Value, right: ir.Value, out: ir.Value) -> None:
        size, flag = self.blas_arguments(b, args)
        one, zero = ir.Constant(self.scalar, 1), ir.Constant(self.scalar, 0)
        self.call_blas(b, "gemm", ir.Constant(_I32, ROW_MAJOR), flag(_TRANS_A), flag(_TRANS_B), size(_M), size(_N),
                       size(_K), one, left, size(_LDA), right, size(_LDB), zero, out, size(_LDC))

    def call_vector(self, b: ir.IRBuilder, args: ir.Value, left: ir.Value, right: ir.Value, out: ir.Value) -> None:
        size, flag = self.blas_arguments(b, args)
        one, zero = ir.Constant(self.scalar, 1), ir.Constant(self.scalar, 0)
        self.call_blas(b, "gemv", ir.Constant(_I32, ROW_MAJOR), flag(_TRANS_A), size(_M), size(_K), one, left,
                       size(_LDA), right, size(_LDB), zero, out, size(_LDC))

    def blas_arguments(self, b: ir.IRBuilder, args: ir.Value) -> tuple[Callable, Callable]:
        """Return functions that load an argument as BLAS's integer, and as its flag."""
        integer = ir.IntType(self.blas_bits)

        def size(place: int) -> ir.Value:
            value = _arg(b, args, place)
            return value if self.blas_bits == 64 else b.trunc(value, integer)

        def flag(place: int) -> ir.Value:
            return b.trunc(_arg(b, args, place), _I32)

        return size, flag

    def call_blas(self, b: ir.IRBuilder, kind: str, *arguments: ir.Value) -> None:
        name = f"mg_cblas_{'s' if self.item == 4 else 'd'}{kind}"
        b.call(_declare(self.module, name, _VOID, [a.type for a in arguments]), arguments)

    # -- small things

    def multiply_add(self, b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """Return ``x y + z``, rounded once where the machine can."""
        return b.call(self.fma, [x, y, z]) if self.fused else b.fadd(b.fmul(x, y), z)

    def highest(self, b: ir.IRBuilder, rows: ir.Value) -> ir.Value:
        """Return how many of so many rows the next tile takes."""
        found = _int(1)
        for height in sorted(self.heights):
            found = b.select(b.icmp_signed(">=", rows, _int(height)), _int(height), found)
        return found

    def widest(self, b: ir.IRBuilder, rows: ir.Value) -> ir.Value:
        """Return how many vectors of columns a tile of so many rows has."""
        found = _int(tile(self.machine, self.heights[0]))
        for r in self.heights:
            if tile(self.machine, r) != tile(self.machine, self.heights[0]):
                found = b.select(b.icmp_signed("==", rows, _int(r)), _int(tile(self.machine, r)), found)
        return found

    def at(self, b: ir.IRBuilder, pointer: ir.Value, index: ir.Value) -> ir.Value:
        return b.gep(pointer, [index], source_etype=self.scalar)

    def load(self, b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        return b.load(pointer, align=self.item, typ=self.vector)

    def store(self, b: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
        b.store(value, pointer, align=self.item)

    def load_some(self, b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value) -> ir.Value:
        """Load the lanes of `mask`; the others are zero, and their memory is not touched."""
        return b.call(self.masked_load, [pointer, ir.Constant(_I32, self.item), mask, ir.Constant(self.vector, None)])

    def first(self, b: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """Return the mask of the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(_I64, self.lanes), list(range(self.lanes)))
        return b.icmp_signed("<", numbers, self.spread(b, count))

    def spread(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return a vector with `value` in each lane."""
        return _spread(b, value, self.lanes)

    def local(self, b: ir.IRBuilder, kind: ir.Type, value: ir.Value) -> ir.Value:
        return _local(b, kind, value)


def _spread(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    kind = ir.VectorType(value.type, lanes)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Return the elements of 1, 2, 4 or 8 vectors column by column, in as many vectors."""
    if len(rows) == 1:
        return rows
    n = rows[0].type.count
    halves = [ir.Constant(ir.VectorType(_I32, n), [half * (n // 2) + i // 2 + i % 2 * n for i in range(n)])
              for half in range(2)]
    pairs = zip(_transposed(b, rows[::2]), _transposed(b, rows[1::2]), strict=True)
    return [b.shuffle_vector(even, odd, half) for even, odd in pairs for half in halves]


def _declare(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name)


def _int(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _arg(b: ir.IRBuilder, args: ir.Value, place: int) -> ir.Value:
    return b.load(b.gep(args, [_int(place)], source_etype=_I64), typ=_I64)


def _local(b: ir.IRBuilder, kind: ir.Type, value: ir.Value) -> ir.Value:
    """Return a variable, which becomes a register; it is made where the function begins, so that loops can have it."""
    with b.goto_entry_block():
        place = b.alloca(kind)
    b.store(value, place)
    return place


@contextmanager
def _while(b: ir.IRBuilder, condition: Callable[[], ir.Value]) -> Iterator[None]:
    """Emit ``while (condition)`` around what is emitted inside."""
    test, body, after = (b.append_basic_block(n) for n in ("test", "body", "after"))
    b.branch(test)
    b.position_at_end(test)
    b.cbranch(condition(), body, after)
    b.position_at_end(body)
    yield
    b.branch(test)
    b.position_at_end(after)


@contextmanager
def _loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: ir.Value | None = None) -> Iterator[ir.Value]:
    """Emit ``for (i = start; i < stop; i += step)`` around what is emitted inside."""
    place = _local(b, _I64, start)
    with _while(b, lambda: b.icmp_signed("<", b.load(place, typ=_I64), stop)):
        index = b.load(place, typ=_I64)
        yield index
        b.store(b.add(index, step or _int(1)), place)


def _divmod(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    return b.udiv(x, y), b.urem(x, y)


def _min(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _max(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed(">", x, y), x, y)

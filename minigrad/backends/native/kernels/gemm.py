"""Matrix products inside native programs: through NumPy's BLAS, by address, or in generated code.

Which of the two a product takes is decided in `gemm_plan`.

The generated code works on tiles of a few rows and a few vectors of columns, which stay in registers while it runs
along the contracted axis. A tile's rows of the right operand are read where they are, or are first copied side by side
if their elements are not, or do not fill whole vectors. The result's transpose can be computed instead, so that an
operand that is already the way the tiles want it takes the right operand's place. Each element of the result is a
chain of fused multiply-adds over at most `DEPTH` bytes of terms in order, and then a sum of those chains in order: it
depends neither on how a product is cut into tiles nor on the number of threads. (What BLAS computes may, in its last
bits, depend on the number of its own threads.)

A bias or an activation is not applied to pieces of the result while they are in the cache: all that is not a product
takes 4 to 6 hundredths of an MLP's step (``python -m benchmarks gemm``), most of it the activations' own arithmetic;
measured on pieces of 128 rows, the step was no faster than with a pass after the product.

The blocking is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from llvmlite import ir

from ..codegen.emit import ONE, counting, least, most, repeated
from ..codegen.values import I1, I32, I64, PTR, VOID
from ..runtime import blas, threads
from ..runtime.blas import ROW_MAJOR
from ..runtime.cache import CodeRequest, generated
from ..runtime.jit import Target, has_fma, host, load
from .gemm_plan import (
    A_BASE,
    A_COL,
    A_ROW,
    AXES,
    B_BASE,
    B_COL,
    B_ROW,
    BATCH,
    C_BASE,
    C_LINE,
    C_STEP,
    CHUNK,
    COL_BLOCKS,
    COLS,
    DEPTH,
    FLIPPED,
    GENERATED,
    GROUP,
    GROUPS,
    HEAD,
    LDA,
    LDB,
    LDC,
    MATRIX,
    METHOD,
    ROW_BLOCKS,
    ROWS,
    TRANS_A,
    TRANS_B,
    WIDE,
    K,
    M,
    N,
    lanes,
)

_BOARD = 4  # vectors of columns that a tile has at most
_TURNED = 8  # rows that are turned into columns at a time: as many as a tile has at most


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


_addresses: dict[np.dtype, tuple[int, int]] = {}


def code_request(dtype: np.dtype) -> CodeRequest:
    """Return what the step for `dtype` is made of."""
    found, _ = blas.find()
    bits = found and found.bits
    return generated(f"products of {dtype}, {bits}", lambda: (module(dtype, bits), None))


def loaded(dtype: np.dtype) -> bool:
    return dtype in _addresses


def add(dtype: np.dtype, code: bytes) -> None:
    """Load the step for `dtype`."""
    library = load([code], {**threads.symbols(), **blas.symbols()})
    library.keep()
    _addresses[dtype] = library.address("product"), library.address("product_block")


def address(dtype: np.dtype) -> int:
    """Return the address of the step that is a matrix product of `dtype`, which has been loaded."""
    return _addresses[dtype][0]


def block_address(dtype: np.dtype) -> int:
    """Return the address of the function that does one piece of such a step."""
    return _addresses[dtype][1]


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
        self.item, self.lanes, self.depth = dtype.itemsize, lanes(dtype), DEPTH // dtype.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        suffix = f"v{self.lanes}f{8 * self.item}"
        self.fma = _declare(module, f"llvm.fma.{suffix}", self.vector, [self.vector] * 3)
        mask = ir.VectorType(I1, self.lanes)
        self.masked_load = _declare(module, f"llvm.masked.load.{suffix}.p0", self.vector,
                                    [PTR, I32, mask, self.vector])
        self.masked_store = _declare(module, f"llvm.masked.store.{suffix}.p0", VOID, [self.vector, PTR, I32, mask])

    def function(self, name: str, arguments: Sequence[ir.Type]) -> tuple[ir.Function, ir.IRBuilder]:
        f = ir.Function(self.module, ir.FunctionType(VOID, arguments), f"{self.name}{name}")
        f.linkage = "" if name in ("", "_block") else "internal"
        return f, ir.IRBuilder(f.append_basic_block("entry"))

    # -- tiles

    def tile_function(self, rows: int, cols: int) -> ir.Function:
        """Emit ``a b`` for a tile; the sums go to a board of `_BOARD` vectors per row."""
        f, b = self.function(f"_{rows}x{cols}", [I64, PTR, I64, I64, PTR, I64, PTR])
        k, left, a_row, a_col, right, b_row, board = f.args
        starts = [self.at(b, left, b.mul(I64(i), a_row)) for i in range(rows)]
        sums = [[self.local(b, self.vector, ir.Constant(self.vector, None)) for _ in range(cols)] for _ in range(rows)]
        with _loop(b, I64(0), k) as index:
            line_of_b = self.at(b, right, b.mul(index, b_row))
            columns = [self.load(b, self.at(b, line_of_b, I64(j * self.lanes))) for j in range(cols)]
            step = b.mul(index, a_col)
            for start, sums_of_row in zip(starts, sums, strict=True):
                factor = self.spread(b, b.load(self.at(b, start, step), typ=self.scalar))
                for column, place in zip(columns, sums_of_row, strict=True):
                    old = b.load(place, typ=self.vector)
                    b.store(self.multiply_add(b, factor, column, old), place)
        for i, row in enumerate(sums):
            for j, place in enumerate(row):
                self.store(b, b.load(place, typ=self.vector), self.at(b, board, I64((i * _BOARD + j) * self.lanes)))
        b.ret_void()
        return f

    def put(self) -> ir.Function:
        """Emit how a tile whose rows are the result's is written, or added; `width` columns of it are there."""
        f, b = self.function("_put", [I64, I64, PTR, PTR, I64, I64, I1])
        rows, cols, board, out, line, width, add = f.args
        align, always = ir.Constant(I32, self.item), self.spread(b, add)
        with _loop(b, I64(0), cols) as j:
            across = b.mul(j, I64(self.lanes))
            mask = self.first(b, b.sub(width, across))
            adding = b.and_(mask, always)
            with _loop(b, I64(0), rows) as i:
                value = self.load(b, self.at(b, board, b.add(b.mul(i, I64(_BOARD * self.lanes)), across)))
                place = self.at(b, out, b.add(b.mul(i, line), across))
                old = self.load_some(b, place, adding)
                b.call(self.masked_store, [b.fadd(old, value), place, align, mask])
        b.ret_void()
        return f

    def put_flipped(self) -> ir.Function:
        """Emit how a tile whose rows are the result's columns is written, or added."""
        f, b = self.function("_turn", [I64, I64, PTR, PTR, I64, I64, I1])
        rows, cols, board, out, line, width, add = f.args
        part_type = ir.VectorType(self.scalar, _TURNED)
        bits, suffix = ir.VectorType(I1, _TURNED), f"v{_TURNED}f{8 * self.item}"
        load = _declare(self.module, f"llvm.masked.load.{suffix}.p0", part_type, [PTR, I32, bits, part_type])
        store = _declare(self.module, f"llvm.masked.store.{suffix}.p0", VOID, [part_type, PTR, I32, bits])
        align, nothing = ir.Constant(I32, self.item), ir.Constant(part_type, None)
        mask = b.icmp_signed("<", ir.Constant(ir.VectorType(I64, _TURNED), list(range(_TURNED))),
                             _spread(b, rows, _TURNED))
        adding = b.and_(mask, _spread(b, add, _TURNED))
        turned = self.turned_board(b)
        with _loop(b, I64(0), cols) as j:
            across = b.mul(j, I64(self.lanes))
            self.turn(b, [self.load(b, self.at(b, board, b.add(I64(i * _BOARD * self.lanes), across)))
                          for i in range(_TURNED)], turned)
            with _loop(b, I64(0), least(b, I64(self.lanes), b.sub(width, across))) as q:
                part = b.load(self.at(b, turned, b.mul(q, I64(_TURNED))), align=self.item, typ=part_type)
                place = self.at(b, out, b.mul(b.add(across, q), line))
                old = b.call(load, [place, align, adding, nothing])
                b.call(store, [b.fadd(old, part), place, align, mask])
        b.ret_void()
        return f

    def turned_board(self, b: ir.IRBuilder) -> ir.Value:
        """Return room for what `turn` writes."""
        with b.goto_entry_block():
            board = b.alloca(self.vector, size=I64(_TURNED), name="turned")
        board.align = 64
        return board

    def turn(self, b: ir.IRBuilder, rows: Sequence[ir.Value], to: ir.Value) -> None:
        """Emit the transposition of `_TURNED` vectors into memory: their first elements side by side, and so on.

        What is done with the columns is a loop then, and not as many copies of it for LLVM to work on.
        """
        for t, vector in enumerate(_transposed(b, rows)):
            self.store(b, vector, self.at(b, to, I64(t * self.lanes)))

    def put_scattered(self) -> ir.Function:
        """Emit how a tile is written, or added, to a result whose elements are nowhere side by side."""
        f, b = self.function("_scatter", [I64, PTR, PTR, I64, I64, I64, I1])
        rows, board, out, row, col, width, add = f.args
        with _loop(b, I64(0), rows) as i:
            line = self.at(b, board, b.mul(i, I64(_BOARD * self.lanes)))
            to = self.at(b, out, b.mul(i, row))
            with _loop(b, I64(0), width) as j:
                place = self.at(b, to, b.mul(j, col))
                old = b.select(add, b.load(place, typ=self.scalar), ir.Constant(self.scalar, 0))
                b.store(b.fadd(old, b.load(self.at(b, line, j), typ=self.scalar)), place)
        b.ret_void()
        return f

    def tiles(self) -> ir.Function:
        """Emit the choice of the tile function by rows and vectors of columns, and of how its result is written."""
        kinds = [I64, PTR, I64, I64, PTR, I64]
        f, b = self.function("_tile", [I64, I64, *kinds, PTR, I64, I64, I64, I1])
        rows, cols, *operands, out, row, col, width, add = f.args
        board = b.alloca(self.vector, size=I64(_TURNED * _BOARD), name="board")
        board.align = 64
        limit = 16  # more than any tile has rows or columns
        done = f.append_basic_block("done")
        switch = b.switch(b.add(b.mul(cols, I64(limit)), rows), done)
        for r in self.heights:
            for c in {1, tile(self.machine, r)}:
                block = f.append_basic_block(f"r{r}c{c}")
                with b.goto_block(block):
                    b.call(self.tile_function(r, c), [*operands, board])
                    b.branch(done)
                switch.add_case(I64(c * limit + r), block)
        b.position_at_end(done)
        with b.if_else(b.icmp_signed("==", col, I64(1))) as (straight, others):
            with straight:
                b.call(self.put(), [rows, cols, board, out, row, width, add])
            with others, b.if_else(b.icmp_signed("==", row, I64(1))) as (turned, scattered):
                with turned:
                    b.call(self.put_flipped(), [rows, cols, board, out, col, width, add])
                with scattered:
                    b.call(self.put_scattered(), [rows, board, out, row, col, width, add])
        b.ret_void()
        return f

    # -- blocks

    def packer(self) -> ir.Function:
        """Emit the copy of ``depth × width`` elements, side by side in lines of `line`, with zeros behind."""
        f, b = self.function("_pack", [PTR, I64, I64, I64, I64, PTR, I64])
        source, row, col, depth, width, to, line = f.args
        one = I64(1)
        with b.if_then(b.icmp_signed("==", col, one)):
            self.pack_lines(b, source, row, depth, width, to, line)
            b.ret_void()
            b.position_at_end(f.append_basic_block("turned"))
        with b.if_then(b.icmp_signed("==", row, one)):
            self.pack_turned(b, source, col, depth, width, to, line)
            b.ret_void()
            b.position_at_end(f.append_basic_block("scattered"))
        with _loop(b, I64(0), depth) as i:
            from_line, to_line = self.at(b, source, b.mul(i, row)), self.at(b, to, b.mul(i, line))
            with _loop(b, I64(0), width) as j:
                value = b.load(self.at(b, from_line, b.mul(j, col)), typ=self.scalar)
                b.store(value, self.at(b, to_line, j))
            with _loop(b, width, line) as j:
                b.store(ir.Constant(self.scalar, 0), self.at(b, to_line, j))
        b.ret_void()
        return f

    def pack_lines(self, b: ir.IRBuilder, source: ir.Value, row: ir.Value, depth: ir.Value, width: ir.Value,
                   to: ir.Value, line: ir.Value) -> None:
        """Copy lines whose elements are side by side."""
        with _loop(b, I64(0), line, I64(self.lanes)) as j:
            mask = self.first(b, b.sub(width, j))
            with _loop(b, I64(0), depth) as i:
                value = self.load_some(b, self.at(b, source, b.add(b.mul(i, row), j)), mask)
                self.store(b, value, self.at(b, to, b.add(b.mul(i, line), j)))

    def pack_turned(self, b: ir.IRBuilder, source: ir.Value, col: ir.Value, depth: ir.Value, width: ir.Value,
                    to: ir.Value, line: ir.Value) -> None:
        """Copy columns whose elements are side by side: eight at a time, a vector of each."""
        part_type = ir.VectorType(self.scalar, _TURNED)
        turned = self.turned_board(b)
        with _loop(b, I64(0), line, I64(_TURNED)) as j, _loop(b, I64(0), depth, I64(self.lanes)) as i:
            below, there = b.sub(depth, i), b.sub(width, j)
            place = self.at(b, source, b.add(b.mul(j, col), i))
            columns = []
            for q in range(_TURNED):
                mask = self.first(b, b.select(b.icmp_signed("<", I64(q), there), below, I64(0)))
                columns.append(self.load_some(b, place, mask))
                place = self.at(b, place, col)
            self.turn(b, columns, turned)
            with _loop(b, I64(0), least(b, I64(self.lanes), below)) as q:
                part = b.load(self.at(b, turned, b.mul(q, I64(_TURNED))), align=self.item, typ=part_type)
                place = b.add(b.mul(b.add(i, q), line), j)
                b.store(part, self.at(b, to, place), align=self.item)

    def block(self, operands: ir.Function) -> ir.Function:
        """Emit one piece of parallel work: some rows and columns of one product of the stack."""
        tiles, pack = self.tiles(), self.packer()
        f, b = self.function("_block", [PTR, I64, I64])
        context, item, _ = f.args
        args = b.load(context, typ=PTR)
        bases = b.load(b.gep(context, [I64(1)], source_etype=PTR), typ=PTR)
        packed = b.alloca(self.vector, size=I64(self.depth * WIDE), name="packed")
        packed.align = 64

        def arg(place: int) -> ir.Value:
            return _arg(b, args, place)

        t, column = _divmod(b, item, arg(COL_BLOCKS))
        group, row = _divmod(b, t, arg(ROW_BLOCKS))
        first = b.mul(group, arg(GROUP))
        with _loop(b, first, least(b, b.add(first, arg(GROUP)), arg(BATCH))) as index:
            self.product(b, args, self.located(b, operands, args, bases, index), row, column, packed, tiles, pack)
        b.ret_void()
        return f

    def product(self, b: ir.IRBuilder, args: ir.Value, operands: list[ir.Value], row: ir.Value, column: ir.Value,
                packed: ir.Value, tiles: ir.Function, pack: ir.Function) -> None:
        """Emit one piece of one product: the rows and columns of the result that `row` and `column` count."""
        def arg(place: int) -> ir.Value:
            return _arg(b, args, place)

        a, right, out = operands
        a_row, a_col, b_row, b_col, line, step = (arg(p) for p in (A_ROW, A_COL, B_ROW, B_COL, C_LINE, C_STEP))
        flipped = b.trunc(arg(FLIPPED), I1)
        out_row, out_col = b.select(flipped, step, line), b.select(flipped, line, step)
        low, left = b.mul(row, arg(ROWS)), b.mul(column, arg(COLS))
        rows = least(b, arg(ROWS), b.sub(arg(M), low))
        cols = least(b, arg(COLS), b.sub(arg(N), left))
        a = self.at(b, a, b.mul(low, a_row))
        right = self.at(b, right, b.mul(left, b_col))
        out = self.at(b, out, b.add(b.mul(low, out_row), b.mul(left, out_col)))
        chunk = arg(CHUNK)
        # A product of no terms is zero: there is one turn then, of no depth.
        with _loop(b, I64(0), most(b, arg(K), I64(1)), I64(self.depth)) as k:
            depth = least(b, I64(self.depth), b.sub(arg(K), k))
            add = b.icmp_signed(">", k, I64(0))
            a_here = self.at(b, a, b.mul(k, a_col))
            with _loop(b, I64(0), cols, chunk) as j:
                width = least(b, chunk, b.sub(cols, j))
                here = self.at(b, right, b.add(b.mul(k, b_row), b.mul(j, b_col)))
                vectors = b.sdiv(b.add(width, I64(self.lanes - 1)), I64(self.lanes))
                padded = b.mul(vectors, I64(self.lanes))
                direct = b.and_(b.icmp_signed("==", b_col, I64(1)), b.icmp_signed("==", width, padded))
                with b.if_then(b.not_(direct)):
                    b.call(pack, [here, b_row, b_col, depth, width, packed, padded])
                here = b.select(direct, here, packed)
                b_line = b.select(direct, b_row, padded)
                top = self.local(b, I64, I64(0))
                with repeated(b, lambda top=top: b.icmp_signed("<", b.load(top, typ=I64), rows)):
                    i = b.load(top, typ=I64)
                    high = self.highest(b, b.sub(rows, i))
                    b.store(b.add(i, high), top)
                    widest = self.widest(b, high)
                    v = self.local(b, I64, I64(0))
                    with repeated(b, lambda v=v, vectors=vectors: b.icmp_signed("<", b.load(v, typ=I64), vectors)):
                        first = b.load(v, typ=I64)
                        count = b.select(b.icmp_signed(">=", b.sub(vectors, first), widest), widest, I64(1))
                        b.store(b.add(first, count), v)
                        j_tile = b.mul(first, I64(self.lanes))
                        to = self.at(b, out, b.add(b.mul(i, out_row), b.mul(b.add(j, j_tile), out_col)))
                        b.call(tiles, [high, count, depth, self.at(b, a_here, b.mul(i, a_row)), a_row, a_col,
                                       self.at(b, here, j_tile), b_line, to, out_row, out_col,
                                       least(b, b.sub(width, j_tile), b.mul(count, I64(self.lanes))), add])

    def operands(self) -> ir.Function:
        """Emit where the operands and the result of one product of the stack begin: three addresses."""
        f, b = self.function("_operands", [PTR, PTR, I64, PTR])
        args, bases, index, found = f.args
        left = self.local(b, I64, index)
        offsets = [self.local(b, I64, I64(0)) for _ in range(3)]
        axes = _arg(b, args, AXES)
        with _loop(b, I64(0), axes) as step:  # the last axis first
            axis = b.add(I64(HEAD), b.mul(I64(4), b.sub(b.sub(axes, I64(1)), step)))
            size, *strides = (b.load(b.gep(args, [b.add(axis, I64(i))], source_etype=I64), typ=I64)
                              for i in range(4))
            quotient, rest = _divmod(b, b.load(left, typ=I64), size)
            b.store(quotient, left)
            for place, stride in zip(offsets, strides, strict=True):
                b.store(b.add(b.load(place, typ=I64), b.mul(rest, stride)), place)
        for i, (place, offset) in enumerate(zip((A_BASE, B_BASE, C_BASE), offsets, strict=True)):
            base = b.load(b.gep(bases, [_arg(b, args, place)], source_etype=PTR), typ=PTR)
            start = b.gep(base, [_arg(b, args, place + 1)], source_etype=ir.IntType(8))
            b.store(self.at(b, start, b.load(offset, typ=I64)), b.gep(found, [I64(i)], source_etype=PTR))
        b.ret_void()
        return f

    def located(self, b: ir.IRBuilder, operands: ir.Function, args: ir.Value, bases: ir.Value,
                index: ir.Value) -> list[ir.Value]:
        """Return what `operands` finds."""
        with b.goto_entry_block():
            found = b.alloca(PTR, size=I64(3))
        b.call(operands, [args, bases, index, found])
        return [b.load(b.gep(found, [I64(i)], source_etype=PTR), typ=PTR) for i in range(3)]

    def step(self) -> ir.Function:
        operands = self.operands()
        block = self.block(operands)
        f, b = self.function("", [PTR, PTR])
        args, bases = f.args
        if self.blas_bits:
            method = _arg(b, args, METHOD)
            with b.if_then(b.icmp_signed("!=", method, I64(GENERATED))):
                with _loop(b, I64(0), _arg(b, args, BATCH)) as index:
                    places = self.located(b, operands, args, bases, index)
                    with b.if_else(b.icmp_signed("==", method, I64(MATRIX))) as (matrix, vector):
                        with matrix:
                            self.call_matrix(b, args, *places)
                        with vector:
                            self.call_vector(b, args, *places)
                b.ret_void()
                b.position_at_end(f.append_basic_block("others"))
        context = b.alloca(PTR, size=I64(2))
        b.store(args, context)
        b.store(bases, b.gep(context, [I64(1)], source_etype=PTR))
        items = b.mul(_arg(b, args, GROUPS), b.mul(_arg(b, args, ROW_BLOCKS), _arg(b, args, COL_BLOCKS)))
        with b.if_else(b.icmp_signed("==", items, I64(1))) as (one, several):
            with one:
                b.call(block, [context, I64(0), I64(0)])
            with several:
                parallel = _declare(self.module, "mg_parallel", VOID, [PTR, PTR, I64, I64])
                b.call(parallel, [block, context, items, items])
        b.ret_void()
        return f

    def call_matrix(self, b: ir.IRBuilder, args: ir.Value, left: ir.Value, right: ir.Value, out: ir.Value) -> None:
        size, flag = self.blas_arguments(b, args)
        one, zero = ir.Constant(self.scalar, 1), ir.Constant(self.scalar, 0)
        self.call_blas(b, "gemm", ir.Constant(I32, ROW_MAJOR), flag(TRANS_A), flag(TRANS_B), size(M), size(N),
                       size(K), one, left, size(LDA), right, size(LDB), zero, out, size(LDC))

    def call_vector(self, b: ir.IRBuilder, args: ir.Value, left: ir.Value, right: ir.Value, out: ir.Value) -> None:
        size, flag = self.blas_arguments(b, args)
        one, zero = ir.Constant(self.scalar, 1), ir.Constant(self.scalar, 0)
        self.call_blas(b, "gemv", ir.Constant(I32, ROW_MAJOR), flag(TRANS_A), size(M), size(K), one, left,
                       size(LDA), right, size(LDB), zero, out, size(LDC))

    def blas_arguments(self, b: ir.IRBuilder, args: ir.Value) -> tuple[Callable, Callable]:
        """Return functions that load an argument as BLAS's integer, and as its flag."""
        integer = ir.IntType(self.blas_bits)

        def size(place: int) -> ir.Value:
            value = _arg(b, args, place)
            return value if self.blas_bits == 64 else b.trunc(value, integer)

        def flag(place: int) -> ir.Value:
            return b.trunc(_arg(b, args, place), I32)

        return size, flag

    def call_blas(self, b: ir.IRBuilder, kind: str, *arguments: ir.Value) -> None:
        name = f"mg_cblas_{'s' if self.item == 4 else 'd'}{kind}"
        b.call(_declare(self.module, name, VOID, [a.type for a in arguments]), arguments)

    # -- small things

    def multiply_add(self, b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """Return ``x y + z``, rounded once where the machine can."""
        return b.call(self.fma, [x, y, z]) if self.fused else b.fadd(b.fmul(x, y), z)

    def highest(self, b: ir.IRBuilder, rows: ir.Value) -> ir.Value:
        """Return how many of so many rows the next tile takes."""
        found = I64(1)
        for height in sorted(self.heights):
            found = b.select(b.icmp_signed(">=", rows, I64(height)), I64(height), found)
        return found

    def widest(self, b: ir.IRBuilder, rows: ir.Value) -> ir.Value:
        """Return how many vectors of columns a tile of so many rows has."""
        found = I64(tile(self.machine, self.heights[0]))
        for r in self.heights:
            if tile(self.machine, r) != tile(self.machine, self.heights[0]):
                found = b.select(b.icmp_signed("==", rows, I64(r)), I64(tile(self.machine, r)), found)
        return found

    def at(self, b: ir.IRBuilder, pointer: ir.Value, index: ir.Value) -> ir.Value:
        return b.gep(pointer, [index], source_etype=self.scalar)

    def load(self, b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        return b.load(pointer, align=self.item, typ=self.vector)

    def store(self, b: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
        b.store(value, pointer, align=self.item)

    def load_some(self, b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value) -> ir.Value:
        """Load the lanes of `mask`; the others are zero, and their memory is not touched."""
        return b.call(self.masked_load, [pointer, ir.Constant(I32, self.item), mask, ir.Constant(self.vector, None)])

    def first(self, b: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """Return the mask of the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        return b.icmp_signed("<", numbers, self.spread(b, count))

    def spread(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return a vector with `value` in each lane."""
        return _spread(b, value, self.lanes)

    def local(self, b: ir.IRBuilder, kind: ir.Type, value: ir.Value) -> ir.Value:
        return _local(b, kind, value)


def _spread(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    kind = ir.VectorType(value.type, lanes)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Return the elements of 1, 2, 4 or 8 vectors column by column, in as many vectors."""
    if len(rows) == 1:
        return rows
    n = rows[0].type.count
    halves = [ir.Constant(ir.VectorType(I32, n), [half * (n // 2) + i // 2 + i % 2 * n for i in range(n)])
              for half in range(2)]
    pairs = zip(_transposed(b, rows[::2]), _transposed(b, rows[1::2]), strict=True)
    return [b.shuffle_vector(even, odd, half) for even, odd in pairs for half in halves]


def _declare(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name)


def _arg(b: ir.IRBuilder, args: ir.Value, place: int) -> ir.Value:
    return b.load(b.gep(args, [I64(place)], source_etype=I64), typ=I64)


def _local(b: ir.IRBuilder, kind: ir.Type, value: ir.Value) -> ir.Value:
    """Return a variable, which becomes a register; it is made where the function begins, so that loops can have it."""
    with b.goto_entry_block():
        place = b.alloca(kind)
    b.store(value, place)
    return place


def _loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: ir.Value = ONE) -> AbstractContextManager[ir.Value]:
    """Emit ``for (i = start; i < stop; i += step)`` around what is emitted inside."""
    return counting(b, _local(b, I64, start), stop, step)


def _divmod(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    return b.udiv(x, y), b.urem(x, y)

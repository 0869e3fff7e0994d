"""Matrix products of native programs: NumPy's BLAS, called by address, or generated code; `gemm_plan` chooses.

The generated code works on tiles of a few rows and a few vectors of columns, which stay in registers while it runs
along the contracted axis. It copies the columns of a few vectors, which then stay in the first cache while all rows
pass: the first tile copies whole vectors, which arrive while it computes, and other columns are copied before. It
copies the left operand, too, where the rows of a tile are contiguous and its terms far apart, nearly on a page each, or
where many columns use the copy. It reads contiguous columns that fill whole vectors in place for few rows, unless rows
of several tiles read lines that are far apart, and where the first cache holds them all. The result's transpose can be
computed instead, so that an operand with the strides that tiles need takes the right operand's place. Each element of
the result is a chain of fused multiply-adds over at most `LONGEST` terms in order, and then a sum of those
chains in order: it depends neither on the tiles nor on the number of threads. BLAS computes pieces of a product, whose
sizes do not depend on that number either, on the threads of the program; it has one thread of its own meanwhile
(`minigrad.blas.limited`), as threads of two pools would wait for each other.

A bias or an activation is not fused into a product: everything but products takes 5 to 7 hundredths of an MLP's step
(``python -m benchmarks gemm``), most of it the activations' own arithmetic; measured on pieces of 128 rows in the
cache, the step was no faster than with a pass after the product.

The blocking is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008). A long
right operand whose lines are far apart is read once for few rows, some lines at a time: their sums stay in the cache,
and the chains of terms are shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import numpy as np

from .... import blas
from ....blas import ROW_MAJOR, TRANSPOSE
from ..codegen.emit import Emitter
from ..llvm import ir
from ..llvm.builder import ONE, at, least, most
from ..llvm.values import I1, I32, I64, PTR, VOID, intrinsic, lane_numbers, scalar_type, splat, vector_type
from ..runtime import threads
from ..runtime.cache import CodeRequest, generated
from ..runtime.jit import Target, has_fma, host, load
from . import gemm_plan as plan
from .gemm_choice import AVX512, AVX512_ALONE, OTHERS
from .gemm_plan import COPIED_BYTES, GENERATED, HEAD, LONGEST, MATRIX, TALL, WIDE, Resources, lanes

_BOARD = 4  # vectors of columns that a tile has at most
_TURNED = 8  # rows that are transposed at a time
# Bytes from line to line of an operand from which lines push each other out of the cache. Where they are nearer, pieces
# read a transposed left operand in place for so many vectors of columns, and the right one for so many rows, at most.
_FAR, _THIN, _DIRECT = 2048, 8, 16
_COMPACT = 1 << 15  # bytes of a right operand that the first cache holds as it is
# A right operand of at least so many bytes passes few rows once: so many lines at a time, by vectors of columns, and so
# many sums of lines before they are added to the total.
_LONG, _LINES, _STRIPE, _SUMS = 1 << 20, 32, 32, 8
_OPERANDS = [I64, PTR, I64, I64, PTR, I64]  # of a tile
_TILE = [*_OPERANDS, PTR, I64, I1]  # arguments of its function
_COPY = [PTR, I64]  # the place for the copy of its right operand, and its elements from line to line
_AHEAD = 8  # lines of the right operand that are fetched before they are copied


_addresses: dict[np.dtype, tuple[int, int]] = {}


def code_requests(dtype: np.dtype) -> tuple[CodeRequest, CodeRequest]:
    """Return the requests for the two parts of the step's code, which LLVM compiles at the same time."""
    library, _ = blas.find()
    bits = None if library is None else library.bits
    return (generated(f"products of {dtype}, {bits}", lambda: (module(dtype, bits), None)),
            generated(f"tiles of {dtype}", lambda: (tiles(dtype), None)))


DTYPES = frozenset(map(np.dtype, ("f4", "f8")))  # of products that have a step


def loaded(dtype: np.dtype) -> bool:
    return dtype in _addresses


def add(dtype: np.dtype, codes: Iterable[bytes]) -> None:
    """Load the step for `dtype`."""
    library = load(codes, {**threads.symbols(), **blas.symbols()}, keep=True)
    _addresses[dtype] = library.address("product"), library.address("product_block")


def address(dtype: np.dtype) -> int:
    """Return the address of the loaded step of `dtype`."""
    return _addresses[dtype][0]


def block_address(dtype: np.dtype) -> int:
    """Return the address of the function that computes one piece of such a step."""
    return _addresses[dtype][1]


def module(dtype: np.dtype, blas_bits: int | None, machine: Target | None = None) -> str:
    """Return a module whose function ``product`` is the step of all matrix products of one dtype; it calls `tiles`.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    blas_bits : int or None
        The width of BLAS's integers. The module then needs the symbols of `blas.symbols`. None: generated code only.
    machine : Target, optional
        The target of the code; this machine otherwise.
    """
    return _Gemm(np.dtype(dtype), blas_bits, machine or host()).write()


def tiles(dtype: np.dtype, machine: Target | None = None) -> str:
    """Return the module of the functions that compute one tile each."""
    writer = _Gemm(np.dtype(dtype), None, machine or host())
    for rows, cols in writer.sizes:
        writer.tile_function(rows, cols)
    writer.tile_function(*writer.largest, copies=True)
    return str(writer.module)


def tile(machine: Target, rows: int) -> int:
    """Return the most vectors of columns of a tile with `rows` rows.

    The sums of a tile fill most of the registers: 24 vectors of 32 where a register holds a whole one, otherwise 6 (12
    registers of 16 with AVX2, 24 of 32 on ARM). The result does not depend on the tiles.
    """
    if not wide_registers(machine):
        return 1
    return 4 if rows <= 2 else 2


def resources(threads: int) -> Resources:
    """Return the BLAS, its products and the threads for them in this process."""
    whole, choice = not blas.can_limit(), OTHERS
    if wide_registers(host()) and not whole:
        choice = AVX512 if blas.has_avx512() else AVX512_ALONE
    return Resources(blas.find()[0] is not None, whole, choice, threads)


def heights(machine: Target) -> tuple[int, ...]:
    """Return the heights of tiles: rows are cut into the highest tiles, the remainder into lower ones."""
    return (plan.HIGH, 8, 4, 2, 1) if wide_registers(machine) else (6, 4, 2, 1)


@cache
def wide_registers(machine: Target) -> bool:
    """Return whether the machine has 32 registers of 64 bytes."""
    return machine.cpu == "x86-64-v4" or "+avx512f" in machine.features.split(",")


class _Gemm(Emitter):
    """Writes the step of all matrix products of one dtype."""

    def __init__(self, dtype: np.dtype, blas_bits: int | None, machine: Target):
        super().__init__("products")
        self.dtype, self.blas_bits, self.machine = dtype, blas_bits, machine
        self.heights, self.fused = heights(machine), has_fma(machine)
        self.scalar, self.lanes = scalar_type(dtype), lanes(dtype)
        self.vector = vector_type(dtype, self.lanes)
        self.sizes = [(r, c) for r in self.heights for c in range(1, tile(machine, r) + 1)]
        self.largest = self.heights[0], tile(machine, self.heights[0])

    # -- tiles

    def tile_function(self, rows: int, cols: int, copies: bool = False) -> ir.Function:
        """Write ``a b`` for a tile of whole vectors: rows of `line` elements, which are the sums or have them added.

        A tile that `copies` stores its right operand for the tiles below, and fetches lines of it ahead.
        """
        name, copy_types = (f"product_copying_{rows}x{cols}", _COPY) if copies else (f"product_{rows}x{cols}", [])
        with self.function(name, [*_TILE, *copy_types], "") as f:
            b, (k, left, a_row, a_col, right, b_row, out, line, add, *copy) = self.b, f.args
            sums = [[self.variable(ir.Constant(self.vector, None)) for _ in range(cols)] for _ in range(rows)]
            starts = [self.at(left, b.mul(I64(i), a_row)) for i in range(rows)]
            with self.counting(I64(0), k) as index:
                line_of_b = self.at(right, b.mul(index, b_row))
                columns = [self.load_vector(self.at(line_of_b, I64(j * self.lanes))) for j in range(cols)]
                for j, column in enumerate(columns if copies else ()):
                    across = I64(j * self.lanes)
                    self.prefetch(self.at(line_of_b, b.add(b.mul(b_row, I64(_AHEAD)), across)), write=False)
                    self.store(column, self.dtype, self.at(copy[0], b.add(b.mul(index, copy[1]), across)))
                step = b.mul(index, a_col)
                for start, sums_of_row in zip(starts, sums, strict=True):
                    factor = splat(b, b.load(self.at(start, step), typ=self.scalar), self.lanes)
                    for column, total in zip(columns, sums_of_row, strict=True):
                        b.store(self.multiply_add(factor, column, self.get(total)), total)
            lines = [self.at(out, b.mul(I64(i), line)) for i in range(rows)]
            places = [(self.at(to, I64(j * self.lanes)), total)
                      for to, sums_of_row in zip(lines, sums, strict=True) for j, total in enumerate(sums_of_row)]
            with b.if_then(add):
                for place, total in places:
                    b.store(b.fadd(self.load_vector(place), self.get(total)), total)
            for place, total in places:
                self.store(self.get(total), self.dtype, place)
        return f

    def prefetch(self, address: ir.Value, write: bool = True) -> None:
        """Bring the line of an address into the first cache, to be written or read."""
        self.b.call(self.intrinsic("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32]),
                    [address, I32(write), I32(3), I32(1)])

    def put(self) -> ir.Function:
        """Write a tile whose rows are the result's, or add it; `width` columns of it are the result's."""
        with self.function("product_put", [I64, I64, PTR, PTR, I64, I64, I1]) as f:
            b, (rows, cols, board, out, line, width, add) = self.b, f.args
            with self.counting(I64(0), cols) as j:
                across = b.mul(j, I64(self.lanes))
                self.write_lines(rows, self.lanes, (self.at(board, across), I64(_BOARD * self.lanes)),
                                 (self.at(out, across), line), self.first(b.sub(width, across)), add)
        return f

    def write_lines(self, count: ir.Value, lanes: int, board: tuple[ir.Value, ir.Value],
                    out: tuple[ir.Value, ir.Value], mask: ir.Value, add: ir.Value) -> None:
        """Write lines of a board to the result, or add them; both have an address, and elements from line to line.

        All lines are read before one is written: a load waits for a store whose masked lanes overlap it.
        """
        b = self.b

        def line_of(place: tuple[ir.Value, ir.Value], i: ir.Value) -> ir.Value:
            return self.at(place[0], b.mul(i, place[1]))

        with b.if_then(add), self.counting(I64(0), count) as i:
            value = self.load(self.dtype, line_of(board, i), lanes)
            old = self.load(self.dtype, line_of(out, i), lanes, mask)
            self.store(b.fadd(old, value), self.dtype, line_of(board, i))
        with self.counting(I64(0), count) as i:
            self.store(self.load(self.dtype, line_of(board, i), lanes), self.dtype, line_of(out, i), mask)

    def put_flipped(self) -> ir.Function:
        """Write a tile whose rows are the result's columns, or add it: some rows at a time."""
        with self.function("product_turn", [I64, I64, PTR, PTR, I64, I64, I1]) as f:
            b, (rows, cols, board, out, line, width, add) = self.b, f.args
            turned = self.board(_TURNED)
            with self.counting(I64(0), rows, I64(_TURNED)) as i, self.counting(I64(0), cols) as j:
                across = b.mul(j, I64(self.lanes))
                corner = self.at(board, b.add(b.mul(i, I64(_BOARD * self.lanes)), across))
                self.turn([self.load_vector(self.at(corner, I64(t * _BOARD * self.lanes))) for t in range(_TURNED)],
                          turned)
                self.write_lines(least(b, I64(self.lanes), b.sub(width, across)), _TURNED, (turned, I64(_TURNED)),
                                 (self.at(out, b.add(b.mul(across, line), i)), line),
                                 self.first(b.sub(rows, i), _TURNED), add)
        return f

    def turn(self, rows: Sequence[ir.Value], to: ir.Value) -> None:
        """Store the transpose of `_TURNED` vectors: their first elements side by side, then the second ones, ...

        The columns are then handled by a loop, which is less code to compile than a copy for each.
        """
        for t, vector in enumerate(_transposed(self.b, rows)):
            self.store(vector, self.dtype, self.at(to, I64(t * self.lanes)))

    def put_scattered(self) -> ir.Function:
        """Write a tile, or add it, to a result whose elements are contiguous along no axis."""
        with self.function("product_scatter", [I64, PTR, PTR, I64, I64, I64, I1]) as f:
            b, (rows, board, out, row, col, width, add) = self.b, f.args
            with self.counting(I64(0), rows) as i:
                line = self.at(board, b.mul(i, I64(_BOARD * self.lanes)))
                to = self.at(out, b.mul(i, row))
                with self.counting(I64(0), width) as j:
                    address = self.at(to, b.mul(j, col))
                    old = b.select(add, b.load(address, typ=self.scalar), ir.Constant(self.scalar, 0))
                    b.store(b.fadd(old, b.load(self.at(line, j), typ=self.scalar)), address)
        return f

    def any_tile(self) -> ir.Function:
        """Select the tile function by rows and vectors of columns, and the function that writes its result.

        Tiles of whole vectors write contiguous results themselves.
        """
        with self.function("product_tile", [I64, I64, *_OPERANDS, PTR, I64, I64, I64, I1, I1, *_COPY]) as f:
            b, (rows, cols, *operands, out, row, col, width, add, copies, copy, copy_line) = self.b, f.args
            board, line = self.board(max(self.heights) * _BOARD), I64(_BOARD * self.lanes)
            straight = b.icmp_signed("==", col, ONE)
            direct = b.and_(straight, b.icmp_signed("==", width, b.mul(cols, I64(self.lanes))))
            to = [b.select(direct, out, board), b.select(direct, row, line), b.and_(direct, add)]
            with b.if_then(direct), self.counting(I64(0), rows) as i, self.counting(I64(0), cols) as j:
                self.prefetch(self.at(out, b.add(b.mul(i, row), b.mul(j, I64(self.lanes)))))
            limit = 16  # more than any tile has rows or columns
            done = f.append_basic_block("done")
            size = b.add(b.mul(cols, I64(limit)), rows)
            switch = b.switch(b.select(copies, I64(0), size), done)
            with b.goto_block(f.append_basic_block("copies")):
                r, c = self.largest
                switch.add_case(I64(0), b.block)
                b.call(self.intrinsic(f"product_copying_{r}x{c}", VOID, [*_TILE, *_COPY]),
                       [*operands, *to, copy, copy_line])
                b.branch(done)
            for r, c in self.sizes:
                block = f.append_basic_block(f"r{r}c{c}")
                with b.goto_block(block):
                    b.call(self.intrinsic(f"product_{r}x{c}", VOID, _TILE), [*operands, *to])
                    b.branch(done)
                switch.add_case(I64(c * limit + r), block)
            b.position_at_end(done)
            with b.if_then(b.not_(direct)), b.if_else(straight) as (lines, others):
                with lines:
                    b.call(self.put(), [rows, cols, board, out, row, width, add])
                with others, b.if_else(b.icmp_signed("==", row, ONE)) as (turned, scattered):
                    with turned:
                        b.call(self.put_flipped(), [rows, cols, board, out, col, width, add])
                    with scattered:
                        b.call(self.put_scattered(), [rows, board, out, row, col, width, add])
        return f

    # -- blocks

    def packer(self) -> ir.Function:
        """Copy ``depth × width`` elements, side by side in lines of `line`, with zeros behind."""
        with self.function("product_pack", [PTR, I64, I64, I64, I64, PTR, I64]) as f:
            b, (source, row, col, depth, width, to, line) = self.b, f.args
            with b.if_then(b.icmp_signed("==", col, ONE)):
                self.pack_lines(source, row, depth, width, to, line)
                b.ret_void()
                b.position_at_end(f.append_basic_block("turned"))
            with b.if_then(b.icmp_signed("==", row, ONE)):
                self.pack_turned(source, col, depth, width, to, line)
                b.ret_void()
                b.position_at_end(f.append_basic_block("scattered"))
            with self.counting(I64(0), depth) as i:
                from_line, to_line = self.at(source, b.mul(i, row)), self.at(to, b.mul(i, line))
                with self.counting(I64(0), width) as j:
                    value = b.load(self.at(from_line, b.mul(j, col)), typ=self.scalar)
                    b.store(value, self.at(to_line, j))
                with self.counting(width, line) as j:
                    b.store(ir.Constant(self.scalar, 0), self.at(to_line, j))
        return f

    def left_packer(self) -> ir.Function:
        """Copy the left operand, whose columns are contiguous: the rows of each tile side by side."""
        with self.function("product_pack_left", [PTR, I64, I64, I64, PTR]) as f:
            b, (source, col, depth, rows, to), high = self.b, f.args, self.heights[0]
            whole = b.mul(b.sdiv(rows, I64(high)), I64(high))
            # Few terms at a time: their lines of the copies of all tiles stay in the first cache until they are full.
            with (self.counting(I64(0), depth, I64(self.lanes)) as first_term,
                  self.counting(I64(0), whole, I64(high)) as i,
                  self.counting(first_term, least(b, b.add(first_term, I64(self.lanes)), depth)) as k):
                self.copy(high, self.at(source, b.add(b.mul(k, col), i)),
                          self.at(to, b.add(b.mul(i, depth), b.mul(k, I64(high)))))
            for first, height in self.tiled(b.sub(rows, whole), self.highest):
                i = b.add(whole, first)
                start, panel = self.at(source, i), self.at(to, b.mul(i, depth))
                with self.counting(I64(0), depth) as k, self.counting(I64(0), height) as row:
                    self.copy(1, self.at(start, b.add(b.mul(k, col), row)),
                              self.at(panel, b.add(b.mul(k, height), row)))
        return f

    def copy(self, count: int, source: ir.Value, to: ir.Value) -> None:
        """Copy some elements side by side."""
        self.store(self.load(self.dtype, source, count), self.dtype, to)

    def pack_lines(self, source: ir.Value, row: ir.Value, depth: ir.Value, width: ir.Value, to: ir.Value,
                   line: ir.Value) -> None:
        """Copy contiguous lines: whole vectors, and then the rest of each line with a mask."""
        b = self.b
        whole = b.and_(width, I64(-self.lanes))

        def copy(i: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
            value = self.load_vector(self.at(source, b.add(b.mul(i, row), j)), mask)
            self.store(value, self.dtype, self.at(to, b.add(b.mul(i, line), j)))

        with self.counting(I64(0), depth) as i, self.counting(I64(0), whole, I64(self.lanes)) as j:
            copy(i, j, None)
        with b.if_then(b.icmp_signed("<", whole, line)):
            mask = self.first(b.sub(width, whole))
            with self.counting(I64(0), depth) as i:
                copy(i, whole, mask)

    def pack_turned(self, source: ir.Value, col: ir.Value, depth: ir.Value, width: ir.Value, to: ir.Value,
                    line: ir.Value) -> None:
        """Copy contiguous columns: eight at a time, a vector of each."""
        b, turned = self.b, self.board(_TURNED)
        with self.counting(I64(0), line, I64(_TURNED)) as j, self.counting(I64(0), depth, I64(self.lanes)) as i:
            terms, columns_left = b.sub(depth, i), b.sub(width, j)
            start, corner, columns = self.at(source, b.add(b.mul(j, col), i)), self.at(to, b.add(b.mul(i, line), j)), []
            mask, last = self.first(terms), b.sub(columns_left, ONE)
            for q in range(_TURNED):  # lanes behind the last column hold it again: no result reads them
                columns.append(self.load_vector(self.at(start, b.mul(least(b, I64(q), last), col)), mask))
            rows = _transposed(b, columns)
            with b.if_else(b.icmp_signed(">=", terms, I64(self.lanes))) as (all_terms, some):
                with all_terms:
                    for q in range(self.lanes):
                        self.store(self.part(rows, q), self.dtype, self.at(corner, b.mul(I64(q), line)))
                with some:
                    for t, vector in enumerate(rows):
                        self.store(vector, self.dtype, self.at(turned, I64(t * self.lanes)))
                    with self.counting(I64(0), terms) as term:
                        part = self.load(self.dtype, self.at(turned, b.mul(term, I64(_TURNED))), _TURNED)
                        self.store(part, self.dtype, self.at(corner, b.mul(term, line)))

    def part(self, vectors: Sequence[ir.Value], q: int) -> ir.Value:
        """Return `_TURNED` elements of vectors, which lie side by side: from element ``q * _TURNED`` on."""
        vector, first = divmod(q * _TURNED, self.lanes)
        return self.b.shuffle_vector(vectors[vector], vectors[vector], lane_numbers(I32, _TURNED, first))

    def piece(self, operands: ir.Function) -> ir.Function:
        """Compute one piece of parallel work: some rows and columns of some products of the stack."""
        tiles, packers = self.any_tile(), (self.left_packer(), self.packer())
        with self.block("product_block", "") as f:
            b, item = self.b, f.args[1]
            boards = self.board(COPIED_BYTES * TALL // 64), self.board(LONGEST * WIDE)
            t, column = b.udiv(item, self.arg(plan.COL_BLOCKS)), b.urem(item, self.arg(plan.COL_BLOCKS))
            group, row = b.udiv(t, self.arg(plan.ROW_BLOCKS)), b.urem(t, self.arg(plan.ROW_BLOCKS))
            first = b.mul(group, self.arg(plan.GROUP))
            with self.counting(first, least(b, b.add(first, self.arg(plan.GROUP)), self.arg(plan.BATCH))) as index:
                located = self.located(operands, index)
                if self.blas_bits is None:
                    self.product(located, row, column, boards, tiles, packers)
                else:
                    method = self.arg(plan.METHOD)
                    with b.if_else(b.icmp_signed("==", method, I64(GENERATED))) as (generated, library):
                        with generated:
                            self.product(located, row, column, boards, tiles, packers)
                        with library:
                            self.by_blas(located, row, column)
        return f

    def by_blas(self, operands: list[ir.Value], row: ir.Value, column: ir.Value) -> None:
        """Let BLAS compute the rows and columns of one product that `row` and `column` count."""
        b, arg = self.b, self.arg
        a, right, out = operands
        low, left = b.mul(row, arg(plan.ROWS)), b.mul(column, arg(plan.COLS))
        rows = least(b, arg(plan.ROWS), b.sub(arg(plan.M), low))
        cols = least(b, arg(plan.COLS), b.sub(arg(plan.N), left))
        a, right = self.at(a, b.mul(low, arg(plan.A_ROW))), self.at(right, b.mul(left, arg(plan.B_COL)))
        out = self.at(out, b.add(b.mul(low, arg(plan.LDC)), left))
        depth = arg(plan.K)
        with b.if_else(b.icmp_signed("==", arg(plan.METHOD), I64(MATRIX))) as (matrix, vector):
            with matrix:
                self.call_blas("gemm", [plan.TRANS_A, plan.TRANS_B], [rows, cols, depth], a, right, out)
            with vector:  # BLAS takes the sizes of the matrix as it lies there
                turned = b.icmp_signed("==", arg(plan.TRANS_A), I64(TRANSPOSE))
                sizes = [b.select(turned, depth, rows), b.select(turned, rows, depth)]
                self.call_blas("gemv", [plan.TRANS_A], sizes, a, right, out)

    def product(self, operands: list[ir.Value], row: ir.Value, column: ir.Value, boards: tuple[ir.Value, ir.Value],
                tiles: ir.Function, packers: tuple[ir.Function, ir.Function]) -> None:
        """Compute the rows and columns of one product that `row` and `column` count."""
        b, arg, (left_board, _) = self.b, self.arg, boards
        a, right, out = operands
        a_row, a_col, b_row, b_col, line, step = map(arg, range(plan.A_ROW, plan.C_STEP + 1))
        flipped = b.trunc(arg(plan.FLIPPED), I1)
        out_row, out_col = b.select(flipped, step, line), b.select(flipped, line, step)
        low, left = b.mul(row, arg(plan.ROWS)), b.mul(column, arg(plan.COLS))
        rows = least(b, arg(plan.ROWS), b.sub(arg(plan.M), low))
        cols = least(b, arg(plan.COLS), b.sub(arg(plan.N), left))
        a = self.at(a, b.mul(low, a_row))
        right = self.at(right, b.mul(left, b_col))
        out = self.at(out, b.add(b.mul(low, out_row), b.mul(left, out_col)))
        block = [a, a_row, a_col, right, b_row], rows, cols, [out, out_row, out_col]
        with b.if_else(self.streams()) as (long, others):
            with long:
                self.stream(*block, left_board, tiles)
            with others:
                self.blocks(*block, b_col, boards, tiles, packers)

    def blocks(self, operands: list[ir.Value], rows: ir.Value, cols: ir.Value, result: list[ir.Value], b_col: ir.Value,
               boards: tuple[ir.Value, ir.Value], tiles: ir.Function, packers: tuple[ir.Function, ir.Function]) -> None:
        """Compute some rows and columns: a chain of terms of a few vectors of columns at a time."""
        b, arg, (left_board, board), (pack_left, pack) = self.b, self.arg, boards, packers
        (a, a_row, a_col, right, b_row), (out, out_row, out_col) = operands, result
        chunk = arg(plan.CHUNK)
        thin = b.select(self.far(a_col), I64(WIDE * self.lanes), I64(_THIN * self.lanes))
        turned = b.icmp_signed("==", a_row, ONE)
        packs_left = b.and_(turned, b.and_(
            b.icmp_signed("<=", rows, I64(TALL)), b.icmp_signed(">", cols, thin)))
        compact = b.icmp_unsigned("<=", b.mul(arg(plan.K), b_row), I64(_COMPACT // self.dtype.itemsize))
        few = b.select(self.far(b_row), I64(self.heights[0]), I64(_DIRECT))
        in_place = b.and_(b.icmp_signed("==", b_col, ONE), b.or_(compact, b.icmp_signed("<=", rows, few)))
        # A product of no terms is zero: there is one turn then, of no depth.
        chain = self.chain(arg(plan.K), turned)
        with self.counting(I64(0), most(b, arg(plan.K), ONE), chain) as k:
            depth = least(b, chain, b.sub(arg(plan.K), k))
            add = b.icmp_signed(">", k, I64(0))
            a_here = self.at(a, b.mul(k, a_col))
            with b.if_then(packs_left):
                b.call(pack_left, [a_here, a_col, depth, rows, left_board])
            with self.counting(I64(0), cols, chunk) as j:
                width = least(b, chunk, b.sub(cols, j))
                columns = self.at(right, b.add(b.mul(k, b_row), b.mul(j, b_col)))
                vectors = b.sdiv(b.add(width, I64(self.lanes - 1)), I64(self.lanes))
                padded = b.mul(vectors, I64(self.lanes))
                direct = b.and_(in_place, b.icmp_signed("==", width, padded))
                by_tiles = b.and_(b.icmp_signed("==", b_col, ONE), self.copied_by_tiles(rows, width))
                with b.if_then(b.not_(b.or_(direct, by_tiles))):
                    b.call(pack, [columns, b_row, b_col, depth, width, board, padded])
                for i, high in self.tiled(rows, self.highest):
                    copies = b.and_(b.not_(direct), b.and_(by_tiles, b.icmp_signed("==", i, I64(0))))
                    original = b.or_(direct, copies)
                    source, b_line = b.select(original, columns, board), b.select(original, b_row, padded)
                    a_tile = b.select(packs_left, self.at(left_board, b.mul(i, depth)),
                                      self.at(a_here, b.mul(i, a_row)))
                    a_step = b.select(packs_left, high, a_col)
                    for first, count in self.tiled(vectors, partial(self.widest, high)):
                        j_tile = b.mul(first, I64(self.lanes))
                        to = self.at(out, b.add(b.mul(i, out_row), b.mul(b.add(j, j_tile), out_col)))
                        filled = least(b, b.sub(width, j_tile), b.mul(count, I64(self.lanes)))
                        b.call(tiles, [high, count, depth, a_tile, a_row, a_step, self.at(source, j_tile), b_line,
                                       to, out_row, out_col, filled, add, copies, self.at(board, j_tile), padded])

    def chain(self, terms: ir.Value, turned: ir.Value) -> ir.Value:
        """Return the terms of each chain but the last, in whole vectors: few chains of about equal length.

        They are shorter where the left operand is `turned`, so that its copy stays in the cache.
        """
        b = self.b

        def quotient(x: ir.Value, y: ir.Value) -> ir.Value:
            return b.udiv(b.add(x, b.sub(y, ONE)), y)

        terms, longest = most(b, terms, ONE), b.select(turned, I64(COPIED_BYTES // self.dtype.itemsize), I64(LONGEST))
        return b.mul(quotient(quotient(terms, quotient(terms, longest)), I64(self.lanes)), I64(self.lanes))

    def copied_by_tiles(self, rows: ir.Value, width: ir.Value) -> ir.Value:
        """Return whether the first of several tiles, all of them the largest, can copy so many contiguous columns."""
        b, (tall, wide) = self.b, self.largest
        whole = b.icmp_signed("==", b.urem(width, I64(wide * self.lanes)), I64(0))
        return b.and_(whole, b.icmp_signed(">", rows, I64(tall)))

    def streams(self) -> ir.Value:
        """Return whether few rows pass a long right operand, whose columns fill whole vectors."""
        b, (m, n, k, b_row, b_col) = self.b, map(self.arg, (plan.M, plan.N, plan.K, plan.B_ROW, plan.B_COL))
        few = b.icmp_signed("<=", m, I64(plan.HIGH))
        whole = b.icmp_signed("==", b.urem(n, I64(self.lanes)), I64(0))
        in_place = b.and_(whole, b.icmp_signed("==", b_col, ONE))
        long = b.icmp_signed(">=", b.mul(k, n), I64(_LONG // self.dtype.itemsize))
        return b.and_(b.and_(few, in_place), b.and_(long, self.far(b_row)))

    def stream(self, operands: list[ir.Value], rows: ir.Value, cols: ir.Value, result: list[ir.Value],
               board: ir.Value, tiles: ir.Function) -> None:
        """Compute few rows while the right operand passes once, some lines at a time.

        The board holds the sums of some lines, and the totals.
        """
        b, (a, a_row, a_col, right, b_row), (out, out_row, out_col) = self.b, operands, result
        k, most_columns, chain = self.arg(plan.K), _STRIPE * self.lanes, I64(_SUMS * _LINES)
        totals = self.at(board, I64(plan.HIGH * most_columns))
        with self.counting(I64(0), cols, I64(most_columns)) as j:
            width = least(b, I64(most_columns), b.sub(cols, j))
            columns = self.at(right, j)
            with self.counting(I64(0), k, chain) as first:
                end = least(b, k, b.add(first, chain))
                with self.counting(first, end, I64(_LINES)) as line:
                    here = [self.at(a, b.mul(line, a_col)), a_row, a_col, self.at(columns, b.mul(line, b_row)), b_row]
                    self.add_lines(here, least(b, I64(_LINES), b.sub(end, line)), rows, width, board,
                                   b.icmp_signed(">", line, first), tiles)
                adding = splat(b, b.icmp_signed(">", first, I64(0)), self.lanes)
                with self.counting(I64(0), b.mul(rows, width), I64(self.lanes)) as i:
                    place = self.at(totals, i)
                    total = b.fadd(self.load_vector(place, adding), self.load_vector(self.at(board, i)))
                    self.store(total, self.dtype, place)
            with self.counting(I64(0), rows) as i, self.counting(I64(0), width) as column:
                total = b.load(self.at(totals, b.add(b.mul(i, width), column)), typ=self.scalar)
                b.store(total, self.at(out, b.add(b.mul(i, out_row), b.mul(b.add(j, column), out_col))))

    def add_lines(self, operands: list[ir.Value], depth: ir.Value, rows: ir.Value, width: ir.Value, board: ir.Value,
                  add: ir.Value, tiles: ir.Function) -> None:
        """Store the product of few rows with some lines in a board of whole vectors, or add it."""
        b, (a, a_row, a_col, right, b_row), most_columns = self.b, operands, I64(_BOARD * self.lanes)
        with self.counting(I64(0), width, most_columns) as start:
            vectors = b.sdiv(least(b, most_columns, b.sub(width, start)), I64(self.lanes))
            for i, high in self.tiled(rows, self.highest):
                for v, count in self.tiled(vectors, partial(self.widest, high)):
                    filled, column = b.mul(count, I64(self.lanes)), b.add(start, b.mul(v, I64(self.lanes)))
                    to = self.at(board, b.add(b.mul(i, width), column))
                    b.call(tiles, [high, count, depth, self.at(a, b.mul(i, a_row)), a_row, a_col,
                                   self.at(right, column), b_row, to, width, ONE, filled, add, I1(0), board, width])

    def far(self, stride: ir.Value) -> ir.Value:
        """Return whether lines with this stride push each other out of the cache."""
        return self.b.icmp_unsigned(">=", stride, I64(_FAR // self.dtype.itemsize))

    def tiled(self, count: ir.Value, share: Callable[[ir.Value], ir.Value]) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Write a loop over `count` in steps of ``share(remaining)``: yield the start of each, and the step."""
        position = self.variable(I64(0))
        with self.repeated(lambda: self.b.icmp_signed("<", self.get(position), count)):
            i = self.get(position)
            n = share(self.b.sub(count, i))
            self.b.store(self.b.add(i, n), position)
            yield i, n

    def operands(self) -> ir.Function:
        """Store the addresses of the operands and the result of one product of the stack."""
        with self.function("product_operands", [PTR, PTR, I64, PTR]) as f:
            b, (self.args, bases, index, addresses) = self.b, f.args
            offsets = self.offsets(index, self.arg(plan.AXES), HEAD, 3)
            for i, (base, offset) in enumerate(zip((plan.A_BASE, plan.B_BASE, plan.C_BASE), offsets, strict=True)):
                start = b.load(b.gep(bases, [self.arg(base)], source_etype=PTR), typ=PTR)
                start = at(b, start, self.arg(base + 1))
                b.store(self.at(start, self.get(offset)), at(b, addresses, 8 * i))
        return f

    def located(self, operands: ir.Function, index: ir.Value) -> list[ir.Value]:
        """Return the three addresses that `operands` stores."""
        addresses = self.room(PTR, 3)
        self.b.call(operands, [self.args, self.bases, index, addresses])
        return [self.b.load(at(self.b, addresses, 8 * i), typ=PTR) for i in range(3)]

    def write(self) -> str:
        """Return the module's text."""
        operands = self.operands()
        piece = self.piece(operands)
        with self.step("product"):
            b = self.b
            items = b.mul(self.arg(plan.GROUPS), b.mul(self.arg(plan.ROW_BLOCKS), self.arg(plan.COL_BLOCKS)))
            self.parallel_for(piece, items, items)
        return str(self.module)

    def call_blas(self, kind: str, flags: list[int], sizes: list[ir.Value], left: ir.Value, right: ir.Value,
                  out: ir.Value) -> None:
        """Call BLAS's product of two matrices (``gemm``), or of a matrix and a vector (``gemv``)."""
        integer = ir.IntType(self.blas_bits or 64)

        def size(value: ir.Value) -> ir.Value:
            return value if self.blas_bits == 64 else self.b.trunc(value, integer)

        one, zero = ir.Constant(self.scalar, 1), ir.Constant(self.scalar, 0)
        lda, ldb, ldc = (size(self.arg(position)) for position in (plan.LDA, plan.LDB, plan.LDC))
        arguments = [ir.Constant(I32, ROW_MAJOR), *(self.b.trunc(self.arg(flag), I32) for flag in flags),
                     *map(size, sizes), one, left, lda, right, ldb, zero, out, ldc]
        name = f"mg_cblas_{'s' if self.dtype.itemsize == 4 else 'd'}{kind}"
        self.b.call(self.intrinsic(name, VOID, [a.type for a in arguments]), arguments)

    # -- elements and vectors

    def arg(self, position: int) -> ir.Value:
        """Load a number of the argument block where it is needed: few of them are, in any one product."""
        return self.b.load(at(self.b, self.args, 8 * position), typ=I64)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """Return ``x y + z``, rounded once where the machine can."""
        return intrinsic(self.b, "fma", x, y, z) if self.fused else self.b.fadd(self.b.fmul(x, y), z)

    def highest(self, rows: ir.Value) -> ir.Value:
        """Return the height of the next tile, given the remaining rows."""
        height: ir.Value = ONE
        for n in sorted(self.heights):
            height = self.b.select(self.b.icmp_signed(">=", rows, I64(n)), I64(n), height)
        return height

    def widest(self, rows: ir.Value, vectors: ir.Value) -> ir.Value:
        """Return the vectors of the next tile, given its rows and the remaining vectors."""
        b, usual = self.b, tile(self.machine, self.heights[0])
        width: ir.Value = I64(usual)
        for r in self.heights:
            if tile(self.machine, r) != usual:
                width = b.select(b.icmp_signed("==", rows, I64(r)), I64(tile(self.machine, r)), width)
        return least(b, vectors, width)

    def at(self, pointer: ir.Value, index: ir.Value) -> ir.Value:
        """Return the address of an element."""
        return self.b.gep(pointer, [index], source_etype=self.scalar)

    def load_vector(self, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """Load a vector, or the lanes of `mask`: the others are zero, and their memory is not touched."""
        return self.load(self.dtype, pointer, self.lanes, mask)

    def first(self, count: ir.Value, lanes: int | None = None) -> ir.Value:
        """Return the mask of the first `count` of the lanes, a vector's otherwise."""
        lanes = lanes or self.lanes
        return self.b.icmp_signed("<", lane_numbers(I64, lanes), splat(self.b, count, lanes))

    def board(self, vectors: int) -> ir.Value:
        """Return memory for some vectors."""
        return self.room(self.vector, vectors, align=64)


def _transposed(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """Return the elements of 1, 2, 4 or 8 vectors column by column, in as many vectors."""
    if len(rows) == 1:
        return list(rows)
    n = rows[0].type.count
    halves = [ir.Constant(ir.VectorType(I32, n), [half * (n // 2) + i // 2 + i % 2 * n for i in range(n)])
              for half in range(2)]
    pairs = zip(_transposed(b, rows[::2]), _transposed(b, rows[1::2]), strict=True)
    return [b.shuffle_vector(even, odd, half) for even, odd in pairs for half in halves]

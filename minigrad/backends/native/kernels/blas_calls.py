"""Calls of NumPy's BLAS on blocks of matrices in rows, from steps whose pieces the program's threads share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .... import blas
from ....blas import LEFT, LOWER, NO_TRANSPOSE, NON_UNIT, RIGHT, ROW_MAJOR, TRANSPOSE, UPPER
from ....graph import Node
from ..codegen.emit import Emitter
from ..codegen.step_codegen import widths
from ..llvm import ir
from ..llvm.values import I32, I64, VOID, constant, scalar_type
from . import matrices


class Block(NamedTuple):
    """Consecutive rows and columns of a matrix.

    Attributes
    ----------
    address : ir.Value
        Of the first element.
    line : ir.Value
        Elements from one row to the next.
    """

    address: ir.Value
    line: ir.Value


def unable(node: Node) -> str | None:
    """Return why Python computes a statement on matrices, or None."""
    by_blas = isinstance(node.inputs[0].shape[-1], int) and blas.find()[0] is not None and blas.can_limit()
    return None if by_blas else matrices.unable(node)


def options(dtype: np.dtype) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Return the bits of BLAS's integers, and the symbols of the functions of a dtype."""
    found = blas.find()[0]
    assert found is not None
    return found.bits, tuple((_name(dtype, kind), blas.symbols()[_name(dtype, kind)]) for kind in ("gemm", "trsm"))


def _name(dtype: np.dtype, kind: str) -> str:
    return f"mg_cblas_{'s' if dtype.itemsize == 4 else 'd'}{kind}"


class Calls:
    """Writes calls of BLAS, whose integers have `bits`."""

    def __init__(self, code: Emitter, dtype: np.dtype, bits: int):
        self.code, self.dtype, self.integer, self.scalar = code, dtype, ir.IntType(bits), scalar_type(dtype)

    def block(self, start: ir.Value, row: ir.Value, column: ir.Value, line: ir.Value) -> Block:
        """Return the block of a matrix from a row and a column on."""
        b = self.code.b
        return Block(self.code.element(start, b.add(b.mul(row, line), column), self.dtype.itemsize), line)

    def copy(self, source: Block, to: Block, rows: ir.Value, columns: ir.Value) -> None:
        """Copy a block of some rows and columns."""
        code, size = self.code, self.dtype.itemsize
        with code.counting(I64(0), rows) as row:
            x, y = (self.block(z.address, row, I64(0), z.line).address for z in (source, to))
            for column, lanes in code.chunks(I64(0), columns, widths(self.dtype)):
                code.store(code.load(self.dtype, code.element(x, column, size), lanes), self.dtype,
                           code.element(y, column, size))

    def subtract_product(self, x: Block, y: Block, to: Block, m: ir.Value, n: ir.Value, k: ir.Value,
                         turned: bool) -> None:
        """Subtract ``x y`` from a block of `m` rows and `n` columns, or ``x yᵀ`` if `turned`."""
        self._call("gemm", I32(ROW_MAJOR), I32(NO_TRANSPOSE), I32(TRANSPOSE if turned else NO_TRANSPOSE), m, n, k,
                   constant(self.scalar, -1), *x, *y, constant(self.scalar, 1), *to)

    def solve(self, a: Block, to: Block, m: ir.Value, n: ir.Value, lower: bool) -> None:
        """Replace a block ``b`` of `m` rows and `n` columns by the solution of ``a x = b``."""
        self._solve(LEFT, LOWER if lower else UPPER, NO_TRANSPOSE, a, to, m, n)

    def divide(self, a: Block, to: Block, m: ir.Value, n: ir.Value) -> None:
        """Replace a block ``b`` of `m` rows and `n` columns by the solution of ``x aᵀ = b``, with a lower `a`."""
        self._solve(RIGHT, LOWER, TRANSPOSE, a, to, m, n)

    def _solve(self, side: int, triangle: int, order: int, a: Block, to: Block, m: ir.Value, n: ir.Value) -> None:
        self._call("trsm", *map(I32, (ROW_MAJOR, side, triangle, order, NON_UNIT)), m, n, constant(self.scalar, 1), *a,
                   *to)

    def _call(self, kind: str, *arguments: ir.Value) -> None:
        narrow = self.integer.width < I64.width
        values = [self.code.b.trunc(x, self.integer) if narrow and x.type is I64 else x for x in arguments]
        function = self.code.intrinsic(_name(self.dtype, kind), VOID, [x.type for x in values])
        self.code.b.call(function, values)

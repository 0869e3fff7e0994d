"""Cholesky factors by NumPy's BLAS: block after block of columns, for some rows on each thread.

The columns before a block leave it by a matrix product, which is most of the work. One thread computes the block's
rows on the diagonal, all threads those below. The blocks depend on sizes alone, and so does the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Place, Request, Step, step, step_code, widths
from ..codegen.strides import View
from ..llvm import ir
from ..llvm.values import I64, constant, scalar_type, splat
from . import matrices
from .blas_calls import Block, Calls, options
from .matrices import Matrices

COLUMNS = 32  # of a block
ROWS = 64  # in one piece of parallel work
_ZERO = I64(0)


def factor(r: Request) -> list[Step]:
    """Return the steps of Cholesky factors."""
    if matrices.unable(r.node) is None:
        return matrices.factor(r)
    bits, symbols = options(r.node.dtype)
    diagonal, below = (step_code(write, r.node.dtype, bits, symbols=symbols) for write in (_diagonal, _below))
    *lead, n, _ = r.to.shape
    stack, steps = math.prod(lead), list[Step]()
    for start in range(0, n, COLUMNS):
        columns = min(COLUMNS, n - start)
        end = start + columns
        numbers: Sequence[int | Place | View] = *r.xs, *r.xs, r.to, r.flag, n, columns, start
        steps += step(diagonal, r.team, stack * columns * columns * end, (stack, 1), (1, 1), *numbers)
        steps += step(below, r.team, stack * (n - end) * columns * end, (stack, n - end), (1, ROWS), *numbers)
    return steps


def _diagonal(dtype: np.dtype, bits: int, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Write the factor of the blocks on the diagonal of some matrices, and zeros to the right."""
    b, calls = code.b, Calls(code, dtype, bits)
    n, columns, start = (code.number(HEAD + k) for k in (8, 9, 10))
    factors = Matrices(code, dtype, columns, COLUMNS)
    with code.counting(*ranges[:2]) as i:
        diagonal, _ = _reduced(code, calls, i, start, columns)
        factors.factor(diagonal.address, diagonal.address, n)
        end = b.add(start, columns)
        with code.counting(_ZERO, columns) as row:
            right = calls.block(diagonal.address, row, columns, n).address
            for column, lanes in code.chunks(_ZERO, b.sub(n, end), widths(dtype)):
                zeros = splat(b, constant(scalar_type(dtype), 0), lanes)
                code.store(zeros, dtype, code.element(right, column, dtype.itemsize))


def _below(dtype: np.dtype, bits: int, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Write some rows below the block on the diagonal of some matrices."""
    b, calls = code.b, Calls(code, dtype, bits)
    low, high, first, last = ranges
    columns, start = code.number(HEAD + 9), code.number(HEAD + 10)
    end, rows = b.add(start, columns), b.sub(last, first)
    with code.counting(low, high) as i:
        diagonal, to = _reduced(code, calls, i, b.add(end, first), rows)
        calls.divide(diagonal, to, rows, columns)


def _reduced(code: Emitter, calls: Calls, i: ir.Value, first: ir.Value, rows: ir.Value) -> tuple[Block, Block]:
    """Subtract the columns before the block from some rows of it; return the block's diagonal and these rows."""
    b = code.b
    n, columns, start = (code.number(HEAD + k) for k in (8, 9, 10))
    matrix = b.mul(i, n)
    source, to = (calls.block(code.address(HEAD + k), matrix, _ZERO, n).address for k in (0, 4))
    block, diagonal = calls.block(to, first, start, n), calls.block(to, start, start, n)
    calls.copy(calls.block(source, first, start, n), block, rows, columns)
    with b.if_then(b.icmp_signed(">", start, _ZERO)):
        calls.subtract_product(calls.block(to, first, _ZERO, n), calls.block(to, start, _ZERO, n), block, rows, columns,
                               start, turned=True)
    return diagonal, block

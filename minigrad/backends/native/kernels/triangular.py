"""Triangular systems by NumPy's BLAS: block after block of rows, for some right-hand sides on each thread.

The rows that are solved leave a block by a matrix product, which is most of the work; BLAS's own solution of a whole
system takes a third longer, and knows no other threads. The blocks depend on sizes alone, and so does the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code
from ..llvm import ir
from ..llvm.builder import least
from ..llvm.values import I64, constant, scalar_type
from . import matrices
from .blas_calls import Calls, options
from .faults import SINGULAR

ROWS = 64  # of a block
COLUMNS = 64  # of right-hand sides in one piece of parallel work
_ZERO = I64(0)


def solve(r: Request) -> list[Step]:
    """Return the steps that solve triangular systems."""
    if matrices.unable(r.node) is None:
        return matrices.triangular(r)
    dtype = r.node.dtype
    bits, symbols = options(dtype)
    code = step_code(_solved, dtype, r.node.params["lower"], bits, symbols=symbols)
    *lead, n, columns = r.to.shape
    stack = math.prod(lead)
    return step(code, r.team, stack * n * n * columns, (stack, columns), (1, COLUMNS), *r.xs, r.to, r.flag, n, columns)


def _solved(dtype: np.dtype, lower: bool, bits: int, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Write the solution for some right-hand sides of some systems."""
    b, calls = code.b, Calls(code, dtype, bits)
    low, high, left, right = ranges
    n, columns = code.number(HEAD + 8), code.number(HEAD + 9)
    width, zero = b.sub(right, left), constant(scalar_type(dtype), 0)

    with code.counting(low, high) as i:
        first = b.mul(i, n)
        a, source, to = (calls.block(code.address(HEAD + 2 * k), first, start, line)
                         for k, (start, line) in enumerate(((_ZERO, n), (left, columns), (left, columns))))
        calls.copy(source, to, n, width)
        with code.counting(_ZERO, n) as row:
            diagonal = code.load(dtype, calls.block(a.address, row, row, n).address)
            with b.if_then(b.fcmp_ordered("==", diagonal, zero), likely=False):
                b.store(I64(SINGULAR), code.address(HEAD + 6), align=8)
        with code.counting(_ZERO, n, I64(ROWS)) as done:
            rows = least(b, I64(ROWS), b.sub(n, done))
            start = done if lower else b.sub(b.sub(n, done), rows)
            solved = _ZERO if lower else b.add(start, rows)
            block = calls.block(to.address, start, _ZERO, columns)
            with b.if_then(b.icmp_signed(">", done, _ZERO)):
                calls.subtract_product(calls.block(a.address, start, solved, n),
                                       calls.block(to.address, solved, _ZERO, columns), block, rows, width, done,
                                       turned=False)
            calls.solve(calls.block(a.address, start, start, n), block, rows, width, lower)

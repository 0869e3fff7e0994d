"""Steps on small matrices: linear systems, triangular systems, inverses, Cholesky factors, determinants.

A call of LAPACK through Python takes longer than a small matrix. Systems are solved by elimination with partial
pivoting, as LAPACK does. The rows of a matrix are copied to memory of the thread, which elimination overwrites.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....graph import Node
from ....ops import linalg
from ....primitive import Primitive
from ..codegen.emit import Emitter
from ..codegen.expressions import formula
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code, widths
from ..llvm import ir
from ..llvm.builder import ONE, at
from ..llvm.values import I32, I64, any_lane, constant, intrinsic, scalar_type, splat, vector
from .faults import INDEFINITE, SINGULAR
from .register_matrices import LARGEST as LARGEST_ROWS
from .register_matrices import ON_ROWS, rows_of

LARGEST = 32  # rows; LAPACK, which works on blocks, is faster from there on
_LANES = 64  # bytes of a vector: each lane has a matrix
_UNROLLED = 4  # rows of matrices whose loops are written for them alone
_PIECE = 1 << 15  # operations in one piece of parallel work
_ZERO = I64(0)


def unable(node: Node) -> str | None:
    """Return why Python computes a statement on matrices, or None."""
    rows = node.inputs[0].shape[-1]
    if not isinstance(rows, int) or rows > LARGEST:
        return f"{node.prim.name} of {node.inputs[0].type}"
    return None


def _on_each(write: Callable[..., None], r: Request, columns: int, *options: object) -> list[Step]:
    """Return the steps that write the result for each matrix of a stack."""
    shape = r.xs[0].shape
    rows, count = shape[-1], math.prod(shape[:-2])
    work = rows * rows * (rows + columns)
    if not work:
        return []
    if r.node.prim in ON_ROWS and rows <= LARGEST_ROWS and columns <= LARGEST_ROWS:
        code = step_code(_in_lanes, r.node.prim, r.node.dtype, rows, columns)
    else:
        code = step_code(write, *options, r.node.dtype, rows if rows <= _UNROLLED else "n")
    return step(code, r.team, count * work, (count, 1), (max(_PIECE // work, 1), 1), r.xs[0], r.xs[-1], r.to, r.flag,
                rows, columns)


def _each(write: Callable[..., None]) -> Callable[..., None]:
    """Return the function that writes the work on each matrix, of a function that writes it on one."""
    @functools.wraps(write)
    def on_each(*arguments: Any) -> None:
        *options, dtype, rows, code, ranges = arguments
        known = isinstance(rows, int)
        matrices = Matrices(code, dtype, I64(rows) if known else code.number(HEAD + 8), rows if known else LARGEST)
        with code.counting(*ranges[:2]) as i:
            write(matrices, i, *options)

    return on_each


def _in_lanes(prim: Primitive, dtype: np.dtype, rows: int, columns: int, code: Emitter, ranges: Sequence[ir.Value]
              ) -> None:
    """Write the work on a piece of a stack: each lane of a vector has a matrix."""
    b, size = code.b, dtype.itemsize
    shapes = [(rows, rows), (rows, columns)][:2 if prim is linalg.solve else 1]

    def flag_if(wrong: ir.Value, fault: int) -> None:
        with b.if_then(any_lane(b, wrong), likely=False):
            b.store(I64(fault), code.address(HEAD + 6), align=8)

    for i, lanes in code.chunks(ranges[0], ranges[1], (_LANES // size, 1)):
        matrices = []
        for k, shape in enumerate(shapes):
            count = math.prod(shape)
            first = code.element(code.address(HEAD + 2 * k), i, count * size)
            elements = [vector(b, [code.load(dtype, at(b, first, (lane * count + e) * size)) for lane in range(lanes)])
                        for e in range(count)]
            matrices.append(rows_of(elements, shape))
        results = list(ON_ROWS[prim](b, flag_if, *matrices).flat)
        first = code.element(code.address(HEAD + 4), i, len(results) * size)
        for lane in range(lanes):
            for e, x in enumerate(results):
                own = b.extract_element(x, I32(lane)) if lanes > 1 else x
                code.store(own, dtype, at(b, first, (lane * len(results) + e) * size))


def solve(r: Request) -> list[Step]:
    """Return the steps that solve ``a x = b``."""
    return _on_each(_solve, r, r.to.shape[-1])


def inverse(r: Request) -> list[Step]:
    """Return the steps of inverses."""
    return _on_each(_inverse, r, r.to.shape[-1])


def triangular(r: Request) -> list[Step]:
    """Return the steps that solve triangular systems."""
    return _on_each(_triangular, r, r.to.shape[-1], r.node.params["lower"])


def factor(r: Request) -> list[Step]:
    """Return the steps of Cholesky factors."""
    return _on_each(_factor, r, r.to.shape[-1])


def determinant(r: Request) -> list[Step]:
    """Return the steps of determinants."""
    return _on_each(_determinant, r, 1)


def signs_and_logs(r: Request) -> list[Step]:
    """Return the steps of the signs and logarithms of determinants."""
    return _on_each(_sign_and_log, r, 1)


# -- one matrix ------------------------------------------------------------------------------------------------


@_each
def _solve(m: Matrices, i: ir.Value) -> None:
    to = m.result(i)
    m.copy(m.operand(1, i, m.columns), to, m.n, m.columns)
    m.copied(i)
    m.eliminate(to)
    m.substitute(m.own, to, lower=False)


@_each
def _inverse(m: Matrices, i: ir.Value) -> None:
    to = m.result(i)
    with m.code.counting(_ZERO, m.n) as row, m.code.counting(_ZERO, m.n) as column:
        m.put(to, row, column, m.n, m.code.b.uitofp(m.code.b.icmp_signed("==", row, column), m.scalar))
    m.copied(i)
    m.eliminate(to)
    m.substitute(m.own, to, lower=False)


@_each
def _triangular(m: Matrices, i: ir.Value, lower: bool) -> None:
    to, a = m.result(i), m.operand(0, i, m.n)
    m.copy(m.operand(1, i, m.columns), to, m.n, m.columns)
    with m.code.counting(_ZERO, m.n) as j:
        m.flag_if(m.code.b.fcmp_ordered("==", m.get(a, j, j, m.n), m.zero), SINGULAR)
    m.substitute(a, to, lower=lower)


@_each
def _factor(m: Matrices, i: ir.Value) -> None:
    m.factor(m.operand(0, i, m.n), m.result(i), m.n)


def _log_of_pivots(m: Matrices, i: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the determinant's sign, and the logarithm of its absolute value."""
    code, b = m.code, m.code.b
    m.copied(i)
    sign, log = m.eliminate(None), code.variable(m.zero)
    with code.counting(_ZERO, m.n) as j:
        pivot = m.get(m.own, j, j, m.n)
        b.store(b.fmul(code.get(sign), formula(b, "sign({0})", [pivot])), sign)
        b.store(b.fadd(code.get(log), formula(b, "log(abs({0}))", [pivot])), log)
    return code.get(sign), code.get(log)


@_each
def _determinant(m: Matrices, i: ir.Value) -> None:
    sign, log = _log_of_pivots(m, i)
    to = m.code.element(m.code.address(HEAD + 4), i, m.dtype.itemsize)
    m.code.store(formula(m.code.b, "{0} * exp({1})", [sign, log]), m.dtype, to)


@_each
def _sign_and_log(m: Matrices, i: ir.Value) -> None:
    to = m.code.element(m.code.address(HEAD + 4), i, 2 * m.dtype.itemsize)
    for place, value in enumerate(_log_of_pivots(m, i)):
        m.put(to, _ZERO, I64(place), I64(2), value)


class Matrices:
    """Writes operations on the rows of matrices.

    Attributes
    ----------
    n, columns : ir.Value
        Rows of the square matrices, and columns of the right-hand sides.
    own : ir.Value
        The thread's memory for one matrix.
    """

    def __init__(self, code: Emitter, dtype: np.dtype, n: ir.Value, most: int):
        self.code, self.dtype, self.n, self.columns = code, dtype, n, code.number(HEAD + 9)
        self.scalar = scalar_type(dtype)
        self.own = code.room(self.scalar, most * most)
        self.zero = constant(self.scalar, 0)
        self.widths = (1,) if most <= _UNROLLED else widths(dtype)

    # -- elements

    def get(self, x: ir.Value, row: ir.Value, column: ir.Value, width: ir.Value) -> ir.Value:
        return self.code.load(self.dtype, self._address(x, row, column, width))

    def put(self, x: ir.Value, row: ir.Value, column: ir.Value, width: ir.Value, value: ir.Value) -> None:
        self.code.store(value, self.dtype, self._address(x, row, column, width))

    def _address(self, x: ir.Value, row: ir.Value, column: ir.Value, width: ir.Value) -> ir.Value:
        b = self.code.b
        return self.code.element(x, b.add(b.mul(row, width), column), self.dtype.itemsize)

    def operand(self, k: int, i: ir.Value, columns: ir.Value) -> ir.Value:
        """Return the address of matrix `i` of an operand."""
        b = self.code.b
        return self.code.element(self.code.address(HEAD + 2 * k), b.mul(i, b.mul(self.n, columns)), self.dtype.itemsize)

    def result(self, i: ir.Value) -> ir.Value:
        return self.operand(2, i, self.columns)

    def flag_if(self, wrong: ir.Value, fault: int) -> None:
        with self.code.b.if_then(wrong, likely=False):
            self.code.b.store(I64(fault), self.code.address(HEAD + 6), align=8)

    # -- rows

    def copy(self, source: ir.Value, to: ir.Value, rows: ir.Value, columns: ir.Value) -> None:
        code, size = self.code, self.dtype.itemsize
        for k, width in code.chunks(_ZERO, code.b.mul(rows, columns), self.widths):
            code.store(code.load(self.dtype, code.element(source, k, size), width), self.dtype,
                       code.element(to, k, size))

    def copied(self, i: ir.Value) -> None:
        """Copy matrix `i` of the first operand to the thread's memory."""
        self.copy(self.operand(0, i, self.n), self.own, self.n, self.n)

    def subtract(self, times: ir.Value, x: ir.Value, source: ir.Value, row: ir.Value, width: ir.Value,
                 begin: ir.Value) -> None:
        """Subtract a multiple of the row `source` from another one, from column `begin` on."""
        code, b = self.code, self.code.b
        for column, lanes in code.chunks(begin, width, self.widths):
            address = self._address(x, row, column, width)
            other = code.load(self.dtype, self._address(x, source, column, width), lanes)
            product = b.fmul(other, splat(b, times, lanes))
            code.store(b.fsub(code.load(self.dtype, address, lanes), product), self.dtype, address)

    def _exchange(self, x: ir.Value, row: ir.Value, other: ir.Value, width: ir.Value) -> None:
        code = self.code
        for column, lanes in code.chunks(_ZERO, width, self.widths):
            places = [self._address(x, r, column, width) for r in (row, other)]
            values = [code.load(self.dtype, p, lanes) for p in places]
            for place, value in zip(places, reversed(values), strict=True):
                code.store(value, self.dtype, place)

    def _pivot(self, j: ir.Value) -> ir.Value:
        """Return the row, from `j` on, with the largest element of column `j`."""
        code, b = self.code, self.code.b
        best, place = code.variable(intrinsic(b, "fabs", self.get(self.own, j, j, self.n))), code.variable(j)
        with code.counting(b.add(j, ONE), self.n) as row:
            size = intrinsic(b, "fabs", self.get(self.own, row, j, self.n))
            larger = b.fcmp_ordered(">", size, code.get(best))
            b.store(b.select(larger, row, code.get(place)), place)
            b.store(b.select(larger, size, code.get(best)), best)
        return code.get(place)

    # -- whole matrices

    def factor(self, source: ir.Value, to: ir.Value, width: ir.Value) -> None:
        """Write the Cholesky factor of a matrix, whose columns are the rows of the thread's memory.

        From one row to the next are `width` elements; the factor may replace the matrix.
        """
        code, b = self.code, self.code.b
        with code.counting(_ZERO, self.n) as row, code.counting(row, self.n) as column:
            self.put(self.own, row, column, self.n, self.get(source, column, row, width))
        with code.counting(_ZERO, self.n) as j:
            pivot, after = self.get(self.own, j, j, self.n), b.add(j, ONE)
            self.flag_if(b.fcmp_ordered("<=", pivot, self.zero), INDEFINITE)
            root = intrinsic(b, "sqrt", pivot)
            self.put(self.own, j, j, self.n, root)
            with code.counting(after, self.n) as column:
                self.put(self.own, j, column, self.n, b.fdiv(self.get(self.own, j, column, self.n), root))
            with code.counting(after, self.n) as row:
                self.subtract(self.get(self.own, j, row, self.n), self.own, j, row, self.n, row)
        with code.counting(_ZERO, self.n) as row, code.counting(_ZERO, self.n) as column:
            inside = b.icmp_signed("<=", column, row)
            value = self.get(self.own, b.select(inside, column, row), row, self.n)
            self.put(to, row, column, width, b.select(inside, value, self.zero))

    def eliminate(self, right: ir.Value | None) -> ir.Value:
        """Make the thread's matrix upper triangular, with the same row operations on `right`.

        Return the variable of the sign of the permutation. A zero pivot is a fault if there is a right-hand side.
        """
        code, b, one = self.code, self.code.b, constant(self.scalar, 1)
        sign = code.variable(one)
        with code.counting(_ZERO, self.n) as j:
            row, after = self._pivot(j), b.add(j, ONE)
            with b.if_then(b.icmp_signed("!=", row, j)):
                self._exchange(self.own, row, j, self.n)
                if right is not None:
                    self._exchange(right, row, j, self.columns)
                b.store(b.fneg(code.get(sign)), sign)
            pivot = self.get(self.own, j, j, self.n)
            none = b.fcmp_ordered("==", pivot, self.zero)
            if right is not None:
                self.flag_if(none, SINGULAR)
            with code.counting(after, self.n) as row:
                times = b.fdiv(self.get(self.own, row, j, self.n), b.select(none, one, pivot))
                self.subtract(times, self.own, j, row, self.n, after)
                if right is not None:
                    self.subtract(times, right, j, row, self.columns, _ZERO)
        return sign

    def substitute(self, a: ir.Value, right: ir.Value, lower: bool) -> None:
        """Solve a triangular system in place."""
        code, b = self.code, self.code.b
        with code.counting(_ZERO, self.n) as turn:
            j = turn if lower else b.sub(b.sub(self.n, turn), ONE)
            pivot = self.get(a, j, j, self.n)
            for column, lanes in code.chunks(_ZERO, self.columns, self.widths):
                address = self._address(right, j, column, self.columns)
                x = code.load(self.dtype, address, lanes)
                code.store(b.fdiv(x, splat(b, pivot, lanes)), self.dtype, address)
            first, last = (b.add(j, ONE), self.n) if lower else (_ZERO, j)
            with code.counting(first, last) as row:
                self.subtract(self.get(a, row, j, self.n), right, j, row, self.columns, _ZERO)

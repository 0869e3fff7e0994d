"""Small matrices in registers: linear systems, inverses, determinants, by elimination with partial pivoting.

A register may be a vector: each lane then has a matrix of its own.

Rows are exchanged by selection, so that the code has no loops and no branches but for faults. The pivots, and so the
numbers, are those of `matrices`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ops.determinants import det, slogdet
from ....ops.linalg import inv, solve
from ....primitive import Primitive
from ..codegen.expressions import formula
from ..llvm import ir
from ..llvm.values import constant, intrinsic
from .faults import SINGULAR

LARGEST = 4  # rows

Rows = np.ndarray  # of registers: one matrix
FlagIf = Callable[[ir.Value, int], None]  # emits that a fault is flagged where a condition holds


def _eliminated(b: ir.IRBuilder, a: Rows, right: Rows | None, flag_if: FlagIf) -> tuple[Rows, Rows | None, ir.Value]:
    """Return the upper triangular matrix, the right-hand sides after the same operations, and the permutation's sign.

    A zero pivot is a fault if there are right-hand sides.
    """
    n, t = len(a), a[0, 0].type
    one, zero = constant(t, 1), constant(t, 0)
    rows = a.copy() if right is None else np.concatenate([a, right], axis=1)
    sign = one
    for j in range(n):
        size = intrinsic(b, "fabs", rows[j, j])
        for r in range(j + 1, n):
            other = intrinsic(b, "fabs", rows[r, j])
            larger = b.fcmp_ordered(">", other, size)
            size = b.select(larger, other, size)
            pairs = [(b.select(larger, y, x), b.select(larger, x, y))
                     for x, y in zip(rows[j, j:], rows[r, j:], strict=True)]
            rows[j, j:], rows[r, j:] = ([p[k] for p in pairs] for k in (0, 1))
            sign = b.select(larger, b.fneg(sign), sign)
        none = b.fcmp_ordered("==", rows[j, j], zero)
        if right is not None:
            flag_if(none, SINGULAR)
        pivot = b.select(none, one, rows[j, j])
        for r in range(j + 1, n):
            times = b.fdiv(rows[r, j], pivot)
            rows[r, j + 1:] = [b.fsub(x, b.fmul(y, times))
                               for x, y in zip(rows[r, j + 1:], rows[j, j + 1:], strict=True)]
    return rows[:, :n], None if right is None else rows[:, n:], sign


def _solved(b: ir.IRBuilder, flag_if: FlagIf, a: Rows, right: Rows) -> Rows:
    upper, x, _ = _eliminated(b, a, right, flag_if)
    assert x is not None
    for j in reversed(range(len(upper))):
        x[j] = [b.fdiv(y, upper[j, j]) for y in x[j]]
        for r in range(j):
            x[r] = [b.fsub(y, b.fmul(z, upper[r, j])) for y, z in zip(x[r], x[j], strict=True)]
    return x


def _inverse(b: ir.IRBuilder, flag_if: FlagIf, a: Rows) -> Rows:
    eye = np.empty(a.shape, object)
    for k in np.ndindex(a.shape):
        eye[k] = constant(a[0, 0].type, k[0] == k[1])
    return _solved(b, flag_if, a, eye)


def _sign_and_log(b: ir.IRBuilder, flag_if: FlagIf, a: Rows) -> Rows:
    upper, _, sign = _eliminated(b, a, None, flag_if)
    log = constant(sign.type, 0)
    for pivot in upper.diagonal():
        sign = b.fmul(sign, formula(b, "sign({0})", [pivot]))
        log = b.fadd(log, formula(b, "log(abs({0}))", [pivot]))
    return np.array([sign, log], object)


def _determinant(b: ir.IRBuilder, flag_if: FlagIf, a: Rows) -> Rows:
    return np.array([formula(b, "{0} * exp({1})", list(_sign_and_log(b, flag_if, a)))], object)


def rows_of(elements: Sequence[ir.Value], shape: tuple[int, ...]) -> Rows:
    """Return registers as a matrix."""
    rows = np.empty(len(elements), object)
    rows[:] = elements
    return rows.reshape(shape)


ON_ROWS: dict[Primitive, Callable[..., Rows]] = {
    solve: _solved, inv: _inverse, slogdet: _sign_and_log, det: _determinant}


def of_each(b: ir.IRBuilder, prim: Primitive, flag_if: FlagIf, xs: Sequence[np.ndarray]) -> list[ir.Value]:
    """Return the elements of the results for each matrix of a stack."""
    count = int(np.prod(xs[0].shape[:-2]))
    stacks = [x.reshape(count, *x.shape[-2:]) for x in xs]
    return [y for matrices in zip(*stacks, strict=True) for y in ON_ROWS[prim](b, flag_if, *matrices).flat]

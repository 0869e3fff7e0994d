"""`block_einsum` as a step: a matrix product of its own size for each example, or a stack of them; no padding.

The step reads the sizes of each example, computes the arguments of its product, and calls the generated code for matrix
products. Pieces of parallel work are runs of examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from ....graph import Node
from ....ops.einsum import parse, split_subscripts
from ..codegen.emit import BLOCK, Emitter, at, least, most
from ..codegen.step_codegen import HEAD, Step, StepCode, arguments
from ..codegen.strides import View
from ..codegen.values import I64
from . import gemm, gemm_plan

Place = tuple[int, int]  # a base, and bytes from there

_PIECES = 16  # pieces at most; each goes through the lengths of all examples
_MOST_AXES = 3  # of a stack of products
# Arguments behind the head: the places of two operands and the result, the elements of each (-1: shared); of each, the
# strides of rows and columns: a number, and whether it multiplies the other's size. Of rows, columns and terms: the
# place of lengths and bytes from one to the next, or the number; the flag; products of a stack, its axes, and of each
# axis the size and the strides of each operand.
_PLACES, _TOTALS, _STRIDES, _SIZES, _FLAG = HEAD, HEAD + 6, HEAD + 9, HEAD + 21, HEAD + 33
_STACK, _AXES = HEAD + 35, HEAD + 36


def unable(node: Node) -> str | None:
    """Return why a contraction cannot be this step; None if it can."""
    if node.dtype.name not in ("float32", "float64"):
        return f"block_einsum of {node.dtype}"
    if any(n.dtype != np.int64 for n in node.inputs[2:]):
        return "block_einsum with lengths that are not int64"
    ragged = node.params["ragged"]
    orders = _orders(node.params["subscripts"], ragged)
    batch, left, right, inner = _roles(orders)
    if set(batch) & set(ragged) or len(batch) > _MOST_AXES:
        return "block_einsum of a stack whose size differs"
    for role, holders in ((left, (0, 2)), (right, (1, 2)), (inner, (0, 1))):
        if len(role) > 1 and (set(role) & set(ragged) or any(role not in orders[i] for i in holders)):
            return "block_einsum of more than matrices"
    return None


@functools.cache
def _orders(subscripts: str, ragged: str) -> tuple[str, ...]:
    """Return the subscripts of operands and result in the order of memory: the ragged ones first."""
    terms, out = parse(subscripts)
    return tuple("".join(sorted(t, key=lambda c: c not in ragged)) for t in (*terms, out))


def _roles(orders: Sequence[str]) -> list[str]:
    """Return the subscripts of stack, rows, columns and terms, each in the order of an operand."""
    roles = split_subscripts(*orders)
    return ["".join(sorted(role, key=orders[i].index)) for role, i in zip(roles, (2, 0, 1, 0), strict=True)]


def contraction(node: Node, to: View, x: View, y: View, lengths: Sequence[View], flag: Place,
                team: int) -> list[Step]:
    """Return the steps that contract each example's blocks.

    Parameters
    ----------
    node : Node
        The `block_einsum`.
    to, x, y, lengths : View
        Each contiguous.
    flag : Place
        A number that becomes 1 if the lengths do not add up to an operand's rows.
    """
    ragged, views = node.params["ragged"], [x, y, to]
    kinds = *node.params["kinds"], "packed"
    orders = _orders(node.params["subscripts"], ragged)
    batch, left, right, inner = _roles(orders)
    size = {c: n for v, order in zip(views, orders, strict=True)
            for c, n in zip(order[::-1], v.shape[::-1], strict=False) if c not in ragged}
    by_letter = dict(zip(ragged, lengths, strict=True))
    sizes: list[int] = []
    for role in (left, right, inner):
        if role in by_letter:
            sizes += [by_letter[role].base, by_letter[role].offset, 8, 0]
        else:
            sizes += [*flag, 0, math.prod(size[c] for c in role)]

    def stride(order: str, role: str) -> tuple[int, bool]:
        """Return a stride, and whether it multiplies the size of the next ragged subscript."""
        if not role:
            return 1, False
        if role in by_letter:
            behind = order[order.index(role) + 1:]
            return math.prod(size[c] for c in behind if c not in ragged), any(c in ragged for c in behind)
        return math.prod(size[c] for c in order[order.index(role[-1]) + 1:]), False

    strides = [n for order, roles in zip(orders, ((left, inner), (inner, right), (left, right)), strict=True)
               for role in roles for n in stride(order, role)]
    axes = [n for c in batch for n in (size[c], *(stride(order, c)[0] for order in orders))]
    totals = [-1 if kind == "shared" else math.prod(v.shape) for v, kind in zip(views, kinds, strict=True)]
    count = lengths[0].shape[0]
    args = arguments(team, sum(math.prod(v.shape) for v in views), (count, 1), (-(-count // _PIECES), 1), [
        *(p for v in views for p in (v.base, v.offset)), *totals, *strides, *sizes, *flag,
        math.prod(size[c] for c in batch), len(batch), *axes, *[0] * (4 * (_MOST_AXES - len(batch)))])
    return [(blocks(node.dtype), args)] if count else []


@functools.cache
def blocks(dtype: np.dtype) -> StepCode:
    """Return the step; the one for matrix products of `dtype` is loaded."""
    return StepCode(f"blocks.{dtype}", functools.partial(_blocks, dtype),
                    {"mg_product_block": gemm.block_address(dtype)})


def _blocks(dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, low, high = code.b, *ranges[:2]
    product = ir.Function(code.module, BLOCK, "mg_product_block")
    args = code.e.alloca(I64, size=I64(gemm_plan.HEAD + 4 * _MOST_AXES))
    context = code.context(args)
    totals = [code.number(_TOTALS + i) for i in range(3)]
    counts = [code.e.select(code.e.icmp_signed(">=", t, I64(0)), I64(1), I64(0)) for t in totals]
    stack = code.number(_STACK)

    def number(i: int, by: int) -> ir.Value:
        address, stride = code.address(_SIZES + 4 * i), code.number(_SIZES + 4 * i + 2)
        is_length = code.e.icmp_signed("!=", stride, I64(0))
        known = code.number(_SIZES + 4 * i + 3)
        return b.select(is_length, b.load(at(b, address, b.mul(by, stride)), typ=I64), known)

    def sizes(example: ir.Value) -> list[ir.Value]:
        return [number(i, example) for i in range(3)]

    def elements(m: ir.Value, n: ir.Value, k: ir.Value) -> list[ir.Value]:
        each = [b.mul(m, k), b.mul(k, n), b.mul(m, n)]
        return [b.mul(e, b.mul(stack, c)) for e, c in zip(each, counts, strict=True)]

    # The first elements of this piece, and whether the examples fill all operands.
    ends, begins = ([code.variable(I64(0)) for _ in range(3)] for _ in range(2))
    wrong = code.variable(I64(0))
    with code.counting(I64(0), code.number(2)) as i:
        m, n, k = sizes(i)
        before = b.icmp_signed("<", i, low)
        for end, begin, more in zip(ends, begins, elements(m, n, k), strict=True):
            b.store(b.add(code.get(end), more), end)
            b.store(b.add(code.get(begin), b.select(before, more, I64(0))), begin)
            b.store(b.or_(code.get(wrong), code.get(end)), wrong)  # a negative length sets the sign
        for size in (m, n, k):
            large = b.or_(b.icmp_unsigned(">=", size, I64(1 << 31)),  # whose products may overflow
                          b.icmp_unsigned(">=", b.mul(size, stack), I64(1 << 31)))
            b.store(b.or_(code.get(wrong), b.select(large, I64(-1), I64(0))), wrong)
    fits = b.icmp_signed(">=", code.get(wrong), I64(0))
    for end, total in zip(ends, totals, strict=True):
        whole = code.e.select(code.e.icmp_signed(">=", total, I64(0)), total, I64(0))
        fits = b.and_(fits, b.icmp_signed("==", code.get(end), whole))
    with b.if_else(fits) as (then, otherwise):
        with otherwise:
            b.store(I64(1), code.address(_FLAG))
        with then, code.counting(low, high) as i:
            m, n, k = sizes(i)
            _arguments(code, dtype, args, (m, n, k), [code.get(p) for p in begins])
            with b.if_then(b.icmp_signed("!=", b.mul(b.mul(m, n), stack), I64(0))):
                pieces = b.load(at(b, args, 8 * gemm_plan.ROW_BLOCKS), typ=I64)
                with code.counting(I64(0), pieces) as piece:
                    b.call(product, [context, piece, I64(0)])
            for begin, more in zip(begins, elements(m, n, k), strict=True):
                b.store(b.add(code.get(begin), more), begin)


def _arguments(code: Emitter, dtype: np.dtype, args: ir.Value, sizes: Sequence[ir.Value],
               begins: Sequence[ir.Value]) -> None:
    """Store the arguments of one product, as `gemm_plan.gemm_args` computes them."""
    b, (m, n, k), item, lanes = code.b, sizes, dtype.itemsize, gemm_plan.lanes(dtype)
    one = I64(1)

    def cost(m: ir.Value, n: ir.Value, stride: ir.Value) -> ir.Value:
        vectors = b.sdiv(b.add(n, I64(lanes - 1)), I64(lanes))
        copied = b.select(b.icmp_signed("==", stride, one), I64(0), b.mul(n, k))
        return b.add(b.mul(b.mul(vectors, k), most(b, m, I64(4))), copied)

    def stride(i: int, other: ir.Value) -> ir.Value:
        apart, times = (code.number(_STRIDES + 2 * i + j) for j in range(2))
        return b.mul(apart, b.select(code.e.icmp_signed("!=", times, I64(0)), other, one))

    a, c, to = ((stride(2 * i, columns), stride(2 * i + 1, rows))
                for i, (rows, columns) in enumerate(((m, k), (k, n), (m, n))))
    flipped = b.icmp_signed("<", b.add(cost(n, m, a[0]), b.mul(n, m)), cost(m, n, c[1]))
    numbers = [code.number(_PLACES + i) for i in range(6)]
    offsets = [b.add(numbers[2 * i + 1], b.mul(begins[i], I64(item))) for i in range(3)]

    def pick(x: ir.Value, y: ir.Value) -> ir.Value:
        return b.select(flipped, y, x)

    rows, columns = pick(m, n), pick(n, m)
    share = most(b, least(b, rows, I64(gemm_plan.TALL)), one)
    depth = gemm_plan.DEPTH * lanes // 64
    terms = b.mul(b.sdiv(b.add(most(b, k, one), I64(lanes - 1)), I64(lanes)), I64(lanes))
    wide = b.mul(b.sdiv(b.sdiv(I64(gemm_plan.WIDE * depth), terms), I64(2)), I64(2))
    for position, value in {
            gemm_plan.METHOD: I64(gemm_plan.GENERATED), gemm_plan.BATCH: code.number(_STACK), gemm_plan.M: rows,
            gemm_plan.N: columns, gemm_plan.K: k,
            gemm_plan.A_BASE: pick(numbers[0], numbers[2]), gemm_plan.A_OFFSET: pick(offsets[0], offsets[1]),
            gemm_plan.B_BASE: pick(numbers[2], numbers[0]), gemm_plan.B_OFFSET: pick(offsets[1], offsets[0]),
            gemm_plan.C_BASE: numbers[4], gemm_plan.C_OFFSET: offsets[2], gemm_plan.A_ROW: pick(a[0], c[1]),
            gemm_plan.A_COL: pick(a[1], c[0]), gemm_plan.B_ROW: pick(c[0], a[1]), gemm_plan.B_COL: pick(c[1], a[0]),
            gemm_plan.C_LINE: to[0], gemm_plan.C_STEP: to[1], gemm_plan.FLIPPED: b.zext(flipped, I64),
            gemm_plan.ROWS: share, gemm_plan.COLS: most(b, columns, one), gemm_plan.GROUP: code.number(_STACK),
            gemm_plan.GROUPS: one, gemm_plan.CHUNK: b.mul(I64(lanes), most(b, wide, I64(gemm_plan.WIDE))),
            gemm_plan.COL_BLOCKS: one, gemm_plan.ROW_BLOCKS: b.sdiv(b.add(rows, b.sub(share, one)), share),
            gemm_plan.AXES: code.number(_AXES)}.items():
        b.store(value, at(b, args, 8 * position))
    for axis in range(_MOST_AXES):
        number, left, right, result = (code.number(_AXES + 1 + 4 * axis + i) for i in range(4))
        for i, value in enumerate((number, pick(left, right), pick(right, left), result)):
            b.store(value, at(b, args, 8 * (gemm_plan.HEAD + 4 * axis + i)))

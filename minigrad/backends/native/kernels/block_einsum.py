"""`block_einsum` as a step: a matrix product of its own size for each example, or a stack of them; no padding.

The step reads the sizes of each example, computes the arguments of its product, and calls the generated code for matrix
products. Pieces of parallel work are runs of examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ....graph import Node
from ....ops.einsum import parse, split_subscripts
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code
from ..codegen.vector_math.lanes import Lanes, select
from ..llvm import ir
from ..llvm.builder import BLOCK, at
from ..llvm.values import I64
from . import gemm, gemm_plan

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


def contraction(r: Request) -> list[Step]:
    """Return the steps that contract each example's blocks.

    The flag becomes 1 if the lengths do not add up to an operand's rows.
    """
    node, ragged, views, lengths = r.node, r.node.params["ragged"], [*r.xs[:2], r.to], r.xs[2:]
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
            sizes += [*r.flag, 0, math.prod(size[c] for c in role)]

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
    code = step_code(_blocks, node.dtype, symbols=(("mg_product_block", gemm.block_address(node.dtype)),))
    return step(code, r.team, sum(math.prod(v.shape) for v in views), (count, 1), (-(-count // _PIECES), 1), *views,
                *totals, *strides, *sizes, r.flag, math.prod(size[c] for c in batch), len(batch), *axes,
                *[0] * (4 * (_MOST_AXES - len(batch))))


def _blocks(dtype: np.dtype, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, low, high = code.b, *ranges[:2]
    product = ir.Function(code.module, BLOCK, "mg_product_block")
    args = code.e.alloca(I64, size=I64(gemm_plan.HEAD + 4 * _MOST_AXES))
    context = code.context(args)
    totals = [code.number(_TOTALS + i) for i in range(3)]
    counts = [code.e.select(code.e.icmp_signed(">=", t, I64(0)), I64(1), I64(0)) for t in totals]
    stack = code.number(_STACK)

    def number(i: int, by: ir.Value) -> ir.Value:
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
            with b.if_then(b.icmp_signed("!=", b.mul(b.mul(m, n), stack), I64(0))):
                _arguments(code, dtype, args, (m, n, k), [code.get(p) for p in begins])
                pieces = b.load(at(b, args, 8 * gemm_plan.ROW_BLOCKS), typ=I64)
                with code.counting(I64(0), pieces) as piece:
                    b.call(product, [context, piece, I64(0)])
            for begin, more in zip(begins, elements(m, n, k), strict=True):
                b.store(b.add(code.get(begin), more), begin)


def _arguments(code: Emitter, dtype: np.dtype, args: ir.Value, sizes: Sequence[ir.Value],
               begins: Sequence[ir.Value]) -> None:
    """Store the arguments of one product."""
    b, lanes = code.b, gemm_plan.lanes(dtype)

    def number(position: int) -> Lanes:
        return Lanes(b, code.number(position))

    m, n, k = (Lanes(b, size) for size in sizes)

    def strides(i: int, rows: Lanes, columns: Lanes) -> list[Lanes]:
        return [number(_STRIDES + 2 * j) * select(number(_STRIDES + 2 * j + 1) != 0, other, 1)
                for j, other in ((2 * i, columns), (2 * i + 1, rows))]

    def place(i: int) -> list[Lanes]:
        return [number(_PLACES + 2 * i), number(_PLACES + 2 * i + 1) + Lanes(b, begins[i]) * dtype.itemsize]

    product = gemm_plan.Product(m, n, k, *place(0), *strides(0, m, k), *place(1), *strides(1, k, n))
    flipped = product.flip_pays(lanes)
    product = gemm_plan.Product(*map(functools.partial(select, flipped), product.flipped(), product))
    stack, rows = number(_STACK), product.m.clamp(1, gemm_plan.TALL)
    head = product.head(stack, number(_AXES), lanes, (rows, gemm_plan.most(product.n, 1), stack), [
        *place(2), *strides(2, m, n), Lanes(b, b.zext(flipped.value, I64))])
    axes = [[number(_AXES + 1 + 4 * axis + i) for i in range(4)] for axis in range(_MOST_AXES)]
    head += [v for size, left, right, to in axes
             for v in (size, select(flipped, right, left), select(flipped, left, right), to)]
    for position, value in enumerate(head):
        b.store(value.value if isinstance(value, Lanes) else I64(value), at(b, args, 8 * position))

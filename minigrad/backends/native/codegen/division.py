"""NumPy's quotients, remainders and shifts, for which one machine instruction does not suffice.

An integer divided by 0 is 0, the least divided by -1 wraps around, quotients are rounded down and a remainder has the
divisor's sign; a shift past the end leaves 0, or the sign. Floats follow from the exact remainder of C's fmod, so that
the quotient is right also where ``x / y`` is rounded up to an integer.
"""

from __future__ import annotations

from collections.abc import Callable

from ....ops import elementwise as ew
from ....ops import integer
from ....primitive import Primitive
from ..llvm import ir
from ..llvm.values import constant, element, intrinsic, is_float, out_of_line, rarely

Rule = Callable[[ir.IRBuilder, ir.Value, ir.Value, bool], ir.Value]


def floor_divide(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``floor(x / y)``."""
    if is_float(x):
        return _float_quotient(b, x, y)
    zero, nothing, safe = _divisors(b, x, y, unsigned)
    if unsigned:
        return b.select(nothing, zero, b.udiv(x, safe))
    down = b.sub(b.sdiv(x, safe), b.zext(_wrong_sign(b, b.srem(x, safe), safe), x.type))
    return b.select(nothing, zero, b.select(b.icmp_signed("==", y, constant(y.type, -1)), b.neg(x), down))


def mod(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x - floor(x / y) * y``."""
    if is_float(x):
        return _float_remainder(b, x, y)
    zero, nothing, safe = _divisors(b, x, y, unsigned)
    remainder = (b.urem if unsigned else b.srem)(x, safe)
    if not unsigned:
        remainder = b.select(_wrong_sign(b, remainder, safe), b.add(remainder, safe), remainder)
    return b.select(nothing, zero, remainder)


def _divisors(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return 0, whether `y` is 0, and `y` with 1 for divisors that the machine refuses: 0, and -1 of the least."""
    zero = constant(y.type, 0)
    nothing = b.icmp_signed("==", y, zero)
    refused = nothing if unsigned else b.or_(nothing, b.icmp_signed("==", y, constant(y.type, -1)))
    return zero, nothing, b.select(refused, constant(y.type, 1), y)


def _wrong_sign(b: ir.IRBuilder, remainder: ir.Value, divisor: ir.Value) -> ir.Value:
    zero = constant(remainder.type, 0)
    return b.and_(b.icmp_signed("!=", remainder, zero), b.icmp_signed("<", b.xor(remainder, divisor), zero))


def _float_remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    zero, exact = constant(x.type, 0), _remainder(b, x, y)
    remainder = b.select(_opposite(b, exact, y), b.fadd(exact, y), exact)
    signed = intrinsic(b, "copysign", zero, y)
    remainder = b.select(b.fcmp_ordered("==", exact, zero), signed, remainder)
    return b.select(b.fcmp_ordered("==", y, zero), exact, remainder)


def _opposite(b: ir.IRBuilder, remainder: ir.Value, divisor: ir.Value) -> ir.Value:
    """Return whether a remainder is not 0 and its sign is not the divisor's."""
    zero = constant(remainder.type, 0)
    differ = b.xor(b.fcmp_ordered("<", remainder, zero), b.fcmp_ordered("<", divisor, zero))
    return b.and_(b.fcmp_unordered("!=", remainder, zero), differ)


def _float_quotient(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    zero, one, remainder = constant(x.type, 0), constant(x.type, 1), _remainder(b, x, y)
    near = b.fdiv(b.fsub(x, remainder), y)  # very nearly a whole number
    near = b.select(_opposite(b, remainder, y), b.fsub(near, one), near)
    down = intrinsic(b, "floor", near)
    down = b.select(b.fcmp_ordered(">", b.fsub(near, down), constant(x.type, 0.5)), b.fadd(down, one), down)
    plain = b.fdiv(x, y)
    down = b.select(b.fcmp_ordered("==", near, zero), intrinsic(b, "copysign", zero, plain), down)
    return b.select(b.fcmp_ordered("==", y, zero), plain, down)


def _remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Return C's ``fmod(x, y)``, exact.

    A quotient of no more bits than the type has is cut to the whole number ``q``, or to one more where it was rounded
    up to that; ``x - q * y`` is then a number of the type, which one fused operation finds. Others are left to C.
    """
    quotient = b.fdiv(x, y)
    q = intrinsic(b, "trunc", quotient)
    remainder = intrinsic(b, "fma", b.fneg(q), y, x)
    size, zero = intrinsic(b, "fabs", y), constant(x.type, 0)
    sign = intrinsic(b, "copysign", constant(x.type, 1), x)
    remainder = b.select(b.fcmp_ordered("<", b.fmul(remainder, sign), zero),
                         b.fadd(remainder, b.fmul(size, sign)), remainder)
    remainder = b.select(b.fcmp_ordered("==", q, zero), x, intrinsic(b, "copysign", remainder, x))
    bits = 24 if isinstance(element(x.type), ir.FloatType) else 53
    large = b.fcmp_ordered(">=", intrinsic(b, "fabs", q), constant(x.type, 2.0 ** bits))
    return rarely(b, large, [remainder], lambda: out_of_line(
        b, "fmod", [x.type], lambda b, x, y: [b.frem(x, y)], x, y))[0]


def left_shift(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x << y``; 0 for a shift by all bits or more, or by a negative number."""
    inside, safe = _shift(b, y)
    return b.select(inside, b.shl(x, safe), constant(x.type, 0))


def right_shift(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x >> y``; the sign alone for a shift by all bits or more, or by a negative number."""
    inside, safe = _shift(b, y)
    if unsigned:
        return b.select(inside, b.lshr(x, safe), constant(x.type, 0))
    return b.ashr(x, b.select(inside, y, constant(y.type, element(y.type).width - 1)))


def _shift(b: ir.IRBuilder, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    inside = b.icmp_unsigned("<", y, constant(y.type, element(y.type).width))
    return inside, b.select(inside, y, constant(y.type, 0))


RULES: dict[Primitive, Rule] = {
    ew.floor_divide: floor_divide, ew.mod: mod, integer.left_shift: left_shift, integer.right_shift: right_shift}

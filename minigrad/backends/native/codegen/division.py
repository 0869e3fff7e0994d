"""NumPy's quotients, remainders and shifts, where one machine instruction does less.

An integer divided by 0 is 0, the least divided by -1 wraps around, quotients are rounded down and a remainder has the
divisor's sign; a shift past the end leaves nothing, or the sign. Those of floats follow from the exact remainder that
C's fmod has, so that the quotient is the right one also where ``x / y`` is rounded up to it.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .vector_math import lanes

Rule = Callable[[ir.IRBuilder, ir.Value, ir.Value, bool], ir.Value]


def _constant(x: ir.Value, number: float) -> ir.Constant:
    return lanes.constant(x.type, float(number) if _is_float(x) else number)


def _is_float(x: ir.Value) -> bool:
    return isinstance(_element(x), (ir.FloatType, ir.DoubleType))


def _element(x: ir.Value) -> ir.Type:
    return x.type.element if isinstance(x.type, ir.VectorType) else x.type


def floor_divide(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``floor(x / y)``."""
    if _is_float(x):
        return _float_quotient(b, x, y)
    zero, nothing, safe = _divisors(b, x, y, unsigned)
    if unsigned:
        return b.select(nothing, zero, b.udiv(x, safe))
    down = b.sub(b.sdiv(x, safe), b.zext(_wrong_sign(b, b.srem(x, safe), safe), x.type))
    return b.select(nothing, zero, b.select(b.icmp_signed("==", y, _constant(y, -1)), b.neg(x), down))


def mod(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x - floor(x / y) * y``."""
    if _is_float(x):
        return _float_remainder(b, x, y)
    zero, nothing, safe = _divisors(b, x, y, unsigned)
    rest = (b.urem if unsigned else b.srem)(x, safe)
    if not unsigned:
        rest = b.select(_wrong_sign(b, rest, safe), b.add(rest, safe), rest)
    return b.select(nothing, zero, rest)


def _divisors(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return 0, whether `y` is 0, and `y`, but 1 where the machine cannot divide by it: 0, and -1 of the least."""
    zero = _constant(y, 0)
    nothing = b.icmp_signed("==", y, zero)
    refused = nothing if unsigned else b.or_(nothing, b.icmp_signed("==", y, _constant(y, -1)))
    return zero, nothing, b.select(refused, _constant(y, 1), y)


def _wrong_sign(b: ir.IRBuilder, rest: ir.Value, divisor: ir.Value) -> ir.Value:
    zero = _constant(rest, 0)
    return b.and_(b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, divisor), zero))


def _float_remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    zero, exact = _constant(x, 0), _remainder(b, x, y)
    rest = b.select(_opposite(b, exact, y), b.fadd(exact, y), exact)
    signed = _call(b, "llvm.copysign", zero, y)
    rest = b.select(b.fcmp_ordered("==", exact, zero), signed, rest)
    return b.select(b.fcmp_ordered("==", y, zero), exact, rest)


def _opposite(b: ir.IRBuilder, rest: ir.Value, divisor: ir.Value) -> ir.Value:
    """Tell whether a remainder is not 0 and has not the divisor's sign."""
    zero = _constant(rest, 0)
    differ = b.xor(b.fcmp_ordered("<", rest, zero), b.fcmp_ordered("<", divisor, zero))
    return b.and_(b.fcmp_unordered("!=", rest, zero), differ)


def _float_quotient(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    zero, one, rest = _constant(x, 0), _constant(x, 1), _remainder(b, x, y)
    near = b.fdiv(b.fsub(x, rest), y)  # very nearly a whole number
    near = b.select(_opposite(b, rest, y), b.fsub(near, one), near)
    down = _call(b, "llvm.floor", near)
    down = b.select(b.fcmp_ordered(">", b.fsub(near, down), _constant(x, 0.5)), b.fadd(down, one), down)
    plain = b.fdiv(x, y)
    down = b.select(b.fcmp_ordered("==", near, zero), _call(b, "llvm.copysign", zero, plain), down)
    return b.select(b.fcmp_ordered("==", y, zero), plain, down)


def _remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Return C's ``fmod(x, y)``, exact.

    A quotient of no more bits than the type has is cut to the whole number ``q``, or to one more where it was rounded
    up to that; ``x - q * y`` is then a number of the type, which one fused operation finds. Others are left to C.
    """
    quotient = b.fdiv(x, y)
    q = _call(b, "llvm.trunc", quotient)
    rest = _call(b, "llvm.fma", b.fneg(q), y, x)
    size, zero = _call(b, "llvm.fabs", y), _constant(x, 0)
    sign = _call(b, "llvm.copysign", _constant(x, 1), x)
    rest = b.select(b.fcmp_ordered("<", b.fmul(rest, sign), zero), b.fadd(rest, b.fmul(size, sign)), rest)
    rest = b.select(b.fcmp_ordered("==", q, zero), x, _call(b, "llvm.copysign", rest, x))
    bits = 24 if isinstance(_element(x), ir.FloatType) else 53
    large = b.fcmp_ordered(">=", _call(b, "llvm.fabs", q), _constant(x, 2.0 ** bits))
    here = b.block
    with b.if_then(_any(b, large), likely=False):
        by_c = b.call(_by_c(b.module, x.type), [x, y])
        there = b.block
    found = b.phi(x.type)
    found.add_incoming(rest, here)
    found.add_incoming(by_c, there)
    return found


def _by_c(module: ir.Module, t: ir.Type) -> ir.Function:
    """Return a function that asks the C library for a remainder of each lane."""
    name = f"remainder.{t}".replace(" ", "").replace("<", "").replace(">", "")
    if name not in module.globals:
        f = ir.Function(module, ir.FunctionType(t, [t, t]), name)
        f.linkage = "internal"
        f.attributes.add("noinline")
        b = ir.IRBuilder(f.append_basic_block())
        b.ret(b.frem(*f.args))
    return module.globals[name]


def _any(b: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    if not isinstance(bits.type, ir.VectorType):
        return bits
    name = f"llvm.vector.reduce.or.v{bits.type.count}i1"
    f = b.module.globals.get(name) or ir.Function(b.module, ir.FunctionType(ir.IntType(1), [bits.type]), name)
    return b.call(f, [bits])


def _call(b: ir.IRBuilder, name: str, *xs: ir.Value) -> ir.Value:
    t = xs[0].type
    kind = "f32" if isinstance(_element(xs[0]), ir.FloatType) else "f64"
    full = f"{name}.v{t.count}{kind}" if isinstance(t, ir.VectorType) else f"{name}.{kind}"
    f = b.module.globals.get(full) or ir.Function(b.module, ir.FunctionType(t, [t] * len(xs)), full)
    return b.call(f, xs)


def left_shift(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x << y``; 0 for a shift by all bits or more, or by a negative number."""
    inside, safe = _shift(b, y)
    return b.select(inside, b.shl(x, safe), _constant(x, 0))


def right_shift(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool) -> ir.Value:
    """Return ``x >> y``; what is left of the sign for a shift by all bits or more, or by a negative number."""
    inside, safe = _shift(b, y)
    if unsigned:
        return b.select(inside, b.lshr(x, safe), _constant(x, 0))
    return b.ashr(x, b.select(inside, y, _constant(y, _element(y).width - 1)))


def _shift(b: ir.IRBuilder, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    inside = b.icmp_unsigned("<", y, _constant(y, _element(y).width))
    return inside, b.select(inside, y, _constant(y, 0))


RULES: dict[str, Rule] = {f.__name__: f for f in (floor_divide, mod, left_shift, right_shift)}

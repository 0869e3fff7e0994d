"""Numbers in the making: LLVM values with Python's operators, one lane or many, floats or integers.

``Lanes`` wraps a value of a builder, so that a formula reads as a formula: ``fma(r * r, p, r)``. Numbers of Python
become constants of the same type. Comparisons are false for NaN, but for ``!=``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...llvm import ir, values

MANTISSA = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
FLOATS = {32: ir.FloatType(), 64: ir.DoubleType()}
_ARITHMETIC = frozenset({"add", "sub", "mul", "div"})


def _operator(name: str, flip: bool = False) -> Callable[[Lanes, Lanes | float], Lanes]:
    """Return the method that applies an instruction to a value and another one, or the other way round."""
    def operator(self: Lanes, other: Lanes | float) -> Lanes:
        operands = self.value, self._like(other).value
        instruction = ("f" if self.is_float and name in _ARITHMETIC else "") + name
        return self.of(getattr(self.builder, instruction)(*(operands[::-1] if flip else operands)))

    return operator


def _comparison(sign: str) -> Callable[[Lanes, Lanes | float], Lanes]:
    def comparison(self: Lanes, other: Lanes | float) -> Lanes:
        compare = (self.builder.icmp_signed if not self.is_float else
                   self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered)
        return self.of(compare(sign, self.value, self._like(other).value))

    return comparison


class Lanes:
    """A value of `builder`: a scalar or a vector of floats, integers or truth values.

    Parameters
    ----------
    builder : ir.IRBuilder
    value : ir.Value
    fused : bool
        Whether the target multiplies and adds in one instruction. Where it does not, ``llvm.fma`` would be a call of
        libm for each lane, so that ``fma`` then rounds twice, and error terms of products are found by splitting.
    """

    __slots__ = ("builder", "fused", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, fused: bool = True):
        self.builder, self.value, self.fused = builder, value, fused

    # -- types ---------------------------------------------------------------------------------------------

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def element(self) -> ir.Type:
        return values.element(self.type)

    @property
    def is_float(self) -> bool:
        return not isinstance(self.element, ir.IntType)

    @property
    def width(self) -> int:
        """The bits of a lane."""
        return 32 if isinstance(self.element, ir.FloatType) else self.element.width if not self.is_float else 64

    def type_of(self, element: ir.Type) -> ir.Type:
        """Return the type of as many lanes of `element`."""
        return values.like(self.type, element)

    def of(self, value: ir.Value) -> Lanes:
        return Lanes(self.builder, value, self.fused)

    def const(self, number: float) -> Lanes:
        """Return `number` in every lane."""
        if not self.is_float and self.width > 1:  # as the bits of a two's complement
            number = int(number) & (1 << self.width) - 1
        return self.of(values.constant(self.type, number))

    def _like(self, other: Lanes | float) -> Lanes:
        return other if isinstance(other, Lanes) else self.const(other)

    # -- operators -----------------------------------------------------------------------------------------

    __add__, __radd__ = _operator("add"), _operator("add", flip=True)
    __sub__, __rsub__ = _operator("sub"), _operator("sub", flip=True)
    __mul__ = __rmul__ = _operator("mul")
    __truediv__, __rtruediv__ = _operator("div"), _operator("div", flip=True)
    __floordiv__, __rfloordiv__ = _operator("sdiv"), _operator("sdiv", flip=True)  # of integers, rounded to 0
    __and__, __or__, __xor__ = _operator("and_"), _operator("or_"), _operator("xor")
    __lshift__, __rshift__ = _operator("shl"), _operator("ashr")  # shifts right have the sign
    shift_right_unsigned = _operator("lshr")
    __lt__, __le__, __gt__, __ge__ = map(_comparison, ("<", "<=", ">", ">="))
    __eq__, __ne__ = map(_comparison, ("==", "!="))  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Lanes:
        return self.of(self.builder.fneg(self.value) if self.is_float else self.builder.neg(self.value))

    def __invert__(self) -> Lanes:
        return self ^ (1 if self.width == 1 else -1)

    def __abs__(self) -> Lanes:
        return intrinsic("fabs", self)

    def sqrt(self) -> Lanes:
        return intrinsic("sqrt", self)

    def isnan(self) -> Lanes:
        return self != self

    def clamp(self, low: float | None = None, high: float | None = None) -> Lanes:
        """Return the value moved into [low, high]; NaN stays."""
        x = self if low is None else select(self < low, low, self)
        return x if high is None else select(x > high, high, x)

    # -- signs ---------------------------------------------------------------------------------------------

    def sign_bit(self) -> Lanes:
        """Return the integer that has the sign bit alone."""
        return self.bits() & (1 << self.width - 1)

    def with_sign(self, sign: Lanes) -> Lanes:
        """Return the value, which has no sign or that one, with the sign bit `sign`."""
        return (self.bits() | sign).floats()

    def flip_sign(self, sign: Lanes) -> Lanes:
        """Return the value negated where the bit `sign` is set."""
        return (self.bits() ^ sign).floats()

    # -- conversions ---------------------------------------------------------------------------------------

    def bits(self) -> Lanes:
        """Return a float's bits as an integer of its width."""
        return self.of(self.builder.bitcast(self.value, self.type_of(ir.IntType(self.width))))

    def floats(self) -> Lanes:
        """Return the float that has these bits."""
        return self.of(self.builder.bitcast(self.value, self.type_of(FLOATS[self.width])))

    def to_float(self) -> Lanes:
        """Return a signed integer as a float of its width."""
        return self.of(self.builder.sitofp(self.value, self.type_of(FLOATS[self.width])))

    def double(self) -> Lanes:
        return self if self.width == 64 else self.of(self.builder.fpext(self.value, self.type_of(FLOATS[64])))

    def single(self) -> Lanes:
        return self if self.width == 32 else self.of(self.builder.fptrunc(self.value, self.type_of(FLOATS[32])))


def intrinsic(name: str, *xs: Lanes) -> Lanes:
    """Call LLVM's ``llvm.<name>``, whose operands and result are all of one type."""
    return xs[0].of(values.intrinsic(xs[0].builder, name, *(x.value for x in xs)))


def fma(a: Lanes, b: Lanes | float, c: Lanes | float) -> Lanes:
    """Return a * b + c, rounded once where the target can, else twice."""
    b, c = a._like(b), a._like(c)
    return intrinsic("fma", a, b, c) if a.fused else a * b + c


def select(mask: Lanes, a: Lanes | float, b: Lanes | float) -> Lanes:
    """Return `a` where `mask`, else `b`; one of them may be a number."""
    if isinstance(a, Lanes):
        return mask.of(mask.builder.select(mask.value, a.value, a._like(b).value))
    assert isinstance(b, Lanes)
    return mask.of(mask.builder.select(mask.value, b.const(a).value, b.value))


def maximum(a: Lanes, b: Lanes) -> Lanes:
    """Return the greater; `b` where one is NaN."""
    return select(a > b, a, b)


def minimum(a: Lanes, b: Lanes) -> Lanes:
    """Return the lesser; `b` where one is NaN."""
    return select(a < b, a, b)


def power_of_two(n: Lanes) -> Lanes:
    """Return the float 2**n of an integer; the result must be normal."""
    return ((n + BIAS[n.width]) << MANTISSA[n.width]).floats()


def scale(x: Lanes, n: Lanes) -> Lanes:
    """Return x * 2**n, in two steps, so that n may lead to infinity or to subnormal numbers (rounded once)."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def round_to_integer(x: Lanes, factor: float = 1.0) -> tuple[Lanes, Lanes]:
    """Return the integer nearest to x * factor, as a float and as an integer; it must be below 2**21 (2**50).

    Adding 1.5 * 2**23 (2**52) leaves the integer in the last bits of the sum.
    """
    magic = 1.5 * 2.0 ** MANTISSA[x.width]
    shifted = x + magic if factor == 1.0 else fma(x, factor, magic)
    return shifted - magic, shifted.bits() - x.const(magic).bits()


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """Return the polynomial with these coefficients, constant first.

    Short ones by Horner's rule; of longer ones the halves are computed side by side (Estrin), which shortens the chain
    of operations that wait for each other.
    """
    powers = {1: x}

    def power(n: int) -> Lanes:
        if n not in powers:
            powers[n] = power(n // 2) * power(n // 2)
        return powers[n]

    def evaluate(c: Sequence[float]) -> Lanes:
        if len(c) <= 4:
            result = x.const(c[-1])
            for k in reversed(c[:-1]):
                result = fma(result, x, k)
            return result
        half = 4
        while 2 * half < len(c):
            half *= 2
        return fma(evaluate(c[half:]), power(half), evaluate(c[:half]))

    return evaluate(coefficients)


Formula = Callable[..., Lanes]

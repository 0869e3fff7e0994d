"""x modulo pi/2, for every x: in three steps while |x| is moderate, else with as many bits of 2/pi as it takes.

Large arguments are rare, so that their lanes are computed one by one in a function of the module that is called only
where there is one (Payne and Hanek, "Radian reduction for trigonometric functions", 1983): 2/pi times an integer
mantissa, modulo 4, needs only the 192 bits of 2/pi from the place on where the product's weight falls below 4.
"""

from __future__ import annotations

import math

from ...llvm import ir, values
from . import coefficients as c
from .double import difference, fast_sum, product
from .lanes import FLOATS, Lanes, fma, round_to_integer, select

_FAR = {32: 2.0**16, 64: 2.0**20}
_I64, _I128, _I192, _I256 = (ir.IntType(n) for n in (64, 128, 192, 256))
_PLACES = 1280  # bits of 2/pi: the largest exponent of float64, the window, and the bytes read beyond it


def half_pi_remainder(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return r, its correction and the integer n modulo 4 with x = n pi/2 + r + correction and |r| <= pi/4."""
    b, size = x.builder, abs(x)
    far = ((size > _FAR[x.width]) & (size < float("inf"))).value
    near = [part.value for part in _near(x)]

    def remainders() -> list[ir.Value]:
        far_x = select(x.of(far), x, 2.0 * _FAR[x.width])  # of others the table has no bits
        exact = values.out_of_line(b, "far_remainders", [part.type for part in near], _far_lanes, far_x.value)
        return [b.select(far, part, usual) for part, usual in zip(exact, near, strict=True)]

    r, low, n = map(x.of, values.rarely(b, far, near, remainders))
    return r, low, n


def _near(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Subtract n times pi/2 in parts (Cody and Waite)."""
    if not x.fused and x.width == 32:
        r, low, n = _near(x.double())
        single = r.single()
        integers = x.type_of(ir.IntType(32))
        return single, (r - single.double() + low).single(), x.of(x.builder.trunc(n.value, integers))
    n, integer = round_to_integer(x, 2 / math.pi)
    if x.fused:  # the first difference is exact: its bits begin below pi/4 and end where those of the first part do
        first, second, third = c.HALF_PI[x.width]
        left = fma(n, -first, x)
        p, error = product(n, x.const(second))
        r, low = difference(left, p)
        return r, fma(n, -third, low - error), integer
    first, second, third, fourth = c.HALF_PI_SHORT[x.width]
    r, low = difference(x - n * first, n * second)
    r, error = difference(r, n * third)
    return r, low + error - n * fourth, integer


# -- far from 0 --------------------------------------------------------------------------------------------


def _far_lanes(b: ir.IRBuilder, x: ir.Value) -> list[ir.Value]:
    """Return the parts of each lane, by a function of one double."""
    if isinstance(x.type, ir.VectorType):
        lanes = [_far_lanes(b, b.extract_element(x, values.I32(k))) for k in range(x.type.count)]
        return [values.vector(b, parts) for parts in zip(*lanes, strict=True)]
    one = Lanes(b, x).double()
    r, low, n = values.out_of_line(b, "far_remainder", [FLOATS[64], FLOATS[64], _I64], _far_remainder, one.value)
    if x.type == FLOATS[64]:
        return [r, low, n]
    single = one.of(r).single()
    return [single.value, (one.of(r) - single.double()).single().value, b.trunc(n, values.I32)]


def _far_remainder(b: ir.IRBuilder, value: ir.Value) -> list[ir.Value]:
    """Return the parts of a double beyond 1, with integers alone."""
    x = Lanes(b, value)

    def whole(value: Lanes, kind: ir.IntType) -> Lanes:
        return x.of(b.zext(value.value, kind))

    def low_bits(value: Lanes, kind: ir.IntType) -> Lanes:
        return x.of(b.trunc(value.value, kind))

    bits = x.bits()
    exponent = (bits.shift_right_unsigned(52) & 0x7FF) - 1075
    mantissa = bits & (1 << 52) - 1 | 1 << 52
    # |x| = mantissa * 2**exponent. The window begins at the bit of 2/pi whose product's weight is below 4.
    offset = -exponent + (_PLACES - 190)
    table = _bits_of_two_over_pi(b.module)
    address = b.gep(table, [(offset >> 3).value], source_etype=values.I8, inbounds=True)
    loaded = x.of(b.load(address, typ=_I256, align=1))
    window = low_bits(loaded.shift_right_unsigned(whole(offset & 7, _I256)), _I192)
    product = window * whole(mantissa, _I192)  # modulo 4, in units of 2**-190
    n = product + (1 << 189)
    quotient = low_bits(n.shift_right_unsigned(190), _I64)
    fraction = product - (n.shift_right_unsigned(190) << 190)
    negative = fraction < 0
    size = select(negative, -fraction, fraction)
    zeros = x.of(b.call(values.declared(b.module, "llvm.ctlz.i192", _I192, [_I192, values.I1]),
                        [size.value, values.I1(0)]))
    top = low_bits((size << zeros).shift_right_unsigned(128), _I64)
    # r = fraction * pi/2, as 64 bits times 64 bits of pi/2; then 53 bits of it, and the others.
    half_pi = (1 << _PLACES + 63) // _two_over_pi(_PLACES)
    high = low_bits((whole(top, _I128) * half_pi).shift_right_unsigned(64), _I64)
    weight = ((low_bits(zeros, _I64) * -1 + (-61 + 1023)) << 52).floats()
    r, low = fast_sum(high.shift_right_unsigned(11).to_float() * 2048.0 * weight, (high & 2047).to_float() * weight)
    sign = select(negative, bits.const(1 << 63), 0) ^ (bits & 1 << 63)
    return [(r.bits() ^ sign).floats().value, (low.bits() ^ sign).floats().value,
            select(bits < 0, -quotient, quotient).value]


def _bits_of_two_over_pi(module: ir.Module) -> ir.GlobalVariable:
    """Return 2/pi * 2**_PLACES as bytes, the lowest first."""
    table = module.variables.get("two_over_pi")
    if table is None:
        data = bytearray(_two_over_pi(_PLACES).to_bytes(_PLACES // 8 + 32, "little"))
        kind = ir.ArrayType(values.I8, len(data))
        table = ir.GlobalVariable(module, kind, "two_over_pi", ir.Constant(kind, data), constant=True)
    return table


def _two_over_pi(places: int) -> int:
    """Return the integer part of 2**places * 2 / pi, with pi by Machin's formula."""
    one = 1 << places + 64

    def arctan_of_inverse(n: int) -> int:
        return sum((-1) ** k * (one // n ** (2 * k + 1)) // (2 * k + 1) for k in range(places // 4 + 16))

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    return (one << places + 1) // pi



"""x modulo pi/2, for every x: in three steps while |x| is moderate, else with as many bits of 2/pi as it takes.

Large arguments are rare, so that their lanes are computed one by one in a function of the module that is called only
where there is one (Payne and Hanek, "Radian reduction for trigonometric functions", 1983): 2/pi times an integer
mantissa, modulo 4, needs only the 192 bits of 2/pi from the place on where the product's weight falls below 4.
"""

from __future__ import annotations

from llvmlite import ir

from ..values import any_lane, declared
from . import coefficients as c
from .double import difference, product
from .lanes import FLOATS, Lanes, fabs, fma, round_to_integer, select

_FAR = {32: 2.0**16, 64: 2.0**20}
_I8, _I64, _I128, _I192, _I256 = (ir.IntType(n) for n in (8, 64, 128, 192, 256))
_PLACES = 1280  # bits of 2/pi: the largest exponent of float64, the window, and the bytes read beyond it


def half_pi_remainder(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return r, its correction and the integer n modulo 4 with x = n pi/2 + r + correction and |r| <= pi/4."""
    name = f"mg.half_pi_remainder.{suffix(x)}"
    integers = x.type_of(ir.IntType(x.width))
    result = ir.LiteralStructType([x.type, x.type, integers])
    function = x.builder.module.globals.get(name)
    if function is None:
        function = internal(x.builder.module, name, ir.FunctionType(result, [x.type]), "alwaysinline")
        _define(function, x.fused)
    parts = x.builder.call(function, [x.value])
    r, low, n = (x.of(x.builder.extract_value(parts, k)) for k in range(3))
    return r, low, n


def suffix(x: Lanes) -> str:
    return ("" if x.count is None else f"v{x.count}") + f"f{x.width}" + ("" if x.fused else ".split")


def internal(module: ir.Module, name: str, kind: ir.FunctionType, *attributes: str) -> ir.Function:
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    for attribute in ("nounwind", *attributes):
        function.attributes.add(attribute)
    return function


def _struct(builder: ir.IRBuilder, kind: ir.Type, values: list[ir.Value]) -> ir.Value:
    result = ir.Constant(kind, ir.Undefined)
    for k, value in enumerate(values):
        result = builder.insert_value(result, value, k)
    return result


def _define(function: ir.Function, fused: bool) -> None:
    """Write the function of `half_pi_remainder`: the near case, and a call where any lane is far."""
    builder = ir.IRBuilder(function.append_basic_block("near"))
    x = Lanes(builder, function.args[0], fused)
    kind = function.function_type.return_type
    size = fabs(x)
    is_far = (size > _FAR[x.width]).value
    far = Lanes(builder, is_far, fused)
    far = far & (size < float("inf"))
    near = _struct(builder, kind, [part.value for part in _near(x)])
    near_block = builder.block
    with builder.if_then(any_lane(builder, far.value), likely=False):
        call = builder.call(_far_lanes(builder.module, x), [x.value, near, far.value])
        far_block = builder.block
    result = builder.phi(kind)
    result.add_incoming(near, near_block)
    result.add_incoming(call, far_block)
    builder.ret(result)


def _near(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Subtract n times pi/2 in parts (Cody and Waite)."""
    if not x.fused and x.width == 32:
        r, low, n = _near(x.double())
        single = r.single()
        integers = x.type_of(ir.IntType(32))
        return single, (r - single.double() + low).single(), x.of(x.builder.trunc(n.value, integers))
    n, integer = round_to_integer(x, c.TWO_OVER_PI[x.width][0])
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


def _far_lanes(module: ir.Module, x: Lanes) -> ir.Function:
    """Return the function that replaces far lanes of the near case's result."""
    kind = ir.LiteralStructType([x.type, x.type, x.type_of(ir.IntType(x.width))])
    mask = x.type_of(ir.IntType(1))
    name = f"mg.half_pi_remainder_far.{suffix(x)}"
    function = internal(module, name, ir.FunctionType(kind, [x.type, kind, mask]), "noinline", "cold")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    value, near, far = function.args
    value = builder.select(far, value, x.const(2.0 * _FAR[x.width]).value)  # for others the table has no bits
    parts = [builder.extract_value(near, k) for k in range(3)]
    one = _far_function(module)
    if x.count is None:
        lanes = _far_lane(builder, one, value, x.width)
    else:
        lanes = list(parts)
        for lane in range(x.count):
            index = ir.Constant(ir.IntType(32), lane)
            reduced = _far_lane(builder, one, builder.extract_element(value, index), x.width)
            lanes = [builder.insert_element(all_, part, index) for all_, part in zip(lanes, reduced, strict=True)]
    chosen = [builder.select(far, a, b) for a, b in zip(lanes, parts, strict=True)]
    builder.ret(_struct(builder, kind, chosen))
    return function


def _far_lane(builder: ir.IRBuilder, one: ir.Function, value: ir.Value, width: int) -> list[ir.Value]:
    double = builder.fpext(value, FLOATS[64]) if width == 32 else value
    parts = builder.call(one, [double])
    r, low, n = (builder.extract_value(parts, k) for k in range(3))
    if width == 64:
        return [r, low, n]
    single = builder.fptrunc(r, FLOATS[32])
    error = builder.fsub(r, builder.fpext(single, FLOATS[64]))
    return [single, builder.fptrunc(error, FLOATS[32]), builder.trunc(n, ir.IntType(32))]


def _bits_of_two_over_pi(module: ir.Module) -> ir.GlobalVariable:
    """Return 2/pi * 2**_PLACES as bytes, the lowest first."""
    name = "mg.two_over_pi"
    table = module.globals.get(name)
    if table is None:
        data = bytearray(_two_over_pi(_PLACES).to_bytes(_PLACES // 8 + 32, "little"))
        constant = ir.Constant(ir.ArrayType(_I8, len(data)), data)
        table = ir.GlobalVariable(module, constant.type, name)
        table.linkage, table.global_constant, table.initializer = "internal", True, constant
    return table


def _two_over_pi(places: int) -> int:
    """Return the integer part of 2**places * 2 / pi, with pi by Machin's formula."""
    one = 1 << places + 64

    def arctan_of_inverse(n: int) -> int:
        term = one // n
        total, k = term, 1
        while term:
            term //= n * n
            total += (-term if k % 2 else term) // (2 * k + 1)
            k += 1
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    return (one << places + 1) // pi


def _far_function(module: ir.Module) -> ir.Function:
    """Return the function of one double; it computes with integers alone."""
    name = "mg.half_pi_remainder_far"
    function = module.globals.get(name)
    if function is not None:
        return function
    kind = ir.LiteralStructType([FLOATS[64], FLOATS[64], _I64])
    function = internal(module, name, ir.FunctionType(kind, [FLOATS[64]]), "noinline", "cold")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    x = Lanes(builder, function.args[0])

    def whole(value: Lanes, kind: ir.IntType) -> Lanes:
        return Lanes(builder, builder.zext(value.value, kind))

    def low_bits(value: Lanes, kind: ir.IntType) -> Lanes:
        return Lanes(builder, builder.trunc(value.value, kind))

    bits = x.bits()
    exponent = (bits.shift_right_unsigned(52) & 0x7FF) - 1075
    mantissa = bits & (1 << 52) - 1 | 1 << 52
    # |x| = mantissa * 2**exponent. The window begins at the bit of 2/pi whose product's weight is below 4.
    offset = -exponent + (_PLACES - 190)
    table = _bits_of_two_over_pi(module)
    address = builder.gep(table, [ir.Constant(_I64, 0), (offset >> 3).value], inbounds=True)
    loaded = builder.load(builder.bitcast(address, _I256.as_pointer()), align=1)
    window = low_bits(Lanes(builder, loaded).shift_right_unsigned(whole(offset & 7, _I256)), _I192)
    product = window * whole(mantissa, _I192)  # modulo 4, in units of 2**-190
    n = product + (1 << 189)
    quotient = low_bits(n.shift_right_unsigned(190), _I64)
    fraction = product - (n.shift_right_unsigned(190) << 190)
    negative = fraction < 0
    size = select(negative, -fraction, fraction)
    zeros = _leading_zeros(size)
    top = low_bits((size << zeros).shift_right_unsigned(128), _I64)
    # r = fraction * pi/2, as 64 bits times 64 bits of pi/2; then 53 bits of it, and the others.
    half_pi = (1 << _PLACES + 63) // _two_over_pi(_PLACES)
    high = low_bits((whole(top, _I128) * half_pi).shift_right_unsigned(64), _I64)
    weight = ((low_bits(zeros, _I64) * -1 + (-61 + 1023)) << 52).floats()
    first = high.shift_right_unsigned(11).to_float() * 2048.0 * weight
    second = (high & 2047).to_float() * weight
    sign = (select(negative, x.bits().const(1 << 63), 0)) ^ (bits & 1 << 63)
    r = first + second
    low = second - (r - first)
    parts = [(r.bits() ^ sign).floats(), (low.bits() ^ sign).floats(), select(bits < 0, -quotient, quotient)]
    builder.ret(_struct(builder, kind, [p.value for p in parts]))
    return function


def _leading_zeros(x: Lanes) -> Lanes:
    module, kind = x.builder.module, x.type
    function = declared(module, f"llvm.ctlz.i{x.width}", kind, [kind, ir.IntType(1)])
    return x.of(x.builder.call(function, [x.value, ir.Constant(ir.IntType(1), 0)]))

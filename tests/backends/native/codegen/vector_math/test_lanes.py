"""Operators and bit arithmetic on LLVM values."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import lanes
from minigrad.backends.native.codegen.vector_math.lanes import Lanes

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
INF, NAN = float("inf"), float("nan")


def apply(formula, *operands, dtype=np.float64, fused=True):
    """Return a formula's values for numbers in the lanes of a vector."""
    arrays = [np.array(x, dtype) for x in operands]

    def emit(builder, *values):
        return formula(*(Lanes(builder, v, fused) for v in values)).value

    return compiled(emit, len(arrays), dtype, 4)(*arrays).tolist()


@BOTH
def test_arithmetic_with_numbers_on_either_side(dtype):
    x = [1.0, 2.0, 4.0, -8.0]
    assert apply(lambda x: 3.0 - x * 2.0, x, dtype=dtype) == [1.0, -1.0, -5.0, 19.0]
    assert apply(lambda x: 8.0 / x + -x, x, dtype=dtype) == [7.0, 2.0, -2.0, 7.0]
    assert apply(lambda x: x.bits().floats(), x, dtype=dtype) == x


@BOTH
def test_bits_of_floats(dtype):
    n = np.finfo(dtype).nmant
    assert apply(lambda x: (x.bits() >> n).to_float(), [1.0, 2.0, 0.5, 0.0], dtype=dtype) == [
        np.finfo(dtype).maxexp - 1 + k for k in (0, 1, -1)] + [0.0]
    assert apply(lambda x: ((x.bits() >> n - 1 + np.finfo(dtype).bits - n) & 1).to_float(), [1.0, -1.0, -0.0, 0.0],
                 dtype=dtype) == [0.0, 1.0, 1.0, 0.0]
    assert apply(lambda x: x.flip_sign(x.sign_bit()), [1.0, -2.0, -INF, 3.0], dtype=dtype) == [
        1.0, 2.0, INF, 3.0]


@BOTH
def test_comparisons_are_false_for_nan(dtype):
    x = [NAN, 1.0, 2.0, 3.0]
    for formula, want in ((lambda x: x < 2.0, [0, 1, 0, 0]), (lambda x: x <= 2.0, [0, 1, 1, 0]),
                          (lambda x: x > 2.0, [0, 0, 0, 1]), (lambda x: x >= 2.0, [0, 0, 1, 1]),
                          (lambda x: x == 2.0, [0, 0, 1, 0]), (lambda x: x != 2.0, [1, 1, 0, 1]),
                          (lambda x: ~(x < 2.0), [1, 0, 1, 1]), (lambda x: x.isnan(), [1, 0, 0, 0])):
        assert apply(lambda x, f=formula: lanes.select(f(x), x.const(1.0), 0.0), x, dtype=dtype) == want


@BOTH
def test_bounds_keep_nan(dtype):
    low, high, middle, nan = apply(lambda x: x.clamp(-1.0, 2.0), [-5.0, 5.0, 1.5, NAN], dtype=dtype)
    assert (low, high, middle) == (-1.0, 2.0, 1.5)
    assert np.isnan(nan)
    pair = [1.0, 5.0, NAN, -INF], [3.0, 2.0, 7.0, 0.0]
    assert apply(lanes.maximum, *pair, dtype=dtype) == [3.0, 5.0, 7.0, 0.0]
    assert apply(lanes.minimum, *pair, dtype=dtype) == [1.0, 2.0, 7.0, -INF]


def test_scale_reaches_infinity_and_subnormal_numbers():
    for n, want in ((1024, INF), (1023, 2.0**1023), (-1074, 5e-324), (-1060, 2.0**-1060), (-1080, 0.0)):
        assert apply(lambda x, n=n: lanes.scale(x, x.bits() * 0 + n), [1.0] * 4) == [want] * 4
    assert apply(lambda x: lanes.power_of_two(x.bits() * 0 - 3), [1.0] * 4) == [0.125] * 4


@BOTH
def test_halves_round_to_even(dtype):
    x = [0.5, 1.5, 2.5, -3.5]
    assert apply(lambda x: lanes.round_to_integer(x)[0], x, dtype=dtype) == [0.0, 2.0, 2.0, -4.0]
    assert apply(lambda x: lanes.round_to_integer(x, 2.0)[1].to_float(), x, dtype=dtype) == [1.0, 3.0, 5.0, -7.0]


def test_fused_products_are_rounded_once():
    a = 1 + 2.0**-30
    for fused, want in ((True, 2.0**-60), (False, 0.0)):
        assert apply(lambda x: lanes.fma(x, x, -(1 + 2.0**-29)), [a] * 4, fused=fused) == [want] * 4


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9, 17])
def test_polynomials_of_any_degree(count):
    x = [0.0, 1.0, -1.0, 2.0]
    assert apply(lambda x: lanes.polynomial(x, [float(k + 1) for k in range(count)]), x) == [
        sum((k + 1) * v**k for k in range(count)) for v in x]

"""Remainders modulo pi/2."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import FUNCTIONS
from minigrad.backends.native.codegen.vector_math.lanes import Lanes
from minigrad.backends.native.codegen.vector_math.remainder import half_pi_remainder
from minigrad.backends.native.llvm import ir


def test_a_helper_is_defined_once_per_module():
    module = ir.Module("test")
    kind = ir.VectorType(ir.FloatType(), 16)
    function = ir.Function(module, ir.FunctionType(kind, [kind]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(FUNCTIONS["sin"](builder, FUNCTIONS["cos"](builder, function.args[0])))
    assert sum("remainder" in name for name in module.functions) == 2, "of a vector, and of one double"


def parts(x, fused=True, lanes=8):
    """Return the remainders with their corrections, and the multiples of pi/2 modulo 4."""
    def remainder(builder, value):
        r, low, _ = half_pi_remainder(Lanes(builder, value, fused))
        return (r + low).value

    def multiple(builder, value):
        return half_pi_remainder(Lanes(builder, value, fused))[2].to_float().value

    return [compiled(f, 1, np.float64, lanes)(np.array(x)) for f in (remainder, multiple)]


@pytest.mark.parametrize("fused", [True, False])
def test_remainders_of_integers(fused):
    x = [0.0, 1.0, -1.0, 22.0, 355.0]  # 22 - 7 pi and 355 - 113 pi are small
    r, n = parts(x, fused)
    want = [0.0, -0.5707963267948966, 0.5707963267948966, 0.008851424871447331, 3.014435336405372e-05]
    np.testing.assert_allclose(r, want, rtol=1e-15)
    assert (n % 4).tolist() == [0, 1, 3, 2, 2]


def test_remainder_of_the_double_nearest_to_a_multiple():
    """Muller, "Elementary Functions": no double is nearer to a multiple of pi/2 than 4.687e-19."""
    r, _ = parts([6381956970095103 * 2.0**797, 1.0])
    np.testing.assert_allclose(abs(r), [4.687165924254624e-19, 0.5707963267948966], rtol=1e-15)

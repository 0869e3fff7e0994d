"""The native backend's functions: right to two last places everywhere, and exact where the answer is."""

import platform

import numpy as np
import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("mpmath")
pytest.importorskip("scipy")

import mpmath

from benchmarks import accuracy, fit
from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import FUNCTIONS, coefficients, functions

INF, NAN = float("inf"), float("nan")
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
ALL = pytest.mark.parametrize("name", FUNCTIONS)
LANES = {np.float32: 16, np.float64: 8}
WIDE = np.finfo(np.longdouble).nmant > 60  # where it is no wider than float64 there is nothing to compare with


def arity(name):
    return 2 if name in accuracy.PAIRS else 1


def native(name, dtype, fused=True, lanes=0, features=None):
    return compiled(functions(fused)[name], arity(name), dtype, lanes or LANES[dtype] if lanes is not None else None,
                    features)


def check(name, dtype, f, n):
    xs = accuracy.operands(name, n, dtype)
    with np.errstate(all="ignore"):
        if dtype == np.float32:
            want = accuracy.by_numpy(name)(*(x.astype(np.float64) for x in xs))
        else:
            want = accuracy.right_values(name, xs)
        scale = accuracy.terms(xs, want) if name == "logaddexp" else want
    errors = accuracy.errors(f(*xs), want, scale)
    at = int(np.argmax(errors))
    assert errors[at] <= 2, f"{name}{tuple(x[at] for x in xs)} is {errors[at]} last places off {want[at]!r}"


@pytest.mark.skipif(not WIDE, reason="no wider type of NumPy")
@BOTH
@ALL
def test_within_two_last_places(name, dtype):
    check(name, dtype, native(name, dtype), 3000 if name in accuracy.SPECIAL[2:] else 60_000)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or not WIDE, reason="features of x86-64")
@pytest.mark.parametrize("name", ["exp", "expm1", "tanh", "expit", "log", "log1p", "sin", "tan", "erf", "erfc", "pow"])
@BOTH
def test_without_fused_multiply_add(name, dtype):
    f = native(name, dtype, fused=False, features="+sse2,-fma")
    assert "vfmadd" not in f.assembly
    check(name, dtype, f, 3000 if name in accuracy.SPECIAL[2:] else 60_000)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in accuracy.PAIRS])
def test_single_over_all_exponents(name):
    worst = accuracy.worst_of_singles(native(name, np.float32), accuracy.by_numpy(name), 9973, threads=1)
    assert worst <= 2


def same(got, want):
    return (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)


@BOTH
@ALL
def test_special_values(name, dtype):
    numbers = np.array([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e30, -1e30], dtype)
    xs = [x.ravel() for x in np.meshgrid(*[numbers] * arity(name))]
    got = native(name, dtype)(*xs)
    with np.errstate(all="ignore"):
        want = accuracy.by_numpy(name)(*xs)
    exact = ~np.isfinite(want) | (want == np.rint(want)) & (abs(want) < 1e9)
    if name == "log_expit":  # at infinity SciPy's is -0
        want = want + 0.0
    wrong = exact & ~same(got, want)
    assert not wrong.any(), [(x[wrong], got[wrong], want[wrong]) for x in xs]


@BOTH
def test_powers_of_two_and_ten(dtype):
    n = np.arange(-126, 127, dtype=dtype)
    np.testing.assert_array_equal(native("exp2", dtype)(n), np.ldexp(dtype(1), n.astype(int)))
    np.testing.assert_array_equal(native("log2", dtype)(np.ldexp(dtype(1), n.astype(int))), n)
    tens = np.arange(0, 11, dtype=dtype)
    np.testing.assert_array_equal(native("log10", dtype)(np.array([10.0**k for k in range(11)], dtype)), tens)
    cubes = np.arange(-60, 60, dtype=dtype)
    np.testing.assert_array_equal(native("cbrt", dtype)(cubes**3), cubes)


@BOTH
def test_subnormal_numbers(dtype):
    least = np.finfo(dtype).smallest_subnormal
    x = np.array([least, 3 * least, 1000 * least, -least, -7 * least], dtype)
    for name in ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "expm1", "log1p"):
        np.testing.assert_array_equal(native(name, dtype)(x), x, err_msg=name)
    logs = native("log", dtype)(abs(x))
    np.testing.assert_allclose(logs, np.log(abs(x).astype(np.longdouble)).astype(dtype), rtol=2 * np.finfo(dtype).eps)
    # exp down to the last subnormal number, rounded as it should be
    low = np.linspace(-104.5, -87, 999) if dtype == np.float32 else np.linspace(-746, -708, 999)
    low = low.astype(dtype)
    want = np.exp(low.astype(np.longdouble))
    assert accuracy.errors(native("exp", dtype)(low), want).max() <= 1
    assert 0 < (native("exp", dtype)(low) > 0).mean() < 1


@BOTH
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_of_any_size(name, dtype):
    rng = np.random.default_rng(0)
    last = np.finfo(dtype).maxexp
    x = np.ldexp(rng.uniform(0.5, 1, 400), rng.integers(10, last + 1, 400)).astype(dtype) * rng.choice([-1, 1], 400)
    if dtype == np.float64:  # nearer to a multiple of pi/2 than all other doubles
        x[:2] = 6381956970095103 * 2.0**797, -6381956970095103 * 2.0**797
    else:
        x[0] = 16367173 * 2.0**72
    with mpmath.workdps(400):
        want = [np.longdouble(mpmath.nstr(getattr(mpmath, name)(mpmath.mpf(float(v))), 25)) for v in x]
    assert accuracy.errors(native(name, dtype)(x), np.array(want)).max() <= 2


@BOTH
@pytest.mark.parametrize("name", ["exp", "log", "sin", "erf", "pow"])
def test_any_number_of_lanes_gives_the_same_bits(name, dtype):
    xs = accuracy.operands(name, 6000, dtype)
    want = native(name, dtype)(*xs)
    for lanes in (None, 2, 4, 5, 32):
        assert same(native(name, dtype, lanes=lanes)(*xs), want).all()


def test_a_helper_is_defined_once_per_module():
    from llvmlite import ir
    module = ir.Module()
    kind = ir.VectorType(ir.FloatType(), 16)
    function = ir.Function(module, ir.FunctionType(kind, [kind]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(FUNCTIONS["sin"](builder, FUNCTIONS["cos"](builder, function.args[0])))
    assert sum("half_pi_remainder" in f.name for f in module.functions) == 3
    assert len(function.blocks) == 1


@pytest.mark.parametrize("name", ["EXP", "SIN", "HALF_TANH"])
def test_the_polynomials_are_those_of_the_fit(name):
    f, low, high, *counts = fit.POLYNOMIALS[name]
    for width, n in zip((32, 64), counts, strict=True):
        assert fit.fit(f, low, high, n, width) == getattr(coefficients, name)[width]


# -- found by measuring -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "x", "dtype"), [
    ("expm1", 89.28891, np.float32),  # infinity times a negative number, and infinity
    ("expm1", 710.3483344082717, np.float64),
    ("sinh", 89.90565, np.float32),
    ("cosh", 710.9808996361902, np.float64),
    ("tan", -14809.468, np.float32),  # near a multiple of pi/2 the second part's product is greater than what is left
    ("tanh", -1.0396482e-07, np.float32),
    ("tanh", -6.796661, np.float32),
    ("expit", -4.1461062, np.float32),
    ("erfcx", INF, np.float32),
    ("erfc", 0.00032413765, np.float32),
    ("erfcx", 1192.2344120373266, np.float64),
    ("erfcx", 41428.685263379644, np.float64),
    ("atanh", 0.16515389, np.float32),
])
def test_single_arguments(name, x, dtype):
    x = np.full(1, x, dtype)
    with np.errstate(all="ignore"):
        want = (accuracy.by_numpy(name)(x.astype(np.float64)) if dtype == np.float32 else
                accuracy.right_values(name, (x,)))
    assert accuracy.errors(native(name, dtype)(x), want).max() <= 2


def test_logaddexp_keeps_the_error_of_the_difference():
    rng = np.random.default_rng(0)
    x, y = -10.0 ** rng.uniform(-16, -6, 200_000), rng.uniform(-9, -1, 200_000)
    want = accuracy.right_values("logaddexp", (x, y))
    assert accuracy.errors(native("logaddexp", np.float64)(x, y), want, accuracy.terms((x, y), want)).max() <= 2

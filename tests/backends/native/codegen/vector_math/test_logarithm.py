"""Logarithms and inverse hyperbolic functions."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from benchmarks import accuracy
from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import logarithm
from minigrad.backends.native.codegen.vector_math.lanes import Lanes
from tests.backends.native.codegen.vector_math.checks import (
    BOTH,
    WIDE,
    FunctionTests,
    check_argument,
    check_subnormal_arguments,
    native,
)


class TestLogarithm(FunctionTests):
    module = logarithm
    split = "log", "log1p"
    resized = ("log",)


@BOTH
def test_log2_and_log10_of_powers(dtype):
    n = np.arange(-126, 127, dtype=dtype)
    np.testing.assert_array_equal(native("log2", dtype)(np.ldexp(dtype(1), n.astype(int))), n)
    tens = np.arange(0, 11, dtype=dtype)
    np.testing.assert_array_equal(native("log10", dtype)(np.array([10.0**k for k in range(11)], dtype)), tens)


@BOTH
def test_subnormal_arguments(dtype):
    check_subnormal_arguments(("asinh", "atanh", "log1p"), dtype)
    x = np.array([1, 3, 1000, 7], dtype) * np.finfo(dtype).smallest_subnormal
    want = np.log(x.astype(np.longdouble)).astype(dtype)
    np.testing.assert_allclose(native("log", dtype)(x), want, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.skipif(not WIDE, reason="no wider type of NumPy")
def test_logarithm_with_its_error():
    x = np.concatenate([np.random.default_rng(0).uniform(0.1, 10, 4000), 10.0 ** np.arange(-300, 300, 10)])

    def emitter(part):
        return lambda builder, value: logarithm.log_with_error(Lanes(builder, value))[part].value

    high, low = (compiled(emitter(part), 1, np.float64, 8)(x) for part in (0, 1))
    want = np.log(x.astype(np.longdouble))
    assert (np.abs(high.astype(np.longdouble) + low - want) <= 0.4 * np.spacing(np.abs(high))).all()


def test_single_argument():
    check_argument("atanh", 0.16515389, np.float32)


def test_logaddexp_keeps_the_error_of_the_difference():
    rng = np.random.default_rng(0)
    x, y = -10.0 ** rng.uniform(-16, -6, 200_000), rng.uniform(-9, -1, 200_000)
    want = accuracy.right_values("logaddexp", (x, y))
    terms = accuracy.terms("logaddexp", (x, y), want)
    assert accuracy.errors(native("logaddexp", np.float64)(x, y), want, terms).max() <= 2

"""exp and its relatives."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from benchmarks import accuracy
from minigrad.backends.native.codegen.vector_math import exponential
from tests.backends.native.codegen.vector_math.checks import (
    BOTH,
    FunctionTests,
    check_argument,
    check_subnormal_arguments,
    native,
)


class TestExponential(FunctionTests):
    module = exponential
    split = "exp", "expm1", "tanh", "expit"
    resized = ("exp",)


@BOTH
def test_exp2_of_integers(dtype):
    n = np.arange(-126, 127, dtype=dtype)
    np.testing.assert_array_equal(native("exp2", dtype)(n), np.ldexp(dtype(1), n.astype(int)))


@BOTH
def test_subnormal_arguments(dtype):
    check_subnormal_arguments(("sinh", "tanh", "expm1"), dtype)


@BOTH
def test_exp_down_to_the_last_subnormal_number(dtype):
    low = np.linspace(-104.5, -87, 999) if dtype == np.float32 else np.linspace(-746, -708, 999)
    low = low.astype(dtype)
    want = np.exp(low.astype(np.longdouble))
    assert accuracy.errors(native("exp", dtype)(low), want).max() <= 1
    assert 0 < (native("exp", dtype)(low) > 0).mean() < 1


@pytest.mark.parametrize(("name", "x", "dtype"), [
    ("expm1", 89.28891, np.float32),  # infinity times a negative number, and infinity
    ("expm1", 710.3483344082717, np.float64),
    ("sinh", 89.90565, np.float32),
    ("cosh", 710.9808996361902, np.float64),
    ("tanh", -1.0396482e-07, np.float32),
    ("tanh", -6.796661, np.float32),
    ("expit", -4.1461062, np.float32),
])
def test_single_arguments(name, x, dtype):
    check_argument(name, x, dtype)

"""Sine, cosine and tangent."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("mpmath")

import mpmath

from benchmarks import accuracy
from minigrad.backends.native.codegen.vector_math import trigonometric
from tests.backends.native.codegen.vector_math.checks import (
    BOTH,
    FunctionTests,
    check_argument,
    check_subnormal_arguments,
    native,
)


class TestTrigonometric(FunctionTests):
    module = trigonometric
    split = "sin", "tan"
    resized = ("sin",)


@BOTH
def test_subnormal_arguments(dtype):
    check_subnormal_arguments(("sin", "tan"), dtype)


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


def test_tan_near_a_multiple_of_half_pi():
    """There the second part's product is greater than the remainder."""
    check_argument("tan", -14809.468, np.float32)

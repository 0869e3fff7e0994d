"""Stored polynomials and constants."""

import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("mpmath")

import mpmath

from benchmarks import fit
from minigrad.backends.native.codegen.vector_math import coefficients


@pytest.mark.parametrize("name", ["EXP", "SIN", "HALF_TANH"])
def test_stored_coefficients_equal_the_fit(name):
    f, low, high, *counts = fit.POLYNOMIALS[name]
    for width, n in zip((32, 64), counts, strict=True):
        assert fit.fit(f, low, high, n, width) == getattr(coefficients, name)[width]


@pytest.mark.parametrize(("width", "bits"), [(32, 40), (64, 90)])
def test_the_parts_of_ln_2_add_up(width, bits):
    high, low = coefficients.LN2[width]
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(high) + mpmath.mpf(low) - mpmath.log(2)) < mpmath.mpf(2) ** -bits

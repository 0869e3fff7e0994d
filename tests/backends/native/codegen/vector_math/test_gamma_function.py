"""The gamma function's logarithm and its derivatives."""

import math

import numpy as np
import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("mpmath")

import mpmath

from benchmarks import accuracy
from minigrad.backends.native.codegen.vector_math import gamma_function
from tests.backends.native.codegen.vector_math.checks import BOTH, WIDE, FunctionTests, native

ROOT = 1.4616321449683623
PLACES = (0.75, 0.875, 1.0, ROOT, 2.0, 2.75, 3.75, 4.75)


class TestGammaFunction(FunctionTests):
    module = gamma_function
    split = ("digamma",)
    resized = ("lgamma", "digamma")


@pytest.mark.skipif(not WIDE, reason="no wider type of NumPy")
@pytest.mark.parametrize("name", ["lgamma", "digamma", "trigamma"])
def test_near_roots_and_where_formulas_change(name):
    """The relative error is small at the roots 1 and 2 of lgamma, and 1.4616 of digamma, too."""
    rng = np.random.default_rng(0)
    x = np.concatenate([p + rng.normal(size=200) * 10.0 ** rng.uniform(-16, -1, 200) for p in PLACES])
    want = accuracy.right_values(name, (x,))
    assert accuracy.errors(native(name, np.float64)(x), want).max() <= 2


@pytest.mark.skipif(not WIDE, reason="no wider type of NumPy")
@BOTH
def test_factorials(dtype):
    n = np.arange(1, 30, dtype=dtype)
    want = np.array([math.log(math.factorial(int(k) - 1)) for k in n], np.longdouble)
    assert accuracy.errors(native("lgamma", dtype)(n), want).max() <= 2


@BOTH
def test_recurrences(dtype):
    """Harmonic numbers, and sums of inverse squares."""
    n = np.arange(1, 40, dtype=dtype)
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, 39))]) - np.euler_gamma
    squares = math.pi**2 / 6 - np.concatenate([[0], np.cumsum(1 / np.arange(1, 39) ** 2)])
    for name, want in (("digamma", harmonic), ("trigamma", squares)):
        np.testing.assert_allclose(native(name, dtype)(n), want, rtol=50 * np.finfo(dtype).eps)


def test_tiny_and_great_numbers():
    x = np.array([5e-324, 1e-308, -1e-308, 2.5563481638716906e305, 2.557e305, -1e16 - 2])
    with mpmath.workdps(30):
        tiny = [float(-mpmath.log(mpmath.mpf(v))) for v in (5e-324, 1e-308, 1e-308)]
    got = native("lgamma", np.float64)(x)
    np.testing.assert_allclose(got[:3], tiny, rtol=1e-15)
    assert 1.79e308 < got[3] < np.inf
    assert (got[4:] == np.inf).all()

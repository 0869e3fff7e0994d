"""Special functions against closed forms and the standard library."""

import math

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from tests import checks

pytest.importorskip("scipy")
X = np.array([0.3, 1.0, 2.5])


def run(name, *arrays, **params):
    return interpreters.evaluate(checks.program(P[name], arrays, params), arrays)[0]


@pytest.mark.parametrize(("name", "function"), [
    ("erf", math.erf), ("erfc", math.erfc), ("gammaln", math.lgamma), ("gamma", math.gamma),
    ("expit", lambda x: 1 / (1 + math.exp(-x))), ("log_expit", lambda x: -math.log1p(math.exp(-x))),
    ("ndtr", lambda x: (1 + math.erf(x / math.sqrt(2))) / 2),
    ("sinc", lambda x: math.sin(math.pi * x) / (math.pi * x)),
    ("erfcx", lambda x: math.exp(x * x) * math.erfc(x)),
    ("erfcx_ratio", lambda x: math.exp(-x * x) / math.sqrt(math.pi) / math.erfc(x) - x),
    ("log_quotient", lambda x: 1.0 if x == 1 else math.log(x) / (x - 1))])
def test_against_the_standard_library(name, function):
    np.testing.assert_allclose(run(name, X), [function(x) for x in X], rtol=1e-13)


def test_gamma_functions_at_integers():
    harmonic = 1 + 1 / 2 + 1 / 3
    np.testing.assert_allclose(run("digamma", np.array([1.0, 4.0])), [-np.euler_gamma, harmonic - np.euler_gamma])
    np.testing.assert_allclose(run("polygamma", np.array([1.0]), n=1), math.pi ** 2 / 6)
    np.testing.assert_allclose(run("polygamma_drop", np.array([1.0]), np.array([3.0]), n=0), -harmonic)
    np.testing.assert_allclose(run("beta", np.array([3.0]), np.array([4.0])), 1 / 60)


PLACES = {"gammaln": (0.75, 1.0, 1.25, 1.75, 2.0, 2.25), "digamma": (-0.75, -1.0, -2.0, -8.0, -1e6),
          "trigamma": (-1.0, -1.5, -8.0, -60.0)}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gamma_functions_beside_roots_and_poles(name, dtype):
    """SciPy's gammaln has no right digit at 1 + 1e-16, its digamma four at -8 + 1e-12."""
    mpmath = pytest.importorskip("mpmath")
    right = {"gammaln": lambda x: mpmath.re(mpmath.loggamma(x)), "digamma": mpmath.digamma,
             "trigamma": lambda x: mpmath.psi(1, x)}[name]
    rng = np.random.default_rng(0)
    near = [p + rng.normal(size=20) * 10.0 ** rng.uniform(-16, -1, 20) for p in PLACES[name]]
    x = np.concatenate(near).astype(dtype)
    x = x[(x > 0) | (x != np.rint(x))]
    with mpmath.workdps(40):
        want = np.array([float(right(mpmath.mpf(float(v)))) for v in x])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(run(name, x), want, rtol=12 * eps, atol=2 * eps if name == "digamma" else 0)


def test_gamma_functions_at_poles_and_of_great_negative_numbers():
    poles = np.array([0.0, -0.0, -1.0, -np.inf, np.nan])
    np.testing.assert_array_equal(run("digamma", poles), [-np.inf, np.inf, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(run("trigamma", poles), [np.inf, np.inf, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(run("gammaln", poles), [np.inf, np.inf, np.inf, -np.inf, np.nan])
    far = np.array([0.5 - 1e12])  # a sum of as many terms would take hours
    for n, want in ((1, np.pi**2 - 1e-12), (2, 0), (3, 2 * np.pi**4)):  # of pi² / sin² and its derivatives
        np.testing.assert_allclose(run("polygamma", far, n=n), want, rtol=1e-14, atol=1e-3 * (n == 2))
    np.testing.assert_allclose(run("trigamma", far), np.pi**2 - 1e-12, rtol=1e-14)
    assert run("digamma", np.zeros((0, 2), "f4")).shape == (0, 2)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_high_derivatives_of_digamma_whose_factors_are_out_of_range(dtype):
    """The factor n! is beyond float32, and the sum of 1 / (x + k) ** (n + 1) below it."""
    for x, n in ((500.0, 19), (20.0, 34)):
        want = (-1) ** (n + 1) * math.fsum(math.factorial(n) / (x + k) ** (n + 1) for k in range(20_000))
        np.testing.assert_allclose(run("polygamma", np.array([x], dtype), n=n), [want], rtol=2e-7)


@pytest.mark.parametrize("n", [2, 10, 20])
def test_even_derivatives_of_digamma_halfway_between_poles(n):
    """There the derivative of the cotangent is 0: that of digamma is as at 1 - x."""
    np.testing.assert_allclose(run("polygamma", np.array([-4.5, -1000.5]), n=n),
                               run("polygamma", np.array([5.5, 1001.5]), n=n), rtol=1e-15)


def test_derivatives_of_digamma_of_any_order():
    for x in (0.5, -1.5):
        assert np.isinf(run("polygamma", np.array([x]), n=171))
        assert np.isinf(run("polygamma", np.array([x]), n=700))


def test_products_with_the_logarithm_of_zero():
    zero = np.array([0.0])
    assert run("xlogy", zero, zero) == 0
    assert run("xlog1py", zero, -np.ones(1)) == 0
    assert np.isnan(run("xlogy", zero, np.array([np.nan])))


def test_limits_at_infinity():
    assert run("hyp1f1", np.array([-np.inf]), a=1.5, b=2.0) == 0
    assert run("pseudo_huber", np.array([2.0]), np.array([np.inf])) == np.inf
    np.testing.assert_allclose(run("huber_slope", np.array([2.0]), np.array([-np.inf])), -2)


def test_pseudo_huber_is_quadratic_near_and_linear_far():
    d, r = np.array([1.0, 1.0]), np.array([1e-6, 1e9])
    np.testing.assert_allclose(run("pseudo_huber", d, r), [0.5e-12, 1e9 - 1], rtol=1e-9)

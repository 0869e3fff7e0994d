"""Derivatives of elementwise functions up to the third, in both modes, against mpmath at delicate points.

The points are the zeros of numerators and denominators, and where formulas cancel, overflow or vanish. Every smooth
function of the API has a row, or a reason why it has none.
"""

import functools

import numpy as np
import pytest
import scipy.special as sp

import minigrad as mg
from minigrad import special
from minigrad.graph import PRIMITIVES
from minigrad.numpy.dispatch import SCIPY
from minigrad.traced_array import TABLE

mp = pytest.importorskip("mpmath").mp.clone()
mp.dps = 300

ROOT_2, PI = mp.sqrt(2), mp.pi


def difference(f, x, order):
    """Return a derivative of mpmath's function by central differences in many digits."""
    x = mp.mpf(float(x))
    h = min(abs(x), 1) * mp.mpf(10) ** -18 or mp.mpf(10) ** -18
    terms = [(-1) ** k * mp.binomial(order, k) * f(x + (mp.mpf(order) / 2 - k) * h) for k in range(order + 1)]
    return mp.re(mp.fsum(terms)) / h ** order


SMALL = [0.0, 1e-9, -1e-9, 1e-4, -1e-4, 0.3, -0.3]
NEAR_1 = [1.0, 1 - 2.0**-22, 1 + 2.0**-22, -1.0]
LARGE = [3.3, -3.3, 20.0, -20.0, 40.0, -40.0, 1e5, -1e5]
HUGE = [1e15, -1e15, 1e25, -1e25]
REAL = [*SMALL, *NEAR_1, *LARGE, *HUGE]
POSITIVE = [x for x in REAL if x > 0]
UNIT = [*SMALL, 0.9, -0.9, 1 - 2.0**-10, 1 - 2.0**-22, 2.0**-22 - 1]
SHARE = [1e-25, 1e-9, 1e-4, 0.3, 0.5, 0.7, 0.9, 1 - 2.0**-10, 1 - 2.0**-22]
GAMMA = [1e-9, 1e-4, 0.3, 1.0, 1 + 2.0**-22, 1.5, 2.0, 3.3, 20.0, -0.3, -1.5]


def _erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def _log_ndtr(x):
    return mp.log(mp.erfc(-x / ROOT_2) / 2)


def _dawsn(x):
    return x * mp.hyp1f1(1, mp.mpf(3) / 2, -x * x)


def _erfinv(x):
    return mp.erfinv(x)


# name: function, mpmath's, points.
UNARY = {
    "exp": (np.exp, mp.exp, REAL), "exp2": (np.exp2, lambda x: mp.mpf(2)**x, REAL),
    "expm1": (np.expm1, mp.expm1, REAL), "log": (np.log, mp.log, POSITIVE),
    "log1p": (np.log1p, mp.log1p, [*SMALL, 1.0, 2.0**-22 - 1, *[x for x in [*LARGE, *HUGE] if x > 0]]),
    "log2": (np.log2, lambda x: mp.log(x, 2), POSITIVE), "log10": (np.log10, mp.log10, POSITIVE),
    "sqrt": (np.sqrt, mp.sqrt, POSITIVE), "cbrt": (np.cbrt, lambda x: mp.sign(x) * mp.cbrt(abs(x)), REAL[1:]),
    "sin": (np.sin, mp.sin, REAL), "cos": (np.cos, mp.cos, REAL), "tan": (np.tan, mp.tan, REAL),
    "arcsin": (np.arcsin, mp.asin, UNIT), "arccos": (np.arccos, mp.acos, UNIT), "arctan": (np.arctan, mp.atan, REAL),
    "sinh": (np.sinh, mp.sinh, REAL), "cosh": (np.cosh, mp.cosh, REAL),
    "tanh": (np.tanh, mp.tanh, REAL),
    "arcsinh": (np.arcsinh, mp.asinh, REAL),
    "arccosh": (np.arccosh, mp.acosh, [1 + 2.0**-22, 1 + 2.0**-10, 1.5, *[x for x in [*LARGE, *HUGE] if x > 1]]),
    "arctanh": (np.arctanh, mp.atanh, UNIT), "sinc": (np.sinc, lambda x: mp.sinc(PI * x), REAL[:-4]),
    "square": (np.square, lambda x: x * x, REAL), "reciprocal": (np.reciprocal, lambda x: 1 / x, REAL[1:]),
    "cubed": (lambda x: x**3, lambda x: x**3, REAL[1:]),
    "deg2rad": (np.deg2rad, lambda x: x * PI / 180, REAL), "rad2deg": (np.rad2deg, lambda x: x * 180 / PI, REAL),
    "expit": (sp.expit, lambda x: 1 / (1 + mp.exp(-x)), REAL),
    "log_expit": (sp.log_expit, lambda x: -mp.log1p(mp.exp(-x)), REAL),
    "logit": (sp.logit, lambda x: mp.log(x / (1 - x)), SHARE), "erf": (sp.erf, mp.erf, REAL),
    "erfc": (sp.erfc, mp.erfc, REAL), "erfcx": (sp.erfcx, _erfcx, [x for x in REAL if x > -20]),
    "erfinv": (sp.erfinv, _erfinv, UNIT),
    "erfcinv": (sp.erfcinv, lambda x: _erfinv(1 - x), SHARE[1:]),
    "ndtr": (sp.ndtr, lambda x: mp.erfc(-x / ROOT_2) / 2, REAL), "log_ndtr": (sp.log_ndtr, _log_ndtr, REAL),
    "ndtri": (sp.ndtri, lambda x: -ROOT_2 * _erfinv(1 - 2 * x), SHARE[1:]), "dawsn": (sp.dawsn, _dawsn, REAL),
    "gammaln": (sp.gammaln, lambda x: mp.log(abs(mp.gamma(x))), [*GAMMA, 1e5, 1e15]),
    "gamma": (sp.gamma, mp.gamma, GAMMA), "digamma": (sp.digamma, mp.digamma, [*GAMMA, 1e5, 1e15]),
    "psi": (sp.psi, mp.digamma, GAMMA), "i0": (sp.i0, lambda x: mp.besseli(0, x), REAL[:-6]),
    "i1": (sp.i1, lambda x: mp.besseli(1, x), REAL[:-6]),
    "i0e": (sp.i0e, lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), REAL[1:-4]),
    "i1e": (sp.i1e, lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), REAL[1:-4]),
    "j0": (sp.j0, lambda x: mp.besselj(0, x), REAL[:-6]), "j1": (sp.j1, lambda x: mp.besselj(1, x), REAL[:-6]),
    "expi": (sp.expi, mp.ei, REAL[1:]), "exp1": (sp.exp1, mp.e1, POSITIVE),
    "spence": (sp.spence, lambda x: mp.polylog(2, 1 - x), [x for x in POSITIVE if x != 1] + [1.0]),
    "entr": (sp.entr, lambda x: -x * mp.log(x), POSITIVE), "exp10": (sp.exp10, lambda x: mp.mpf(10)**x, REAL),
    "cosm1": (sp.cosm1, lambda x: mp.cos(x) - 1, REAL),
    "softplus": (special.softplus, lambda x: mp.log1p(mp.exp(x)), REAL),
    "polygamma": (lambda x: special.polygamma(1, x), lambda x: mp.psi(1, x), GAMMA),
    "pseudo_huber": (lambda x: sp.pseudo_huber(2.0, x), lambda x: 4 * (mp.sqrt(1 + x * x / 4) - 1), REAL),
}


# Where a derivative crosses 0 at some of the points, or the value is that of a rounded pi x, errors are absolute.
CROSSES = {"sinc": (0, 1, 2, 3), "softplus": (3,), "ndtr": (3,), "expi": (2,), "j0": (0, 1, 2, 3), "j1": (0, 1, 2, 3),
           "gammaln": (0, 1), "digamma": (0,), "psi": (0,)}
TOLERANCE = {"f8": 1e-12, "f4": 5e-5}
MODES = {"reverse": mg.grad, "forward": lambda f: lambda x: mg.jvp(f, (x,), (np.ones_like(x),))[1]}


@functools.cache
def expected(name, dtype):
    _, f, points = UNARY[name]
    xs = np.array(points, dtype)
    with np.errstate(all="ignore"):
        return xs, [np.array([float(difference(f, x, order)) for x in xs]).astype(dtype) for order in range(4)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", UNARY)
def test_to_third_order(name, mode, dtype):
    f = UNARY[name][0]
    xs, want = expected(name, dtype)
    for order in range(4):
        have = np.asarray(mg.vmap(f)(xs))
        assert have.dtype == xs.dtype
        judged = np.isfinite(want[order]) | (order < 2)  # beyond, an overflow may be the difference of two
        floor = 1.0 if order in CROSSES.get(name, ()) else max(1e-180, np.finfo(dtype).tiny)
        np.testing.assert_allclose(have[judged], want[order][judged], rtol=TOLERANCE[dtype],
                                   atol=TOLERANCE[dtype] * floor, err_msg=f"derivative {order} of {name}")
        f = MODES[mode](f)


def _beta(x, y):
    return mp.gamma(x) * mp.gamma(y) / mp.gamma(x + y)


PAIRS = [(0.3, 0.7), (2.0, 3.3), (1.0, 1.0), (1e-9, 2.0), (20.0, 0.5)]
SIGNED = [*PAIRS, (-0.3, 0.7), (2.0, -3.3), (-1.0, -1e-9)]
SCALES = [(1e-18, 2e-18), (1e12, -2e12), (0.0, -2.0), (3.0, 0.0)]
# name: function, mpmath's, pairs of points.
BINARY = {
    "hypot": (np.hypot, mp.hypot, [*SIGNED, *SCALES]),
    "arctan2": (np.arctan2, mp.atan2, [*SIGNED, *SCALES[:2], (-2.0, 0.0)]),
    "logaddexp": (np.logaddexp, lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), [*SIGNED, (0.0, 0.0), (40.0, -20.0)]),
    "logaddexp2": (np.logaddexp2, lambda x, y: mp.log(mp.mpf(2)**x + mp.mpf(2)**y, 2), [*SIGNED, (0.0, 0.0)]),
    "xlogy": (sp.xlogy, lambda x, y: x * mp.log(y), [*PAIRS, (0.0, 2.0), (-2.0, 0.1)]),
    "xlog1py": (sp.xlog1py, lambda x, y: x * mp.log1p(y), [*PAIRS, (0.0, 2.0), (2.0, -0.9), (1.0, 1e-9)]),
    "rel_entr": (sp.rel_entr, lambda x, y: x * mp.log(x / y), PAIRS),
    "kl_div": (sp.kl_div, lambda x, y: x * mp.log(x / y) - x + y, PAIRS),
    "betaln": (sp.betaln, lambda x, y: mp.log(_beta(x, y)), [*PAIRS, (1e3, 2.0), (30.0, 1e-9), (0.5, 1e-9)]),
    "beta": (sp.beta, _beta, [*PAIRS, (20.0, 1e-4), (1e3, 2.0)]),
    "pseudo_huber": (sp.pseudo_huber, lambda d, r: d * d * (mp.sqrt(1 + (r / d)**2) - 1),
                     [*PAIRS, (2.0, -3.3), (2.0, 1e-4), (1e-4, 2.0), (1.0, 1e-9), (3.0, 0.0)]),
    "power": (np.power, lambda x, y: x**y, PAIRS), "divide": (np.divide, lambda x, y: x / y, SIGNED),
    "multiply": (np.multiply, lambda x, y: x * y, SIGNED),
    "logsumexp": (lambda x, y: special.logsumexp(np.stack([x, y])), lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
                  [*SIGNED, (0.0, 0.0), (40.0, -20.0)]),
    "norm": (lambda x, y: np.linalg.norm(np.stack([x, y])), mp.hypot, [*SIGNED, (0.0, -2.0)]),
    "std": (lambda x, y: np.std(np.stack([x, y])), lambda x, y: abs(x - y) / 2, [p for p in SIGNED if p[0] != p[1]]),
    "prod": (lambda x, y: np.prod(np.stack([x, y, x])), lambda x, y: x * x * y, [*SIGNED, (0.0, 2.0), (0.0, 0.0)]),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", BINARY)
def test_partial_derivatives_to_second_order(name, dtype):
    f, reference, points = BINARY[name]
    slope = mg.grad(f, (0, 1))
    second = [mg.grad(lambda *xs, k=k: slope(*xs)[k], (0, 1)) for k in (0, 1)]
    for point in points:
        x, y = np.array(point, dtype)
        have = [f(x, y), *slope(x, y), *second[0](x, y), *second[1](x, y)]
        orders = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (1, 1), (0, 2)]
        want = [difference(lambda a, y=y, j=j: difference(lambda b: reference(a, b), y, j), x, i) for i, j in orders]
        scale = max(abs(float(w)) for w in want[1:]) + abs(float(want[0]))
        np.testing.assert_allclose(np.array(have, "f8"), np.array([float(w) for w in want]), rtol=TOLERANCE[dtype],
                                   atol=4 * np.finfo(dtype).eps * scale, err_msg=f"{name}{point}")


LOST = {  # functions and points whose slopes are small differences of large numbers
    "betaln": [(1e15, 2.0), (1e5, 2.0), (3.0, 1e-9), (25.0, 1e-4), (0.3, 1e-12), (1e-4, 1e-9), (19.5, 1.0)],
    "pseudo_huber": [(1.0, 1e-4), (2.0, 1e-2), (3.0, -1e-3), (1e-3, 2.0), (1.0, 0.3), (1e200, 1e199), (1e-60, 1e10)]}


@pytest.mark.parametrize(("name", "point"), [(name, point) for name in LOST for point in LOST[name]])
def test_slopes_are_computed_without_cancellation(name, point):
    f, reference, _ = BINARY[name]
    slope = mg.grad(f, (0, 1))
    have = [*slope(*point), *mg.grad(lambda x, y: slope(x, y)[0], (0, 1))(*point)]
    x, y = map(mp.mpf, point)
    if name == "betaln":
        drop = [mp.psi(n, x) - mp.psi(n, x + y) for n in (0, 1)]
        want = [drop[0], mp.psi(0, y) - mp.psi(0, x + y), drop[1], -mp.psi(1, x + y)]
    else:
        d = [lambda t: reference(t, y), lambda t: reference(x, t)]
        want = [mp.diff(d[0], x, h=x * mp.mpf(10)**-60), mp.diff(d[1], y, h=y * mp.mpf(10)**-60),
                mp.diff(d[0], x, 2, h=x * mp.mpf(10)**-60), (y / mp.hypot(x, y))**3]
    np.testing.assert_allclose(have, [float(w) for w in want], rtol=2e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("gap", [0.0, 1.0, 10.0, 23.0, 40.0, 700.0])
def test_slopes_of_log_softmax_beside_a_near_certain_class(gap, dtype):
    """Shares of other classes keep their digits; the slope of the certain one has those of 1, as its logarithm has."""
    x = np.array([gap, 0.5, 0.0], dtype)
    e = [mp.exp(mp.mpf(float(v))) for v in x]
    share = np.array([float(v / mp.fsum(e)) for v in e])
    eps = np.finfo(dtype).eps
    have = mg.jacobian(lambda x: special.log_softmax(x))(x)
    want = np.eye(3) - share
    np.testing.assert_allclose(have[:, 1:], want[:, 1:], rtol=20 * eps, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(have[1:, 0], want[1:, 0], rtol=20 * eps, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(have[0, 0], float(1 - e[0] / mp.fsum(e)), rtol=20 * eps, atol=2 * eps)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", UNARY)
def test_compiled_kernels_are_the_same(name, backend):
    f, _, points = UNARY[name]
    xs = np.array(points)
    for _ in range(3):
        eager, compiled = mg.vmap(f)(xs), mg.compile(mg.vmap(f), backend=backend)(xs)
        largest = np.where(np.isfinite(eager), np.abs(eager), 0).max()
        np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=1e-15 * min(largest, 1))
        f = mg.grad(f)


@pytest.mark.parametrize(("f", "slopes"), [
    (np.tanh, (0, 0)), (np.arctan, (0, 0)), (np.arcsinh, (0, 0)), (np.expm1, (np.inf, 0)), (np.log1p, (0,)),
    (np.log, (0,)), (np.sqrt, (0,)), (np.cbrt, (0, 0)), (sp.erf, (0, 0)), (sp.erfc, (0, 0)), (sp.ndtr, (0, 0)),
    (sp.expit, (0, 0)), (sp.log_expit, (0, 1)), (special.softplus, (1, 0)), (sp.i0e, (0, 0)), (sp.i1e, (0, 0)),
    (sp.dawsn, (0, 0)), (sp.log_ndtr, (0, np.inf)), (lambda x: sp.pseudo_huber(2.0, x), (2, -2)),
    (lambda x: np.logaddexp(x, 0.0), (1, 0)),
    (lambda x: special.logsumexp(np.stack([x, 0.0])), (1, 0))])
def test_limits_at_infinity(f, slopes):
    np.testing.assert_array_equal([mg.grad(f)(x) for x in (np.inf, -np.inf)[:len(slopes)]], slopes)


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_equal_infinities_share_the_slope(infinity):
    x = np.full(3, infinity)
    np.testing.assert_array_equal(mg.grad(np.logaddexp, (0, 1))(infinity, infinity), [0.5, 0.5])
    np.testing.assert_array_equal(mg.hessian(np.logaddexp)(infinity, infinity), 0.25)
    np.testing.assert_allclose(mg.grad(special.logsumexp)(x), np.full(3, 1 / 3), rtol=1e-15)
    np.testing.assert_allclose(mg.hessian(special.logsumexp)(x), np.eye(3) / 3 - 1 / 9, atol=1e-15)


@pytest.mark.parametrize("f", [
    lambda x: np.hypot(x[0], x[1]), np.linalg.norm, np.std, np.nanstd, lambda x: np.linalg.norm(x, 3),
    lambda x: np.std(x[:1]),
    lambda x: np.linalg.norm(x.reshape(1, 2)), lambda x: np.linalg.norm(x, 1), lambda x: np.linalg.norm(x, 2.5)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_tip_of_a_cone_has_slope_zero(f, dtype):
    x = np.zeros(2, dtype)
    np.testing.assert_array_equal(mg.grad(f)(x), x)
    np.testing.assert_array_equal(mg.compile(mg.grad(f))(x), x)
    np.testing.assert_array_equal(mg.jvp(f, (x,), (np.ones_like(x),))[1], 0)
    assert np.isfinite(mg.hessian(f)(x)).all()


def test_slopes_of_relative_entropy_at_zero():
    """The slopes of x log(x / y) at x = 0: -inf, 0, and a mixed derivative of -1 / y."""
    for f, by_y in ((sp.rel_entr, 0.0), (sp.kl_div, 1.0)):
        np.testing.assert_array_equal(mg.grad(f, (0, 1))(0.0, 2.0), [-np.inf, by_y])
        assert mg.grad(lambda x, f=f: mg.grad(f, 1)(x, 2.0))(0.0) == -0.5
        assert mg.grad(lambda y, f=f: mg.grad(f, 0)(1e-300, y))(2.0) == -0.5
    np.testing.assert_array_equal(mg.grad(sp.xlogy, (0, 1))(0.0, 0.0), [-np.inf, 0.0])


def test_exponentially_scaled_bessel_functions_at_their_kink():
    """The mean of both sides of e^-|x| I0 is 0; the slope of the odd one is 1/2 on both."""
    assert mg.grad(sp.i0e)(0.0) == 0.0
    assert mg.grad(sp.i1e)(0.0) == 0.5
    assert mg.grad(mg.grad(sp.i1e))(0.0) == 0.0


WITHOUT_SLOPE = {"maximum", "minimum", "fmax", "fmin", "absolute", "fabs", "sign", "copysign", "heaviside", "floor",
                 "ceil", "trunc", "rint", "floor_divide", "remainder", "fmod", "nextafter", "spacing", "divmod",
                 "isfinite", "isinf", "eq", "ne", "le", "lt", "ge", "gt", "isnan"}
LINEAR = {"add", "subtract", "negative", "positive", "conjugate", "matmul", "matvec", "vecmat", "vecdot"}
ALIASES = {"degrees", "radians", "float_power", "huber"}  # huber is a quadratic and a line


def test_every_smooth_function_has_a_row():
    rows = {*UNARY, *BINARY}
    ufuncs = {f.__name__ for f in TABLE if {"d->d", "dd->d"} & set(getattr(f, "types", ()))}
    assert ufuncs - rows - WITHOUT_SLOPE - LINEAR - ALIASES == set()
    assert set(SCIPY) - rows - ALIASES == set()


def test_every_elementwise_primitive_with_a_slope_is_covered():
    met = set()
    for f, arity in [*((f, 1) for f, _, _ in UNARY.values()), *((f, 2) for f, _, _ in BINARY.values())]:
        for _ in range(4 if arity == 1 else 3):
            met |= {n.prim.name for n in mg.trace(f)(*[np.float64(0.4)] * arity).nodes}
            f = mg.grad(f) if arity == 1 else lambda *xs, f=f: np.sum(np.stack(mg.grad(f, (0, 1))(*xs)))
    elementwise = {n for n, p in PRIMITIVES.items() if p.kind == "elementwise" and any(
        s.order and all(np.asarray(a).dtype.kind == "f" for a in s.arrays) for s in p.samples())}
    exact = {"maximum", "minimum", "mod", "where", "cast", "add", "sub", "neg", "abs"}
    assert elementwise - met - exact - WITHOUT_SLOPE - {"stop_gradient"} == set()


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("x", [np.linspace(-30, 30, 1001), np.linspace(-1, 1, 33), np.array(25.0), np.zeros(0),
                               np.array([0.5, np.nan, 20.0, np.inf])], ids=["wide", "narrow", "scalar", "empty", "nan"])
def test_slopes_of_tanh_with_some_saturated_elements(x, dtype, backend):
    x = x.astype(dtype)
    f = mg.compile(mg.grad(lambda x: (np.tanh(x * 1) * x).sum()), backend=backend)
    double = x.astype("f8")
    with np.errstate(all="ignore"):
        want = np.tanh(double) + double / np.cosh(double) ** 2
        far = 1 / np.cosh(double) ** 2
    want = np.where(np.isinf(double), np.nan, want)
    np.testing.assert_allclose(f(x), want, rtol=2e-3 if dtype == "f4" else 1e-11)
    slope = mg.compile(mg.grad(lambda x: np.tanh(x).sum()), backend=backend)
    np.testing.assert_allclose(slope(x), far, rtol=2e-3 if dtype == "f4" else 1e-11, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_slopes_of_arctan2_whose_squares_overflow_or_vanish(backend):
    scales = np.array([1.0, 3e-38, 1e-25, 1e25, 1e38])
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(scales, np.append(scales, -scales)))
    slopes = mg.vmap(mg.grad(np.arctan2, (0, 1)))
    have = (mg.compile(slopes, backend=backend) if backend else slopes)(y, x)
    square = x.astype(float) ** 2 + y.astype(float) ** 2
    for slope, want in zip(have, (x / square, -y / square), strict=True):
        np.testing.assert_allclose(slope, want, rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
@pytest.mark.parametrize(("dtype", "x"), [("f2", 300.0), ("f2", 6e4), ("f4", 1e25), ("f8", -1e200)])
def test_slopes_of_arcsinh_whose_square_overflows(dtype, x, backend):
    xs = np.array([x, 0.75, np.inf], dtype)
    slopes = mg.vmap(mg.grad(np.arcsinh))
    have = (mg.compile(slopes, backend=backend) if backend else slopes)(xs)
    np.testing.assert_allclose(have, [1 / abs(x), 0.8, 0], rtol=1e-3 if dtype == "f2" else 1e-6,
                               atol=float(np.finfo(dtype).smallest_subnormal))


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
@pytest.mark.parametrize("number", [0.0, 2, -1e200])
def test_slopes_of_arctan2_beside_numbers(number, backend):
    x = np.array([-0.5, 3.0])
    for slopes, want in ((mg.vmap(mg.grad(lambda x: np.arctan2(x, number))), number), (
            mg.vmap(mg.grad(lambda x: np.arctan2(number, x))), -number)):
        have = (mg.compile(slopes, backend=backend) if backend else slopes)(x)
        np.testing.assert_allclose(have, want / np.hypot(x, number) / np.hypot(x, number), rtol=1e-14)

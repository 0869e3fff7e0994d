"""Quantiles, statistics without NaN and histograms in rare cases, against NumPy's."""

import numpy as np
import pytest

import minigrad as mg

rng = np.random.default_rng(5)
M = rng.normal(size=(3, 4))


@pytest.mark.parametrize("edges", [[], [0.5]])
def test_a_histogram_needs_a_bin(edges):
    with pytest.raises(mg.ShapeError, match=f"np.histogram: {len(edges)} edges have no bin"):
        mg.vmap(lambda x: np.histogram(x, edges)[0])(M)


X4 = np.array([3.0, 1.0, 2.0], np.float32)


AS_NUMPY = {
    "variance of fewer than are taken off": lambda x: np.var(x, ddof=4),
    "deviation of as many as are taken off": lambda x: np.std(x, ddof=3),
    "covariance of one": lambda x: np.cov(x[:1]),
    "covariance of no variables beside one": lambda x: np.cov(np.stack([x, x])[:0], x),
    "covariance of no columns beside one": lambda x: np.cov(np.stack([x, x])[:, :0], x[:2], rowvar=False),
    "correlation of no variables": lambda x: np.corrcoef(np.stack([x, x])[:0]),
    "covariance of fewer than are taken off": lambda x: np.cov(np.stack([x, x * 2]), ddof=4),
    "upper triangle of a row": np.triu, "lower triangle of a row": lambda x: np.tril(x, -1),
    "percentiles of a list": lambda x: np.percentile(x, [20, 70]),
    "percentile of a number": lambda x: np.percentile(x, 20),
    "quantiles of an array": lambda x: np.nanquantile(x, np.array([0.2, 0.7], np.float32)),
    "geometric space": lambda x: np.geomspace(x[1], x[2], 3),
    "a number that gives way": lambda x: np.choose([0, 1, 1], [0.5, x]),
    "small integers": lambda x: np.choose([0, 1, 1], [1, x.astype(np.int8)])}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", AS_NUMPY)
def test_values_and_dtypes_of_rare_cases(case):
    want, have = AS_NUMPY[case](X4), mg.compile(AS_NUMPY[case])(X4)
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-6)


@pytest.mark.parametrize("name", ["quantile", "percentile", "nanquantile", "nanpercentile"])
@pytest.mark.parametrize("q", [np.array([0, 1]), np.array([0.25, 0.5]), 1], ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quantiles_have_numpys_dtype(name, q, dtype):
    x = np.array([3, 1, 2], dtype)
    function = getattr(np, name)
    want = function(x, q)
    have = mg.compile(lambda x: function(x, q))(x)
    assert have.dtype == want.dtype
    np.testing.assert_allclose(have, want, rtol=1e-3)


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "nearest", "midpoint", "hazen"])
@pytest.mark.parametrize(("name", "q"), [("quantile", 1), ("quantile", np.array([0, 1])), ("quantile", 0.4),
                                         ("percentile", 50), ("nanquantile", 0), ("nanpercentile", 30.0)])
def test_quantiles_of_integers_are_numpys(name, q, method):
    x = np.array([[2**60 + 1, 3, 7], [2**60, 2**59 + 1, 5]])
    x = x % 2 == 0 if method == "lower" else x
    function = getattr(np, name)
    want = function(x, q, axis=1, method=method)
    have = mg.compile(lambda x: function(x, q, axis=1, method=method))(x)
    assert have.dtype == want.dtype
    np.testing.assert_allclose(have, want, rtol=0 if want.dtype.kind in "bi" else 1e-15)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile])
@pytest.mark.parametrize(("x", "slope"), [
    ([-np.inf, np.nan], [1, 0]), ([np.nan, -np.inf, -np.inf], [0, 0.5, 0.5]), ([-np.inf, -np.inf], [0.5, 0.5]),
    ([np.inf, -np.inf, np.nan], [1, 0, 0]), ([1.0, 1.0, np.nan], [0.5, 0.5, 0]), ([-np.inf, 2.0, np.nan], [0, 1, 0])])
def test_nan_has_no_share_in_an_extreme_of_infinities(x, slope, wrap):
    x = np.array(x)
    for f, g in ((np.nanmax, np.nanmin), (np.fmax.reduce, np.fmin.reduce)):
        for h in (f, lambda x, g=g: -g(-x)):
            value, have = wrap(mg.value_and_grad(h))(x)
            assert value == f(x)
            np.testing.assert_array_equal(have, slope)


def test_the_number_of_bins_is_an_ordinary_int():
    """How many edges there are is the shape of the result; a plain int among the arguments is fixed."""
    x = np.array([0.1, 0.5, 0.9])

    def loss(x, n):
        return mg.fori_loop(0, 2, lambda i, c: c + np.sum(np.histogram_bin_edges(x * c, n)), 1.0)

    want = loss(x, 4)
    np.testing.assert_allclose(mg.compile(loss)(x, 4), want)
    np.testing.assert_allclose(mg.hessian(loss)(x, 4), mg.hessian(lambda x: loss(x, 4))(x))
    message = r"test_statistics\.py:\d+.*np\.histogram: bins is a traced value \(i64\[\]\), and its number is known"
    for f in (mg.vmap(loss, (None, 0)), mg.hessian(lambda x, n: mg.mean_loss(loss, (None, 0))(x, n))):
        with pytest.raises(mg.TraceError, match=message):
            f(x, np.array([4, 5]))

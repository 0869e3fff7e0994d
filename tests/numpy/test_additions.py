"""What minigrad.numpy has beyond NumPy: convolution, pooling, expm, cumulative_logsumexp, running extremes."""

import re

import numpy as np
import pytest
import scipy.linalg

import minigrad as mg
import minigrad.numpy as mnp

from .conform import assert_same, call, check_call, run_traced

rng = np.random.default_rng(5)
IMAGE = rng.normal(size=(4, 7, 6))
FILTERS = rng.normal(size=(6, 4, 3, 2))
V = rng.normal(size=5)
M = rng.normal(size=(3, 4))


def conv_by_hand(x, w, stride=1, padding=0, dilation=1, groups=1):
    """Sum over every window, one output number at a time."""
    (s1, s2), (d1, d2) = (np.broadcast_to(v, 2) for v in (stride, dilation))
    if padding == "same":
        pads = []
        for n, s, k, d in zip(x.shape[1:], (s1, s2), w.shape[2:], (d1, d2), strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
    else:
        pads = [(p, p) if np.ndim(p) == 0 else p for p in np.broadcast_to(padding,
                                                                          2)] if np.ndim(padding) < 2 else padding
    x = np.pad(x, [(0, 0), *map(tuple, pads)])
    o, c = w.shape[0], w.shape[1]
    h = (x.shape[1] - (w.shape[2] - 1) * d1 - 1) // s1 + 1
    v = (x.shape[2] - (w.shape[3] - 1) * d2 - 1) // s2 + 1
    out = np.zeros((o, h, v))
    for f, i, j in np.ndindex(out.shape):
        first = f // (o // groups) * c
        window = x[first:first + c, i * s1:i * s1 + (w.shape[2] - 1) * d1 + 1:d1,
                   j * s2:j * s2 + (w.shape[3] - 1) * d2 + 1:d2]
        out[f, i, j] = (window * w[f]).sum()
    return out


@pytest.mark.parametrize("options", [
    {}, {"stride": 2}, {"stride": (2, 1)}, {"padding": 1}, {"padding": ((1, 0), (2, 1))}, {"padding": "same"},
    {"padding": "same", "stride": 2}, {"dilation": 2}, {"dilation": (1, 3), "padding": (2, 1)}], ids=repr)
def test_conv(options):
    check_call(lambda x, w: conv_by_hand(x, w, **options), call(IMAGE, FILTERS),
               traced=lambda x, w: mnp.conv(x, w, **options))


@pytest.mark.parametrize("groups", [2, 4])
def test_conv_in_groups(groups):
    w = rng.normal(size=(8, 4 // groups, 2, 3))
    check_call(lambda x, w: conv_by_hand(x, w, groups=groups), call(IMAGE, w),
               traced=lambda x, w: mnp.conv(x, w, groups=groups))


def test_conv_of_one_and_three_axes():
    x, w = rng.normal(size=(2, 9)), rng.normal(size=(3, 2, 4))
    want = np.stack([sum(np.correlate(x[c], w[f, c]) for c in range(2)) for f in range(3)])
    assert_same(run_traced(lambda x, w: [mnp.conv(x, w)], x, w)[0], want)
    x, w = rng.normal(size=(2, 3, 4, 3)), rng.normal(size=(2, 2, 2, 2, 2))
    want = np.einsum("cijkabd,ocabd->oijk", np.lib.stride_tricks.sliding_window_view(x, (2, 2, 2), axis=(1, 2, 3)), w)
    assert_same(run_traced(lambda x, w: [mnp.conv(x, w)], x, w)[0], want)


def test_pooling():
    def pooled(reduce):
        return lambda x: reduce(np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(1, 2))[:, ::2, ::3],
                                axis=(-2, -1))

    check_call(pooled(np.max), call(IMAGE), traced=lambda x: mnp.max_pool(x, (2, 3)))
    check_call(pooled(np.mean), call(IMAGE), traced=lambda x: mnp.avg_pool(x, (2, 3)))
    assert run_traced(lambda x: [mnp.max_pool(x, 3, stride=1, padding="same")], IMAGE)[0].shape == IMAGE.shape
    assert np.isfinite(run_traced(lambda x: [mnp.max_pool(x, 3, padding=1)], IMAGE)[0]).all()


def test_windows_that_do_not_fit_are_refused():
    for f, match in ((lambda x, w: mnp.conv(x[:, :2], w), "does not fit"),
                     (lambda x, w: mnp.conv(x[:3], w), "channels"),
                     (lambda x, w: mnp.conv(x[0], w), "expected"), (lambda x, w: mnp.windows(x, (2, 2), stride=0),
                                                                    "fit"),
                     (lambda x, w: mnp.windows(x, (2, 2), stride=(1, 1, 1)), "3 numbers")):
        with pytest.raises(mg.ShapeError, match=match):
            mg.trace(f)(IMAGE, FILTERS)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_expm_is_scipys(scale):
    a = rng.normal(size=(2, 3, 3)) * scale
    a = a - np.swapaxes(a, -1, -2) if scale > 1 else a  # rotations, whose exponential does not overflow
    have, want = run_traced(lambda a: [mnp.linalg.expm(a)], a)[0], scipy.linalg.expm(a)
    np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-12)
    if scale == 1.0:
        check_call(scipy.linalg.expm, call(a[0]), traced=mnp.linalg.expm)


def test_expm_of_what_overflows_is_nan_and_of_zero_exact():
    zero = np.zeros((2, 2))
    np.testing.assert_allclose(run_traced(lambda a: [mnp.linalg.expm(a)], zero)[0], np.eye(2), rtol=1e-15)
    np.testing.assert_allclose(mg.grad(lambda a: mnp.linalg.expm(a)[0, 1])(zero), [[0, 1], [0, 0]], atol=1e-15)
    assert np.isnan(run_traced(lambda a: [mnp.linalg.expm(a)], np.eye(2) * 1e7)[0]).all()


def test_cumulative_logsumexp():
    check_call(lambda x: np.logaddexp.accumulate(x, axis=1), call(M), traced=lambda x: mnp.cumulative_logsumexp(x, 1))
    x = np.array([-np.inf, -np.inf, 0.0, 1000.0])
    assert_same(run_traced(lambda x: [mnp.cumulative_logsumexp(x)], x)[0], np.logaddexp.accumulate(x))
    assert np.isfinite(mg.grad(lambda x: mnp.cumulative_logsumexp(x)[-1])(x)).all()


METHODS = [np.add, np.multiply, np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot]


@pytest.mark.parametrize("ufunc", METHODS, ids=lambda u: u.__name__)
def test_ufuncs_reduce_and_accumulate(ufunc):
    for axis in (0, 1):
        check_call(ufunc.accumulate, call(M, axis))
        check_call(ufunc.reduce, call(M, axis))
    check_call(ufunc.reduce, call(M))
    check_call(ufunc.accumulate, call(V))
    check_call(ufunc.reduce, call(V, keepdims=True))


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum, np.fmax, np.fmin], ids=lambda u: u.__name__)
def test_equal_elements_share_the_cotangents_of_running_extremes(ufunc, dtype, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    x = np.full((2, 3), 4, dtype)
    x[1, 1] = 4 if ufunc in (np.maximum, np.fmax) else 5  # the second row ties for others where it is larger
    x[1, 2] = -7 if ufunc in (np.maximum, np.fmax) else 9
    last = mg.grad(lambda x: np.sum(ufunc.accumulate(x, axis=1)[:, -1]))
    third, rows = 1 / 3, {3: [[1 / 3] * 3, [0.5, 0.5, 0]], 1: [[1 / 3] * 3, [1, 0, 0]]}
    want = rows[3 if ufunc in (np.maximum, np.fmax) else 1]
    for found in (last(x), mg.compile(last, backend=backend)(x)):
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, want, rtol=1e-3 if dtype == "f2" else 1e-6)
    one = mg.grad(lambda x: ufunc.accumulate(x, axis=0)[-1])
    batch = mg.compile(mg.vmap(one), backend=backend)
    np.testing.assert_allclose(batch(x[:1]), [[third] * 3], rtol=1e-3)
    np.testing.assert_allclose(mg.compile(mg.microbatch(mg.vmap(one), 1), backend=backend)(x), batch(x))
    np.testing.assert_allclose(mg.grad(lambda x: ufunc.reduce(x, axis=None))(x[:1]), [[third] * 3], rtol=1e-3)


def test_second_derivatives_of_running_extremes():
    x = np.array([1.0, 3.0, 3.0, 2.0])
    h = mg.hessian(lambda x: np.sum(np.maximum.accumulate(x) ** 3))(x)
    # 1, 3, then twice the mean of both threes, each cubed
    want = np.diag([6.0, 18, 0, 0])
    want[1:3, 1:3] += 2 * 6 * 3 / 4
    np.testing.assert_allclose(h, want)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum, np.fmax, np.fmin], ids=lambda u: u.__name__)
def test_running_extremes_of_special_numbers(ufunc, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    for dtype in ("f4", "f8", "i4", "u1", "?"):
        x = np.array([[1, 0, 0, 3, 2, 5]] * 3).astype(dtype)
        if dtype[0] == "f":
            x[0, :2], x[1, 2:4], x[2, 1] = np.nan, [-np.inf, np.nan], np.inf
        for axis in (0, 1):
            def f(x, axis=axis):
                return ufunc.accumulate(x, axis)

            np.testing.assert_array_equal(mg.compile(f, backend=backend)(x), f(x), strict=True)
            np.testing.assert_array_equal(run_traced(lambda x, f=f: [f(x)], x)[0], f(x), strict=True)


@pytest.mark.parametrize("ufunc", [np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or,
                                   np.bitwise_xor, np.gcd, np.lcm], ids=lambda u: u.__name__)
def test_ufuncs_of_integers_and_bools(ufunc):
    x = rng.integers(1, 20, (3, 5))
    x = x > 9 if ufunc.__name__.startswith("logical") else x
    check_call(ufunc.reduce, call(x, 1))
    check_call(ufunc.accumulate, call(x, 1))


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum, np.fmax, np.fmin, np.hypot,
                                   np.logical_xor, np.bitwise_or, np.bitwise_xor], ids=lambda u: u.__name__)
def test_the_start_of_a_reduction_takes_the_dtype_of_its_result(ufunc):
    x = np.array([[1, 0, 1, 1], [0, 0, 1, 0]])
    for a, start in ((x, 2.5), (x == 1, 3), (x.astype("i1"), 2)):
        check_call(ufunc.reduce, call(a, 1, initial=start))
        check_call(ufunc.reduce, call(a[:, :1].copy(), 1))
        check_call(ufunc.accumulate, call(a[:, :1].copy(), 1))


def test_the_start_of_a_reduction_must_fit_its_dtype():
    for f in (np.max, np.min, np.maximum.reduce, np.fmax.reduce):
        with pytest.raises(mg.errors.IntegerRangeError, match="300 is out of bounds for uint8"):
            mg.trace(lambda x, f=f: f(x, initial=300))(np.zeros(3, "u1"))
    with pytest.raises(mg.DtypeError, match=r"np\.bitwise_or\.reduce of f64\[3\]"):
        mg.trace(np.bitwise_or.reduce)(np.zeros(3))


def test_methods_that_are_not_there_say_what_to_write():
    for f, match in ((lambda x: np.add.reduceat(x, [0, 2]), "at(np.zeros"),
                     (lambda x: np.add.at(np.zeros(3), [0], x[0]), "at(x)"),
                     (lambda x: np.subtract.reduce(x), "np.sum")):
        with pytest.raises(mg.TraceError, match=re.escape(match)):
            mg.trace(f)(V)


def test_put_along_axis_returns_a_new_array():
    i = np.array([[1], [0], [3]])
    want = M.copy()
    np.put_along_axis(want, i, 9.0, 1)
    have = run_traced(lambda x, i: [mnp.put_along_axis(x, i, 9.0, 1)], M, i)[0]
    assert_same(have, want)


def test_shapes_and_dtypes_by_name():
    seen = []
    mg.trace(lambda x: seen.extend([mnp.finfo(x).eps, mnp.finfo(np.float32).eps,
                                    mnp.broadcast_shapes(x.shape, (4, 1, 1)),
                                    mnp.isdtype(x.dtype, "real floating")]) or x)(M)
    assert seen == [np.finfo(float).eps, np.finfo("f4").eps, (4, 3, 4), True]


@pytest.mark.parametrize("n", [None, 4, 7, 9])
def test_real_fourier_transforms_in_parts(n):
    x = rng.normal(size=(3, 7))

    def numpys(x):
        z = np.fft.rfft(x, n, axis=1)
        return z.real.copy(), z.imag.copy()

    check_call(numpys, call(x), traced=lambda x: mnp.fft.rfft_parts(x, n, axis=1))
    re, im = numpys(x)
    length = 7 if n is None else n
    check_call(lambda re, im: np.fft.irfft(re + 1j * im, length, axis=1), call(re, im),
               traced=lambda re, im: mnp.fft.irfft_parts(re, im, length, axis=1))
    for dtype in ("f2", "f4", "i1"):
        check_call(lambda x: np.fft.rfft(x, axis=0).real.copy(), call(x.astype(dtype), smooth=False),
                   traced=lambda x: mnp.fft.rfft_parts(x, axis=0)[0])
    check_call(lambda re, im: np.fft.irfft(re + 1j * im), call(re.astype("f2"), im.astype("f2"), smooth=False),
               traced=mnp.fft.irfft_parts)


@pytest.mark.parametrize("edges", [[], [0.5]])
def test_a_histogram_needs_a_bin(edges):
    with pytest.raises(mg.ShapeError, match=f"np.histogram: {len(edges)} edges have no bin"):
        mg.vmap(lambda x: np.histogram(x, edges)[0])(M)


def test_diff_with_ends():
    for options in ({"prepend": 0.5}, {"append": M[:, :2].copy(), "prepend": 1}, {"append": 2.0, "axis": 0, "n": 2}):
        check_call(np.diff, call(M, **options))
    check_call(np.diff, call(np.arange(4), prepend=0.5))


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
@pytest.mark.parametrize("what", AS_NUMPY)
def test_values_and_dtypes_of_the_rare_cases(what):
    want, have = AS_NUMPY[what](X4), mg.compile(AS_NUMPY[what])(X4)
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-6)

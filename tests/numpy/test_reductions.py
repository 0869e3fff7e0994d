"""Reductions by ufuncs, running extremes, and the start of a reduction."""

import re

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

from .conform import assert_same, call, check_call, run_traced

rng = np.random.default_rng(5)
V = rng.normal(size=5)
M = rng.normal(size=(3, 4))


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


def test_errors_of_unsupported_ufunc_methods():
    for f, match in ((lambda x: np.add.reduceat(x, [0, 2]), "at(np.zeros"),
                     (lambda x: np.add.at(np.zeros(3), [0], x[0]), "at(x)"),
                     (lambda x: np.subtract.reduce(x), "np.sum")):
        with pytest.raises(mg.TraceError, match=re.escape(match)):
            mg.trace(f)(V)

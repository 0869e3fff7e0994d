"""Limits and promotion of data types."""

import itertools

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

from .test_table import B3, I3, I32, M4, U8, V4, K, M


def test_shapes_and_dtypes_by_name():
    seen = []
    mg.trace(lambda x: seen.extend([mnp.finfo(x).eps, mnp.finfo(np.float32).eps,
                                    mnp.broadcast_shapes(x.shape, (4, 1, 1)),
                                    mnp.isdtype(x.dtype, "real floating")]) or x)(M)
    assert seen == [np.finfo(float).eps, np.finfo("f4").eps, (4, 3, 4), True]


@pytest.mark.parametrize("case",
                         [(M4, 2.0), (M4, 2), (K, 2.0), (K, True), (M4, M), (U8, I32), (U8, 1), (B3, 1),
                          (M4, np.float64(1)),
                                  (V4, "f8"), (I3, np.float32)])
def test_result_type(case):
    have = []
    mg.trace(lambda *xs: have.append(np.result_type(*(xs if len(xs) == 2 else (*xs, case[1])))) or xs[0])(
        *[c for c in case if isinstance(c, np.ndarray)])
    assert have == [np.result_type(*case)]


@pytest.mark.parametrize(("x", "low", "high"), [
    (np.array([True, False]), 3, np.float32([2, 5])), (np.int8([1, 9]), 0.5, np.float16([2, 5])),
    (np.array([True, False]), 0, np.int8([2, 5])), (np.uint8([1, 9]), np.int8(-1), np.int8(5)),
    (np.int8([1, 9]), 300, np.int64([2, 5]))])
def test_clip_promotes_all_operands_at_once(x, low, high):
    have, want = mg.vmap(lambda x, high: np.clip(x, low, high), in_axes=(0, 0 if np.ndim(high) else None))(
        x, high), np.clip(x, low, high)
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("number", [3, 2.5, np.int16(3), True])
@pytest.mark.parametrize("f", [lambda x, n: np.concatenate([x, n], axis=None), lambda x, n: np.union1d(n, x),
                               lambda x, n: np.append(x, n)], ids=["concatenate", "union1d", "append"])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_numbers_of_python_joined_along_no_axis_leave_the_dtype(f, dtype, number):
    x = np.array([7, 9], dtype)
    have, want = mg.compile(lambda x: f(x, number), backend="numpy")(x), f(x, number)
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have, want)


ROWS = np.array([1.0, 2.0, 3.0])
MIXED = {
    "average": lambda x, y: np.average(x, weights=y),
    "total weight": lambda x, y: np.average(x, weights=y, returned=True)[1],
    "nan_to_num": lambda x, y: np.nan_to_num(x, nan=np.float64(y.size)), "quantile": lambda x, y: np.quantile(x, y / 4),
    "r_": lambda x, y: mg.numpy.r_[x, y, 1], "r_ of a float": lambda x, y: mg.numpy.r_[x, 0.5, y],
    "r_ of a range": lambda x, y: mg.numpy.r_[x, 0:3], "c_": lambda x, y: mg.numpy.c_[x[None], 1, y[None]],
    "solve": lambda x, y: np.linalg.solve(np.diag(x), y), "lstsq": lambda x, y: np.linalg.lstsq(x[:, None], y)[0],
    "angle": lambda x, y: np.angle(x), "isclose": np.isclose, "allclose": np.allclose}
REFUSED = {"solve": {"f2"}, "lstsq": {"f2"}, "quantile": {"?"}}  # by NumPy


@pytest.mark.parametrize("name", MIXED)
def test_mixed_dtypes(name):
    for first, second in itertools.product(("f2", "f4", "f8", "i4", "i8", "u1", "?"), repeat=2):
        if {first, second} & REFUSED.get(name, set()):
            continue
        x, y = ROWS.astype(first), ROWS[::-1].astype(second)
        want = np.asarray(MIXED[name](x, y))
        have = np.asarray(mg.trace(MIXED[name])(x, y)(x, y))
        assert have.dtype == want.dtype, (first, second)
        np.testing.assert_allclose(have, want, rtol=2e-3 if "f2" in (first, second) else 1e-6)


def test_unsigned_numbers_are_close_to_greater_ones():
    x, y = np.array([1, 2], "u1"), np.array([2, 2], "u1")
    assert mg.compile(np.isclose)(x, y).tolist() == [False, True]
    assert mg.compile(lambda x: np.isclose(x, 2))(x).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["f2", "f4", "i4", "u1"])
def test_an_array_made_of_a_size_has_the_dtype_of_an_array(dtype):
    def f(x):
        return x * np.array(x.shape[0])

    x = np.arange(3).astype(dtype)
    (out,) = mg.trace(f)({"f2": mg.f16, "f4": mg.f32, "i4": mg.i32, "u1": mg.u8}[dtype][mg.dim("n")]).outputs
    assert out.dtype == f(x).dtype

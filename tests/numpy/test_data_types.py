"""Limits and promotion of data types."""

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

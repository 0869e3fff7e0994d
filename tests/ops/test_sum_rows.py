"""Sums of rows by index equal `np.add.at` to the bit, with and without SciPy, except for long sums."""

import sys

import numpy as np
import pytest

from minigrad.ops.accumulators import accumulator
from minigrad.ops.sum_rows import FEW, sum_gathered, sum_rows, take_rows


@pytest.fixture(params=["SciPy", "NumPy alone"])
def library(request, monkeypatch):
    if request.param == "SciPy":
        pytest.importorskip("scipy")
    else:
        monkeypatch.setitem(sys.modules, "scipy.sparse", None)


def expected(rows, indices, shape):
    out = np.zeros(shape, accumulator(rows.dtype))
    np.add.at(out, tuple(indices), rows)
    return out.astype(rows.dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("count", [0, 1, FEW])
def test_one_index(dtype, count, library):
    rng = np.random.default_rng(0)
    rows = (10 * rng.normal(size=(count, 3))).astype(dtype)
    index = rng.integers(-50, 50, count)
    out = np.full((50, 3), 7, dtype)  # what was there does not count
    assert sum_rows(rows, [index], out) is out
    np.testing.assert_array_equal(out, expected(rows, [index], (50, 3)))


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 2, 3), (50, 0)])
def test_rows_of_any_shape(shape, library):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(FEW, *shape[1:])).astype(np.float32)
    index = rng.integers(0, 50, FEW)
    np.testing.assert_array_equal(sum_rows(rows, [index], np.empty(shape, np.float32)), expected(rows, [index], shape))


def test_several_indices_of_several_axes(library):
    rng = np.random.default_rng(0)
    i, j = rng.integers(-4, 4, (2, 60, 20)), rng.integers(0, 7, (60, 20))
    rows = rng.normal(size=(60, 20, 5))
    np.testing.assert_array_equal(sum_rows(rows, [i[0], j], np.empty((4, 7, 5))), expected(rows, [i[0], j], (4, 7, 5)))


def test_memory_that_is_not_contiguous(library):
    rng = np.random.default_rng(0)
    rows, index = rng.normal(size=(2 * FEW, 3))[::2], rng.integers(0, 50, FEW)
    whole = np.full((50, 6), 7.0)
    sum_rows(rows, [index], whole[:, ::2])
    np.testing.assert_array_equal(whole[:, ::2], expected(rows, [index], (50, 3)))
    np.testing.assert_array_equal(whole[:, 1::2], 7)


def test_nan_and_inf_reach_only_their_own_place(library):
    rows = np.ones((FEW, 2), np.float32)
    rows[3] = np.nan, np.inf
    out = sum_rows(rows, [np.arange(FEW) % 10], np.empty((10, 2), np.float32))
    np.testing.assert_array_equal(np.isfinite(out), np.arange(10)[:, None] != [3, 3])


@pytest.mark.parametrize("bad", [50, -51])
@pytest.mark.parametrize("count", [1, FEW])
def test_an_index_out_of_range(bad, count, library):
    index = np.zeros(count, np.int64)
    index[-1] = bad
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0 with size 50"):
        sum_rows(np.ones((count, 3)), [index], np.empty((50, 3)))


@pytest.mark.parametrize("count", [0, 5, FEW])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_sums_of_gathered_rows(count, dtype, library):
    rng = np.random.default_rng(0)
    x = (10 * rng.normal(size=(40, 3))).astype(dtype)
    source, to = rng.integers(-40, 40, count), rng.integers(-50, 50, count)
    have = sum_gathered(x, source, to, np.full((50, 3), 7, dtype))
    np.testing.assert_array_equal(have, expected(x[source], [to], (50, 3)))
    for bad in (40, -41):
        if count:
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
                sum_gathered(x, np.where(np.arange(count) == 1, bad, source), to, np.empty((50, 3), dtype))


def test_rows_are_taken():
    x = np.arange(12.0).reshape(4, 3)
    index = np.array([[0, -1], [2, -4]])
    np.testing.assert_array_equal(take_rows(x, index, np.empty((2, 2, 3))), x[index])
    for bad in (4, -5):
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
            take_rows(x, np.array([0, bad]), np.empty((2, 3)))


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("order", ["sorted", "mixed", "strided"])
@pytest.mark.parametrize("places", [1, 3, 5000])
def test_long_sums_do_not_lose_digits(shape, order, places, library):
    n = 500_000
    index = np.sort(np.arange(n) % places) if places < 5000 else np.repeat([7, 4000], n // 2)
    index = index if order == "sorted" else np.random.default_rng(0).permutation(index)
    rows = np.full((n, *shape), 0.1, np.float32)
    rows = np.repeat(rows, 2, axis=0)[::2] if order == "strided" else rows
    if places == 5000 and (shape not in ((), (1,)) or order != "sorted"):
        index %= 2  # else as np.add.at
        places = 2
    found = sum_rows(rows, [index], np.empty((places, *shape), np.float32))
    wanted = np.bincount(index, minlength=places) * float(np.float32(0.1))
    np.testing.assert_allclose(found, np.broadcast_to(wanted.reshape(-1, *[1] * len(shape)), found.shape),
                               rtol=1e-6 if not shape or shape == (1,) else 1e-4)


def test_many_rows_of_half_precision_add_up_in_single(library):
    rows, index = np.full((5000, 2), 3, np.float16), np.zeros(5000, int)
    np.testing.assert_array_equal(sum_rows(rows, [index], np.empty((1, 2), np.float16)), np.float16(15000))
    x = np.full((4, 2), 3, np.float16)
    source = np.arange(5000) % 4
    np.testing.assert_array_equal(sum_gathered(x, source, index, np.empty((1, 2), np.float16)), np.float16(15000))

"""Cholesky factors in blocks: sizes around the blocks, stacks, the triangle that is read, threads, and faults."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import blas
from minigrad.backends.native.kernels.cholesky import COLUMNS
from minigrad.backends.native.kernels.matrices import LARGEST
from minigrad.backends.native.runtime import jit

pytestmark = [pytest.mark.skipif(jit.available() is not None, reason=str(jit.available())),
              pytest.mark.skipif(blas.find()[0] is None or not blas.can_limit(), reason="NumPy has no OpenBLAS")]


def factor(a):
    return np.linalg.cholesky(a)


def lower_factors(n, dtype="f8", lead=()):
    x = np.random.default_rng(n).normal(size=(*lead, n, n)) / n
    return (np.tril(x, -1) + np.eye(n) * (1 + np.abs(x))).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("n", "lead"), [(LARGEST + 1, ()), (COLUMNS, (2,)), (COLUMNS + 1, ()), (2 * COLUMNS - 1, (3,)),
                                         (3 * COLUMNS, ()), (300, (2, 1)), (100, (0,))])
def test_products_have_their_factors_back(n, lead, dtype):
    want = lower_factors(n, dtype, lead)
    a = want @ np.swapaxes(want, -1, -2)
    compiled = mg.compile(factor, backend="native")
    got = compiled(np.where(np.tri(n, dtype=bool), a, np.nan))  # the upper triangle is not read
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, atol=1e-5 if dtype == "f4" else 1e-13)
    np.testing.assert_array_equal(np.triu(got, 1), 0)
    assert "1 of 1 steps are native" in str(compiled.stages[-1])


def test_results_are_equal_for_any_number_of_threads():
    want, compiled, before, results = lower_factors(500), mg.compile(factor, backend="native"), mg.get_num_threads(), []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            results.append(compiled(want @ want.T))
    finally:
        mg.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("pivot", [0.0, -1.0])
@pytest.mark.parametrize("at", [0, COLUMNS - 1, COLUMNS, 2 * COLUMNS + 5])
def test_a_matrix_that_is_not_positive_definite_is_an_error(at, pivot):
    a = np.eye(3 * COLUMNS)
    a[at, at] = pivot
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        mg.compile(factor, backend="native")(a)


def test_nan_reaches_the_trailing_block_as_in_numpy():
    a = np.eye(2 * COLUMNS)
    a[COLUMNS + 3, COLUMNS + 3] = np.nan
    compiled = mg.compile(factor, backend="native")
    np.testing.assert_array_equal(compiled(a), factor(a))
    np.testing.assert_array_equal(compiled(np.eye(2 * COLUMNS)), np.eye(2 * COLUMNS))

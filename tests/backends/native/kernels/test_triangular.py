"""Triangular systems in blocks: sizes around the blocks, stacks, both triangles, threads, and zeros on the diagonal."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import blas
from minigrad.backends.native.kernels.triangular import COLUMNS, ROWS
from minigrad.backends.native.runtime import jit
from minigrad.numpy import linalg

pytestmark = [pytest.mark.skipif(jit.available() is not None, reason=str(jit.available())),
              pytest.mark.skipif(blas.find()[0] is None or not blas.can_limit(), reason="NumPy has no OpenBLAS")]


def system(n, columns, dtype, lead=()):
    rng = np.random.default_rng(n + columns)
    return ((rng.normal(size=(*lead, n, n)) / n + 2 * np.eye(n)).astype(dtype),
            rng.normal(size=(*lead, n, columns)).astype(dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("n", "columns", "lead"), [
    (33, 1, ()), (ROWS, COLUMNS, ()), (ROWS + 1, COLUMNS + 1, (3,)), (3 * ROWS - 1, 2 * COLUMNS - 1, ()),
    (200, 5, (2, 2)), (40, 0, ())])
def test_systems(n, columns, lead, lower, dtype):
    a, b = system(n, columns, dtype, lead)
    solve = mg.compile(lambda a, b: linalg.solve_triangular(a, b, lower=lower), backend="native")
    got, want = solve(a, b), np.linalg.solve((np.tril if lower else np.triu)(a).astype("f8"), b)
    np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "f4" else 1e-12, atol=1e-5 if dtype == "f4" else 1e-13)
    assert "1 of 1 steps are native" in str(solve.stages[-1])


def test_transposed_matrices():
    a, b = system(100, 70, "f8")
    solve = mg.compile(lambda a, b: linalg.solve_triangular(a.T, b, lower=False), backend="native")
    np.testing.assert_allclose(solve(a, b), np.linalg.solve(np.tril(a).T, b), rtol=1e-12, atol=1e-13)


def test_results_are_equal_for_any_number_of_threads():
    a, b = system(300, 300, "f8")
    solve, before, results = mg.compile(linalg.solve_triangular, backend="native"), mg.get_num_threads(), []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            results.append(solve(a, b))
    finally:
        mg.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_a_zero_on_the_diagonal_is_an_error():
    a, b = system(70, 3, "f8")
    a[66, 66] = 0
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        mg.compile(linalg.solve_triangular, backend="native")(a, b)

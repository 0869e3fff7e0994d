"""Steps on small matrices against NumPy's LAPACK, matrix by matrix."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.native.kernels.matrices import LARGEST
from minigrad.numpy import linalg

ROWS = (1, 2, 3, 4, 5, 8, 17, LARGEST, LARGEST + 1)
STACKS = ((), (1,), (3, 2), (0,), (600,))
TOLERANCE = {"float64": 1e-9, "float32": 2e-2}  # of the largest number: the random matrices may be ill-conditioned


def matrices(lead, n, dtype, seed=0):
    x = np.random.default_rng(seed).normal(size=(*lead, n, n))
    return (x + 2 * np.sign(x) * np.eye(n)).astype(dtype)


def positive(x):
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1], dtype=x.dtype)


PROGRAMS = {
    "solve": lambda x: np.linalg.solve(x, x[..., ::-1] + 1),
    "solve one": lambda x: np.linalg.solve(x, x[..., :1]),
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "sign": lambda x: np.linalg.slogdet(x)[0],
    "log": lambda x: np.linalg.slogdet(x)[1],
    "cholesky": lambda x: np.linalg.cholesky(positive(x)),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_matrix_of_a_stack_has_the_result_of_numpy(name, dtype):
    program = PROGRAMS[name]
    for n in ROWS:
        compiled = mg.compile(program, backend="native")
        for lead in STACKS:
            x = matrices(lead, n, dtype)
            if name == "det":
                x /= n  # or the numbers leave float32
            got, want = compiled(x), program(x)
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            if want.size:
                assert np.max(np.abs(got - want)) <= TOLERANCE[dtype] * max(np.max(np.abs(want)), 1e-3), (n, lead)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_triangular_systems_read_one_triangle(lower, trans, columns):
    for n in (1, 2, 4, 7, LARGEST):
        x = matrices((5,), n, np.float64)
        b = np.random.default_rng(1).normal(size=(5, n, columns))
        triangle = np.tril(x) if lower else np.triu(x)
        x[..., *(np.triu_indices(n, 1) if lower else np.tril_indices(n, -1))] = np.nan
        got = mg.compile(lambda x, b: linalg.solve_triangular(x, b, lower=lower, trans=trans), backend="native")(x, b)
        np.testing.assert_allclose(got, np.linalg.solve(np.swapaxes(triangle, -1, -2) if trans else triangle, b),
                                   rtol=1e-7, atol=1e-9)


def test_small_matrices_need_no_python_and_large_ones_have_lapack():
    for n, why in ((LARGEST, ""), (LARGEST + 1, f"step 0: inv of f64[{LARGEST + 1}, {LARGEST + 1}]")):
        compiled = mg.compile(np.linalg.inv, backend="native")
        compiled(np.eye(n))
        assert compiled.stages[-1].name == "native"
        assert compiled.stages[-1].after == why


def test_rows_are_exchanged_for_the_largest_pivot():
    x = np.array([[1e-20, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    solution = mg.compile(np.linalg.solve, backend="native")(x, np.array([1.0, 2.0, 2.0]))
    np.testing.assert_allclose(solution, [1.0, 1.0, 1.0], rtol=1e-15)
    sign, log = mg.compile(np.linalg.slogdet, backend="native")(x[[1, 0, 2]])
    assert sign == 1.0
    assert log == pytest.approx(np.log(2.0))


def test_each_lane_has_a_matrix_with_pivots_of_its_own():
    x = np.stack([np.roll(np.diag([1e-3, 5.0, 2.0]) + 0.1, k, axis=0) for k in range(3)] * 7)
    compiled = mg.compile(lambda x: (np.linalg.inv(x), np.linalg.slogdet(x)), backend="native")
    inverse, (sign, log) = compiled(x)
    np.testing.assert_allclose(inverse @ x, np.broadcast_to(np.eye(3), x.shape), atol=1e-13)
    for k in range(3):
        np.testing.assert_array_equal(inverse[k::3], inverse[[k] * 7])
    np.testing.assert_array_equal(sign, np.ones(21))
    np.testing.assert_allclose(log, np.full(21, log[0]), rtol=1e-14)


@pytest.mark.parametrize(("program", "message"), [
    (np.linalg.inv, "Singular matrix"),
    (lambda x: np.linalg.solve(x, x), "Singular matrix"),
    (lambda x: linalg.solve_triangular(x - 1, x), "Singular matrix"),
    (lambda x: np.linalg.cholesky(-x), "Matrix is not positive definite"),
    (np.linalg.cholesky, "Matrix is not positive definite")])
@pytest.mark.parametrize("place", [0, 300, 599])
def test_a_matrix_without_a_result_is_an_error_at_the_users_line(program, message, place):
    xs = np.stack([4 * np.eye(3)] * 600)
    xs[place] = 1.0
    compiled = mg.compile(program, backend="native")
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError, match=rf"test_matrices.py:\d+.*{message}"):
            compiled(xs)
    if program is np.linalg.inv:
        np.testing.assert_array_equal(compiled(xs[place - 1:place]), xs[place - 1:place] / 16)


def test_singular_matrices_have_determinants_and_nan_spreads():
    det, slogdet, cholesky = (mg.compile(f, backend="native") for f in (
        np.linalg.det, np.linalg.slogdet, np.linalg.cholesky))
    singular = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 5.0]])
    assert det(singular) == 0.0
    assert slogdet(singular) == (0.0, -np.inf)
    assert np.isnan(det(np.full((2, 2), np.nan)))
    np.testing.assert_array_equal(cholesky(np.diag([1.0, np.nan])), np.diag([1.0, np.nan]))


def filtered(p, ys):
    """Return the mean of the terms of a Kalman filter."""
    def advance(carry, y):
        mean, cov = carry
        mean, cov = p @ mean, p @ cov @ p.T + np.eye(2)
        s = cov[:1, :1] + 0.5
        e = y - mean[:1]
        gain = np.linalg.solve(s, cov[:1]).T
        return (mean + gain @ e, cov - gain @ cov[:1]), np.linalg.slogdet(s)[1] + e @ np.linalg.solve(s, e)

    return mg.scan(advance, (np.zeros(2), np.eye(2)), ys)[1].mean()


def test_a_scan_over_matrices_runs_without_python():
    rng = np.random.default_rng(0)
    p, ys = np.eye(2) + 0.1 * rng.normal(size=(2, 2)), rng.normal(size=(20, 1))
    compiled = mg.compile(mg.value_and_grad(filtered), backend="native")
    value, gradient = compiled(p, ys)
    assert compiled.stages[-1].after == ""
    assert value == pytest.approx(float(filtered(p, ys)), rel=1e-12)
    step = 1e-6
    for i in np.ndindex(2, 2):
        d = np.zeros((2, 2))
        d[i] = step
        assert gradient[i] == pytest.approx((filtered(p + d, ys) - filtered(p - d, ys)) / (2 * step), rel=1e-6)


def test_derivatives_of_a_batch_agree_with_the_loop_over_examples():
    def loss(w, x):
        cov = x @ x.T + np.exp(w) * np.eye(3)
        factor = np.linalg.cholesky(cov)
        y = np.linalg.solve(cov, x[:, 0])
        return np.linalg.slogdet(cov)[1] + y @ y + linalg.solve_triangular(factor, x, lower=True).sum()

    xs = np.random.default_rng(2).normal(size=(7, 3, 3))
    mean = mg.mean_loss(loss, in_axes=(None, 0))
    for batch in (xs, xs[:1]):
        each = [mg.grad(loss)(0.3, x) for x in batch]
        assert mg.compile(mg.grad(mean), backend="native")(0.3, batch) == pytest.approx(np.mean(each), rel=1e-10)
        per_example = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0)), backend="native")
        np.testing.assert_allclose(per_example(0.3, batch), each, rtol=1e-10)
        hvp = mg.compile(lambda w, v, batch: mg.hvp(lambda w: mean(w, batch), (w,), (v,)), backend="native")
        eps = 1e-5
        slopes = [np.mean([mg.grad(loss)(w, x) for x in batch]) for w in (0.3 - eps, 0.3 + eps)]
        assert hvp(0.3, 2.0, batch) == pytest.approx(2 * (slopes[1] - slopes[0]) / (2 * eps), rel=1e-5)

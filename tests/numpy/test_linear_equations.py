"""The matrix exponential and triangular systems, against SciPy's."""

import numpy as np
import pytest
import scipy.linalg

import minigrad as mg
import minigrad.numpy as mnp

from .conform import call, check_call, run_traced

rng = np.random.default_rng(5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_expm_is_scipys(scale):
    a = rng.normal(size=(2, 3, 3)) * scale
    a = a - np.swapaxes(a, -1, -2) if scale > 1 else a  # rotations, whose exponential does not overflow
    have, want = run_traced(lambda a: [mnp.linalg.expm(a)], a)[0], scipy.linalg.expm(a)
    np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-12)
    if scale == 1.0:
        check_call(scipy.linalg.expm, call(a[0]), traced=mnp.linalg.expm)


def test_expm_overflows_to_nan_and_is_exact_at_zero():
    zero = np.zeros((2, 2))
    np.testing.assert_allclose(run_traced(lambda a: [mnp.linalg.expm(a)], zero)[0], np.eye(2), rtol=1e-15)
    np.testing.assert_allclose(mg.grad(lambda a: mnp.linalg.expm(a)[0, 1])(zero), [[0, 1], [0, 0]], atol=1e-15)
    assert np.isnan(run_traced(lambda a: [mnp.linalg.expm(a)], np.eye(2) * 1e7)[0]).all()


A = rng.normal(size=(2, 5, 5)) + 4 * np.eye(5)
B = rng.normal(size=(2, 5, 3))


@pytest.mark.parametrize("trans", [0, 1, 2, "N", "T", "C"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit_diagonal", [False, True])
@pytest.mark.parametrize(("a", "b"), [(A[0], B[0]), (A[0], B[0, :, 0]), (A, B), (A[0].astype("f4"), B[0].astype("f4")),
                                      (A[0].T, B[0]), (A[0, ::2, ::2], B[0, ::2])])
def test_triangular_systems_are_scipys(a, b, trans, lower, unit_diagonal):
    options = {"trans": trans, "lower": lower, "unit_diagonal": unit_diagonal}
    want = scipy.linalg.solve_triangular(a, b, **options)
    have = run_traced(lambda a, b: [mnp.linalg.solve_triangular(a, b, **options)], a, b)[0]
    assert have.dtype == want.dtype
    np.testing.assert_allclose(have, want, rtol=1e-12 if a.dtype == float else 1e-5)
    if b.dtype == float:
        mg.check_grads(lambda a, b: (mnp.linalg.solve_triangular(a, b, **options) ** 2).sum(), (a, b))


@pytest.mark.parametrize("lower", [False, True])
def test_cholesky_solutions_are_scipys(lower):
    s = A @ np.swapaxes(A, -1, -2)
    for a, b in ((s[0], B[0]), (s[0], B[0, :, 0]), (s, B)):
        want = scipy.linalg.cho_solve(scipy.linalg.cho_factor(a, lower), b)
        have = run_traced(lambda a, b: [mnp.linalg.cho_solve(mnp.linalg.cho_factor(a, lower), b)], a, b)[0]
        np.testing.assert_allclose(have, want, rtol=1e-10)
        np.testing.assert_allclose(np.einsum("...ij,...jk->...ik" if b.ndim > 1 else "ij,j->i", a, have), b, rtol=1e-9)


@pytest.mark.parametrize("n", [3, 60])
def test_scipys_triangular_systems_have_a_way_out_and_singular_ones_raise(n):
    lower, v = np.tril(rng.normal(size=(n, n))) + n * np.eye(n), np.ones(n)
    for name, call_ in {"solve_triangular": lambda a: scipy.linalg.solve_triangular(a, v),
                        "cho_factor": lambda a: scipy.linalg.cho_factor(a),
                        "cho_solve": lambda a: scipy.linalg.cho_solve((a, True), v)}.items():
        with pytest.raises(mg.TraceError, match=rf"scipy.linalg.{name} .*minigrad.numpy.linalg.{name}"):
            mg.trace(call_)(lower)
    lower[n // 2, n // 2] = 0
    for backend in ("numpy", "native"):
        with pytest.raises(np.linalg.LinAlgError, match="Singular"):
            mg.compile(lambda a, b: mnp.linalg.solve_triangular(a, b, lower=True), backend=backend)(lower, v)
    with pytest.raises(mg.TraceError, match="trans must be one of"):
        mnp.linalg.solve_triangular(lower, v, trans=3)


@pytest.mark.parametrize("turned", [False, True])
def test_solve_with_a_cholesky_factor_is_by_substitution(turned):
    def f(a, b):
        c = np.linalg.cholesky(a)
        return np.linalg.solve(c.T if turned else c, b)

    a, b = A[0] @ A[0].T, B[0]
    graph = mg.trace(f)(a, b)
    assert "triangular_solve" in {n.prim.name for n in graph.optimize().nodes}
    c = np.linalg.cholesky(a)
    np.testing.assert_allclose(mg.compile(f)(a, b), np.linalg.solve(c.T if turned else c, b), rtol=1e-12)
    g = mg.grad(lambda a, b: (f(a, b) ** 3).sum(), argnums=(0, 1))
    for have, want in zip(mg.compile(g)(a, b), g(a, b), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9)

"""Jacobians and Hessians of functions of many steps equal those of JAX, in float64."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad import special

jax = pytest.importorskip("jax", reason="JAX is an extra")

rng = np.random.default_rng(0)
M, V = rng.normal(size=(3, 4)), rng.normal(size=5)
SQ, P = rng.normal(size=(3, 3)) + 3 * np.eye(3), np.abs(rng.normal(size=(3, 4))) + 0.2
KNOTS, ROWS = np.sort(V), np.array([0, 0, 2])


def both(f):
    """Return the function in NumPy and in JAX's NumPy."""
    return lambda x: f(np, x), lambda x: f(jax.numpy, x)


def matrix_cosine(xp, w, v):
    """Return what does not depend on the signs of the eigenvectors."""
    return (v * xp.cos(w)) @ v.T


def singular_cosine(xp, u, s, vt):
    """Return what does not depend on the signs of the singular vectors."""
    return (u * xp.cos(s)) @ vt


CASES = {
    "quantile": (*both(lambda xp, x: xp.quantile(x, 0.3, axis=1)), M),
    "nanmedian": (*both(lambda xp, x: xp.nanmedian(x)), M),
    "interp": (*both(lambda xp, x: xp.interp(x, KNOTS, V)), M),
    "cov": (*both(lambda xp, x: xp.cov(x)), M), "corrcoef": (*both(lambda xp, x: xp.corrcoef(x)), M),
    "gradient": (*both(lambda xp, x: xp.gradient(x, axis=1)), M), "trapezoid": (*both(lambda xp, x: xp.trapezoid(x)),
                                                                                M),
    "convolve": (*both(lambda xp, x: xp.convolve(x, V)), V), "polyval": (*both(lambda xp, x: xp.polyval(x, 0.3)), V),
    "vander": (*both(lambda xp, x: xp.vander(x)), V), "unwrap": (*both(lambda xp, x: xp.unwrap(5 * x)), M),
    "pinv": (*both(lambda xp, x: xp.linalg.pinv(x)), M), "cond": (*both(lambda xp, x: xp.linalg.cond(x)), SQ),
    "solve_triangular": (lambda x: mnp.linalg.solve_triangular(x + 3 * np.eye(3), V[:3], 1, True),
                         lambda x: jax.scipy.linalg.solve_triangular(x + 3 * np.eye(3), V[:3], 1, True), SQ),
    "cho_solve": (lambda x: mnp.linalg.cho_solve(mnp.linalg.cho_factor(x @ x.T + np.eye(3)), V[:3]),
                  lambda x: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(x @ x.T + np.eye(3)), V[:3]), SQ),
    "expm": (mnp.linalg.expm, lambda x: jax.scipy.linalg.expm(x), SQ),
    "eigh": (*both(lambda xp, x: matrix_cosine(xp, *xp.linalg.eigh(x + x.T))), SQ),
    "svd": (*both(lambda xp, x: singular_cosine(xp, *xp.linalg.svd(x, full_matrices=False))), M),
    "set": (*both(lambda xp, x: x.at[np.array([2, 0])].set(V[:4] * x[0])), M),
    "max": (*both(lambda xp, x: x.at[ROWS].max(0.1 * x)), M), "min": (*both(lambda xp, x: x.at[ROWS].min(0.1 * x)), M),
    "logsumexp": (lambda x: special.logsumexp(x, axis=1), lambda x: jax.scipy.special.logsumexp(x, axis=1), M),
    "log_ndtr": (special.log_ndtr, lambda x: jax.scipy.special.log_ndtr(x), 5 * M),
    "ndtri": (special.ndtri, lambda x: jax.scipy.special.ndtri(x), P / 20),
    **{name: (getattr(special, name), lambda x, name=name: getattr(jax.scipy.special, name)(x), x)
       for name, x in (("gammaln", P), ("digamma", P), ("i0e", M), ("i1e", M), ("entr", P), ("erf", M), ("expit", M))},
    "betaln": (lambda x: special.betaln(x, 2.0), lambda x: jax.scipy.special.betaln(x, 2.0), P),
}


@pytest.mark.parametrize("name", CASES)
def test_jacobian_and_hessian_equal_jax(name):
    ours, theirs, x = CASES[name]
    with jax.enable_x64(True):
        want = np.asarray(jax.jacobian(theirs)(x))
        curved = np.asarray(jax.hessian(lambda x: jax.numpy.sin(theirs(x)).sum())(x))
    np.testing.assert_allclose(mg.jacobian(ours)(x), want, rtol=1e-9, atol=1e-10 * (1 + np.abs(want).max()))
    have = mg.hessian(lambda x: np.sin(ours(x)).sum())(x)
    np.testing.assert_allclose(have, curved, rtol=1e-8, atol=1e-10 * (1 + np.abs(curved).max()))

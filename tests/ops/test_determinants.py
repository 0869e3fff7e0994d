"""Derivatives of determinants at matrices of every rank, and of matrices that are not finite."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES as P
from tests import checks

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("a", [
    np.array([[1.0, 2.0], [2.0, 4.0]]), np.zeros((1, 1)), np.diag([1.0, 0.0, 3.0]), np.zeros((2, 2)),
    np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])])
def test_det_of_a_singular_matrix_has_its_derivative(a):
    checks.check_gradient(checks.program(P["det"], [a], {}), [a])
    checks.check_duality(checks.program(P["det"], [a], {}), [a])


def of_rank(n, r):
    rng = np.random.default_rng(10 * n + r)
    return rng.normal(size=(n, r)) @ rng.normal(size=(r, n))


def derivative_of_det(a, *places):
    """Return the derivative by elements of a at several places, as the determinant with unit rows there."""
    if any(len(set(k)) < len(places) for k in zip(*places, strict=True)):
        return 0.0
    a = a.copy()
    for i, j in places:
        a[i], a[:, j] = 0, 0
    for i, j in places:
        a[i, j] = 1
    return np.linalg.det(a)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize(("n", "r"), [(n, r) for n in (1, 2, 3, 4) for r in range(n + 1)])
def test_hessian_of_det_at_every_rank(n, r, backend):
    a = of_rank(n, r)
    want = np.reshape([derivative_of_det(a, *k) for k in itertools.product(np.ndindex(n, n), repeat=2)], (n,) * 4)
    hessian = mg.compile(mg.hessian(lambda a: np.linalg.det(a)), backend=backend)
    np.testing.assert_allclose(hessian(a), want, atol=1e-12)
    np.testing.assert_allclose(mg.vmap(hessian)(np.stack([a, a.T]))[0], want, atol=1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["traced", "compiled"])
@pytest.mark.parametrize(("n", "r"), [(n, r) for n in (1, 2, 3, 4) for r in range(n + 1)])
def test_third_derivative_of_det_at_every_rank(n, r, wrap):
    a = of_rank(n, r)
    want = np.reshape([derivative_of_det(a, *k) for k in itertools.product(np.ndindex(n, n), repeat=3)], (n,) * 6)
    third = wrap(mg.jacobian(mg.hessian(lambda a: np.linalg.det(a))))
    np.testing.assert_allclose(third(a), want, atol=1e-12)
    np.testing.assert_allclose(mg.vmap(third)(np.stack([a, a.T]))[0], want, atol=1e-12)
    u, v, w = RNG.normal(size=(3, n, n))
    slope = lambda a: mg.jvp(lambda a: np.linalg.det(a), (a,), (u,))[1]  # noqa: E731
    bend = lambda a: mg.jvp(slope, (a,), (v,))[1]  # noqa: E731
    np.testing.assert_allclose(mg.jvp(bend, (a,), (w,))[1], np.einsum("abcdef,ab,cd,ef", want, u, v, w), atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_fourth_derivative_of_det(n):
    a, directions = RNG.normal(size=(n, n)), RNG.normal(size=(3, n, n))

    def third(a):
        f = lambda a: np.linalg.det(a)  # noqa: E731
        for v in directions:
            f = lambda a, f=f, v=v: mg.jvp(f, (a,), (v,))[1]  # noqa: E731
        return f(a)

    checks.check_gradient(mg.trace(third)(a), [a], 1e-5)
    checks.check_duality(mg.trace(third)(a), [a])


@pytest.mark.parametrize("shape", [(3, 3), (2, 2)])
def test_det_to_third_order(shape):
    graph = checks.program(P["cofactor_slope"], [np.zeros(shape), np.zeros(shape)], {})
    arrays = [RNG.normal(size=shape), RNG.normal(size=shape)]
    for derived in (checks.reverse(graph), checks.push(graph)):
        seeds = checks.random_like(derived.inputs[2:])
        checks.check_gradient(derived, [*arrays, *seeds], 1e-5)
        checks.check_duality(derived, [*arrays, *seeds])


def test_third_derivative_of_a_singular_two_by_two_determinant_is_zero():
    a, v = np.array([[1.0, 2.0], [2.0, 4.0]]), np.ones((2, 2))
    bend = lambda a: mg.jvp(mg.grad(lambda a: np.linalg.det(a)), (a,), (v,))[1].sum()  # noqa: E731
    np.testing.assert_array_equal(mg.grad(bend)(a), np.zeros((2, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("order", [1, 2])
def test_nan_of_one_matrix_stays_in_its_own_derivative(bad, order):
    a = RNG.normal(size=(3, 2, 2))
    slope = mg.grad(lambda a: np.linalg.det(a)) if order == 1 else mg.hessian(lambda a: np.linalg.det(a))
    want = mg.vmap(slope)(a)
    a[1, 0, 1] = bad
    have = mg.compile(mg.vmap(slope))(a)
    np.testing.assert_allclose(have[[0, 2]], want[[0, 2]], atol=1e-14)
    assert np.isnan(have[1]).any()

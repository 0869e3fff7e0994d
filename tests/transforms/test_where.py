"""The branch of `where` that is not taken has no part in the gradient, whatever it computed."""

import numpy as np
import pytest

import minigrad as mg

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the loop computes both branches in NumPy

X = np.array([4.0, 0.0, -2.0, 0.25, -1.0, 0.5])


def smooth_norm(x):
    return np.where((x * x).sum() > 0, np.sqrt((x * x).sum()), 0.0)


# Each beside its slope, written down for the branch that is taken.
CASES = {
    "sqrt": (lambda x: np.where(x > 0, np.sqrt(x), 0.0).sum(), lambda x: 0.5 / x**0.5 if x > 0 else 0),
    "log in the other place": (lambda x: np.where(x <= 0, -x, np.log(x) * x).sum(),
                               lambda x: 1 + np.log(x) if x > 0 else -1),
    "a quotient": (lambda x: np.where(x != 0, np.sin(x) / x, 1.0).sum(),
                   lambda x: np.cos(x) / x - np.sin(x) / x**2 if x else 0),
    "a power": (lambda x: np.where(x > 0, x**0.3, 0.0).sum(), lambda x: 0.3 * x**-0.7 if x > 0 else 0),
    "a choice within a choice": (
        lambda x: np.where(x > -1, np.where(x > 0, np.sqrt(np.sqrt(x)), np.log1p(x)), 0.0).sum(),
        lambda x: 0.25 * x**-0.75 if x > 0 else 1 / (1 + x) if x > -1 else 0),
    "used twice in the branch": (
        lambda x: (lambda y: np.where(x > 0, y * y * y + y, 0.0))(np.sqrt(x)).sum(),
        lambda x: 1.5 * x**0.5 + 0.5 * x**-0.5 if x > 0 else 0),
    "in two choices": (
        lambda x: (lambda y: np.where(x > 0, y, 0.0) + np.where(x > 1, y, 0.0))(np.sqrt(x)).sum(),
        lambda x: (0.5 * x**-0.5 if x > 0 else 0) + (0.5 * x**-0.5 if x > 1 else 0)),
    "through reshape and transpose": (
        lambda x: np.where(x.reshape(2, 3).T > 0, np.sqrt(np.sqrt(x).reshape(2, 3).T), 0.0).sum(),
        lambda x: 0.25 * x**-0.75 if x > 0 else 0),
}


@pytest.mark.parametrize("name", CASES)
def test_elements(name):
    f, slope = CASES[name]
    want = [slope(v) for v in X]
    np.testing.assert_allclose(mg.grad(f)(X), want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(mg.compile(mg.grad(f))(X), want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(mg.vmap(mg.grad(f))(np.stack([X, X[::-1]])), [want, want[::-1]], rtol=1e-12, atol=1e-15)
    assert np.isfinite(mg.hessian(f)(X)).all()
    assert np.isfinite(mg.jvp(f, (X,), (np.ones_like(X),))[1])


def test_a_norm_at_zero():
    zero = np.zeros(3)
    np.testing.assert_array_equal(mg.grad(smooth_norm)(zero), zero)
    np.testing.assert_array_equal(mg.hessian(smooth_norm)(zero), np.zeros((3, 3)))
    rows = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(mg.grad(mg.mean_loss(smooth_norm))(rows), [[0.3, 0.4, 0], [0, 0, 0]], rtol=1e-12)


def test_a_value_that_is_used_outside_the_choice_keeps_its_slope():
    def f(x):
        y = np.sqrt(x)
        return (np.where(x > 0, y, 0.0) + y).sum()

    with np.errstate(all="ignore"):
        got = mg.grad(f)(np.array([4.0, 0.0]))
    assert got[0] == 0.5
    assert np.isinf(got[1]) or np.isnan(got[1])


def test_the_mask_is_applied_once():
    """A chain of elementwise work inside a branch costs one choice in the backward pass, not one per step."""
    graph = mg.trace(mg.grad(lambda x: np.where(x > 0, np.sqrt(np.exp(np.sin(np.log(x)))), 0.0).sum()))(X)
    assert graph.count("where") == 1


def test_a_mask_goes_back_through_some_of_the_axes_it_is_spread_along():
    def f(x, c):
        return np.sum(np.where(c, np.sqrt(np.broadcast_to(x, (2, 3))), 0.0))

    x = np.array([0.0, 1.0, 4.0])
    np.testing.assert_array_equal(mg.grad(f)(x, np.False_), np.zeros(3))
    np.testing.assert_array_equal(mg.grad(f)(x, np.True_), [np.inf, 1.0, 0.5])
    both = mg.compile(mg.vmap(mg.grad(f), in_axes=(None, 0)))(x, np.array([False, True]))
    np.testing.assert_array_equal(both, [[0, 0, 0], [np.inf, 1.0, 0.5]])


@pytest.mark.parametrize("reduce", [np.sum, np.mean])
def test_a_mask_goes_back_through_a_reduction(reduce):
    """The slope of the square root is infinite in the branch not taken."""
    x = np.zeros((2, 3))
    for f in (lambda x: np.where(x[0, 0] > 1, reduce(np.sqrt(x)), 0.0),
              lambda x: np.sum(np.where(x[:, 0] > 1, reduce(np.sqrt(x), axis=1), 0.0))):
        np.testing.assert_array_equal(mg.grad(f)(x), 0.0)

"""Checks of indices that a traced function makes although its result drops the value."""

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile, lambda f: mg.compile(f, backend="numpy"), mg.checkpoint])
def test_a_dropped_read_keeps_its_check(wrap):
    def f(x, i):
        x[i]
        return np.sum(x)

    assert wrap(f)(np.arange(3.0), 2) == 3.0
    with pytest.raises(IndexError):
        wrap(f)(np.arange(3.0), 3)


def test_the_check_survives_derivatives_and_batches():
    def f(x, i):
        x[i]
        return np.sum(x)

    good, bad = np.array([0, 2]), np.array([0, 5])
    batch = mg.vmap(mg.grad(f), in_axes=(None, 0))
    np.testing.assert_array_equal(batch(np.ones(3), good), np.ones((2, 3)))
    with pytest.raises(IndexError):
        batch(np.ones(3), bad)

"""Creation of arrays whose sizes or ends a call alone knows."""

import numpy as np

import minigrad as mg
import minigrad.numpy as mnp


def test_sizes_of_the_batch_make_arrays():
    f = mg.compile(lambda x: x.sum() + mnp.arange(x.shape[0]).sum() + mnp.full(x.shape[0], 2.0).sum()
                   + mnp.eye(x.shape[0]).sum() + mnp.tri(x.shape[0]).sum())
    for n in (1, 3, 4):
        assert f(np.zeros(n)) == n * (n - 1) / 2 + 2 * n + n + n * (n + 1) / 2


def test_linspace_is_differentiable_in_its_ends():
    low, high = mg.grad(lambda a, b: np.linspace(a, b, 5) @ np.array([1.0, 0, 0, 0, 2.0]), (0, 1))(2.0, 3.0)
    assert (low, high) == (1.0, 2.0)
    half = mg.grad(lambda b: np.linspace(0.0, b, 5)[2])(3.0)
    assert half == 0.5


def test_geomspace_keeps_its_ends():
    out = mg.compile(lambda a, b: np.geomspace(a, b, 4))(1.0, 8.0)
    np.testing.assert_allclose(out, [1, 2, 4, 8], rtol=1e-15)
    assert (out[0], out[-1]) == (1.0, 8.0)


def test_triangles_of_symbolic_sizes():
    f = mg.compile(lambda x: np.tril(x @ x.T).sum())
    for n in (2, 5):
        assert f(np.ones((n, 3))) == 3 * n * (n + 1) / 2

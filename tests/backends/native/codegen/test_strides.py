"""Strided, broadcast and reversed views in machine code, against the NumPy backend."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg


def agree(f, *arguments):
    """Compare what machine code returns with what NumPy does."""
    have, want = (mg.compile(f, backend=backend)(*arguments) for backend in ("native", "numpy"))
    assert len(have) == len(want)
    for a, b in zip(have, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_gathers_of_broadcast_rows():
    def f(x, i):
        columns, number = np.broadcast_to(x[:, None], (5, 20)), np.broadcast_to(x.sum(), (5, 20))
        return columns[i] * 2, columns.T[i], number[i] + number

    agree(f, np.arange(5.0), np.array([4, 0, -1, 2, 2]))


def test_axes_of_one_element_with_steps():
    agree(lambda x: (x[4:13, 0:1:2], 2 * x[4:13, 0:1:2]), np.arange(16.0)[:, None])


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_values_read_forward_and_reversed_or_transposed(backend):
    x = np.random.default_rng(0).normal(size=(300, 300))
    for f in (lambda x: np.exp(x) - np.exp(x)[::-1], lambda x: np.exp(x) - np.exp(x).T):
        np.testing.assert_allclose(mg.compile(f, backend=backend)(x), f(x), rtol=1e-12, atol=1e-12)

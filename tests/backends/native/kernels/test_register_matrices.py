"""Small matrices in registers against NumPy's LAPACK: stacks of matrices, and matrices of a loop."""

import itertools

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg

FUNCTIONS = {"inv": np.linalg.inv, "det": np.linalg.det, "slogdet": lambda a: tuple(np.linalg.slogdet(a)),
             "solve": lambda a: np.linalg.solve(a, a[..., ::-1, :] + 1)}


def permuted(n, dtype):
    """Return a well-conditioned matrix with its rows in each order: elimination exchanges rows in each way."""
    a = (np.random.default_rng(n).normal(size=(n, n)) + 4 * np.eye(n)).astype(dtype)
    return np.stack([a[list(order)] for order in itertools.permutations(range(n))])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_in_each_order(name, n, dtype):
    f, stack = FUNCTIONS[name], permuted(n, dtype)

    def in_loop(stack):
        return mg.scan(lambda c, a: (c, f(a)), 0.0, stack)[1]

    for ours in (f, in_loop):
        compiled = mg.compile(ours, backend="native")
        have, want = compiled(stack), f(stack)
        assert "python" not in compiled.entries[0].program.ways
        for h, w in zip(*(x if isinstance(x, tuple) else (x,) for x in (have, want)), strict=True):
            assert h.dtype == dtype
            np.testing.assert_allclose(h, w, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_singular_matrix_among_others(n):
    stack = permuted(n, float)
    stack = np.concatenate([stack[:1]] * 5)
    stack[3, -1] = 0
    np.testing.assert_array_equal(mg.compile(np.linalg.det, backend="native")(stack) == 0, np.arange(5) == 3)
    sign, log = mg.compile(lambda a: tuple(np.linalg.slogdet(a)), backend="native")(stack)
    assert (sign[3], log[3]) == (0, -np.inf)
    for f in (np.linalg.inv, FUNCTIONS["solve"]):
        compiled = mg.compile(f, backend="native")
        with pytest.raises(np.linalg.LinAlgError, match="Singular"):
            compiled(stack)
        np.testing.assert_allclose(compiled(stack[:3]), f(stack[:3]), rtol=1e-12, atol=1e-12)

"""Scans as straight-line code against loops of plain NumPy."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad.backends.native.kernels import straight_scan

rng = np.random.default_rng(5)


def loop(step, carry, xs, reverse=False):
    """Return the last carry and the stacked results, as `mg.scan` does."""
    order = range(len(xs))
    ys = []
    for t in reversed(order) if reverse else order:
        carry, y = step(carry, xs[t])
        ys.append(y)
    return carry, np.stack(ys[::-1] if reverse else ys)


def ways(f, *args):
    compiled = mg.compile(f, backend="native", tier="final")
    results = compiled(*args)
    return results, compiled.entries[0].program.ways


def check(step, carry, xs, reverse=False, rtol=1e-13):
    """Compare a scan with a loop."""
    def f(carry, xs):
        return mg.scan(step, carry, xs, reverse=reverse)

    results, how = ways(f, carry, xs)
    assert "straight" in how
    assert "scan" not in how
    for have, want in zip(results, loop(step, carry, xs, reverse), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol)


STEPS = {
    "views": lambda c, x: (c[::-1].reshape(2, 2).T.reshape(4) * x, c[1:3] + c[0]),
    "concatenated and padded": lambda c, x: (np.concatenate([c[2:], x[None] * c[:2]]), np.pad(c[1:3], (1, 2))),
    "stacked": lambda c, x: (np.stack([c[3], c[0] * x, c[1], c[2]]), np.stack([c, c + 1])),
    "products": lambda c, x: (np.outer(c, c)[0] / 9 + (c.reshape(2, 2) @ c.reshape(2, 2)).reshape(4), c @ c * x),
    "reductions": lambda c, x: (c / np.sum(c * c) + np.max(c) - np.min(c), np.sum(c.reshape(2, 2) * x, axis=1)),
    "functions": lambda c, x: (np.tanh(c) + 0.1 * x, np.log1p(np.exp(c[:3])) * np.sin(c[0])),
    "constants": lambda c, x: (c * np.array([0.5, -0.25, 1.0, 0.0]) + np.arange(4.0), c * 0 - 1.5),
    "conditions": lambda c, x: (np.where(c > x, c - 1, c + 1), (c > 0) & (c < x)),
    "no carry": lambda c, x: (c, x * c[0])}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_steps(name, reverse):
    check(STEPS[name], np.array([0.3, -1.2, 0.8, 0.1]), rng.normal(size=7), reverse)


def test_float32_and_integers():
    check(lambda c, x: (np.sqrt(c * c + x), np.exp(c)), np.array([1, 2, 3], np.float32), np.arange(5, dtype=np.float32),
          rtol=1e-6)
    check(lambda c, x: (c * 3 // 2 + x, c.astype(np.float32) / 4), np.array([1, -7], np.int64), np.arange(5))
    check(lambda c, x: (~c, c | x), np.array([True, False]), np.array([True, False, False]))


def test_functions_of_any_number_of_elements():
    for n in (1, 2, 3, 7, 8, 9, 17):
        check(lambda c, x: (np.cos(c + x), np.expm1(c)), rng.normal(size=n), rng.normal(size=4))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_matrices(n):
    def step(a, x):
        b = np.stack([a[0] + x, a[-1]])
        y = np.linalg.solve(a, b.T)
        return a + 0.01 * np.linalg.inv(a) * x, np.linalg.slogdet(a)[1] + np.linalg.det(a) + np.sum(y)

    a = rng.normal(size=(3, n, n))
    for matrix in (*a, a[0][::-1]):  # with exchanges of rows
        check(step, matrix, rng.normal(size=6), rtol=1e-9)


def test_singular_matrices_raise():
    f = mg.compile(lambda a, xs: mg.scan(lambda a, x: (a, np.linalg.solve(a * x, np.ones((2, 1)))), a, xs),
                   backend="native", tier="final")
    f(np.eye(2), np.ones(3))
    assert "straight" in f.entries[0].program.ways
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        f(np.eye(2), np.array([1.0, 0.0, 1.0]))
    f(np.eye(2), np.ones(3))


def test_gradients_are_straight_too():
    def loss(p, z, ys):
        def step(z, y):
            z = np.stack([z[0] * (1 + 0.1 * (p[0] - p[1] * z[1])), z[1] * (1 + 0.1 * (p[2] * z[0] - p[3]))])
            return z, np.sum((z - y) ** 2)

        return np.mean(mg.scan(step, z, ys)[1])

    args = np.array([1.0, 0.5, 0.3, 0.2]), np.array([2.0, 1.0]), rng.normal(size=(20, 2))
    (value, gradient), how = ways(mg.value_and_grad(loss), *args)
    assert how.count("straight") == 2
    assert "scan" not in how
    np.testing.assert_allclose(value, loss(*args), rtol=1e-13)
    h = 1e-6 * np.eye(4)
    slopes = [(loss(args[0] + d, *args[1:]) - loss(args[0] - d, *args[1:])) / 2e-6 for d in h]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6)


def test_lengths_of_zero_and_one():
    f = mg.compile(lambda c, xs: mg.scan(lambda c, x: (c * 0.5 + x, c), c, xs), backend="native", tier="final")
    for n in (0, 1, 5):
        xs = rng.normal(size=n)
        last, stacked = f(1.0, xs)
        want = 1.0
        for k, x in enumerate(xs):
            assert stacked[k] == want
            want = want * 0.5 + x
        assert last == want
        assert stacked.shape == (n,)


def test_results_of_several_scans_with_one_code():
    def f(a, b, xs):
        def step(c, x):
            return c * 0.5 + x, None

        return mg.scan(step, a, xs)[0], mg.scan(step, b, xs)[0]

    (one, two), how = ways(f, 1.0, np.array([2.0]), np.array([3.0, 5.0]))
    assert how.count("straight") == 2
    assert (one, *two) == (6.75, 7.0)


def test_large_steps_are_left_to_kernels():
    def f(c, xs):
        return mg.scan(lambda c, x: (np.tanh(c + x), None), c, xs)[0]

    xs = rng.normal(size=3)
    assert "scan" in ways(f, np.zeros(straight_scan.ELEMENTS + 1), xs)[1]
    assert "straight" in ways(f, np.zeros(straight_scan.ELEMENTS), xs)[1]


def test_the_source_has_the_step():
    compiled = mg.compile(lambda c, xs: mg.scan(lambda c, x: (c + x, c), c, xs), backend="native", tier="final")
    compiled(1.0, np.ones(3))
    assert "at each step" in compiled.source
    assert "define" in compiled.llvm

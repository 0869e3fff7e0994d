"""Differences of large numbers: compiled programs subtract first, as the program says.

The numbers are whole, near 3·2^20, and at most 9 away from it. Each difference and each sum of differences is then
exact in float32, while sums of the numbers themselves are not: the expected values come from int64 arithmetic.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import full
from minigrad.ops.differences import is_difference
from tests import checks

rng = np.random.default_rng(0)
N, M = 50, 40
BASE = 3 * 2**20
FLOAT = np.dtype("f4")


def near(*shape):
    return BASE + rng.integers(-9, 10, shape)


def outer(a, b):
    return b[:, None] - a[None]


def carry(step, width):
    return lambda x, *rest: mg.scan(lambda s, r: (step(s, r, *rest), None), x[0, :width] * 0, x)[0]


A, B, X, Y, C = near(M), near(N), near(N, M), near(N, M), near(6, M)
V, W = rng.integers(-3, 4, N), rng.integers(-3, 4, (M, 7))
GROUP = rng.integers(0, 6, N)

# The program, its arguments (whole numbers), and the value.
PROGRAMS = {
    "sum over columns": (lambda a, b: outer(a, b).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "sum over rows": (lambda a, b: outer(a, b).sum(axis=0), (A, B), outer(A, B).sum(axis=0)),
    "sum over all": (lambda a, b: outer(a, b).sum(), (A, B), outer(A, B).sum()),
    "sum of the negative": (lambda a, b: (b[:, None] + (-a)[None]).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "times -1": (lambda a, b: (b[:, None] + (a * -1.0)[None]).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "divided by -1": (lambda a, b: (b[:, None] + (a / -1.0)[None]).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "negative of a negative": (lambda a, b: -(a[None] + -b[:, None]).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "times negative constants": (lambda a, b: (b[:, None] + (a * np.full(M, -1, FLOAT))[None]).sum(axis=1), (A, B),
                                 outer(A, B).sum(axis=1)),
    "three terms": (lambda a, b, x: (outer(a, b) + (x - a[None])).sum(axis=1), (A, B, X),
                    (outer(A, B) + X - A).sum(axis=1)),
    "squares": (lambda a, b: (outer(a, b) ** 2).sum(axis=1), (A, B), (outer(A, B) ** 2).sum(axis=1)),
    "product of differences": (lambda a, b, x: (outer(a, b) * (x - a[None])).sum(axis=1), (A, B, X),
                               (outer(A, B) * (X - A)).sum(axis=1)),
    "weighted": (lambda a, b, v: (outer(a, b) * v[:, None]).sum(axis=0), (A, B, V), V @ outer(A, B)),
    "matrix product": (lambda a, b, w: outer(a, b) @ w, (A, B, W), outer(A, B) @ W),
    "vector product": (lambda a, b, v: v @ outer(a, b), (A, B, V), V @ outer(A, B)),
    "einsum": (lambda a, b, w: np.einsum("ij,jk->k", outer(a, b), w), (A, B, W), (outer(A, B) @ W).sum(axis=0)),
    "transposed and reshaped": (lambda a, b: outer(a, b).T.reshape(-1, N).sum(axis=0), (A, B), outer(A, B).sum(axis=1)),
    "subtract.outer": (lambda a, b: np.subtract.outer(b, a).sum(axis=1), (A, B), outer(A, B).sum(axis=1)),
    "vmap": (lambda a, b: mg.vmap(lambda y: (y - a).sum())(b), (A, B), outer(A, B).sum(axis=1)),
    "jvp": (lambda a, b: mg.jvp(lambda a, b: outer(a, b).sum(axis=1), (a, b), (a, b))[1], (A, B),
            outer(A, B).sum(axis=1)),
    "gradient of squares": (mg.grad(lambda a, b: 0.5 * (outer(a, b) ** 2).sum()), (A, B), -outer(A, B).sum(axis=0)),
    "gradient of a weight": (mg.grad(lambda v, a, b: (outer(a, b) * v[:, None]).sum()), (V, A, B),
                             outer(A, B).sum(axis=1)),
    "mean of rows less a row": (lambda x, a: np.mean(x - a, axis=0) * N, (X, A), (X - A).sum(axis=0)),
    "row less rows": (lambda x, a: np.mean(a - x, axis=0) * N, (X, A), (A - X).sum(axis=0)),
    "mean and a negative row": (lambda x, a: np.mean(x + -a, axis=0) * N, (X, A), (X - A).sum(axis=0)),
    "mean behind a factor": (lambda x, a: np.mean((x - a) * 2.0, axis=0) * N, (X, A), 2 * (X - A).sum(axis=0)),
    "mean less a number": (lambda x: np.mean(x - float(BASE)) * (N * M), (X,), (X - BASE).sum()),
    "mean and a negative number": (lambda x: np.mean(x + -float(BASE)) * (N * M), (X,), (X - BASE).sum()),
    "mean_loss": (lambda a, b: mg.mean_loss(lambda c, y: y - c, (None, 0))(a[0], b) * N, (A, B), (B - A[0]).sum()),
    "microbatch": (lambda x, a: mg.microbatch(mg.mean_loss(lambda a, r: (r - a).sum(), (None, 0)), 7)(a, x) * N, (X, A),
                   (X - A).sum()),
    "segments": (lambda x, c: mg.segment_sum(x - c[GROUP], GROUP, 6).sum(axis=0), (X, C), (X - C[GROUP]).sum(axis=0)),
    "concatenated": (lambda x, y: (np.concatenate([x, y], 1) - np.concatenate([y, x], 1)).sum(axis=1), (X, Y), 0 * B),
    "loop": (carry(lambda s, r, a: s + (r - a), M), (X, A), (X - A).sum(axis=0)),
    "loop with a negative": (carry(lambda s, r, a: s + (r + -a), M), (X, A), (X - A).sum(axis=0)),
    "loop of products": (carry(lambda s, r, a, w: s + (r - a) @ w, 7), (X, A, W), ((X - A) @ W).sum(axis=0)),
    "loop of sums": (carry(lambda s, r, a: s + outer(a, r[:7]).sum(axis=1), 7), (X, A),
                     (X[:, :7, None] - A).sum(axis=(0, 2))),
}


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_differences_of_large_numbers_keep_their_digits(name, backend):
    f, args, want = PROGRAMS[name]
    got = mg.compile(f, backend=backend)(*(a.astype(FLOAT) for a in args))
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-3)


def test_sum_of_differences_at_an_offset_keeps_its_digits():
    a, b = (1e5 + rng.random(64)).astype(FLOAT), (1e5 + rng.random(64)).astype(FLOAT)
    want = (b.astype(float)[:, None] - a.astype(float)).sum(axis=1)
    np.testing.assert_allclose(mg.compile(lambda a, b: np.sum(b[:, None] - a[None], axis=1))(a, b), want, atol=1e-5)


X1, Y1 = (checks.placeholder((3,), "f8") for _ in "xy")


@pytest.mark.parametrize(("node", "difference"), [
    (X1 - Y1, True), (X1 + Y1, False), (X1 + -Y1, True), (-X1 + Y1, True), (-X1 + -Y1, False), (-X1 - Y1, False),
    (X1 - -Y1, False), (X1 * -2.0 + Y1, True), (X1 * -2.0 - Y1, False), (X1 / -2.0 + Y1, True),
    (X1 * -2.0 + Y1 * -3.0, False), (X1 - 1.0, True), (X1 + 1.0, False), (X1 + -1.0, True),
    ((-X1 - Y1) + X1, True), ((-X1 - Y1) - X1, False), (X1 + P["transpose"](-Y1, perm=(0,)), True),
    (X1 * Y1, False), (-X1, False),
    (full(-1.0, (3,), np.dtype("f8")) * Y1 + X1, True),
])
def test_is_difference_looks_at_signs(node, difference):
    assert is_difference(node) == difference


def test_gradient_accumulation_is_not_a_difference():
    gradient = mg.trace(mg.grad(lambda w: (np.tanh(w) - np.sin(w)).sum()))(np.ones(3))
    added = [n for n in gradient.nodes if n.prim.name == "add" and "vjp" in n.rules]
    assert added
    assert not any(map(is_difference, added))

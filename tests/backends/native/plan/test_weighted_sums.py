"""Scatters of weighted rows read the rows in place, to the same bits."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.native.plan.weighted_sums import weighted_sums
from minigrad.backends.native.runtime import jit

rng = np.random.default_rng(0)
X, WEIGHT = rng.normal(size=(40, 20)), rng.normal(size=9000)
SOURCE, TO = rng.integers(0, 40, 9000), rng.integers(0, 30, 9000)
COMPILED = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def sparse_product(x, source, to, weight):
    return mg.segment_sum(weight[:, None] * x[source], to, 30)


def prims(f, *args):
    graph = mg.trace(f)(*args).optimize()
    rewritten = weighted_sums(graph)
    for have, want in zip(interpreters.evaluate(rewritten, args), interpreters.evaluate(graph, args), strict=True):
        np.testing.assert_array_equal(have, want)
    return {n.prim.name for n in rewritten.nodes}


def test_weighted_rows_are_not_formed():
    args = X, SOURCE, TO, WEIGHT
    assert not prims(sparse_product, *args) & {"mul", "gather", "scatter_add"}
    assert "weighted_sum" in prims(lambda x, s, t, w: mg.segment_sum(x[s] * w[:, None], t, 30), *args)


@pytest.mark.parametrize("f", [
    lambda x, s, t, w: (p := w[:, None] * x[s], mg.segment_sum(p, t, 30)),  # the products are a result, too
    lambda x, s, t, w: mg.segment_sum(w * x[:, 0][s], t, 30),
    lambda x, s, t, w: mg.segment_sum(w[:20] * x[s], t, 30),  # weights of columns
    lambda x, s, t, w: mg.segment_sum(np.maximum(w[:, None], x[s]), t, 30),
])
def test_other_scatters_stay(f):
    assert "weighted_sum" not in prims(f, X, SOURCE, TO, WEIGHT)


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("count", [30, 9000])
def test_compiled_sums(count, dtype):
    args = X.astype(dtype), SOURCE[:count] - 40, TO[:count], WEIGHT[:count].astype(dtype)
    run = mg.compile(sparse_product, backend="native")
    found = run(*args)
    assert found.dtype == dtype
    want = np.zeros((30, 40))
    np.add.at(want, (args[2], args[1]), args[3])
    np.testing.assert_allclose(found, want @ args[0], rtol=1e-4 if dtype == "f4" else 1e-12, atol=1e-4)


@COMPILED
def test_indices_are_checked():
    run = mg.compile(lambda x, s, t, w: sparse_product(x, s, t, w), backend="native")
    run(X, SOURCE, TO, WEIGHT)
    for position, size in ((1, 40), (2, 30)):
        args = [X, SOURCE.copy(), TO.copy(), WEIGHT]
        args[position][5] = size
        with pytest.raises(IndexError, match=f"index {size} is out of range"):
            run(*args)


@COMPILED
def test_gradients_of_tables():
    """The gradient of a factorization, by NumPy's sums by index."""
    y = rng.normal(size=9000)

    def loss(p):
        return np.mean((np.sum(p[0][SOURCE] * p[1][TO], axis=-1) - y) ** 2)

    p = (X, rng.normal(size=(30, 20)))
    found = mg.compile(mg.grad(loss), backend="native")(p)
    slope = 2 / 9000 * (np.sum(p[0][SOURCE] * p[1][TO], axis=-1) - y)
    for k, (index, other) in enumerate(((SOURCE, p[1][TO]), (TO, p[0][SOURCE]))):
        want = np.zeros_like(p[k])
        np.add.at(want, index, slope[:, None] * other)
        np.testing.assert_allclose(found[k], want, rtol=1e-10, atol=1e-13)

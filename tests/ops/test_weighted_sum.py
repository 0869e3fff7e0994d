"""Weighted sums of gathered rows are products with a sparse matrix."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import MinigradError
from minigrad.ops.weighted_sum import weighted_sum
from minigrad.traced_array import Array, as_array
from tests.passes.programs import input_, node

rng = np.random.default_rng(0)
SPARSE = rng.normal(size=(4, 3)) * (rng.random((4, 3)) < 0.6)
TO, SOURCE = np.nonzero(SPARSE)
WEIGHT = SPARSE[TO, SOURCE]
X = rng.normal(size=(3, 5))


def product(x, weight):
    return Array(weighted_sum(x._node, as_array(SOURCE)._node, as_array(TO)._node, weight._node, size=4))


def test_value():
    np.testing.assert_allclose(mg.compile(product)(X, WEIGHT), SPARSE @ X)


def test_gradients():
    by_x, by_weight = mg.grad(lambda x, w: np.sum(product(x, w)), argnums=(0, 1))(X, WEIGHT)
    np.testing.assert_allclose(by_x, SPARSE.T @ np.ones((4, 5)))
    np.testing.assert_allclose(by_weight, X.sum(axis=1)[SOURCE])


@pytest.mark.parametrize(("in_axes", "want"), [
    ((0, None), [SPARSE @ X, SPARSE @ (2 * X)]), ((None, 0), [SPARSE @ X, 2 * SPARSE @ X]),
    ((0, 0), [SPARSE @ X, 4 * SPARSE @ X])])
def test_batches(in_axes, want):
    args = [x if a is None else np.stack([x, 2 * x]) for x, a in zip((X, WEIGHT), in_axes, strict=True)]
    np.testing.assert_allclose(mg.vmap(product, in_axes=in_axes)(*args), want)


@pytest.mark.parametrize("weight", [input_(4), input_(3, dtype="f4"), input_(3, 5)])
def test_weights_that_do_not_fit(weight):
    with pytest.raises(MinigradError, match="needs a weight for each index"):
        node("weighted_sum", input_(3, 5), input_(3, dtype="i8"), input_(3, dtype="i8"), weight, size=4)

"""`switch`: the branch of one number, rows by their own branches, and derivatives of each."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.branches import taken
from minigrad.ops.control import placeholder
from minigrad.ops.subgraph import placeholders

FUNCTIONS = [np.sin, np.exp, np.square]
SLOPES = [np.cos, np.exp, lambda x: 2 * x]
W, X = np.array([0.5, -1.0, 2.0]), np.array([0.1, 0.2, -0.3])


def chosen(k, w, x):
    return mg.switch(k, [lambda w, x, f=f: np.sum(f(x) * w) for f in FUNCTIONS], w, x)


@pytest.mark.parametrize(("k", "branch"), [(0, 0), (1, 1), (2, 2), (-3, 0), (7, 2)])
def test_numbers_beyond_the_ends_take_the_nearest_branch(k, branch):
    np.testing.assert_allclose(chosen(np.array(k), W, X), np.sum(FUNCTIONS[branch](X) * W))
    np.testing.assert_allclose(mg.grad(chosen, 2)(np.array(k), W, X), SLOPES[branch](X) * W)


def test_rows_take_their_own_branches_and_share_a_gradient():
    ks, xs = np.array([2, 0, 1, 0, 9]), np.random.default_rng(0).normal(size=(5, 3))
    branch = np.clip(ks, 0, 2)
    want = [np.sum(FUNCTIONS[b](x) * W) for b, x in zip(branch, xs, strict=True)]
    np.testing.assert_allclose(mg.vmap(chosen, (0, None, 0))(ks, W, xs), want)
    total = lambda w: np.sum(mg.vmap(chosen, (0, None, 0))(ks, w, xs))  # noqa: E731
    np.testing.assert_allclose(mg.grad(total)(W), sum(FUNCTIONS[b](x) for b, x in zip(branch, xs, strict=True)))


def test_nan_of_the_other_branch_does_not_exist():
    f = lambda x: mg.cond(x > 0, np.log, lambda x: 0.0 * x, x)  # noqa: E731
    np.testing.assert_array_equal(mg.vmap(mg.grad(f))(np.array([2.0, -1.0, 0.0])), [0.5, 0, 0])


def test_each_example_takes_one_branch():
    ks = np.array([-1, 0, 1, 2, 5])
    assert [[bool(t) for t in taken(np, ks, b, 3)] for b in range(3)] == [
        [True, True, False, False, False], [False, False, True, False, False], [False, False, False, True, True]]


def test_branches_return_equal_types():
    (x,), (y,) = placeholders((3,)), placeholders((3,))
    graphs = Graph((x,), (x,)), Graph((y,), (P["sum"](y, axes=(0,)),))
    index = placeholder(P["full"](value=0, shape=(), dtype=np.dtype("i8")).types[0])
    with pytest.raises(ShapeError, match="branches return different types"):
        P["switch"](index, *placeholders((3,)), graphs=graphs, rows=(False,), sums=(False,))
    with pytest.raises(ShapeError, match="the branch's number must be an integer"):
        P["switch"](*placeholders((), (3,)), graphs=graphs[:1], rows=(False,), sums=(False,))

"""Gather and its adjoint where indices are negative, repeated, or missing."""

import array_api_strict
import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.index import take_along_axis
from tests import checks


def every_check(graph, arrays):
    checks.check_types(graph, arrays)
    checks.check_gradient(graph, arrays)
    checks.check_duality(graph, arrays)
    checks.check_batch(graph, arrays, depth=2)
    checks.check_namespace(graph, arrays, array_api_strict)


X = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize("index", [
    np.array(-1), np.array([-3, 2, -1, 2]), np.zeros((0,), int), np.zeros((2, 0), int), np.array([[0], [0]], "i4")])
@pytest.mark.parametrize("x", [X, X[0], X[:, :0]], ids=["matrix", "vector", "no columns"])
def test_gather_and_scatter(x, index):
    if x.ndim == 1 and index.min(initial=0) < -len(x):
        pytest.skip("out of range")
    gather = checks.program(P["gather"], [x, index], {})
    (rows,) = interpreters.evaluate(gather, [x, index])
    np.testing.assert_array_equal(rows, x[index], strict=True)
    every_check(gather, [x, index])
    every_check(checks.program(P["scatter_add"], [rows, index], {"shape": x.shape}), [np.asarray(rows), index])


def test_repeated_indices_add_up():
    u, i = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, -1, 0, 2])
    graph = checks.program(P["scatter_add"], [u, i], {"shape": (3,)})
    np.testing.assert_array_equal(interpreters.evaluate(graph, [u, i])[0], [5.0, 0.0, 10.0])


def test_gather_out_of_no_rows_of_an_empty_array():
    x, i = np.zeros((0, 2)), np.zeros((0,), int)
    every_check(checks.program(P["gather"], [x, i], {}), [x, i])


@pytest.mark.parametrize("axis", [0, 1])
def test_take_along_axis(axis):
    x, i = checks.placeholder(X.shape, "f8"), checks.placeholder(X.shape, "i8")
    graph = Graph((x, i), (take_along_axis(x, i, axis),))
    index = np.argsort(np.sin(X), axis=axis) - X.shape[axis]
    np.testing.assert_array_equal(
        interpreters.evaluate(graph, [X, index])[0], np.take_along_axis(X, index, axis), strict=True
    )
    every_check(graph, [X, index])


def test_out_of_range_raises_when_it_runs():
    graph = checks.program(P["gather"], [X, np.array([0])], {})
    with pytest.raises(IndexError):
        interpreters.evaluate(graph, [X, np.array([3])])


def test_types():
    x, i, f = checks.placeholder((3, 4), "f8"), checks.placeholder((2,), "i8"), checks.placeholder((2,), "f8")
    with pytest.raises(DtypeError, match="integer"):
        P["gather"](x, f)
    with pytest.raises(ShapeError, match="more indices than axes"):
        P["gather"](x, i, i, i)
    with pytest.raises(ShapeError, match="different shape"):
        P["gather"](x, i, checks.placeholder((3,), "i8"))
    with pytest.raises(ShapeError, match="do not fit"):
        P["scatter_add"](x, i, shape=(5, 4))
    with pytest.raises(ShapeError, match="no index"):
        P["gather"](x)

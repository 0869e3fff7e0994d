"""Sorting, cumulative sums and extremes: ties, stability, integers."""

import array_api_strict
import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.sort import sort
from tests import checks


@pytest.mark.parametrize("axis", [0, 1])
def test_sort(axis):
    x = np.random.default_rng(0).permutation(12.0 * np.arange(12)).reshape(3, 4)
    node = checks.placeholder(x.shape, "f8")
    graph = Graph((node,), (sort(node, axis),))
    np.testing.assert_array_equal(interpreters.evaluate(graph, [x])[0], np.sort(x, axis=axis), strict=True)
    checks.check_gradient(graph, [x])
    checks.check_duality(graph, [x])
    checks.check_batch(graph, [x], depth=2)


def test_ties_keep_their_order_and_gradients_follow():
    x = np.array([2.0, 1.0, 2.0, 1.0])
    (order,) = interpreters.evaluate(checks.program(P["argsort"], [x], {"axis": 0}), [x])
    np.testing.assert_array_equal(order, [1, 3, 0, 2])
    node = checks.placeholder((4,), "f8")
    (g,) = interpreters.evaluate(checks.reverse(Graph((node,), (sort(node, 0),))), [x, np.array([1.0, 2.0, 3.0, 4.0])])
    np.testing.assert_array_equal(g, [3.0, 1.0, 4.0, 2.0])


@pytest.mark.parametrize("dtype", ["i4", "u1", "f4"])
def test_cumsum_stays_in_its_dtype(dtype):
    x = np.array([1, 2, 3], dtype)
    checks.check_types(checks.program(P["cumsum"], [x], {"axis": 0}), [x])


@pytest.mark.parametrize(("name", "params"), [("sum", {"axes": (0,)}), ("cumsum", {"axis": 0})])
def test_bools_are_not_added(name, params):
    # Their sum as bools would be `any`; NumPy counts them, which is a cast and then a sum.
    with pytest.raises(DtypeError, match=f"{name}.*Cast"):
        P[name](checks.placeholder((3,), "?"), **params)


EXTREMES = {"cummax": np.maximum, "cummin": np.minimum, "cumfmax": np.fmax, "cumfmin": np.fmin}


def shared_equally(x, g, better):
    """Return the cotangent of one line by the definition: each place's is shared by the elements that attain it."""
    out = np.zeros(len(x))
    for i in range(len(x)):
        hits = [j for j in range(i + 1) if x[j] == better.accumulate(x)[i]]
        out[hits] += g[i] / max(len(hits), 1)
    return out


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 40])
def test_ties_of_cumulative_extremes_share_equally(name, n):
    rng = np.random.default_rng(n)
    for values in ([1.0, 2.0, 3.0], [2.0], [0.0, -0.0], [1.0, np.nan, 2.0], [np.inf, -np.inf, 1.0]):
        x, g, t = rng.choice(values, n), rng.normal(size=n), rng.normal(size=n)
        program = checks.program(P[name], [x], {"axis": 0})
        (back,) = interpreters.evaluate(checks.reverse(program), [x, g])
        np.testing.assert_allclose(back, shared_equally(x, g, EXTREMES[name]), rtol=1e-12, atol=1e-14)
        (forth,) = interpreters.evaluate(checks.push(program), [x, t])
        np.testing.assert_allclose(forth @ g, back @ t, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", EXTREMES)
def test_ties_along_each_axis_and_in_batches(name, axis):
    rng = np.random.default_rng(axis)
    x, g = rng.integers(0, 3, (4, 5, 6)).astype(float), rng.normal(size=(4, 5, 6))
    graph = checks.reverse(checks.program(P[name], [x], {"axis": axis}))
    (back,) = interpreters.evaluate(graph, [x, g])
    lines = [np.moveaxis(a, axis, -1).reshape(-1, x.shape[axis]) for a in (x, g)]
    want = np.array([shared_equally(*line, EXTREMES[name]) for line in zip(*lines, strict=True)])
    np.testing.assert_allclose(np.moveaxis(back, axis, -1).reshape(want.shape), want, rtol=1e-12, atol=1e-14)
    checks.check_batch(graph, [x, g], depth=2)


def test_a_cotangent_of_one_run_stays_in_it():
    x, g = np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 1.0, np.inf, np.nan])
    (back,) = interpreters.evaluate(checks.reverse(checks.program(P["cummax"], [x], {"axis": 0})), [x, g])
    np.testing.assert_array_equal(back, [1.5, 0.5, np.nan, np.nan])


def test_many_ties_of_half_precision_are_counted():
    x = np.ones(5000, np.float16)
    (back,) = interpreters.evaluate(checks.reverse(checks.program(P["cummax"], [x], {"axis": 0})), [x, x])
    harmonic = np.cumsum(1 / np.arange(1.0, 5001)[::-1])[::-1]
    np.testing.assert_allclose(back, harmonic, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["cummax", "cummin", "cumfmax", "cumfmin"])
def test_running_extremes_of_nan_in_every_namespace(name):
    x = np.array([1.0, np.nan, 3.0, 2.0, np.nan, -5.0, 7.0])
    want = {"cummax": np.maximum, "cummin": np.minimum, "cumfmax": np.fmax, "cumfmin": np.fmin}[name].accumulate(x)
    for xp in (np, array_api_strict):
        have = P[name].eval(xp, xp.asarray(x), axis=0)
        np.testing.assert_array_equal(np.asarray(have), want)

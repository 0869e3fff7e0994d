"""Linear recurrences against loops, in value and derivatives; running products and restarting sums as cases of them."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES
from minigrad.ops.recurrence import cumulative_product, product, recurrence
from minigrad.traced_array import Array, as_array

RNG = np.random.default_rng(0)


def run(b, a, goes_on, axis=0, reverse=False):
    return Array(recurrence(*(as_array(v)._node for v in (b, a, goes_on)), axis=axis, reverse=reverse))


def by_loop(b, a, goes_on, reverse=False):
    out = np.array(b)
    rows = range(len(b) - 2, -1, -1) if reverse else range(1, len(b))
    for t in rows:
        edge, other = (t + 1, t + 1) if reverse else (t, t - 1)
        out[t] = np.where(goes_on[edge], a[edge] * out[other] + b[t], b[t])
    return out


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(7,), (1,), (0,), (9, 3), (5, 2, 70), (0, 3), (4, 0)])
def test_recurrence_equals_the_loop(shape, reverse, backend):
    b, a, goes_on = RNG.normal(size=shape), RNG.normal(size=shape), RNG.random(shape) < 0.7
    want = by_loop(b, a, goes_on, reverse)
    program = mg.compile(lambda b, a, g: run(b, a, g, 0, reverse), backend=backend)
    np.testing.assert_array_equal(program(b, a, goes_on), want)
    moved = [np.moveaxis(v, 0, -1) for v in (b, a, goes_on)]
    last = mg.compile(lambda b, a, g: run(b, a, g, len(shape) - 1, reverse), backend=backend)
    np.testing.assert_array_equal(last(*moved), np.moveaxis(want, 0, -1))


@pytest.mark.parametrize("dtype", ["f4", "i4", "i8", "u1"])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_recurrence_of_other_dtypes(dtype, backend):
    b, a = (RNG.integers(0, 4, (6, 5)).astype(dtype) for _ in range(2))
    goes_on = RNG.random((6, 5)) < 0.7
    have = mg.compile(run, backend=backend)(b, a, goes_on)
    assert have.dtype == dtype
    np.testing.assert_array_equal(have, by_loop(b, a, goes_on))


def test_restarts_keep_infinities_and_nan_apart():
    b, a = np.array([np.inf, 1.0, np.nan, 2.0]), np.zeros(4)
    for backend in ("numpy", "native"):
        np.testing.assert_array_equal(mg.compile(run, backend=backend)(b, a, np.zeros(4, bool)), b)


@pytest.mark.parametrize("reverse", [False, True])
def test_namespaces_without_a_loop_double_the_reach(reverse):
    strict = pytest.importorskip("array_api_strict")
    b, a, goes_on = RNG.normal(size=(11, 2)), RNG.normal(size=(11, 2)), RNG.random((11, 2)) < 0.7
    have = PRIMITIVES["recurrence"].eval(strict, *map(strict.asarray, (b, a, goes_on)), axis=0, reverse=reverse)
    np.testing.assert_allclose(np.asarray(have), by_loop(b, a, goes_on, reverse), rtol=1e-12)


def test_derivatives_of_a_product_with_zeros():
    """Of x y z at zeros the second derivatives are the third factor, whatever the others are."""
    def whole(x):
        return Array(product(x._node, 0))

    def last(x):
        return Array(cumulative_product(x._node, 0))[2]

    for x in (np.array([2.0, 0.0, 3.0]), np.array([0.0, 0.0, 3.0]), np.zeros(3)):
        pairs = np.array([[0.0, x[2], x[1]], [x[2], 0.0, x[0]], [x[1], x[0], 0.0]])
        gradient = np.array([x[1] * x[2], x[0] * x[2], x[0] * x[1]])
        np.testing.assert_array_equal(mg.grad(whole)(x), gradient)
        np.testing.assert_array_equal(mg.hessian(whole)(x), pairs)
        np.testing.assert_array_equal(mg.hessian(last)(x), pairs)


def test_order_of_multiplications_is_numpys():
    x = RNG.normal(size=(400, 3)) * 1.1
    np.testing.assert_array_equal(mg.compile(lambda x: Array(cumulative_product(x._node, 0)))(x), np.cumprod(x, axis=0))


@pytest.mark.parametrize("args", [
    (np.ones(2), np.ones(2, "f4"), np.ones(2, bool)), (np.ones(2), np.ones(2), np.ones(2)),
    (np.ones(2, bool), np.ones(2, bool), np.ones(2, bool))])
def test_other_dtypes_are_refused(args):
    with pytest.raises(mg.DtypeError, match="two arrays of numbers and one of bools"):
        mg.trace(run)(*args)


def test_other_shapes_are_refused():
    with pytest.raises(mg.ShapeError, match="shapes differ"):
        mg.trace(run)(np.ones(2), np.ones(3), np.ones(2, bool))


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("columns", [(), (1,), (3,), (70,)])
def test_segments_equal_the_loop(columns, reverse, backend):
    lengths = [0, 3, 1, 0, 5, 2]
    ids = np.repeat(np.arange(6), lengths)
    b, a, goes_on = RNG.normal(size=(11, *columns)), RNG.normal(size=(11, *columns)), RNG.random((11, *columns)) < 0.7
    cuts = np.cumsum(lengths)[:-1]

    def both(b, a, goes_on, ids):
        nodes = [v._node for v in (b, a, goes_on, ids)]
        return (Array(PRIMITIVES["segment_recurrence"](*nodes, reverse=reverse)),
                Array(PRIMITIVES["segment_shift"](nodes[0], nodes[3], reverse=reverse)))

    have, shifted = mg.compile(both, backend=backend)(b, a, goes_on, ids)
    parts = zip(*(np.split(v, cuts) for v in (b, a, goes_on)), strict=True)
    np.testing.assert_array_equal(have, np.concatenate([by_loop(*p, reverse) for p in parts]))
    moved = [np.concatenate([p[1:], 0 * p[:1]]) if reverse else np.concatenate([0 * p[:1], p[:-1]])
             for p in np.split(b, cuts)]
    np.testing.assert_array_equal(shifted, np.concatenate(moved))

"""Families of primitives: elementwise, linear and discrete declarations."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.families import discrete, elementwise, linear
from minigrad.graph import PRIMITIVES, ArrayType
from minigrad.traced_array import Array, as_array


@pytest.fixture(autouse=True)
def declared():
    """Declare the operations for one test, and take all new ones out of the registry after it."""
    global square, step, double
    before = set(PRIMITIVES)
    square = elementwise("test_family_square", lambda xp, x: x * x, "{0} * {0}", d=lambda out, x: (x * 2.0,))
    step = elementwise("test_family_step", lambda xp, x: (x > 0) * 1.0, "{0} > 0")
    double = linear("test_family_double", lambda t: t, lambda xp, x: x + x, lambda g, x: g + g, axes=square.axes)
    yield
    for name in set(PRIMITIVES) - before:
        del PRIMITIVES[name]


def on_arrays(prim):
    return lambda *xs: Array(prim(*(as_array(x)._node for x in xs)))


def test_partial_derivatives_give_both_modes():
    f = on_arrays(square)
    assert mg.grad(f)(3.0) == 6.0
    value, slope = mg.jvp(f, (3.0,), (0.5,))
    assert (value, slope) == (9.0, 3.0)


def test_elementwise_without_derivative_has_zero_slope():
    assert mg.grad(on_arrays(step))(2.0) == 0.0


def test_elementwise_needs_both_rules_or_partials():
    with pytest.raises(mg.GraphError, match="give both vjp= and jvp="):
        elementwise("test_family_half", lambda xp, x: x, "{0}", vjp=lambda g, out, x: [g])


def test_elementwise_refuses_other_shapes_and_dtypes():
    product = elementwise("test_family_product", lambda xp, x, y: x * y, "{0} * {1}", d=lambda out, x, y: (y, x))
    with pytest.raises(mg.ShapeError, match="shapes differ"):
        mg.trace(on_arrays(product))(mg.f64[2], mg.f64[3])
    with pytest.raises(mg.DtypeError, match="dtypes differ"):
        mg.trace(on_arrays(product))(mg.f64[2], mg.f32[2])


def test_linear_is_its_own_forward_derivative():
    f = on_arrays(double)
    x, t = np.array([1.0, 2.0]), np.array([5.0, 7.0])
    assert np.array_equal(mg.jvp(f, (x,), (t,))[1], [10.0, 14.0])
    assert np.array_equal(mg.grad(lambda x: np.sum(f(x)))(x), [2.0, 2.0])


def test_discrete_values_have_no_derivative():
    count = discrete("test_family_count", lambda t: ArrayType(t.shape, np.dtype(np.int64)),
                     lambda xp, x: xp.astype(xp.floor(x), np.int64), axes=square.axes)
    slope = mg.grad(lambda x: x * on_arrays(count)(x).astype(float))(2.5)
    assert slope == 2.0

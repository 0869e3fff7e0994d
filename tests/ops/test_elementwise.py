"""Elementwise derivatives where they are delicate: kinks, ties, zeros, and branches not taken."""

import array_api_strict
import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph, full
from tests import checks


def slopes(name, *xs, dtype="f8"):
    """Return the partial derivatives at scalars, both modes agreeing."""
    arrays = [np.array(x, dtype) for x in xs]
    graph = checks.program(P[name], arrays, {})
    back = [float(g) for g in interpreters.evaluate(checks.reverse(graph), [*arrays, np.ones((), dtype)])]
    for i, want in enumerate(back):
        forward = checks.push(graph, [k == i for k in range(len(xs))])
        (have,) = interpreters.evaluate(forward, [*arrays, np.ones((), dtype)])
        assert have.dtype == np.dtype(dtype)
        assert float(have) == want or np.isnan(have) == np.isnan(want)
    return back


def curvature(name, *xs):
    """Return the matrix of second derivatives at scalars."""
    arrays = [np.array(x) for x in xs]
    back = checks.reverse(checks.program(P[name], arrays, {}))
    rows = []
    for i in range(len(xs)):
        picked = [np.array(float(i == k)) for k in range(len(xs))]
        rows.append(
            [float(h) for h in interpreters.evaluate(checks.reverse(back), [*arrays, np.ones(()), *picked])][: len(xs)]
        )
    return np.array(rows)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_kinks_are_the_mean_of_both_sides(dtype):
    assert slopes("abs", 0.0, dtype=dtype) == [0.0]
    assert slopes("maximum", 2.0, 2.0, dtype=dtype) == [0.5, 0.5]
    assert slopes("minimum", 2.0, 2.0, dtype=dtype) == [0.5, 0.5]
    assert slopes("maximum", 2.0, 1.0, dtype=dtype) == [1.0, 0.0]
    assert slopes("minimum", 2.0, 1.0, dtype=dtype) == [0.0, 1.0]


def test_ties_have_no_curvature():
    for name in ("maximum", "minimum"):
        assert not curvature(name, 2.0, 2.0).any()


def test_partials_of_extremes_stay_in_their_dtype():
    x = checks.placeholder((3,), "f4")
    back = checks.reverse(Graph((x,), (P["maximum"](x, full(0.0, (3,), x.dtype)),)))
    assert {n.dtype for n in back.nodes} <= {np.dtype("f4"), np.dtype(bool)}


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "rint", "sign", "floor_divide", "stop_gradient"])
def test_steps_are_flat(name):
    xs = [2.5, 1.5][:1 + (name == "floor_divide")]
    assert slopes(name, *xs) == [0.0] * len(xs)


def test_mod_at_a_jump_has_the_slope_of_its_pieces():
    assert slopes("mod", 6.0, 2.0) == [1.0, -3.0]
    assert slopes("mod", -5.5, 2.0) == [1.0, 3.0]
    assert not curvature("mod", 6.0, 2.0).any()


def test_vertical_tangents_are_inf():
    assert slopes("sqrt", 0.0) == [np.inf]
    assert slopes("cbrt", 0.0) == [np.inf]


@pytest.mark.parametrize(("x", "y", "dx", "dy"), [
    (2.0, 3.0, 12.0, 8 * np.log(2)), (-2.0, 3.0, 12.0, 0.0), (-2.0, 2.0, -4.0, 0.0), (-2.0, -1.0, -0.25, 0.0),
    (0.0, 2.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0), (3.0, 0.0, 0.0, np.log(3)),
    (-3.0, 0.0, 0.0, 0.0), (0.0, 0.5, np.inf, 0.0)])
def test_pow(x, y, dx, dy):
    np.testing.assert_allclose(slopes("pow", x, y), [dx, dy], rtol=1e-14)


@pytest.mark.parametrize(("x", "y", "xx", "xy"), [
    (0.0, 2.0, 2.0, 0.0), (0.0, 1.0, 0.0, None), (0.0, 0.0, 0.0, None), (0.0, 3.0, 0.0, 0.0), (-2.0, 3.0, -12.0, None),
    (3.0, 0.0, 0.0, 1 / 3), (2.0, 1.0, 0.0, 1 + np.log(2))])
def test_pow_second_order(x, y, xx, xy):
    # None: the mixed derivative does not exist there; it must be a number all the same, for it may meet a 0.
    (a, b), (c, d) = curvature("pow", x, y)
    assert a == pytest.approx(xx)
    assert np.isfinite([b, c, d]).all()
    if xy is not None:
        assert b == pytest.approx(xy)
        assert c == pytest.approx(xy)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 3.0])
def test_pow_of_a_number_at_zero_to_third_order(power):
    x = checks.placeholder((), "f8")
    graph = Graph((x,), (P["pow"](x, full(power, (), x.dtype)),))
    assert "where" not in {n.prim.name for n in checks.reverse(graph).nodes}
    want = power
    for order in range(3):
        graph = Graph((x,), tuple(interpreters.backward(graph.outputs, [full(1.0, (), x.dtype)], [x])))
        assert interpreters.evaluate(graph, [np.zeros(())])[0] == (want if power == order + 1 else 0.0)
        want *= power - order - 1


def test_where_keeps_nan_of_the_other_branch_out():
    c, x, y = np.array([True, False]), np.array([1.0, np.inf]), np.array([np.nan, 2.0])
    graph = checks.program(P["where"], [c, x, y], {})
    for g in (graph, checks.reverse(graph), checks.push(graph)):
        seeds = [np.ones(2)] * (len(g.inputs) - 3)
        assert all(np.isfinite(v).all() for v in interpreters.evaluate(g, [c, x, y, *seeds]))


@pytest.mark.parametrize(("x", "y", "dx", "dy"), [
    (-np.inf, 0.0, 0.0, 1.0), (np.inf, 0.0, 1.0, 0.0), (0.0, 0.0, 0.5, 0.5), (100.0, 0.0, 1.0, np.exp(-100.0))])
def test_logaddexp_of_infinities(x, y, dx, dy):
    np.testing.assert_allclose(slopes("logaddexp", x, y), [dx, dy], rtol=1e-13)
    np.testing.assert_allclose(curvature("logaddexp", x, y), dx * dy * np.array([[1, -1], [-1, 1]]), atol=1e-15)


def test_logaddexp_of_two_negative_infinities():
    assert np.isfinite(slopes("logaddexp", -np.inf, -np.inf)).all()
    assert np.isfinite(curvature("logaddexp", -np.inf, -np.inf)).all()


def test_casts_carry_gradients_between_floats_only():
    x = checks.placeholder((2,), "f8")
    through = P["cast"](P["cast"](x, dtype=np.dtype("i8")), dtype=np.dtype("f8"))
    graph = Graph((x,), (P["cast"](P["cast"](x, dtype=np.dtype("f4")), dtype=np.dtype("f8")), through))
    g = interpreters.evaluate(checks.reverse(graph), [np.array([1.5, 2.5]), np.ones(2), np.ones(2)])
    np.testing.assert_array_equal(g, [[1.0, 1.0]])


def test_cotangents_of_a_value_used_twice_add_up():
    x = checks.placeholder((3,), "f8")
    graph = Graph((x,), (P["mul"](x, P["div"](x, P["add"](x, x))),))
    checks.check_gradient(graph, [np.array([0.5, 2.0, -1.0])])
    checks.check_duality(graph, [np.array([0.5, 2.0, -1.0])])


@pytest.mark.parametrize("dtype", ["i4", "u1", "?"])
def test_integers_have_no_derivative(dtype):
    x, y = checks.placeholder((2,), "f8"), checks.placeholder((2,), dtype)
    graph = Graph((x, y), (P["mul"](x, P["cast"](y, dtype=x.dtype)),))
    assert len(checks.reverse(graph).outputs) == 1
    checks.check_gradient(graph, [np.array([1.0, 2.0]), np.array([1, 0], dtype)])


def test_unsigned_negation_wraps_as_in_numpy():
    x = np.array([0, 1, 255], "u1")
    (out,) = interpreters.evaluate(checks.program(P["neg"], [x], {}), [x])
    np.testing.assert_array_equal(out, -x, strict=True)


@pytest.mark.parametrize(("name", "types", "error"), [
    ("add", [((2,), "f8"), ((3,), "f8")], ShapeError), ("add", [((2,), "f8"), ((2,), "f4")], DtypeError),
    ("add", [((2,), "f8"), ((), "f8")], ShapeError), ("sin", [((2,), "i8")], DtypeError),
    ("add", [((2,), "?"), ((2,), "?")], DtypeError), ("logical_not", [((2,), "f8")], DtypeError),
    ("where", [((2,), "f8"), ((2,), "f8"), ((2,), "f8")], DtypeError),
    ("where", [((2,), "?"), ((2,), "f8"), ((3,), "f8")], ShapeError), ("add", [((2,), "f8")], ShapeError)])
def test_errors_name_the_operation(name, types, error):
    with pytest.raises(error, match=f"test_elementwise.py:.*{name}|checks.py:.*{name}"):
        P[name](*(checks.placeholder(s, d) for s, d in types))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_slopes_of_arctan2_at_subnormal_numbers(backend):
    gradient = mg.compile(mg.grad(np.arctan2, (0, 1)), backend=backend)
    assert gradient(0.0, 0.0) == (0, 0)  # the mean of all sides, as for hypot
    by_y, by_x = gradient(5e-324, 0.0)
    assert by_y == 0
    assert by_x == -np.inf
    by_y, by_x = gradient(0.0, 5e-324)
    assert by_y == np.inf
    assert by_x == 0


@pytest.mark.parametrize(("x", "y", "share", "ratio"), [
    (np.inf, np.inf, 0.5, 1.0), (-np.inf, -np.inf, 0.5, 1.0), (1.0, 1.0, 0.5, 1.0), (-np.inf, 0.0, 0.0, 0.0)])
def test_ratios_of_exponentials_at_infinity(x, y, share, ratio):
    x, y = np.array([x, 0.5]), np.array([y, 0.25])
    e = np.exp(0.25)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(P["exp_share"].eval(np, x, y), [share, e / (1 + e)], rtol=1e-15)
        np.testing.assert_allclose(P["exp_of_difference"].eval(np, x, y), [ratio, e], rtol=1e-15)


@pytest.mark.parametrize("x", [0.0, 0.3, 5.0, 9.0, 20.0, -20.0, 300.0])
def test_slope_of_tanh(x):
    x = np.array([x])
    want = 1 / np.cosh(x) ** 2
    for xp in (np, array_api_strict):
        have = P["tanh_slope"].eval(xp, xp.asarray(np.tanh(x)), xp.asarray(x))
        np.testing.assert_allclose(np.asarray(have), want, rtol=1e-12)

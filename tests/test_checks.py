"""The checks themselves: a rule that is wrong in one way is caught, and by the check that should."""

import array_api_strict
import numpy as np
import pytest

from minigrad.graph import PRIMITIVES, ArrayType, TupleType
from minigrad.primitive import Primitive
from tests import checks

P = PRIMITIVES
X = [np.array([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]])]

# The cube.
RIGHT = {
    "type": lambda t, **params: t,
    "eval": lambda xp, x, **params: x * x * x,
    "vjp": lambda g, out, x, **params: [g * (3.0 * P["square"](x))],
    "jvp": lambda ts, out, x, **params: ts[0] * (3.0 * P["square"](x)),
    "batch": lambda size, mapped, x, **params: P["broken"](x, **params),
}


@pytest.fixture
def declare():
    """Declare a primitive that is RIGHT but for some rules, and take it away afterwards."""
    def declared(**wrong):
        prim = Primitive("broken", **(RIGHT | wrong))
        return checks.program(prim, X, {})

    yield declared
    P.pop("broken", None)


def every_check(graph):
    for g, arrays in [(graph, X), *((d, [*X, *s]) for d, s in derived(graph))]:
        checks.check_types(g, arrays)
        checks.check_gradient(g, arrays)
        checks.check_duality(g, arrays)
        checks.check_batch(g, arrays, depth=2)
        checks.check_namespace(g, arrays, array_api_strict)
        checks.check_json(g, arrays)


def derived(graph):
    return [(checks.reverse(graph), checks.random_like(graph.outputs)),
            (checks.push(graph), checks.random_like(graph.inputs))]


def test_the_right_rules_pass(declare):
    every_check(declare())


def dtype_lost(xp, x):
    return xp.astype(x * x * x, xp.float32)


def other_shape(t):
    return ArrayType(t.shape[::-1], t.dtype)


def slope_of_square(g, out, x):
    return [g * (2.0 * x)]


def held_fixed(g, out, x):
    # The right numbers, and a second derivative of zero.
    return [g * P["stop_gradient"](3.0 * P["square"](x))]


def forgotten_branch(ts, out, x):
    return ts[0] * P["square"](x)


def sum_of_all(size, mapped, x):
    # Right for a batch of one.
    return P["expand"](P["sum"](P["broken"](x), axes=(0,)), shape=x.shape, axes=(0,))


def axis_lost(size, mapped, x):
    return P["sum"](P["broken"](x), axes=(0,))


def numpy_only(xp, x):
    return np.asarray(x) ** 3


def other_dtype_back(g, out, x):
    return [P["cast"](g, dtype=np.dtype("f4"))]


BROKEN = {
    "eval changes the dtype": ({"eval": dtype_lost}, checks.check_types),
    "type has the axes in the wrong order": ({"type": other_shape}, checks.check_types),
    "vjp of another function": ({"vjp": slope_of_square}, checks.check_gradient),
    "vjp and jvp disagree": ({"jvp": forgotten_branch}, checks.check_duality),
    "vjp in another dtype": ({"vjp": other_dtype_back}, checks.check_gradient),
    "batch mixes examples": ({"batch": sum_of_all}, checks.check_batch),
    "batch loses the axis": ({"batch": axis_lost}, checks.check_batch),
    "eval knows NumPy only": ({"eval": numpy_only}, checks.check_namespace),
}


@pytest.mark.parametrize(("wrong", "check"), list(BROKEN.values()), ids=list(BROKEN))
def test_a_broken_rule_is_caught(declare, wrong, check):
    kwargs = {"xp": array_api_strict} if check is checks.check_namespace else {}
    with pytest.raises(AssertionError):
        check(declare(**wrong), X, **kwargs)


def test_a_wrong_second_derivative_is_caught(declare):
    graph = declare(vjp=held_fixed)
    checks.check_gradient(graph, X)
    checks.check_duality(graph, X)
    back = checks.reverse(graph)
    with pytest.raises(AssertionError):
        checks.check_gradient(back, [*X, *checks.random_like(graph.outputs)])


def test_a_wrong_cotangent_of_one_result_is_caught():
    # Two results, and a vjp that reads the first one's cotangent twice.
    wrong = Primitive(
        "broken", lambda t: TupleType((t, t)), lambda xp, x: (x, x), lambda g, out, x: [g[0] + g[0]],
        lambda ts, out, x: (ts[0], ts[0]), lambda size, mapped, x: P["broken"](x))
    try:
        with pytest.raises(AssertionError):
            checks.check_duality(checks.program(wrong, X, {}), X)
    finally:
        P.pop("broken")


def test_json_that_loses_something_is_caught(declare, monkeypatch):
    graph = declare()
    monkeypatch.setattr(type(graph), "from_json", staticmethod(lambda text: graph.replace(name="other")))
    with pytest.raises(AssertionError):
        checks.check_json(graph, X)

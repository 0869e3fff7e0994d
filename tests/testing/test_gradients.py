"""check_grads passes on what is right, and names the argument, the element and the node of what is wrong."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES as P
from tests.testing import broken

W, X = np.linspace(0.1, 0.9, 4), np.linspace(-1.0, 1.3, 4)


def loss(w, x):
    h = np.tanh(w * x)
    c = broken.cube(h)
    return np.sum(c * np.sin(h))


@pytest.fixture
def declare():
    yield broken.declare
    P.pop(broken.NAME, None)


def test_right_rules_pass(declare):
    declare()
    checked = mg.check_grads(loss, (W, X))
    assert checked.comparisons == 6 * 8  # each of 8 elements: twice at order 1, four times at order 2
    assert 0 < checked.largest < 1e-5
    assert "48 comparisons" in str(checked)


BROKEN = {
    "reverse": ({"vjp": lambda g, out, x: [g * (2.0 * x)]}, "reverse mode", "vjp rule"),
    "forward": ({"jvp": lambda ts, out, x: ts[0] * (2.0 * x)}, "forward mode", "jvp rule"),
    "sign": ({"vjp": lambda g, out, x: [-(g * (3.0 * P["square"](x)))]}, "reverse mode", "vjp rule"),
    "nothing": ({"vjp": lambda g, out, x: [None]}, "reverse mode", "vjp rule"),
}


@pytest.mark.parametrize(("wrong", "mode", "rule"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_rule_is_named(declare, wrong, mode, rule):
    declare(**wrong)
    with pytest.raises(mg.CheckError) as caught:
        mg.check_grads(loss, (W, X))
    message = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert "by w[0] is" in message
    assert mode in message
    assert f"first node that disagrees: %3: f64[4] = broken(%2), at {broken.LINE}" in message
    assert f"its {rule} says" in message
    assert caught.value.node.prim.name == broken.NAME
    have, want = map(float, re.search(r"is (\S+) in \w+ mode and (\S+) by", message).groups())
    h = np.tanh(W * X)
    right = (3 * h**2 * np.sin(h) + h**3 * np.cos(h)) * (1 - h**2) * X
    assert want == pytest.approx(right[0], rel=1e-4)
    assert have != pytest.approx(right[0], rel=1e-2)


def test_only_the_second_derivative_is_wrong(declare):
    declare(vjp=lambda g, out, x: [g * P["stop_gradient"](3.0 * P["square"](x))])
    mg.check_grads(loss, (W, X), order=1)
    with pytest.raises(mg.CheckError, match=r"of the gradient \(its[^$]*by w\[0\][^$]*made by the vjp rule of broken"
                       ) as caught:
        mg.check_grads(loss, (W, X))
    assert broken.LINE in str(caught.value)


def test_a_rule_of_the_wrong_type_is_named(declare):
    declare(vjp=lambda g, out, x: [P["cast"](g, dtype=np.dtype("f4"))])
    with pytest.raises(mg.CheckError, match=r"malformed[^$]*broken\(%2\)[^$]*f64\[4\] is f32\[4\]"):
        mg.check_grads(loss, (W, X))
    mg.check_grads(loss, (W, X), order=1, modes=("fwd",))


def test_one_wrong_element_of_a_large_array_is_found(declare):
    mask = np.zeros(1000)
    mask[617] = 1.0

    def wrong_at_617(g, out, x):
        right = g * (3.0 * P["square"](x))
        return [right + right * P["const"](value=mask)]

    declare(vjp=wrong_at_617)
    with pytest.raises(mg.CheckError, match=r"by x\[617\][^$]*operand 0 at \[617\]"):
        mg.check_grads(lambda x: np.sum(broken.cube(x)), (np.linspace(0.5, 1.5, 1000),), order=1)


def test_stop_gradient_is_held_fixed():
    mg.check_grads(lambda x: np.sum(np.sin(x) * mg.stop_gradient(np.exp(x))), (X,))


def test_wrong_arguments_and_modes_are_refused():
    def f(params, i):
        return params["a"][i] * np.exp(params["b"])

    args = ({"a": W, "b": 0.3}, 2)
    mg.check_grads(f, args)
    mg.check_grads(f, args, argnums=0, modes=("rev",))
    with pytest.raises(mg.GradError, match="argument i is i64"):
        mg.check_grads(f, args, argnums=1)
    with pytest.raises(mg.GradError, match="order must be 1 or 2"):
        mg.check_grads(f, args, order=3)
    with pytest.raises(mg.GradError, match="no floating argument"):
        mg.check_grads(lambda i: i * 1.5, (2,))
    with pytest.raises(mg.GradError, match="no floating result"):
        mg.check_grads(lambda x: x > 0, (X,))
    with pytest.raises(mg.GradError, match=r"no floating result.*Did you forget `return`\?"):
        mg.check_grads(lambda x: None, (X,))


def test_a_kink_within_the_step_is_not_a_wrong_rule():
    mg.check_grads(lambda x: np.sum(np.maximum(x, 0.0) ** 2 + np.abs(x)), (np.array([1e-6, 0.5, -2e-6]),))


def test_a_value_that_is_not_finite_is_named():
    with pytest.raises(mg.CheckError, match=r"not finite; first at %1: f64\[4\] = log\(x\), at test_gradients.py"):
        mg.check_grads(lambda x: np.sum(np.log(x)), (np.array([1.0, 0.0, 2.0, 1.0]),))


def test_float32_is_checked_in_float64_where_that_is_possible():
    checked = mg.check_grads(lambda x: np.sum(np.sin(x) * x), (X.astype("f4"),))
    assert checked.largest < 1e-5
    mg.check_grads(lambda x: np.sum(np.sin(x.astype(np.float32)) * 2), (X.astype("f4"),), order=1)


def test_several_results_and_linear_algebra():
    a = np.array([[2.0, 0.3], [0.1, 1.5]])
    mg.check_grads(lambda a: {"det": np.linalg.slogdet(a)[1], "inv": np.linalg.inv(a)}, (a,))

"""check_batching passes on what is right, and names the result, the example and the node of what is wrong."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES as P
from tests.testing import broken

W, X = np.linspace(0.1, 0.9, 4), np.linspace(-1.0, 1.3, 12).reshape(3, 4)
AXES = (None, 0)


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
    checked = mg.check_batching(loss, (W, X), AXES)
    assert checked.comparisons == 3 + 1 + 3 * 2  # the loop, one alone, and two others for each that is moved
    assert checked.largest < 1e-12
    mg.check_batching(mg.grad(loss), (W, X), AXES)


def sum_of_all(size, mapped, x):
    # Right for a batch of one.
    return P["expand"](P["sum"](P["broken"](x), axes=(0,)), shape=x.shape, axes=(0,))


BROKEN = {
    "mixes": (sum_of_all, "mixes examples: moving example 0 alone moves others"),
    "swaps": (lambda size, mapped, x: P["flip"](P["broken"](x), axes=(0,)), "mixes examples"),
    "doubles": (lambda size, mapped, x: P["broken"](x) * 2.0, r"example 0 at \[0\]: \S+ in the batch, \S+ alone$"),
    "loses the axis": (lambda size, mapped, x: P["sum"](P["broken"](x), axes=(0,)),
                       r"its batch is f64\[4\]; 3 examples of type f64\[4\] stack to f64\[3, 4\]"),
    "fails": (lambda size, mapped, x: P["sum"](x, axes=(7,)), r"its batch rule fails: .*no axes \(7,\)"),
    "loses precision": (lambda size, mapped, x: P["cast"](P["cast"](P["broken"](x), dtype=np.dtype("f4")),
                                                          dtype=x.dtype), "in the batch"),
}


@pytest.mark.parametrize(("batch", "why"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_batch_rule_is_named(declare, batch, why):
    declare(batch=batch)
    with pytest.raises(mg.CheckError, match=why) as caught:
        mg.check_batching(loss, (W, X), AXES)
    assert f"first node that disagrees: %3: f64[4] = broken(%2), at {broken.LINE}" in str(caught.value)
    assert caught.value.node.prim.name == broken.NAME


def test_a_rule_that_fails_for_a_batch_of_one(declare):
    declare(batch=lambda size, mapped, x: P["broken"](x) * (2.0 if size == 1 else 1.0))
    with pytest.raises(mg.CheckError, match=r"a batch of 1: [^$]*broken\(%2\)"):
        mg.check_batching(loss, (W, X), AXES)


def test_one_example_is_repeated(declare):
    declare(batch=sum_of_all)
    with pytest.raises(mg.CheckError, match="a batch of 3"):
        mg.check_batching(loss, (W, X[:1]), AXES)
    declare_again = P.pop(broken.NAME)
    broken.declare(batch=lambda size, mapped, x: P["flip"](declare_again(x), axes=(0,)))
    with pytest.raises(mg.CheckError):  # equal examples would hide it
        mg.check_batching(loss, (W, np.repeat(X[:1], 3, axis=0)), AXES)


def test_hidden_leaks_are_found_by_moving_an_example(declare):
    # Example 0 is added to the others: nothing, as long as it is zero.
    def adds_the_first(size, mapped, x):
        y = P["broken"](x)
        first = P["slice"](y, start=(0, 0), stop=(1, 4), step=(1, 1))
        first = P["reshape"](first, shape=(4,))
        return y + P["expand"](first, shape=y.shape, axes=(0,))

    declare(batch=adds_the_first)
    data = X.copy()
    data[0] = 0
    with pytest.raises(mg.CheckError, match="moving example 0 alone moves the result of example 1") as caught:
        mg.check_batching(loss, (W, data), AXES)
    assert broken.LINE in str(caught.value)


def test_axes_pytrees_integers_and_several_results():
    def f(params, x, y):
        z = x @ params["W"]
        return {"score": z[y], "all": z, "which": np.argmax(z), "shared": params["W"].sum()}

    rng = np.random.default_rng(0)
    args = ({"W": rng.normal(size=(4, 3))}, rng.normal(size=(4, 5)).astype("f4"), np.array([0, 2, 1, 1, 0]))
    mg.check_batching(f, args, (None, 1, 0))
    mg.check_batching(lambda x: np.linalg.slogdet(x)[1], (rng.normal(size=(3, 2, 2)),))
    with pytest.raises(mg.BatchError, match="batch sizes differ"):
        mg.check_batching(f, (args[0], args[1].T, args[2]), (None, 1, 0))


def test_functions_that_depend_on_tracing_are_told_apart_from_wrong_rules():
    def two_faced(x):
        return np.sum(x) + (1.0 if isinstance(x, mg.Array) else 0.0)

    with pytest.raises(mg.CheckError, match="something else on plain arrays"):
        mg.check_batching(two_faced, (X,))


@pytest.mark.parametrize("check", [mg.check_batching, mg.check_grads], ids=["batching", "grads"])
def test_arguments_that_are_no_tuple_are_named(check):
    with pytest.raises(mg.TraceError, match=r"of loss: args must be a tuple with one entry .*, got ndarray"):
        check(loss, W, X)

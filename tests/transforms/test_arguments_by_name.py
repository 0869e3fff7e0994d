"""Arguments by name: derivatives with respect to them, and their axes."""

import functools

import numpy as np
import pytest

import minigrad as mg

from .common import close

W, B, X = np.array([1.0, -2.0, 3.0]), 0.5, np.arange(12.0).reshape(4, 3) / 5 - 1


def loss(w, x, *, b=0.0, scale=1.0):
    return np.sum(np.sin(w * x)) * scale + b**2


def plain(params, x):
    return np.sum(np.tanh(params["w"] * x)) + params["b"]


@pytest.mark.parametrize(("argnums", "expected"), [
    ("w", X[0] * np.cos(W * X[0]) * 2), ("b", 2 * B), (("b", 0), (2 * B, X[0] * np.cos(W * X[0]) * 2)),
    (("x",), (W * np.cos(W * X[0]) * 2,)), (1, W * np.cos(W * X[0]) * 2)], ids=repr)
def test_derivatives_by_name_and_by_position(argnums, expected):
    for args, kwargs in [((W, X[0]), {}), ((W,), {"x": X[0]}), ((), {"w": W, "x": X[0]})]:
        close(mg.grad(loss, argnums)(*args, **kwargs, b=B, scale=2.0), expected)
        close(mg.compile(mg.value_and_grad(loss, argnums))(*args, **kwargs, b=B, scale=2.0)[1], expected)


def test_derivatives_of_parts():
    params = {"w": W, "b": 0.0}
    slope = X[0] / np.cosh(W * X[0]) ** 2
    close(mg.grad(plain, "params['w']")(params, X[0]), slope)
    close(mg.grad(plain, ("params.b", "params.w"))(params, X[0]), (1.0, slope))
    close(mg.jacobian(plain, "params.w")(params, x=X[0]), slope)
    close(mg.hessian(plain, "params.b")(params, X[0]), 0.0)


def test_a_product_with_the_hessian_of_some_arguments():
    """Of w² x³ and a matrix of second derivatives that is known."""
    f, v = lambda w, x, mode: np.sum(w**2 * x**3), np.array([1.0, 2.0, 0.0])
    x = X[0]
    for argnums in (0, "w"):
        close(mg.hvp(f, (W, x, "mode"), (v,), argnums=argnums), 2 * x**3 * v)
    both = mg.hvp(f, (W, x, "mode"), (v, W), argnums=("w", 1))
    close(both, (2 * x**3 * v + 6 * W * x**2 * W, 6 * W * x**2 * v + 6 * W**2 * x * W))
    with pytest.raises(mg.GradError, match="argnums 'y', but there are 3 positional arguments: w, x, mode"):
        mg.hvp(f, (W, x, "mode"), (v,), argnums="y")


EXPECTED = np.sum(np.sin(W * X), axis=1) + B**2
CALLS = {
    "a dict": lambda t: t({"x": 0})(W, X, b=B), "a dict, all by keyword": lambda t: t({"x": 0})(w=W, x=X, b=B),
    "a tuple beyond the positional": lambda t: t((None, 0))(W, x=X, b=np.full(4, B)),
    "a keyword that is mapped": lambda t: t((None, 0))(W, X, b=np.full(4, B)),
    "a keyword along another axis": lambda t: t({"x": 1, "b": None})(W, x=X.T.copy(), b=B),
    "a list": lambda t: t([None, 0])(W, x=X, b=np.full(4, B))}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_axes_by_name(call):
    close(call(lambda axes: mg.vmap(loss, in_axes=axes)), EXPECTED)
    close(call(lambda axes: mg.compile(mg.vmap(loss, in_axes=axes))), EXPECTED)
    close(call(lambda axes: mg.mean_loss(loss, in_axes=axes)), np.mean(EXPECTED))
    close(call(lambda axes: mg.microbatch(mg.mean_loss(loss, in_axes=axes), 3)), np.mean(EXPECTED))
    close(call(lambda axes: mg.unroll(loss, 4, in_axes=axes)), np.mean(EXPECTED))


def test_axes_by_name_in_checks_and_reports():
    f = functools.partial(loss, b=B)
    assert mg.check_batching(f, (W, X), in_axes={"x": 0}).comparisons
    report = mg.compare(f, W, X, in_axes={"x": 0}, repeats=1, rows=("vmapped",), progress=False)
    assert report.rows[0].loss == pytest.approx(np.mean(EXPECTED))


def test_axes_name_arguments_that_exist():
    with pytest.raises(mg.BatchError, match="in_axes names 'z'; the arguments are called w, x, b"):
        mg.vmap(loss, in_axes={"z": 0})(W, X, b=B)
    with pytest.raises(mg.BatchError, match="nothing is mapped"):
        mg.vmap(loss, in_axes={"w": None})(W, X, b=B)

"""A program of a user who annotates types: `test_packaging` runs a type checker on it, and calls its functions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

import minigrad as mg


@mg.grad(argnums=1)
def slope(w: np.ndarray, x: np.ndarray) -> object:
    return np.sum(w * x)


@mg.value_and_grad
def both(w: np.ndarray) -> object:
    return np.sum(w)


@mg.compile
@mg.vmap(in_axes=(None, 0))
def each(w: np.ndarray, x: np.ndarray) -> object:
    return np.sum(w * x)


@mg.compile(backend="numpy", static_argnums="n")
def power(x: np.ndarray, n: int) -> object:
    return x**n


@mg.mean_loss(in_axes=(None, 0), has_aux=True)
def mean(w: np.ndarray, x: np.ndarray) -> tuple[object, np.ndarray]:
    return np.sum(w * x), x


@mg.checkpoint
def block(x: np.ndarray) -> object:
    return np.tanh(x)


@mg.microbatch(size=8)
@mg.mean_loss(in_axes=(None, 0))
def parts(w: np.ndarray, x: np.ndarray) -> object:
    return np.sum(w * x)


@mg.hessian(argnums=0)
def curvature(w: np.ndarray) -> object:
    return np.sum(w**3)


@mg.jacobian(argnums="w")
def jacobian(w: np.ndarray, x: np.ndarray) -> object:
    return w * x


@mg.numpy_code
def rotated(angle: float) -> object:
    return np.array([np.sin(angle), angle])


@mg.per_example_grad(argnums="w", in_axes={"x": 0})
def gradients(w: np.ndarray, x: np.ndarray) -> object:
    return np.sum(w * x)


@mg.batch_loss(in_axes=0)
def whole(x: np.ndarray) -> object:
    return np.var(x)


@mg.unroll(n=2)
def unrolled(x: np.ndarray) -> object:
    return np.sum(x)


class Model:
    """Methods."""

    @mg.grad(argnums=1)
    def slope(self, x: np.ndarray) -> object:
        return np.sum(x)

    @mg.compile(backend="numpy")
    def run(self, x: np.ndarray) -> object:
        return x * 2

    @staticmethod
    @mg.compile
    def double(x: np.ndarray) -> object:
        return 2 * x


def loss(w: np.ndarray, x: np.ndarray) -> object:
    return np.sum((w * x) ** 2)


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the results of all functions."""
    w, X = np.ones(3), np.ones((2, 3))
    optimizer = mg.optim.adam(rate=0.1)
    makers: list[Callable[..., object]] = [mg.grad, mg.hessian, mg.trace]
    value, back = mg.vjp(loss, w, w)
    results = [
        slope(w, w), both(w)[1], each(w, X), power(w, n=2), mean(w, X)[1], block(w), parts(w, X), curvature(w),
        jacobian(w, w), rotated(0.5), gradients(w, X), whole(X), unrolled(X), Model().slope(w), Model().run(w),
        Model.double(w), mg.grad(loss)(w, w), mg.grad(loss, "x")(w, w), mg.grad(loss, 1)(w, w), mg.grad(f=loss)(w, w),
        mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))))(w, X), mg.vmap(loss, (None, 0))(w, X),
        mg.trace(loss)(w, w).vmap(in_axes=(None, 0))(w, X), mg.jvp(loss, (w, w), (w, w))[1], value, back(1.0)[0],
        optimizer.init(w)[1]]
    assert len(makers) == 3
    assert power.source
    return [np.shape(x) for x in results]


if TYPE_CHECKING:  # errors that a type checker finds
    mg.grad(argnum=1)  # type: ignore[call-overload]
    mg.grad(loss, argnum=1)  # type: ignore[call-overload]
    mg.vmap(loss, 0, 0, 0)  # type: ignore[call-overload]
    mg.compile(loss, maxsize="many")  # type: ignore[call-overload]
    mg.optim.sgd(loss)  # type: ignore[arg-type]

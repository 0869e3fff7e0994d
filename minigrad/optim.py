"""Optimizers: pairs of pure functions on pytrees of parameters, independent of the batch size.

``state = init(params)`` makes an optimizer's state, and ``params, state = update(gradient, state, params)`` takes a
step.

Examples
--------
>>> init, update = mg.optim.adam(rate=0.5)
>>> params = {"w": np.array([1.0, 2.0])}
>>> state = init(params)
>>> for _ in range(20):
...     gradient = mg.grad(lambda p: np.sum(p["w"] ** 2))(params)
...     params, state = update(gradient, state, params)
>>> bool(np.all(np.abs(params["w"]) < 0.5))
True
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np
import optree

from .errors import DtypeError, ShapeError, at_user_line, format_structure
from .graph import PyTree
from .tracebacks import boundary
from .transforms.pickling import picklable

__all__ = ["Optimizer", "adam", "momentum", "ravel", "sgd"]

F = TypeVar("F", bound=Callable[..., object])
_picklable = cast("Callable[[F], F]", picklable)  # of numbers, in place of a function and options


class Optimizer(NamedTuple):
    """An optimizer.

    Attributes
    ----------
    init : callable
        ``init(params) -> state``.
    update : callable
        ``update(gradient, state, params) -> (params, state)``. Nothing is changed in place.

    Examples
    --------
    An optimizer is any such pair, such as gradient descent by the sign of the gradient:

    >>> def update(gradient, state, params):
    ...     return params - 0.1 * np.sign(gradient), state
    >>> signs = mg.optim.Optimizer(lambda params: (), update)
    >>> signs.update(np.array([5.0, -2.0]), signs.init(np.zeros(2)), np.zeros(2))
    (array([-0.1,  0.1]), ())
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]


def _check_arguments(name: str, gradient: PyTree, like: PyTree, params: PyTree) -> None:
    """Raise `ShapeError` unless a gradient, and a state like the parameters, have the pytree of the parameters."""
    expected = optree.tree_structure(params)
    for argument, tree in (("gradient", gradient), ("state", like)):
        if (structure := optree.tree_structure(tree)) != expected:
            raise ShapeError(at_user_line(
                f"{name}: update(gradient, state, params): the {argument} must have the structure of the parameters, "
                f"{format_structure(expected)}; got {format_structure(structure)}"))


def _check_rate(name: str, rate: object) -> None:
    if callable(rate):
        raise DtypeError(at_user_line(
            f"{name}: the rate must be a number, and {getattr(rate, '__name__', type(rate).__name__)} is a function. "
            f"For a schedule, make the optimizer anew in each step, {name}(schedule(step)): its state does not hold "
            "the rate"))


@_picklable
def sgd(rate: float) -> Optimizer:
    """Return gradient descent: ``params - rate * gradient``.

    Parameters
    ----------
    rate : float

    Returns
    -------
    Optimizer

    Raises
    ------
    DtypeError
        If the rate is a function.

    Examples
    --------
    >>> init, update = mg.optim.sgd(rate=0.5)
    >>> params = np.array([1.0, 2.0])
    >>> update(np.array([1.0, -1.0]), init(params), params)
    (array([0.5, 2.5]), ())
    """
    _check_rate("sgd", rate)

    def update(gradient: PyTree, state: tuple[()], params: PyTree) -> tuple[PyTree, tuple[()]]:
        _check_arguments("sgd", gradient, params, params)
        return optree.tree_map(lambda p, g: p - rate * g, params, gradient), state

    return Optimizer(lambda params: (), update)


@_picklable
def momentum(rate: float, beta: float = 0.9) -> Optimizer:
    """Return heavy-ball momentum: ``v = beta v + gradient; params - rate v`` (Polyak, 1964).

    Parameters
    ----------
    rate, beta : float

    Returns
    -------
    Optimizer
        Its state is the velocity, a pytree like the parameters.

    Raises
    ------
    DtypeError
        If the rate is a function.

    Examples
    --------
    >>> init, update = mg.optim.momentum(rate=0.5)
    >>> params = np.zeros(2)
    >>> params, velocity = update(np.array([1.0, 2.0]), init(params), params)
    >>> update(np.zeros(2), velocity, params)
    (array([-0.95, -1.9 ]), array([0.9, 1.8]))
    """
    _check_rate("momentum", rate)

    def update(gradient: PyTree, velocity: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        _check_arguments("momentum", gradient, velocity, params)
        velocity = optree.tree_map(lambda v, g: beta * v + g, velocity, gradient)
        return optree.tree_map(lambda p, v: p - rate * v, params, velocity), velocity

    return Optimizer(lambda params: optree.tree_map(np.zeros_like, params), update)


@_picklable
def adam(rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Return Adam with bias correction (Kingma and Ba, 2015).

    Parameters
    ----------
    rate, beta1, beta2, eps : float

    Returns
    -------
    Optimizer
        Its state is the number of steps and the means of the gradient and of its square, pytrees like the parameters.

    Raises
    ------
    DtypeError
        If the rate is a function.

    Examples
    --------
    >>> init, update = mg.optim.adam(rate=0.5)
    >>> params, state = update(np.array([3.0, -0.1]), init(np.zeros(2)), np.zeros(2))
    >>> params.round(3)
    array([-0.5,  0.5])
    """
    _check_rate("adam", rate)

    def init(params: PyTree) -> tuple[int, PyTree, PyTree]:
        return 0, optree.tree_map(np.zeros_like, params), optree.tree_map(np.zeros_like, params)

    def update(gradient: PyTree, state: tuple[int, PyTree, PyTree],
               params: PyTree) -> tuple[PyTree, tuple[int, PyTree, PyTree]]:
        if not isinstance(state, tuple) or len(state) != 3:
            raise ShapeError(at_user_line("adam: update(gradient, state, params): the state comes from init(params), a "
                                          f"tuple of the step and two moments; got {type(state).__name__}"))
        step, m, v = state
        _check_arguments("adam", gradient, m, params)
        step = step + 1
        m = optree.tree_map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradient)
        v = optree.tree_map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradient)
        # Both bias corrections are one factor each, in Python floats: the parameters keep their dtype.
        scale, root = rate / (1 - beta1**step), (1 - beta2**step) ** -0.5
        params = optree.tree_map(lambda p, m, v: p - scale * m / (np.sqrt(v) * root + eps), params, m, v)
        return params, (step, m, v)

    return Optimizer(init, update)


@boundary
def ravel(tree: PyTree) -> tuple[np.ndarray, Callable[[np.ndarray], PyTree]]:
    """Return a pytree as one vector, and the function from such vectors to pytrees.

    So optimizers of vectors (``scipy.optimize.minimize``) work on pytrees.

    Parameters
    ----------
    tree : pytree of arrays

    Returns
    -------
    vector : ndarray (n,), float64
    unravel : callable
        Takes a vector (n,) to a pytree with the shapes and dtypes of `tree`.

    Raises
    ------
    ShapeError
        From `unravel`, if the vector has another length.

    Examples
    --------
    >>> vector, unravel = mg.optim.ravel({"b": np.float32(3.0), "w": np.ones((1, 2))})
    >>> vector
    array([3., 1., 1.])
    >>> unravel(2 * vector)
    {'b': np.float32(6.0), 'w': array([[2., 2.]])}
    """
    leaves, structure = optree.tree_flatten(tree)
    arrays = [np.asarray(x) for x in leaves]
    vector = np.concatenate([a.ravel().astype(np.float64) for a in arrays]) if arrays else np.zeros(0)
    return vector, functools.partial(_unravel, structure, [(a.shape, a.dtype) for a in arrays])


def _unravel(structure: optree.PyTreeSpec, types: list[tuple[tuple[int, ...], np.dtype]], flat: np.ndarray) -> PyTree:
    flat = np.asarray(flat)
    ends = np.cumsum([math.prod(shape) for shape, _ in types], dtype=int)
    size = int(ends[-1]) if types else 0
    if flat.shape != (size,):
        raise ShapeError(f"unravel: expected a vector of {size} numbers, got shape {flat.shape}")
    parts = np.split(flat, ends[:-1]) if types else []
    return optree.tree_unflatten(structure, [
        p.reshape(shape).astype(dtype)[()] for p, (shape, dtype) in zip(parts, types, strict=True)])


def __dir__() -> list[str]:
    return __all__

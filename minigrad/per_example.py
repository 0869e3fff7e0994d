"""Per-example gradients, and their statistics, each written as its definition.

Compiled, each costs about as much as one mean gradient on dense batches: the pass `factorize` squares, scales and adds
up the gradients without forming them, where that is cheaper. Gradients of weights that multiply the rows of ragged
batches are formed.

Examples
--------
>>> def loss(w, x):
...     return np.sum(w * x) ** 2 / 2
>>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [0.0, 2.0]])
>>> mg.per_example_grad(loss, in_axes=(None, 0))(w, X)
array([[1., 0.],
       [0., 4.]])
>>> mg.per_example.norms(loss, in_axes=(None, 0))(w, X)
array([1., 4.])
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable

import numpy as np
import optree

from .errors import BatchError, at_user_line
from .graph import InAxes, PyTree
from .traced_array import Array
from .transforms.grad import grad
from .transforms.graph_forms import Argnums
from .transforms.pickling import picklable
from .transforms.trace import function_name
from .transforms.vmap import vmap

__all__ = ["clipped_mean", "gram", "noise_scale", "norms", "squared_norms"]


@picklable
def per_example_grad(f: Callable[..., PyTree], argnums: Argnums = 0, in_axes: InAxes = 0,
                     has_aux: bool = False) -> Callable[..., PyTree]:
    """Return the function that computes one gradient per example: ``vmap(grad(f))``.

    Every leaf of the result is a leaf of argument `argnums` with the examples along a new axis 0.

    Parameters
    ----------
    f : callable
        A loss of one example.
    argnums, has_aux
        As of `grad`.
    in_axes : int, None, or a pytree of them
        As of `vmap`.

    Returns
    -------
    callable
        Returns the gradients with the examples along a new axis 0 of each leaf of argument `argnums`.

    Examples
    --------
    >>> mg.per_example_grad(np.dot, in_axes=(None, 0))(np.array([1.0, 2.0]), np.array([[1.0, 0.0], [3.0, 1.0]]))
    array([[1., 0.],
           [3., 1.]])
    """
    return vmap(grad(f, argnums, has_aux), in_axes)


@picklable
def squared_norms(f: Callable[..., PyTree], argnums: Argnums = 0, in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the function that computes ``‖∇f_b‖²`` of each example b.

    Parameters
    ----------
    f : callable
        A loss of one example.
    argnums : int or tuple of int
        The arguments to differentiate.
    in_axes : int, None, tuple or dict
        The axis of each argument along which the examples lie, as of `vmap`.

    Returns
    -------
    callable
        From the arguments of the batch to an array (B,).

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(w * x) ** 2 / 2
    >>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> mg.per_example.squared_norms(loss, in_axes=(None, 0))(w, X)
    array([ 1., 16.])
    """
    gradients = per_example_grad(f, argnums, in_axes)

    def squared_norms(*args: PyTree, **kwargs: PyTree) -> PyTree:
        return _squares(gradients(*args, **kwargs))

    return _of_examples(squared_norms, f, in_axes)


def _squares(gradients: PyTree) -> PyTree:
    """Return the squared norm of each example's gradient."""
    return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for g in optree.tree_leaves(gradients))


@picklable
def norms(f: Callable[..., PyTree], argnums: Argnums = 0, in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the function that computes ``‖∇f_b‖`` of each example b.

    Parameters
    ----------
    f : callable
        A loss of one example.
    argnums : int or tuple of int
        The arguments to differentiate.
    in_axes : int, None, tuple or dict
        The axis of each argument along which the examples lie, as of `vmap`.

    Returns
    -------
    callable
        From the arguments of the batch to an array (B,).

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(w * x) ** 2 / 2
    >>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> mg.per_example.norms(loss, in_axes=(None, 0))(w, X)
    array([1., 4.])
    """
    squares = squared_norms(f, argnums, in_axes)

    def norms(*args: PyTree, **kwargs: PyTree) -> PyTree:
        return np.sqrt(squares(*args, **kwargs))

    return _of_examples(norms, f, in_axes)


@picklable
def clipped_mean(f: Callable[..., PyTree], bound: float | Array, argnums: Argnums = 0,
                 in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the function that averages the gradients, each scaled down to norm `bound` where it is longer.

    That is the sum of DP-SGD (Abadi et al., 2016), divided by the number of examples.

    Parameters
    ----------
    f : callable
        A loss of one example.
    bound : float
        A positive number.
    argnums : int or tuple of int
        The arguments to differentiate.
    in_axes : int, None, tuple or dict
        The axis of each argument along which the examples lie, as of `vmap`.

    Returns
    -------
    callable
        From the arguments of the batch to the pytree of argument `argnums`.

    Raises
    ------
    BatchError
        If `bound` is a number that is not positive.

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(w * x) ** 2 / 2
    >>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> mg.per_example.clipped_mean(loss, 1.0, in_axes=(None, 0))(w, X)
    array([0.5, 0.5])
    """
    if isinstance(bound, (int, float, np.generic)) and not bound > 0:
        raise BatchError(at_user_line(f"clipped_mean({function_name(f)}): bound must be positive, got {bound}"))
    gradients = per_example_grad(f, argnums, in_axes)

    def clipped_mean(*args: PyTree, **kwargs: PyTree) -> PyTree:
        each = gradients(*args, **kwargs)
        factor = 1 / np.maximum(1, np.sqrt(_squares(each)) / bound)
        return optree.tree_map(lambda g: (g * factor.reshape(-1, *(1,) * (g.ndim - 1))).mean(axis=0), each)

    return _of_examples(clipped_mean, f, in_axes)


@picklable
def gram(f: Callable[..., PyTree], argnums: Argnums = 0, in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the function that computes ``⟨∇f_b, ∇f_c⟩`` of all pairs of examples.

    For a scalar model f that is its empirical neural tangent kernel (Jacot et al., 2018).

    Parameters
    ----------
    f : callable
        A loss of one example.
    argnums : int or tuple of int
        The arguments to differentiate.
    in_axes : int, None, tuple or dict
        The axis of each argument along which the examples lie, as of `vmap`.

    Returns
    -------
    callable
        From the arguments of the batch to an array (B, B).

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(w * x) ** 2 / 2
    >>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> mg.per_example.gram(loss, in_axes=(None, 0))(w, X)
    array([[1., 2.],
           [2., 8.]])
    """
    gradients = per_example_grad(f, argnums, in_axes)

    def gram(*args: PyTree, **kwargs: PyTree) -> PyTree:
        rows = [g.reshape(g.shape[0], -1) for g in optree.tree_leaves(gradients(*args, **kwargs))]
        return sum(r @ r.T for r in rows)

    return _with_arguments(gram, f)


@picklable
def noise_scale(f: Callable[..., PyTree], argnums: Argnums = 0, in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the function that estimates the simple noise scale ``tr Σ / ‖G‖²`` of McCandlish et al. (2018).

    Σ is the covariance of the per-example gradients and G their expectation; both are estimated from the
    batch without bias. Beyond about this number of examples, a larger batch pays less.

    Parameters
    ----------
    f : callable
        A loss of one example.
    argnums : int or tuple of int
        The arguments to differentiate.
    in_axes : int, None, tuple or dict
        The axis of each argument along which the examples lie, as of `vmap`.

    Returns
    -------
    callable
        From the arguments of the batch to a number.

    Raises
    ------
    BatchError
        If there is one example. A compiled program that serves other sizes, too, returns NaN for it.

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(w * x) ** 2 / 2
    >>> w, X = np.array([1.0, 1.0]), np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> mg.per_example.noise_scale(loss, in_axes=(None, 0))(w, X)
    np.float64(1.25)
    """
    gradients = per_example_grad(f, argnums, in_axes)

    def noise_scale(*args: PyTree, **kwargs: PyTree) -> PyTree:
        own = gradients(*args, **kwargs)
        each = _squares(own)
        n = each.size
        if isinstance(n, int) and n < 2:
            raise BatchError(at_user_line(f"noise_scale({function_name(f)}) needs at least two examples, got {n}"))
        of_mean = sum((g.mean(axis=0) ** 2).sum() for g in optree.tree_leaves(own))
        trace = (each.mean() - of_mean) * (n / (n - 1.0))
        return trace / (of_mean - trace / n)

    return _with_arguments(noise_scale, f)


def _of_examples(statistic: Callable[..., PyTree], f: Callable[..., PyTree], in_axes: InAxes) -> Callable[..., PyTree]:
    """Give a statistic with a row, or a mean, of the examples of a loss its axes, the default of `microbatch`."""
    vars(statistic).update(in_axes=in_axes)
    return _with_arguments(statistic, f)


def _with_arguments(statistic: Callable[..., PyTree], f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Give a statistic the signature of its loss: graphs and errors have the names of the arguments."""
    with contextlib.suppress(TypeError, ValueError):  # a loss without a signature
        vars(statistic).update(__signature__=inspect.signature(f))
    return statistic


def __dir__() -> list[str]:
    return __all__

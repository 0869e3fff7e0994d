"""Gradients: `grad` and `value_and_grad`."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..graph import Graph, PyTree
from . import graph_forms
from .graph_forms import Argnums, select
from .pickling import picklable
from .trace import Call, transform


@picklable
def grad(f: Callable[..., PyTree], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., PyTree]:
    """Return the function that computes the gradient of a scalar function.

    Parameters
    ----------
    f : callable
        Returns a floating scalar, or ``(scalar, aux)`` with `has_aux`.
    argnums : int, str, or sequence of them
        The arguments to differentiate with respect to, pytrees of floating arrays, by position or by name:
        ``argnums="w"``, or ``"params['w']"`` for a part of one. All others may be anything: bools, strings, functions
        and other values that are no arrays pass as they are.
    has_aux : bool

    Returns
    -------
    callable
        Takes the arguments of `f`; returns the gradient in the pytree of argument `argnums` (a tuple of them
        for a sequence), or ``(gradient, aux)``. An argument that the result does not depend on gets zeros.

    Raises
    ------
    GradError
        If the result is not a floating scalar, or a leaf of the argument is not floating.

    Examples
    --------
    >>> mg.grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: PyTree, **kwargs: PyTree) -> PyTree:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


@transform
def value_and_grad(f: Callable[..., PyTree], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., PyTree]:
    """Return the function that computes a scalar function's value and its gradient, in one pass.

    Parameters and errors are those of `grad`; the result is ``(value, gradient)``, or
    ``((value, aux), gradient)`` with `has_aux`.

    Parameters
    ----------
    f, argnums, has_aux
        As of `grad`.

    Returns
    -------
    callable
        Returns ``(value, gradient)``, or ``((value, aux), gradient)`` with `has_aux`.

    Examples
    --------
    >>> mg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """

    def rewrite(call: Call) -> Graph:
        graph = call.trace().graph
        return graph_forms.value_and_grad(graph, *select(graph, argnums, "grad", call), has_aux)

    return rewrite

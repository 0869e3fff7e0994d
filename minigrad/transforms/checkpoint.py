"""Marks in a program: `stop_gradient`, and `checkpoint`, which recomputes intermediates in the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import optree

from ..graph import Graph, PyTree
from ..ops import control
from ..ops.elementwise import stop_gradient as stop
from ..traced_array import Array, as_array
from ..tracing import tracing
from .closures import closed
from .trace import Call, transform


def stop_gradient(x: PyTree) -> PyTree:
    """Return `x`, a pytree of arrays, through which no derivative flows.

    Parameters
    ----------
    x : pytree of arrays

    Returns
    -------
    pytree of arrays
        The same values.

    Examples
    --------
    >>> mg.grad(lambda x: x * mg.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    if not tracing():
        return x
    return optree.tree_map(lambda v: Array(stop(as_array(v)._node)), x)


@transform
def checkpoint(f: Callable[..., PyTree]) -> Callable[[Call], Graph]:
    """Mark a function whose intermediates are computed again in the backward pass instead of kept.

    The value and every derivative are unchanged; the memory held between forward and backward pass is that
    of f's inputs.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.

    Returns
    -------
    callable
        A function with the same values and derivatives.

    Examples
    --------
    >>> f = mg.checkpoint(lambda x: np.sin(np.exp(x)))
    >>> bool(np.isclose(mg.grad(f)(0.0), np.cos(1.0)))
    True
    """

    def rewrite(call: Call) -> Graph:
        staged = call.trace(nothing=True)
        body, free = closed(staged)
        node = control.checkpoint(*staged.inputs, *free, graph=body)
        return staged.graph.replace(outputs=tuple(control.parts(node)))

    return rewrite

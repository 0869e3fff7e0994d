"""Derivatives: grad, value_and_grad, vjp, jvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optree

from ..errors import ShapeError, at_user_line, format_structure
from ..graph import Graph, Node, PyTree
from ..immutable import Immutable
from ..tracebacks import boundary
from ..traced_array import Array
from ..tracing import guard_equal_shapes
from . import graph_forms
from .array_namespace import is_on_device
from .graph_forms import Argnums, in_tree, out_tree, select
from .pickling import picklable
from .trace import Call, leaf_type, rewritten, run, transform


@picklable
def grad(f: Callable[..., PyTree], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., PyTree]:
    """Return the function that computes the gradient of a scalar function.

    Parameters
    ----------
    f : callable
        Returns a floating scalar, or ``(scalar, aux)`` with `has_aux`.
    argnums : int or sequence of int
        The positional arguments to differentiate with respect to: pytrees of floating arrays.
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
        return graph_forms.value_and_grad(graph, *select(graph, argnums, "grad"), has_aux)

    return rewrite


def _like(name: str, value: PyTree, tree: optree.PyTreeSpec, nodes: Sequence[Node]) -> list[PyTree]:
    """Return the leaves of a tangent or cotangent, which must match `nodes` in structure, shape and dtype."""
    leaves, own = optree.tree_flatten(value)
    if own != tree:
        raise ShapeError(at_user_line(f"{name} has the structure {format_structure(own)}, expected "
                                      f"{format_structure(tree)}"))
    out = []
    for i, (x, n) in enumerate(zip(leaves, nodes, strict=True)):
        t = leaf_type(x, functools.partial("{}, leaf {}".format, name, i))
        if not guard_equal_shapes(t.shape, n.shape):
            raise ShapeError(at_user_line(f"{name}, leaf {i}: expected {n.type}, got {t}"))
        out.append(x if isinstance(x, Array) or is_on_device(x) else np.asarray(x, dtype=n.dtype))
    return out


@boundary
def jvp(f: Callable[..., PyTree], primals: Sequence[PyTree], tangents: Sequence[PyTree]) -> tuple[PyTree, PyTree]:
    """Return ``f(*primals)`` and its directional derivative along `tangents` (forward mode).

    Parameters
    ----------
    primals, tangents : sequence
        The arguments, and one direction for each, of the same structure and shapes.

    Returns
    -------
    (value, tangent)
        Both in the pytree of f's result.

    Examples
    --------
    >>> mg.jvp(lambda x: x**3, (2.0,), (1.0,))
    (np.float64(8.0), np.float64(12.0))
    """

    def rewrite(call: Call) -> Graph:
        graph = call.trace().graph
        nodes, tree = select(graph, range(len(primals)), "jvp")
        call.leaves += _like("the tangent", tuple(tangents), tree, nodes)
        return graph_forms.jvp(graph, nodes)

    both: tuple[PyTree, PyTree] = rewritten(rewrite, f, tuple(primals))
    return both


@boundary
def vjp(f: Callable[..., PyTree], *primals: PyTree) -> tuple[PyTree, Callable[[PyTree], tuple[PyTree, ...]]]:
    """Return ``f(*primals)`` and the function that pulls cotangents back to the arguments (reverse mode).

    Parameters
    ----------
    f : callable
    *primals : pytrees of arrays
        The arguments of `f`.

    Returns
    -------
    (value, pull)
        ``pull(cotangent)``, for a cotangent in the pytree of f's result, is a tuple with one pytree per argument.

    Examples
    --------
    >>> value, pull = mg.vjp(np.dot, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(1.0)
    (array([3., 4.]), array([1., 2.]))
    """
    call = Call(f, primals)
    graph = call.trace().graph
    select(graph, range(len(primals)), "vjp")
    return run(graph, call.leaves), _Pull(graph, call.leaves)


@dataclass(frozen=True, eq=False, repr=False)
class _Pull(Immutable):
    """The function from cotangents of a graph's outputs to those of its inputs, at the point `leaves`."""

    graph: Graph
    leaves: list[PyTree]

    @boundary
    def __call__(self, cotangent: PyTree) -> tuple[PyTree, ...]:
        leaves = _like("the cotangent", cotangent, out_tree(self.graph), self.graph.outputs)
        back = graph_forms.vjp(self.graph, self.graph.inputs, in_tree(self.graph).child(0))
        cotangents: tuple[PyTree, ...] = run(back, [*self.leaves, *leaves])
        return cotangents

    def __repr__(self) -> str:
        return f"<minigrad pullback of {len(self.graph.outputs)} values to {len(self.graph.inputs)}>"


"""Derivatives: grad, value_and_grad, vjp, jvp, hvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import optree

from ..errors import GradError, ShapeError, at_user_line
from ..graph import Graph, Node, PyTree
from ..tracebacks import boundary
from ..traced_array import Array
from ..tracing import guard_equal_shapes
from .array_namespace import is_on_device
from .graph_forms import in_tree, out_tree
from .graph_forms import jvp as jvp_graph
from .graph_forms import select as select_inputs
from .graph_forms import value_and_grad as value_and_grad_graph
from .graph_forms import vjp as vjp_graph
from .pickling import picklable
from .trace import Call, Staged, finish, function_name, leaf_type, stage, transform

Argnums = int | Sequence[int]


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
        staged = call.trace()
        _check_positions(staged, argnums, "grad")
        return value_and_grad_graph(staged.graph, argnums, has_aux, "argnums")

    return rewrite


def select(staged: Staged, argnums: Argnums, operation: str) -> tuple[list[Node], optree.PyTreeSpec]:
    """Return the inputs of the arguments `argnums`, and their pytree: a tuple for several."""
    _check_positions(staged, argnums, operation)
    return select_inputs(staged.graph, argnums, operation, "argnums")


def _check_positions(staged: Staged, argnums: Argnums, operation: str) -> None:
    count = len(staged.args)
    for i in argnums if isinstance(argnums, Iterable) else [argnums]:
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool):
            raise GradError(at_user_line(
                f"{operation} of {function_name(staged.f)}: argnums must be ints, got {argnums!r}"))
        if not -count <= i < count:
            raise GradError(at_user_line(
                f"{operation} of {function_name(staged.f)}: argnums {i}, but it was called with {count} arguments"))


def _like(name: str, value: PyTree, tree: optree.PyTreeSpec, nodes: Sequence[Node]) -> list[PyTree]:
    """Return the leaves of a tangent or cotangent, which must match `nodes` in structure, shape and dtype."""
    leaves, own = optree.tree_flatten(value)
    if own != tree:
        raise ShapeError(at_user_line(f"{name} has the structure {own}, expected {tree}"))
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
    staged = stage(f, tuple(primals), {})
    nodes, _ = select(staged, range(len(primals)), "jvp")
    directions = _like("the tangent", tuple(tangents), staged.in_tree.child(0), staged.inputs)
    graph = jvp_graph(staged.graph, nodes)
    both: tuple[PyTree, PyTree] = finish(graph.inputs, [*staged.leaves, *directions], graph.outputs, graph.out_tree)
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
    staged = stage(f, primals, {})
    select(staged, range(len(primals)), "vjp")
    return staged.finish(), _Pull(staged.graph, staged.leaves)


@dataclass(frozen=True, eq=False)
class _Pull:
    """The function from cotangents of a graph's outputs to those of its inputs, at the point `leaves`."""

    graph: Graph
    leaves: list[PyTree]

    @boundary
    def __call__(self, cotangent: PyTree) -> tuple[PyTree, ...]:
        leaves = _like("the cotangent", cotangent, out_tree(self.graph), self.graph.outputs)
        back = vjp_graph(self.graph, self.graph.inputs, in_tree(self.graph).child(0))
        cotangents: tuple[PyTree, ...] = finish(back.inputs, [*self.leaves, *leaves], back.outputs, back.out_tree)
        return cotangents

    def __repr__(self) -> str:
        return f"<minigrad pullback of {len(self.graph.outputs)} values to {len(self.graph.inputs)}>"

    def __copy__(self) -> _Pull:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> _Pull:
        return self


@boundary
def hvp(f: Callable[..., PyTree], primals: Sequence[PyTree], tangents: Sequence[PyTree]) -> PyTree:
    """Return the product of the Hessian of a scalar function with a direction, by forward over reverse mode.

    Parameters
    ----------
    primals, tangents : sequence
        All arguments of `f`, and a direction for each.

    Returns
    -------
    pytree
        In the pytree of the first argument where `f` has one, else a tuple with one per argument.

    Examples
    --------
    >>> mg.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([6., 0.])
    """
    argnums: Argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)[1]


"""Derivatives: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from .. import walk
from ..errors import GradError, ShapeError, at_user_line
from ..graph import Graph, Node, reachable, zeros_like
from ..ops.constants import constant
from ..ops.control import placeholder
from ..ops.layout import reshape, transpose
from ..ops.results import keep
from ..tracebacks import boundary
from ..traced_array import Array
from ..tracing import guard_equal_shapes, number
from . import graph_forms
from .devices import is_on_device
from .picklable import picklable
from .trace import Staged, finish, function_name, leaf_type, stage

Argnums = int | Sequence[int]


@picklable
def grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
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
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


@picklable
def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return the function that computes a scalar function's value and its gradient, in one pass.

    Parameters and errors are those of `grad`; the result is ``(value, gradient)``, or
    ``((value, aux), gradient)`` with `has_aux`.
    """

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        staged = stage(f, args, kwargs)
        _check_positions(staged, argnums, "grad")
        graph = graph_forms.value_and_grad(staged.graph, argnums, has_aux, "argnums")
        return staged.finish(graph.outputs, graph.out_tree)

    return value_and_gradient


def select(staged: Staged, argnums: Argnums, what: str) -> tuple[list[Node], Any]:
    """Return the inputs of the arguments `argnums`, and their pytree: a tuple for several."""
    _check_positions(staged, argnums, what)
    return graph_forms.select(staged.graph, argnums, what, "argnums")


def _check_positions(staged: Staged, argnums: Argnums, what: str) -> None:
    count = len(staged.args)
    for i in argnums if isinstance(argnums, Iterable) else [argnums]:
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool):
            raise GradError(at_user_line(
                f"{what} of {function_name(staged.f)}: argnums {argnums!r}, where positions (ints) are wanted"))
        if not -count <= i < count:
            raise GradError(at_user_line(
                f"{what} of {function_name(staged.f)}: argnums {i}, but it was called with {count} arguments"))


def _like(name: str, value: Any, tree: Any, nodes: Sequence[Node]) -> list[Any]:
    """Return the leaves of a tangent or cotangent, which must match `nodes` in structure, shape and dtype."""
    leaves, own = optree.tree_flatten(value)
    if own != tree:
        raise ShapeError(at_user_line(f"{name} has the structure {own}, expected {tree}"))
    out = []
    for i, (x, n) in enumerate(zip(leaves, nodes, strict=True)):
        t = leaf_type(x, lambda i=i: f"{name}, leaf {i}")
        if not guard_equal_shapes(t.shape, n.shape):
            raise ShapeError(at_user_line(f"{name}, leaf {i}: expected {n.type}, got {t}"))
        out.append(x if isinstance(x, Array) or is_on_device(x) else np.asarray(x, dtype=n.dtype))
    return out


@boundary
def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return ``f(*primals)`` and its directional derivative along `tangents` (forward mode).

    Parameters
    ----------
    primals, tangents : sequence
        The arguments, and one direction for each, of the same structure and shapes.

    Returns
    -------
    (value, tangent)
        Both in the pytree of f's result.
    """
    staged = stage(f, tuple(primals), {})
    nodes, _ = select(staged, range(len(primals)), "jvp")
    directions = _like("the tangent", tuple(tangents), optree.tree_structure(tuple(primals)), staged.inputs)
    graph = graph_forms.jvp(staged.graph, nodes)
    return finish(graph.inputs, [*staged.leaves, *directions], graph.outputs, graph.out_tree)


@boundary
def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return ``f(*primals)`` and the function that pulls cotangents back to the arguments (reverse mode).

    Returns
    -------
    (value, pull)
        ``pull(cotangent)``, for a cotangent in the pytree of f's result, is a tuple with one pytree per argument.
    """
    staged = stage(f, primals, {})
    select(staged, range(len(primals)), "vjp")
    return staged.finish(staged.outputs, staged.out_tree), _Pull(staged.graph, staged.leaves)


@dataclass(frozen=True, eq=False)
class _Pull:
    """The function from cotangents of a graph's outputs to those of its inputs, at the point `leaves`."""

    graph: Graph
    leaves: list[Any]

    @boundary
    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        given = _like("the cotangent", cotangent, self.graph.out_tree, self.graph.outputs)
        back = graph_forms.vjp(self.graph, self.graph.inputs, self.graph.in_tree.child(0))
        return finish(back.inputs, [*self.leaves, *given], back.outputs, back.out_tree)

    def __repr__(self) -> str:
        return f"<minigrad pullback of {len(self.graph.outputs)} values to {len(self.graph.inputs)}>"

    def __copy__(self) -> _Pull:
        return self

    def __deepcopy__(self, memo: dict) -> _Pull:
        return self


@picklable
def jacobian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return the function that computes the Jacobian of `f`.

    It is a batch: `vmap` of one reverse pass over the rows of the identity, or of one forward pass over its
    columns where the arguments have fewer elements than the result.

    Returns
    -------
    callable
        For each leaf of the result, in its pytree: the pytree of the argument(s) with leaves of shape
        ``result.shape + argument.shape``.
    """

    @functools.wraps(f)
    def compute(*args: Any, **kwargs: Any) -> Any:
        staged = stage(f, args, kwargs)
        wrt, tree = select(staged, argnums, "jacobian")
        for o in staged.outputs:
            if not o.type.floating:
                raise GradError(at_user_line(f"jacobian of {function_name(f)}: its result {o.type} is not floating"))
        rows = sum(number(o.type.size) for o in staged.outputs)
        columns = sum(number(w.type.size) for w in wrt)
        blocks = (_by_columns if columns < rows else _by_rows)(staged.outputs, wrt)
        flat = keep(reachable(staged.outputs, staged.since), [b for row in blocks for b in row])
        values = staged.finish(flat, optree.tree_structure([0] * len(flat)))
        per_output = [optree.tree_unflatten(tree, values[i * len(wrt):(i + 1) * len(wrt)]) for i in range(len(blocks))]
        return optree.tree_unflatten(staged.out_tree, per_output)

    return compute


def _basis(node: Node) -> Node:
    n = number(node.type.size)
    return reshape(constant(np.eye(n, dtype=node.dtype)), shape=(n, *node.shape))


def _by_rows(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    blocks = []
    for o in outputs:
        inflow = placeholder(o.type)
        back = walk.backward([o], [inflow], wrt)
        size = number(o.type.size)
        batched = walk.batch(back, {}, {inflow: _basis(o)}, size)
        blocks.append([reshape(walk.with_axis(b, has, size), shape=(*o.shape, *w.shape))
                       for (b, has), w in zip(batched, wrt, strict=True)])
    return blocks


def _by_columns(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    columns = []
    for w in wrt:
        moving = placeholder(w.type)
        pushed = walk.forward(outputs, {w: moving})
        tangents = [zeros_like(o) if t is None else t for o, t in zip(outputs, pushed, strict=True)]
        size = number(w.type.size)
        column = []
        for (t, has), o in zip(walk.batch(tangents, {}, {moving: _basis(w)}, size), outputs, strict=True):
            last = transpose(walk.with_axis(t, has, size), perm=(*range(1, o.ndim + 1), 0))
            column.append(reshape(last, shape=(*o.shape, *w.shape)))
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


@picklable
def hessian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return the function that computes the matrix of second derivatives of a scalar function.

    Leaves have shape ``argument.shape + argument.shape``, in the pytree of the argument twice over.
    """
    return jacobian(grad(f, argnums), argnums)


@boundary
def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Hessian of a scalar function with a direction, by forward over reverse mode.

    Parameters
    ----------
    primals, tangents : sequence
        All arguments of `f`, and a direction for each.

    Returns
    -------
    pytree
        In the pytree of the first argument where `f` has one, else a tuple with one per argument.
    """
    argnums: Argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)[1]


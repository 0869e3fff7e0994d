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
from ..graph import Graph, Node, full, reachable, zeros_like
from ..ops.constants import constant
from ..ops.control import placeholder
from ..ops.layout import reshape, transpose
from ..ops.results import keep
from ..tracebacks import boundary
from ..traced_array import Array
from ..tracing import guard_equal_shapes, number
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
        loss, aux, aux_tree = _split_aux(staged, has_aux)
        if loss.shape != () or not loss.type.floating:
            raise GradError(at_user_line(
                f"grad of {function_name(f)}: it returns {loss.type}, and a gradient needs one floating number. "
                + ("Sum or average the result, use mg.vmap(mg.grad(f)) for one gradient per example, or mg.jacobian."
                   if loss.type.floating else "Its dtype has no derivative.")))
        wrt, rebuild = select(staged, argnums, "grad")
        gradients = walk.backward([loss], [full(1, (), loss.dtype)], wrt)
        values = staged.finish([loss, *aux, *gradients], optree.tree_structure([0] * (1 + len(aux) + len(wrt))))
        value = values[0]
        if has_aux:
            value = (value, optree.tree_unflatten(aux_tree, values[1:1 + len(aux)]))
        return value, rebuild(values[1 + len(aux):])

    return value_and_gradient


def _split_aux(staged: Staged, has_aux: bool) -> tuple[Node, list[Node], Any]:
    if not has_aux:
        if len(staged.outputs) != 1:
            pair = isinstance(staged.result, tuple) and len(staged.result) == 2
            raise GradError(at_user_line(
                f"grad of {function_name(staged.f)}: it returns {len(staged.outputs)} values, and a gradient needs one "
                f"number. {'Say has_aux=True for (loss, aux)' if pair else 'Return (loss, aux) and say has_aux=True'}, "
                "or use mg.vjp."))
        return staged.outputs[0], [], None
    if not isinstance(staged.result, tuple) or len(staged.result) != 2:
        raise GradError(at_user_line(f"grad of {function_name(staged.f)} with has_aux: it must return (loss, aux)"))
    if optree.tree_structure(staged.result[0]).num_leaves != 1:
        raise GradError(at_user_line(f"grad of {function_name(staged.f)}: the loss is not one number"))
    loss, *aux = staged.outputs
    return loss, aux, optree.tree_structure(staged.result[1])


def select(staged: Staged, argnums: Argnums, what: str) -> tuple[list[Node], Callable[[Sequence[Any]], Any]]:
    """Return the inputs of the arguments `argnums`, and the function that puts one value each in their place."""
    several = isinstance(argnums, Iterable)
    picked = list(argnums) if several else [argnums]
    count = len(staged.args)
    for i in picked:
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool):
            raise GradError(at_user_line(
                f"{what} of {function_name(staged.f)}: argnums {argnums!r}, where positions (ints) are wanted"))
        if not -count <= i < count:
            raise GradError(at_user_line(
                f"{what} of {function_name(staged.f)}: argnums {i}, but it was called with {count} arguments"))
    picked = [i % count for i in picked]
    index = optree.tree_unflatten(staged.in_tree, range(len(staged.inputs)))[0]
    wrt, trees = [], []
    for i in picked:
        positions, tree = optree.tree_flatten(index[i])
        trees.append(tree)
        for p in positions:
            node = staged.inputs[p]
            if not node.type.floating:
                raise GradError(at_user_line(
                    f"{what} of {function_name(staged.f)}: argument {staged.names[p]} is {node.type}, and only "
                    "floating values have derivatives. Cast it with astype(float), or leave it out of argnums."))
            wrt.append(node)

    def rebuild(values: Sequence[Any]) -> Any:
        values, out = list(values), []
        for tree in trees:
            out.append(optree.tree_unflatten(tree, values[:tree.num_leaves]))
            del values[:tree.num_leaves]
        return tuple(out) if several else out[0]

    return wrt, rebuild


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
    _all_floating(staged, "jvp")
    directions = _like("the tangent", tuple(tangents), optree.tree_structure(tuple(primals)), staged.inputs)
    moving = [placeholder(n.type) for n in staged.inputs]
    pushed = walk.forward(staged.outputs, dict(zip(staged.inputs, moving, strict=True)))
    tangent = [zeros_like(o) if t is None else t for o, t in zip(staged.outputs, pushed, strict=True)]
    values = finish([*staged.inputs, *moving], [*staged.leaves, *directions], [*staged.outputs, *tangent],
                    optree.tree_structure([0] * (2 * len(tangent))))
    return (optree.tree_unflatten(staged.out_tree, values[:len(tangent)]),
            optree.tree_unflatten(staged.out_tree, values[len(tangent):]))


def _all_floating(staged: Staged, what: str) -> None:
    select(staged, range(len(staged.args)), what)


@boundary
def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return ``f(*primals)`` and the function that pulls cotangents back to the arguments (reverse mode).

    Returns
    -------
    (value, pull)
        ``pull(cotangent)``, for a cotangent in the pytree of f's result, is a tuple with one pytree per argument.
    """
    staged = stage(f, primals, {})
    _all_floating(staged, "vjp")
    value = staged.finish(staged.outputs, staged.out_tree)
    graph = Graph(tuple(staged.inputs), tuple(staged.outputs), in_tree=optree.tree_structure(primals),
                  out_tree=staged.out_tree)
    return value, _Pull(graph, staged.leaves)


@dataclass(frozen=True, eq=False)
class _Pull:
    """The function from cotangents of a graph's outputs to those of its inputs, at the point `leaves`."""

    graph: Graph
    leaves: list[Any]

    @boundary
    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        inputs, outputs = self.graph.inputs, self.graph.outputs
        given = _like("the cotangent", cotangent, self.graph.out_tree, outputs)
        inflow = [placeholder(n.type) for n in outputs]
        back = walk.backward(outputs, inflow, inputs)
        return finish([*inputs, *inflow], [*self.leaves, *given], back, self.graph.in_tree)

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
        wrt, rebuild = select(staged, argnums, "jacobian")
        for o in staged.outputs:
            if not o.type.floating:
                raise GradError(at_user_line(f"jacobian of {function_name(f)}: its result {o.type} is not floating"))
        rows = sum(number(o.type.size) for o in staged.outputs)
        columns = sum(number(w.type.size) for w in wrt)
        blocks = (_by_columns if columns < rows else _by_rows)(staged.outputs, wrt)
        flat = keep(reachable(staged.outputs, staged.since), [b for row in blocks for b in row])
        values = staged.finish(flat, optree.tree_structure([0] * len(flat)))
        per_output = [rebuild(values[i * len(wrt):(i + 1) * len(wrt)]) for i in range(len(blocks))]
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


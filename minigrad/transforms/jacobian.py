"""Matrices of derivatives: `jacobian`, a batch of derivatives along a basis; `hessian` and its products, `hvp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import interpreters
from ..errors import GradError, ShapeError, at_user_line
from ..graph import Graph, Node, PyTree, zeros_like
from ..ops.constants import constant
from ..ops.shape import reshape, transpose
from ..primitive import placeholder
from ..tracebacks import boundary
from ..tracing import number
from .arguments_by_name import arguments
from .grad import grad
from .graph_forms import Argnums, Part, select, value_and_grad
from .jacobian_products import jvp, require_tuples
from .pickling import picklable
from .trace import Call, Staged, function_name, kept, parameter_names, transform


@transform
def jacobian(f: Callable[..., PyTree], argnums: Argnums = 0) -> Callable[..., PyTree]:
    """Return the function that computes the Jacobian of `f`.

    It evaluates a batch: `vmap` of one reverse pass over the rows of the identity, or of one forward pass over its
    columns if the arguments have fewer elements than the result.

    Parameters
    ----------
    f : callable
    argnums : int, str, or sequence of them
        The arguments to differentiate, as of `grad`.

    Returns
    -------
    callable
        For each leaf of the result, in its pytree: the pytree of the argument(s) with leaves of shape
        ``result.shape + argument.shape``.

    Examples
    --------
    >>> mg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    def rewrite(call: Call) -> Graph:
        return _jacobian(call.trace(), argnums, "jacobian")

    return rewrite


def _jacobian(staged: Staged, argnums: Argnums, operation: str) -> Graph:
    """Return the graph of the Jacobian of a traced function."""
    wrt, tree = select(staged.graph, argnums, operation, staged.call)
    for o in staged.outputs:
        if not o.type.floating:
            raise GradError(at_user_line(f"{operation} of {staged.call.name}: its result {o.type} is not floating"))
    rows = sum(number(o.types[0].size) for o in staged.outputs)
    columns = sum(number(w.types[0].size) for w in wrt)
    blocks = (_by_columns if columns < rows else _by_rows)(staged.outputs, wrt)
    flat = kept([b for row in blocks for b in row], staged.outputs, staged.inputs, staged.since)
    return staged.graph.replace(outputs=tuple(flat), out_names=(), out_tree=staged.out_tree.compose(tree))


def _along_basis(derivatives: Sequence[Node], seed: Node) -> list[Node]:
    """Return derivatives along each element of `seed`, stacked."""
    n = number(seed.types[0].size)
    basis = reshape(constant(np.eye(n, dtype=seed.dtype)), shape=(n, *seed.shape))
    batched = interpreters.batch(derivatives, {}, {seed: basis}, n)
    return [interpreters.broadcast_unmapped(d, has_axis, n) for d, has_axis in batched]


def _by_rows(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    blocks = []
    for o in outputs:
        inflow = placeholder(o.types[0])
        back = interpreters.backward([o], [inflow], wrt)
        blocks.append([reshape(b, shape=(*o.shape, *w.shape))
                       for b, w in zip(_along_basis(back, inflow), wrt, strict=True)])
    return blocks


def _by_columns(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    columns = []
    for w in wrt:
        moving = placeholder(w.types[0])
        pushed = interpreters.forward(outputs, {w: moving})
        tangents = [zeros_like(o) if t is None else t for o, t in zip(outputs, pushed, strict=True)]
        columns.append([reshape(transpose(t, perm=(*range(1, o.ndim + 1), 0)), shape=(*o.shape, *w.shape))
                        for t, o in zip(_along_basis(tangents, moving), outputs, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


@picklable
def hessian(f: Callable[..., PyTree], argnums: Argnums = 0) -> Callable[..., PyTree]:
    """Return the function that computes the matrix of second derivatives, of each number that a function returns.

    Parameters
    ----------
    f : callable
        A function with floating results, in any pytree: a scalar, as a rule.
    argnums : int, str, or sequence of them
        The arguments to differentiate, as of `grad`.

    Returns
    -------
    callable
        For each leaf of the result, in its pytree: leaves of shape ``result.shape + argument.shape + argument.shape``,
        in the pytree of the argument twice over.

    Examples
    --------
    >>> mg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(_first_derivative(f, argnums), argnums)


@transform
def _first_derivative(f: Callable[..., PyTree], argnums: Argnums) -> Callable[..., PyTree]:
    """Return the function that computes the gradient of a scalar function, or the Jacobian of another one."""

    def rewrite(call: Call) -> Graph:
        staged = call.trace()
        if len(staged.outputs) > 1 or staged.outputs[0].shape:
            return _jacobian(staged, argnums, "hessian")
        nodes, tree = select(staged.graph, argnums, "hessian", call)
        both = value_and_grad(staged.graph, nodes, tree, has_aux=False)
        gradient = kept(both.outputs[1:], both.outputs[:1], staged.inputs, staged.since)
        return both.replace(outputs=tuple(gradient), out_tree=staged.out_tree.compose(tree))

    return rewrite


@boundary
def hvp(f: Callable[..., PyTree], primals: Sequence[PyTree], tangents: Sequence[PyTree],
        argnums: Argnums | None = None) -> PyTree:
    """Return the product of the Hessian of a scalar function with a direction, by forward over reverse mode.

    Parameters
    ----------
    primals : sequence
        All arguments of `f`.
    tangents : sequence
        A direction for each argument that is differentiated.
    argnums : int, str, or sequence of them, optional
        The arguments to differentiate, as of `grad`; without it, all.

    Returns
    -------
    pytree
        In the pytree of the argument where `argnums` is one, or the only argument; else a tuple with one per argument.

    Examples
    --------
    >>> mg.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([6., 0.])
    >>> mg.hvp(lambda x, n: np.sum(x**n), (np.array([1.0, 2.0]), 3), (np.array([1.0, 0.0]),), argnums=0)
    array([6., 0.])
    """
    require_tuples("hvp", f, primals=primals, tangents=tangents)
    if argnums is None:
        argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    names = arguments(argnums)
    if len(names) != len(tangents):
        raise ShapeError(at_user_line(f"hvp of {function_name(f)}: {len(tangents)} tangents for {len(names)} "
                                      "arguments"))
    along: list[PyTree] = [None] * len(primals)
    for which, t in zip(names, tangents, strict=True):
        along[_position(f, which, len(primals))] = t
    return jvp(grad(f, argnums), primals, along)[1]


def _position(f: Callable[..., PyTree], which: Part, count: int) -> int:
    """Return the position of an argument."""
    names = parameter_names(f)[:count] if isinstance(which, str) else []
    if isinstance(which, str) and which in names:
        return names.index(which)
    if isinstance(which, str) or not -count <= which < count:
        raise GradError(at_user_line(f"hvp of {function_name(f)}: argnums {which!r}, but there are {count} positional "
                                     f"arguments{': ' if names else ''}{', '.join(names)}"))
    return which

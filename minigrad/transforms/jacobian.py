"""Matrices of derivatives: `jacobian`, a batch of derivatives along a basis; `hessian` and its products, `hvp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import interpreters
from ..errors import GradError, at_user_line
from ..graph import Graph, Node, PyTree, zeros_like
from ..ops.constants import constant
from ..ops.shape import reshape, transpose
from ..primitive import placeholder
from ..tracebacks import boundary
from ..tracing import number
from .grad import grad, jvp
from .graph_forms import Argnums, select
from .pickling import picklable
from .trace import Call, function_name, kept, transform


@transform
def jacobian(f: Callable[..., PyTree], argnums: Argnums = 0) -> Callable[..., PyTree]:
    """Return the function that computes the Jacobian of `f`.

    It evaluates a batch: `vmap` of one reverse pass over the rows of the identity, or of one forward pass over its
    columns if the arguments have fewer elements than the result.

    Parameters
    ----------
    f : callable
    argnums : int or tuple of int
        The arguments to differentiate.

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
        staged = call.trace()
        wrt, tree = select(staged.graph, argnums, "jacobian")
        for o in staged.outputs:
            if not o.type.floating:
                raise GradError(at_user_line(f"jacobian of {function_name(f)}: its result {o.type} is not floating"))
        rows = sum(number(o.types[0].size) for o in staged.outputs)
        columns = sum(number(w.types[0].size) for w in wrt)
        blocks = (_by_columns if columns < rows else _by_rows)(staged.outputs, wrt)
        flat = kept([b for row in blocks for b in row], staged.outputs, staged.inputs, staged.since)
        return staged.graph.replace(outputs=tuple(flat), out_names=(), out_tree=staged.out_tree.compose(tree))

    return rewrite


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
    """Return the function that computes the matrix of second derivatives of a scalar function.

    Leaves have shape ``argument.shape + argument.shape``, in the pytree of the argument twice over.

    Parameters
    ----------
    f : callable
        A function with one floating number as its result.
    argnums : int or tuple of int
        The arguments to differentiate.

    Returns
    -------
    callable
        Returns leaves of shape ``argument.shape + argument.shape``, in the pytree of the argument twice over.

    Examples
    --------
    >>> mg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums)


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

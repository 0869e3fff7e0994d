"""Means over a batch: `mean_loss`, and `unroll`, the literal mini-batch graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import optree

from .. import interpreters
from ..defined_sizes import definitions
from ..errors import BatchError, MinigradError, ShapeError, at_user_line
from ..graph import Graph, InAxes, Node, PyTree, full
from ..numpy.arguments import MissingAxis
from ..ops.mean import mean, split_mean
from ..ops.selection import with_own_sizes
from ..ops.shape import reshape, slice_
from ..ops.subgraph import with_new_effects
from ..tracing import made_by, number
from .graph_forms import out_tree
from .in_axes import Arguments, by_kind, mapped_axes
from .trace import Call, function_name, transform
from .vmap import batch_of, of_one

if TYPE_CHECKING:
    from ..ragged.axes import Axis

_OF_BATCH = "A loss that takes all examples at once is mg.batch_loss(f, in_axes)."


@transform
def mean_loss(f: Callable[..., PyTree], in_axes: InAxes = 0, has_aux: bool = False, over: Axis | None = None
              ) -> Callable[..., PyTree]:
    """Return the mean over a batch of a per-example loss: `vmap`, then one visible ``mean`` node.

    A term of the loss that does not depend on the example, such as a regulariser, is moved out of the
    mean by a rewrite: it is computed once, and added once.

    Parameters
    ----------
    f : callable
        The loss of one example: a floating scalar, or ``(scalar, aux)`` with `has_aux`.
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    has_aux : bool
        The aux of every example comes back stacked.
    over : Axis, optional
        The ragged axis that the mean is taken over, in place of the examples: the loss of one example is then a
        vector along it, one number per row, and each row of the batch counts the same.

    Returns
    -------
    callable
        A function of the batch, with a scalar result.

    Examples
    --------
    >>> def loss(w, x):
    ...     return (w * x) ** 2
    >>> mg.mean_loss(loss, in_axes=(None, 0))(2.0, np.array([1.0, 3.0]))
    np.float64(20.0)
    """
    def rewrite(call: Call) -> Graph:
        try:
            batch = batch_of((call.args, call.kwargs), call, in_axes, 0)
        except MissingAxis as error:
            error.args = (f"{error}. {_one_example(f, in_axes)}",)
            raise
        except ValueError as error:
            if isinstance(error, ShapeError) or not isinstance(error, MinigradError):  # n, d = X.shape of one row
                error.add_note(_one_example(f, in_axes))
            raise
        tree = out_tree(batch)
        result: PyTree = optree.tree_unflatten(tree, batch.outputs[:tree.num_leaves])
        pair = isinstance(result, tuple) and len(result) == 2
        if has_aux and not pair:
            raise BatchError(at_user_line(f"mean_loss({function_name(f)}) with has_aux: it must return (loss, aux)"))
        losses, aux = result if has_aux else (result, None)
        losses = counted_losses(losses, f, over)
        if not isinstance(losses, Node) or losses.ndim != 1 or not losses.type.floating:
            got = losses.type if isinstance(losses, Node) else f"a {type(losses).__name__}"
            raise BatchError(at_user_line(
                f"mean_loss({function_name(f)}): the loss of one example must be one floating number; over the "
                f"batch it came out as {got}. "
                + ("Did you forget `return`?" if result is None else
                   "Say has_aux=True for (loss, aux)." if pair and not has_aux else
                   "Sum or average it within the example, and check that in_axes maps each argument that has a row per "
                   f"example. {_OF_BATCH}")))
        total = average(losses, "mean_loss")
        result = (total, aux) if has_aux else total
        outputs, tree = optree.tree_flatten(result)
        return batch.replace(outputs=tuple(outputs), out_names=(), out_tree=tree)

    vars(rewrite).update(in_axes=in_axes)
    return rewrite


def _one_example(f: Callable[..., PyTree], in_axes: InAxes) -> str:
    """Return the sentences that tell a loss of one example from a loss of all."""
    name = function_name(f)
    every = f" (axis {in_axes} of every argument; None in a tuple shares one)" if isinstance(in_axes, int) else ""
    return f"mean_loss({name}) calls {name} with one example, without the axes that in_axes maps{every}. {_OF_BATCH}"


@by_kind
def counted_losses(losses: PyTree, f: Callable[..., PyTree], over: Axis | None) -> PyTree:
    """Return the losses that a mean counts: one per example, or one per row of the axis `over`."""
    if over is None:
        return losses
    raise not_per_row(f, over, "one number for each example")


def not_per_row(f: Callable[..., PyTree], over: Axis | None, got: object) -> BatchError:
    """Return the error of a loss without one number per row of the axis `over`."""
    return BatchError(at_user_line(f"mean_loss({function_name(f)}, over={over}): the loss of one example must have one "
                                   f"number per row of {over}; it is {got}"))


@transform
def unroll(f: Callable[..., PyTree], n: int, in_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Return the literal mini-batch graph: `n` copies of f's graph, and nodes that add and average.

    Its result is that of ``mean_loss(f, in_axes)`` on a batch of `n` examples; the graph serves for reading and
    comparison. Terms that are independent of the examples occur once in it, too.

    Parameters
    ----------
    f : callable
        The loss of one example.
    n : int
        The number of examples, which the batch must have.
    in_axes : int, None, or a pytree of them
        As in `vmap`.

    Returns
    -------
    callable
        A function of the arguments of the batch.

    Examples
    --------
    >>> def loss(w, x):
    ...     return (w * x) ** 2
    >>> mg.unroll(loss, 2, in_axes=(None, 0))(2.0, np.array([1.0, 3.0]))
    np.float64(20.0)
    """
    if n < 1:
        raise BatchError(at_user_line(f"unroll({function_name(f)}): n must be a positive int, got {n!r}"))

    def rewrite(call: Call) -> Graph:
        return copies_of((call.args, call.kwargs), call, n, in_axes)

    vars(rewrite).update(in_axes=in_axes)
    return rewrite


@by_kind
def copies_of(examples: Arguments, call: Call, n: int, in_axes: InAxes) -> Graph:
    """Return the mean of a function over `n` examples, by one copy of its graph for each."""
    axes, size = mapped_axes(call.f, *examples, in_axes, call.types, "unroll", symbolic=False)
    if number(size) != n:
        raise BatchError(at_user_line(f"unroll({call.name}, {n}): the batch has {size} examples"))
    return unrolled(call.trace(of_one(call.types, axes)).graph, call.inputs, axes, n)


# -- graphs ------------------------------------------------------------------------------------------------------


def unrolled(graph: Graph, inputs: Sequence[Node], axes: Sequence[int | None], n: int) -> Graph:
    """Return `n` copies of a graph, averaged, on `inputs` that have the examples along `axes`."""
    operands = list(zip(graph.inputs, inputs, axes, strict=True))
    with made_by("unroll"):
        # Replace the shared inputs first, so that all copies use the same shared nodes.
        one = graph.replace(outputs=tuple(
            interpreters.substitute(graph.outputs, {s: i for s, i, a in operands if a is None})))
        totals: list[Node] = []
        defined = definitions(graph.nodes)
        for k in range(n):
            copies = interpreters.substitute(with_new_effects(one).outputs, {
                s: _example(i, a, k) for s, i, a in operands if a is not None})
            copies = with_own_sizes(copies, defined)
            totals = copies if not k else [t + c for t, c in zip(totals, copies, strict=True)]
        count = out_tree(graph).num_leaves  # without results, a zero waits for checks and effects
        means = (*(t / full(n, t.shape, t.dtype) for t in totals[:count]), *totals[count:])
    return graph.replace(inputs=tuple(inputs), outputs=means)


def _example(batch: Node, axis: int, k: int) -> Node:
    """Return example `k` of a batch."""
    start = tuple(k if a == axis else 0 for a in range(batch.ndim))
    stop = tuple(k + 1 if a == axis else n for a, n in enumerate(batch.shape))
    row = slice_(batch, start=start, stop=stop, step=(1,) * batch.ndim)
    return reshape(row, shape=batch.shape[:axis] + batch.shape[axis + 1:])


def average(rows: Node, rule: str) -> Node:
    """Return the mean over axis 0; terms that are equal in all rows are added to the mean."""
    with made_by(rule):
        node = mean(rows, axes=(0,))
        better = split_mean(node)
    return node if better is None else better

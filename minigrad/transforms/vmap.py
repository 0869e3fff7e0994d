"""`vmap`: a batch, from the graph of one example."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..graph import ArrayType, Graph, InAxes, PyTree
from .graph_forms import batched
from .in_axes import Arguments, by_kind, mapped_axes
from .trace import Call, transform


@transform
def vmap(f: Callable[..., PyTree], in_axes: InAxes = 0, out_axes: InAxes = 0) -> Callable[..., PyTree]:
    """Turn a function of one example into a function of a batch.

    `f` is traced once, for one example, and every node is rewritten to carry a batch axis; nodes that do not
    depend on the example stay as they are and are computed once.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.
    in_axes : int, None, or a pytree of them
        The axis of each argument that counts the examples; None where all examples share the argument. A
        tuple has one entry per positional argument, and an entry may be a pytree prefix of its argument.
        Keyword arguments are mapped over axis 0.
    out_axes : int, None, or a pytree of them
        The place of the batch axis in each result; None for a result that does not depend on the examples.

    Returns
    -------
    callable

    Raises
    ------
    BatchError
        If `in_axes` does not fit the arguments, the batch sizes differ, or the batch is empty.

    Examples
    --------
    >>> mg.vmap(np.dot, in_axes=(None, 0))(np.array([1.0, 2.0]), np.array([[1.0, 0.0], [3.0, 1.0]]))
    array([1., 5.])
    """

    def rewrite(call: Call) -> Graph:
        return batch_of((call.args, call.kwargs), call, in_axes, out_axes)

    vars(rewrite).update(in_axes=in_axes)
    return rewrite


@by_kind
def batch_of(examples: Arguments, call: Call, in_axes: InAxes, out_axes: InAxes) -> Graph:
    """Return the batch of a function over the examples among its arguments."""
    axes, size = mapped_axes(call.f, *examples, in_axes, call.types, "vmap")
    return batched(call.trace(of_one(call.types, axes), nothing=True).graph, call.inputs, axes, out_axes, size)


def of_one(types: Sequence[ArrayType], axes: Sequence[int | None]) -> list[ArrayType]:
    """Return the types of one example's arguments, given the types of the batch."""
    return [t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype)
            for t, a in zip(types, axes, strict=True)]

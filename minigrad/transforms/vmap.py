"""Batching: `vmap`, and what is one line on top of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BatchError, at_user_line
from ..graph import ArrayType
from ..ops.control import placeholder
from ..traced_array import Array
from ..tracing import number
from . import graph_forms
from .grad import Argnums, grad
from .mapped import by_kind, mapped_axes
from .picklable import picklable
from .trace import finish, flatten_arguments, function_name, stage


@picklable
def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Turn a function of one example into a function of a batch.

    `f` is traced once, for one example, and every node is rewritten to carry a batch axis; what does not
    depend on the example stays as it is and is computed once.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.
    in_axes : int, None, or a pytree of them
        The axis of each argument that counts the examples; None where all examples share the argument. A
        tuple has one entry per positional argument, and an entry may be a pytree prefix of its argument.
        Keyword arguments are mapped over axis 0.
    out_axes : int, None, or a pytree of them
        Where the batch axis of each result goes. None asks for a result that no example has a part in.

    Returns
    -------
    callable

    Raises
    ------
    BatchError
        If `in_axes` does not fit the arguments, the batch sizes differ, or there is no example at all.
    """

    @functools.wraps(f)
    def batched(*args: Any, **kwargs: Any) -> Any:
        return batch_of((args, kwargs), f, in_axes, out_axes)

    batched.in_axes = in_axes
    return batched


@by_kind
def batch_of(examples: tuple[tuple, dict], f: Callable[..., Any], in_axes: Any, out_axes: Any) -> Any:
    """Map `f` over the examples among its arguments."""
    args, kwargs = examples
    leaves, tree, types = flatten_arguments(f, args, kwargs)
    axes, size = mapped_axes(f, args, kwargs, in_axes, types, "vmap")
    staged = stage(f, args, kwargs, (leaves, tree, _of_one(types, axes)))
    batch = graph_forms.batched(staged.graph, [placeholder(t) for t in types], axes, out_axes, size)
    return finish(batch.inputs, leaves, batch.outputs, staged.out_tree)


def _of_one(types: Sequence[ArrayType], axes: Sequence[int | None]) -> list[ArrayType]:
    """Return the types of one example's arguments, of those of the batch."""
    return [t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype)
            for t, a in zip(types, axes, strict=True)]


@picklable
def per_example_grad(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0,
                     has_aux: bool = False) -> Callable[..., Any]:
    """Return the function that computes one gradient per example: ``vmap(grad(f))``.

    Every leaf of the result is a leaf of argument `argnums` with the examples along a new axis 0.
    """
    return vmap(grad(f, argnums, has_aux), in_axes)


@picklable
def mean_loss(f: Callable[..., Any], in_axes: Any = 0, has_aux: bool = False, over: Any = None
              ) -> Callable[..., Any]:
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
    """
    losses_of = vmap(f, in_axes)

    @functools.wraps(f)
    def mean_over_batch(*args: Any, **kwargs: Any) -> Any:
        def average(*args: Any, **kwargs: Any) -> Any:
            out = losses_of(*args, **kwargs)
            losses, aux = out if has_aux else (out, None)
            losses = counted_losses(losses, f, over)
            if not isinstance(losses, Array) or losses.ndim != 1 or losses.dtype.kind != "f":
                got = losses._node.type if isinstance(losses, Array) else f"a {type(losses).__name__}"
                pair = not has_aux and isinstance(losses, tuple) and len(losses) == 2
                raise BatchError(at_user_line(
                    f"mean_loss({function_name(f)}): the loss of one example must be one floating number; over the "
                    f"batch it came out as {got}. "
                    + ("Say has_aux=True for (loss, aux)." if pair else "Sum or average it within the example.")))
            total = Array(graph_forms.average(losses._node, "mean_loss"))
            return (total, aux) if has_aux else total

        staged = stage(average, args, kwargs)
        return staged.finish(staged.outputs, staged.out_tree)

    mean_over_batch.in_axes = in_axes
    return mean_over_batch


@by_kind
def counted_losses(losses: Any, f: Callable[..., Any], over: Any) -> Any:
    """Return the losses that a mean counts: one per example, or one per row of the axis `over`."""
    if over is None:
        return losses
    raise not_per_row(f, over, "one number for each example")


def not_per_row(f: Callable[..., Any], over: Any, got: object) -> BatchError:
    """Return the error of a loss that has something else than one number per row of the axis `over`."""
    return BatchError(at_user_line(f"mean_loss({function_name(f)}, over={over}): the loss of one example must have one "
                                   f"number per row of {over}; it is {got}"))


@picklable
def unroll(f: Callable[..., Any], n: int, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the literal mini-batch graph: `n` copies of f's graph, and nodes that add and average.

    It computes what ``mean_loss(f, in_axes)`` computes on a batch of `n` examples, and is there to be
    looked at and compared. What no example has a part in occurs once in it, too.

    Parameters
    ----------
    f : callable
        The loss of one example.
    n : int
        The number of examples, which the batch must have.
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    """
    if n < 1:
        raise BatchError(at_user_line(f"unroll({function_name(f)}): {n} copies; a batch has at least one example"))

    @functools.wraps(f)
    def unrolled(*args: Any, **kwargs: Any) -> Any:
        return copies_of((args, kwargs), f, n, in_axes)

    unrolled.in_axes = in_axes
    return unrolled


@by_kind
def copies_of(examples: tuple[tuple, dict], f: Callable[..., Any], n: int, in_axes: Any) -> Any:
    """Return the mean of `f` over `n` examples, by one copy of its graph for each."""
    args, kwargs = examples
    leaves, tree, types = flatten_arguments(f, args, kwargs)
    axes, size = mapped_axes(f, args, kwargs, in_axes, types, "unroll", symbolic=False)
    if number(size) != n:
        raise BatchError(at_user_line(f"unroll({function_name(f)}, {n}): the batch has {size} examples"))
    staged = stage(f, args, kwargs, (leaves, tree, _of_one(types, axes)))
    copies = graph_forms.unrolled(staged.graph, [placeholder(t) for t in types], axes, n)
    return finish(copies.inputs, leaves, copies.outputs, staged.out_tree)

"""`batch_loss`: losses that look at several examples at once, in one program for all sizes of the batch."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import BatchError, at_user_line
from ..graph import Graph, InAxes, PyTree
from .in_axes import Arguments, by_kind, mapped_axes
from .trace import Call, Staged, function_name, transform


@transform
def batch_loss(f: Callable[..., PyTree], in_axes: InAxes = 0, has_aux: bool = False) -> Callable[..., PyTree]:
    """Return a loss of the whole batch, with the axes of its arguments that count the examples marked as one.

    `f` takes the arrays of all examples: a contrastive loss compares each example with the others, batch normalization
    and ranking losses look at several at once. The result is ``f(...)`` itself. All marked axes have one size, which
    stays symbolic: a compiled program serves batches of any size, as those of `mean_loss` do.

    Parameters
    ----------
    f : callable
        The loss of a batch: a floating scalar, or ``(scalar, aux)`` with `has_aux`.
    in_axes : int, None, or a pytree of them
        As in `vmap`: the axis of each argument that counts the examples, None where there is none.
    has_aux : bool

    Returns
    -------
    callable
        A function of the same arguments.

    Raises
    ------
    BatchError
        If the sizes of the axes differ, or the loss is not one floating number.

    Examples
    --------
    >>> def contrast(a, b):
    ...     scores = a @ b.T
    ...     return np.mean(mg.special.logsumexp(scores, axis=1) - np.diag(scores))
    >>> step = mg.compile(mg.grad(mg.batch_loss(contrast)))
    >>> a, b = np.eye(3), np.ones((3, 3))
    >>> step(a, b).shape, step(a[:2], b[:2]).shape, len(step.entries)
    ((3, 3), (2, 3), 1)
    """

    def rewrite(call: Call) -> Graph:
        staged = of_batch((call.args, call.kwargs), call, in_axes)
        _check(staged, f, has_aux)
        return staged.graph

    vars(rewrite).update(in_axes=in_axes)
    return rewrite


@by_kind
def of_batch(examples: Arguments, call: Call, in_axes: InAxes) -> Staged:
    """Trace a function of a whole batch."""
    mapped_axes(call.f, *examples, in_axes, call.types, "batch_loss")
    return call.trace()


def _check(staged: Staged, f: Callable[..., PyTree], has_aux: bool) -> None:
    name, losses = f"batch_loss({function_name(f)})", staged.outputs
    pair = isinstance(staged.result, tuple) and len(staged.result) == 2
    if has_aux and not pair:
        raise BatchError(at_user_line(f"{name} with has_aux: it must return (loss, aux)"))
    of_loss = losses[:1] if has_aux else losses
    if len(of_loss) == 1 and not of_loss[0].ndim and of_loss[0].type.floating:
        return
    got = ", ".join(str(n.type) for n in of_loss)
    raise BatchError(at_user_line(
        f"{name}: the loss of a batch must be one floating number; it is {got}. " + (
            "Say has_aux=True for (loss, aux)." if pair else "Sum or average it over the examples; for the loss of "
            "each example write mg.vmap, and mg.mean_loss for the mean of a loss of one example.")))

"""`compare`: the loop, the unrolled graph, the batch, and the batch in chunks, on the same loss and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optree

from .. import backends
from ..compiler import compile
from ..errors import BatchError, MinigradError, at_user_line
from ..graph import Graph, InAxes, PyTree
from ..tracebacks import boundary
from ..transforms.grad import value_and_grad
from ..transforms.in_axes import by_kind
from ..transforms.mean import mean_loss, unroll
from ..transforms.microbatch import microbatch as microbatched
from ..transforms.static_arguments import bound_static
from ..transforms.symbolic_trace import trace
from ..transforms.trace import function_name
from .measure import measured
from .report import Report
from .variants import Data, Variant, example_arguments, side_by_side, titled

ROWS = ("loop", "unrolled", "vmapped", "microbatched")
_COPIES = 32  # the copies of one example's graph in the unrolled graph


@boundary
def compare(loss: Callable[..., PyTree], params: PyTree, examples: PyTree, *, in_axes: InAxes = None,
            microbatch: int | None = None, rows: Sequence[str] = ROWS, repeats: int = 7, copies: int = _COPIES,
            progress: bool = True, backend: str = backends.AUTO) -> Report:
    """Compare several ways to compute the mean of a per-example loss and its gradient.

    ``loop`` calls the compiled gradient of one example once per example and averages; ``unrolled`` is the graph with
    one copy per example; ``vmapped`` is the batch; ``microbatched`` is the batch in chunks.

    Parameters
    ----------
    loss : callable
        The loss of one example: ``loss(params, *example)``, a floating scalar.
    params : pytree of arrays
        The argument of the gradient.
    examples : tuple of arrays, a pytree of arrays, a Batch, or a list of examples
        Each entry of a tuple is one more argument of the loss, with the examples along axis 0. Examples of different
        size, in a `Batch` or a list, have other rows: ``loop``, ``padded``, where a filler extends each example to the
        size of the largest, and ``giant``, the packed batch.
    in_axes : optional
        The axes of all arguments, as in `vmap`; by default ``(None, 0, …, 0)``.
    microbatch : int, optional
        The examples of a chunk; by default an eighth of the batch.
    rows : sequence of {"loop", "unrolled", "vmapped", "microbatched"}, or of {"loop", "padded", "giant"}
        The variants to compare with the loop.
    repeats : int
        The timed runs of each variant, interleaved; slow ones have fewer.
    copies : int
        The most examples of the unrolled graph, which is compared with the loop on the same examples.
    progress : bool
        Whether to show a progress bar, in a notebook or if the standard error is a terminal.
    backend : str
        As in `compile`. On a device each variant has two rows: ``vmapped`` is the host's, and ``vmapped, cupy`` the
        GPU's, which is compared with the host's loop as well. The timings include the copies of the results to the
        host, and not those of the data to the GPU.

    Returns
    -------
    Report
        ``print(report)``, ``report["vmapped"].speedup``, ``report.to_json()``, ``report.to_html("report.html")``.

    Raises
    ------
    BatchError
        If the examples differ in their number along their axes, or there is none.
    GradError
        If the loss is not one floating number.
    MinigradError
        If a row is unknown, or a number is below 1.

    Examples
    --------
    >>> def loss(params, x, y):
    ...     return (x @ params["w"] - y) ** 2
    >>> report = mg.compare(loss, {"w": np.ones(2)}, (np.eye(2), np.zeros(2)), repeats=1, progress=False)
    >>> [row.name for row in report.rows]
    ['loop', 'unrolled', 'vmapped', 'microbatched']
    >>> report["vmapped"].loss, report["vmapped"].difference < 1e-15
    (1.0, True)
    """
    more = example_arguments(loss, examples, "compare")
    report: Report = compare_on(more, loss, params, in_axes, microbatch, rows, repeats, copies, progress, backend)
    return report


@by_kind
def compare_on(more: tuple[PyTree, ...], loss: Callable[..., PyTree], params: PyTree, in_axes: InAxes,
               microbatch: int | None, rows: Sequence[str], repeats: int, copies: int, progress: bool,
               backend: str) -> Report:
    """Compare the variants of the mean loss of the examples `more`; see `compare`."""
    unknown = sorted(set(rows) - set(ROWS))
    if unknown or repeats < 1 or copies < 1 or (microbatch is not None and microbatch < 1):
        raise MinigradError(at_user_line(
            f"compare: no row {unknown[0]!r}; there are {', '.join(ROWS)}" if unknown else
            "compare: repeats, copies and microbatch must be at least 1"))
    tree: PyTree = more
    if not optree.tree_leaves(tree):
        raise BatchError(at_user_line(f"compare({function_name(loss)}): there are no examples"))
    axes = (None, *(0 for _ in more)) if in_axes is None else in_axes
    loss, (params, *further) = bound_static(loss, (params, *more))
    more = tuple(further)
    every = {b: Data(loss, (params, *more), axes, b) for b in side_by_side(backend)}
    data = next(iter(every.values()))
    chunk = min(microbatch or max(data.size // 8, 1), data.size)
    counts = {name: min(data.size, copies) if name == "unrolled" else data.size for name in ROWS}
    mean = mean_loss(loss, axes)
    functions = {"loop": value_and_grad(loss), "unrolled": value_and_grad(unroll(loss, counts["unrolled"], axes)),
                 "vmapped": value_and_grad(mean), "microbatched": microbatched(value_and_grad(mean), chunk, axes)}
    names = [n for n in ROWS if n in rows or n == "loop"]
    variants = {titled(n, b): Variant(n, d, functions[n], counts[n], b) for b, d in every.items() for n in names}
    batched = variants["vmapped"].compiled if "vmapped" in variants else compile(functions["vmapped"], backend)

    def graphs() -> dict[str, Graph]:
        two = {"two examples, literally": trace(unroll(loss, 2, axes))(*data.first(2))} if data.size > 1 else {}
        return {"one example": trace(loss)(*data.each[0]), **two, "the batch": trace(mean)(*data.args)}

    return measured(function_name(loss), variants, data, repeats, lambda variant: _note(variant, data.size, chunk),
                    graphs, batched, progress)


def _note(variant: Variant, size: int, chunk: int) -> str:
    if variant.size < size:
        return (f"on the first {variant.size} of {size:,} examples, as one graph with {variant.size} copies; compared "
                "with the loop on the same ones")
    if variant.name == "microbatched":
        passes = -(-size // chunk)
        return f"{chunk:,} at a time, {passes} pass{'es' * (passes != 1)}" + (
            f", the last of {size % chunk}" if size % chunk else "")
    return ""

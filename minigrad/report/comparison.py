"""`compare`: the loop, the literal graph, the batch, and the batch in chunks, on the same loss and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optree

from .. import backends
from ..compiler import compile
from ..errors import BatchError, MinigradError, at_user_line
from ..tracebacks import boundary
from ..transforms.grad import value_and_grad
from ..transforms.in_axes import by_kind
from ..transforms.mean import mean_loss, unroll
from ..transforms.microbatch import microbatch as microbatched
from ..transforms.symbolic_trace import trace
from ..transforms.trace import function_name
from .environment import environment
from .measure import growth, table
from .report import Report
from .variants import Data, Way, doubling, progress_bar, side_by_side, titled

ROWS = ("loop", "unrolled", "vmapped", "microbatched")
_COPIES = 32  # of one example's graph in the unrolled one


@boundary
def compare(loss: Callable[..., Any], params: Any, examples: Any, *, in_axes: Any = None, microbatch: int | None = None,
            rows: Sequence[str] = ROWS, repeats: int = 7, copies: int = _COPIES, progress: bool = True,
            backend: str = backends.AUTO) -> Report:
    """Compute the mean of a per-example loss and its gradient in several ways, and compare them.

    ``loop`` calls the compiled gradient of one example once per example and averages; ``unrolled`` is the literal
    graph with one copy per example; ``vmapped`` is the batch; ``microbatched`` is the batch in chunks.

    Parameters
    ----------
    loss : callable
        The loss of one example: ``loss(params, *example)``, a floating scalar.
    params : pytree of arrays
        What the gradient is taken by.
    examples : tuple of arrays, a pytree of arrays, a Batch, or a list of examples
        Of a tuple, each entry is one more argument of the loss, with the examples along axis 0. Examples of different
        size, in a `Batch` or a list, have rows of their own: ``loop``, ``padded``, where a filler makes the rows of
        each example as many as those of the largest, and ``giant``, where they are laid end to end.
    in_axes : optional
        Of all arguments, as in `vmap`; by default ``(None, 0, …, 0)``.
    microbatch : int, optional
        Examples in a chunk; by default an eighth of the batch.
    rows : sequence of {"loop", "unrolled", "vmapped", "microbatched"}, or of {"loop", "padded", "giant"}
        The loop is always among them: the others are compared with it.
    repeats : int
        Timed runs of each way, in turns; fewer where a run takes long.
    copies : int
        The most examples that the unrolled graph gets; it is compared with the loop on the same ones.
    progress : bool
        Show a progress bar, where the standard error is a terminal and `rich` is installed.
    backend : str
        As in `compile`. With one of a device each way has two rows: ``vmapped`` is the host's, and ``vmapped, cupy``
        the GPU's, which is compared with the host's loop as well. The data is on the GPU before anything is timed; the
        times include fetching the results.

    Returns
    -------
    Report
        ``print(report)``, ``report["vmapped"].speedup``, ``report.to_json()``, ``report.to_html("report.html")``.

    Raises
    ------
    BatchError
        If the examples do not have one common number along their axes, or there is none.
    GradError
        If the loss is not one floating number.

    Examples
    --------
    >>> report = mg.compare(loss, params, (X, y))
    >>> print(report)
    """
    more = examples if type(examples) is tuple else (examples,)
    return compare_on(more, loss, params, in_axes, microbatch, rows, repeats, copies, progress, backend)


@by_kind
def compare_on(more: tuple, loss: Callable[..., Any], params: Any, in_axes: Any, microbatch: int | None,
               rows: Sequence[str], repeats: int, copies: int, progress: bool, backend: str) -> Report:
    """Compare the ways to compute the mean loss of the examples `more`; see `compare`."""
    unknown = sorted(set(rows) - set(ROWS))
    if unknown or repeats < 1 or copies < 1 or (microbatch is not None and microbatch < 1):
        raise MinigradError(at_user_line(
            f"compare: no row {unknown[0]!r}; there are {', '.join(ROWS)}" if unknown else
            "compare: repeats, copies and microbatch are at least 1"))
    if not optree.tree_leaves(more):
        raise BatchError(at_user_line(f"compare({function_name(loss)}): there are no examples"))
    axes = (None, *(0 for _ in more)) if in_axes is None else in_axes
    every = {b: Data(loss, (params, *more), axes, b) for b in side_by_side(backend)}
    data = next(iter(every.values()))
    chunk = min(microbatch or max(data.size // 8, 1), data.size)
    counts = {name: min(data.size, copies) if name == "unrolled" else data.size for name in ROWS}
    mean = mean_loss(loss, axes)
    functions = {"loop": value_and_grad(loss), "unrolled": value_and_grad(unroll(loss, counts["unrolled"], axes)),
                 "vmapped": value_and_grad(mean), "microbatched": microbatched(value_and_grad(mean), chunk, axes)}
    names = [n for n in ROWS if n in rows or n == "loop"]
    ways = {titled(n, b): Way(n, d, functions[n], counts[n], b) for b, d in every.items() for n in names}
    sweep = {title: way for title, way in ways.items() if way.name != "unrolled"}
    sizes = doubling(data.size)
    steps = (repeats + 2) * len(ways) + repeats + len(sizes)
    with progress_bar(progress, f"compare {function_name(loss)}", steps) as advance:
        found, roundoff = table(ways, repeats, lambda way: _note(way, data.size, chunk), advance)
        curves = growth(sweep, sizes, advance)
    batched = ways["vmapped"].compiled if "vmapped" in ways else compile(functions["vmapped"], backend)
    if not batched.entries:
        batched.build(*data.args)
    graphs = {"one example": trace(loss)(*data.each[0]),
              "two examples, literally": trace(unroll(loss, 2, axes))(*data.first(2)) if data.size > 1 else None,
              "the batch": trace(mean)(*data.args), "value and gradient": batched.graph}
    graphs = {k: g for k, g in graphs.items() if g is not None}
    return Report(function_name(loss), found, curves, graphs, batched.source,
                  tuple((s.name, s.note) for s in batched.stages), roundoff, environment())


def _note(way: Way, size: int, chunk: int) -> str:
    if way.size < size:
        return (f"on the first {way.size} of {size:,} examples, as one graph with {way.size} copies; compared with the "
                "loop on the same ones")
    if way.name == "microbatched":
        passes = -(-size // chunk)
        return f"{chunk:,} at a time, {passes} pass{'es' * (passes != 1)}" + (
            f", the last of {size % chunk}" if size % chunk else "")
    return ""

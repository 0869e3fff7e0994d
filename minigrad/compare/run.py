"""`compare`: the loop, the literal graph, the batch, and the batch in chunks, on the same loss and data."""

from __future__ import annotations

import importlib.util
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optree

from ..backends import cupy
from ..compiler import Compiled, compile
from ..errors import BatchError, MinigradError, at_user_line
from ..graph import Graph
from ..primitive import on_host
from ..transforms.grad import value_and_grad
from ..transforms.microbatch import microbatch as microbatched
from ..transforms.trace import flatten_arguments, function_name, trace
from ..transforms.vmap import mapped_axes, mean_loss, unroll
from .machine import environment
from .operations import count_nodes, count_operations
from .report import Point, Report, Row

ROWS = ("loop", "unrolled", "vmapped", "microbatched")
_COPIES = 32  # of one example's graph in the unrolled one
_PATIENCE = 3.0  # seconds: a row that takes longer is not run again


class Data:
    """The arguments of a per-example loss for a whole batch, and how to take some of the examples."""

    def __init__(self, loss: Callable[..., Any], args: tuple, in_axes: Any, backend: str = "numpy"):
        self.loss, self.in_axes = loss, in_axes
        self._leaves, self._tree, types = flatten_arguments(loss, args, {})
        self._leaves = [np.asarray(x) for x in map(on_host, self._leaves)]
        if backend == "cupy":  # they are moved once, as one would for training
            device = cupy.driver.current()
            self._leaves = [device.asarray(x, x.dtype) for x in self._leaves]
        self.args = optree.tree_unflatten(self._tree, self._leaves)[0]
        self._axes, self.size = mapped_axes(loss, args, {}, in_axes, types, "compare", symbolic=False)
        self.each = [self._with(k) for k in range(self.size)]  # the arguments of each example alone: views

    def _with(self, index: Any) -> tuple:
        leaves = [x if a is None else x[(slice(None),) * a + (index,)]
                  for x, a in zip(self._leaves, self._axes, strict=True)]
        return optree.tree_unflatten(self._tree, leaves)[0]

    def first(self, n: int) -> tuple:
        """Return the arguments of the first `n` examples."""
        return self._with(slice(n))


class Way:
    """One way to compute the mean loss and its gradient.

    Attributes
    ----------
    function : callable
        What is compiled.
    looped : bool
        Whether it is called once per example.
    """

    def __init__(self, data: Data, function: Callable[..., Any], backend: str, looped: bool = False):
        self.data, self.function, self.looped, self._backend = data, function, looped, backend
        self.compiled = self._fresh()

    def _fresh(self) -> Compiled:
        return compile(self.function, self._backend)

    def call(self, n: int, compiled: Compiled | None = None) -> tuple[float, list[np.ndarray]]:
        """Return the mean loss of the first `n` examples, and the leaves of its gradient."""
        step = compiled or self.compiled
        if not self.looped:
            value, gradient = step(*self.data.first(n))
            return float(value), [on_host(g) for g in optree.tree_leaves(gradient)]
        total, sums = 0.0, None
        for args in self.data.each[:n]:
            value, gradient = step(*args)
            total += float(value)
            leaves = [on_host(g) for g in optree.tree_leaves(gradient)]
            if sums is None:
                sums = leaves
            else:
                for s, g in zip(sums, leaves, strict=True):
                    np.add(s, g, out=s)
        return total / n, [s / n for s in sums]

    def build(self, n: int, compiled: Compiled | None = None) -> float:
        """Build the program for `n` examples, and return how long that took."""
        start = time.perf_counter()
        (compiled or self.compiled).build(*(self.data.each[0] if self.looped else self.data.first(n)))
        return time.perf_counter() - start

    def timed(self, n: int) -> float:
        """Return how long one call takes, results thrown away."""
        start = time.perf_counter()
        self.call(n)
        return time.perf_counter() - start

    def peak_bytes(self, n: int) -> int:
        """Return the most that a first call holds beyond its arguments and its program.

        NumPy reports its arrays to `tracemalloc`. A fresh program is built before, so that its workspace, which
        later calls would find in place, is counted.
        """
        fresh = self._fresh()
        self.build(n, fresh)
        tracing = tracemalloc.is_tracing()
        if not tracing:
            tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            self.call(n, fresh)
            return max(tracemalloc.get_traced_memory()[1] - before, 0)
        finally:
            if not tracing:
                tracemalloc.stop()

    def operations(self, n: int) -> int:
        """Return the arithmetic operations that `n` examples take in the program that runs."""
        args = self.data.each[0] if self.looped else self.data.first(n)
        shapes = [np.shape(x) for x in optree.tree_leaves(args)]
        entry = self.compiled.entries[-1]
        graph = [s.after for s in entry.stages if isinstance(s.after, Graph)][-1]
        count = count_operations(graph, entry.sizes(shapes))
        if self.looped:  # and adding up the gradients
            count = n * (count + sum(int(np.prod(g.shape, dtype=int)) for g in graph.outputs))
        return count


def compare(loss: Callable[..., Any], params: Any, examples: Any, *, in_axes: Any = None, microbatch: int | None = None,
            rows: Sequence[str] = ROWS, repeats: int = 7, copies: int = _COPIES, progress: bool = True,
            backend: str = "auto") -> Report:
    """Compute the mean of a per-example loss and its gradient in several ways, and compare them.

    ``loop`` calls the compiled gradient of one example once per example and averages; ``unrolled`` is the literal
    graph with one copy per example; ``vmapped`` is the batch; ``microbatched`` is the batch in chunks.

    Parameters
    ----------
    loss : callable
        The loss of one example: ``loss(params, *example)``, a floating scalar.
    params : pytree of arrays
        What the gradient is taken by.
    examples : tuple of arrays, or a pytree of arrays
        Of a tuple, each entry is one more argument of the loss, with the examples along axis 0.
    in_axes : optional
        Of all arguments, as in `vmap`; by default ``(None, 0, …, 0)``.
    microbatch : int, optional
        Examples in a chunk; by default an eighth of the batch.
    rows : sequence of {"loop", "unrolled", "vmapped", "microbatched"}
        The loop is always among them: the others are compared with it.
    repeats : int
        Timed runs of each way, in turns; fewer where a run takes long.
    copies : int
        The most examples that the unrolled graph gets; it is compared with the loop on the same ones.
    progress : bool
        Show a progress bar, where the standard error is a terminal and `rich` is installed.
    backend : str
        As in `compile`. With ``"cupy"`` the data is on the GPU before anything is timed; the times then include
        fetching the results, and the peaks are those of the host's memory.

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
    unknown = sorted(set(rows) - set(ROWS))
    if unknown or repeats < 1 or copies < 1 or (microbatch is not None and microbatch < 1):
        raise MinigradError(at_user_line(
            f"compare: no row {unknown[0]!r}; there are {', '.join(ROWS)}" if unknown else
            "compare: repeats, copies and microbatch are at least 1"))
    more = examples if type(examples) is tuple else (examples,)
    if not optree.tree_leaves(more):
        raise BatchError(at_user_line(f"compare({function_name(loss)}): there are no examples"))
    axes = (None, *(0 for _ in more)) if in_axes is None else in_axes
    data = Data(loss, (params, *more), axes, backend)
    chunk = min(microbatch or max(data.size // 8, 1), data.size)
    counts = {name: min(data.size, copies) if name == "unrolled" else data.size for name in ROWS}
    mean = mean_loss(loss, axes)
    functions = {"loop": value_and_grad(loss), "unrolled": value_and_grad(unroll(loss, counts["unrolled"], axes)),
                 "vmapped": value_and_grad(mean), "microbatched": microbatched(value_and_grad(mean), chunk, axes)}
    names = [n for n in ROWS if n in rows or n == "loop"]
    ways = {n: Way(data, functions[n], backend, looped=n == "loop") for n in names}
    sweep = [n for n in names if n != "unrolled"]
    sizes = _doubling(data.size)
    steps = (repeats + 2) * len(names) + repeats + len(sizes)
    with progress_bar(progress, f"compare {function_name(loss)}", steps) as advance:
        table, roundoff = _table(ways, counts, repeats, chunk, advance)
        curves: dict[str, list[Point]] = {n: [] for n in sweep}
        for n in sizes:
            advance(f"batch of {n}")
            for name in sweep:
                curves[name].append(Point(n, _median_time(ways[name], n), ways[name].peak_bytes(n)))
    batched = ways["vmapped"].compiled if "vmapped" in ways else compile(functions["vmapped"], backend)
    if not batched.entries:
        batched.build(*data.args)
    graphs = {"one example": trace(loss)(*data.each[0]),
              "two examples, literally": trace(unroll(loss, 2, axes))(*data.first(2)) if data.size > 1 else None,
              "the batch": trace(mean)(*data.args), "value and gradient": batched.graph}
    return Report(function_name(loss), table, {k: tuple(v) for k, v in curves.items()},
                  {k: g for k, g in graphs.items() if g is not None}, batched.source,
                  tuple((s.name, s.note) for s in batched.stages), roundoff, environment())


def _table(ways: dict[str, Way], counts: dict[str, int], repeats: int, chunk: int,
           advance: Callable[[str], None]) -> tuple[tuple[Row, ...], float]:
    """Return a row for each way, and the round-off of the gradient's dtype."""
    built, results, peaks = {}, {}, {}
    for name, way in ways.items():
        advance(f"{name}: build and first run")
        built[name] = way.build(counts[name])
        results[name] = way.call(counts[name])
    loop, size, short = ways["loop"], counts["loop"], counts["unrolled"]
    turns = {name: (way, counts[name]) for name, way in ways.items()}
    again = "the loop on the same"  # examples as the unrolled graph has
    if "unrolled" in ways and short != size:
        turns[again] = loop, short
    seconds = _in_turns(turns, repeats, advance)
    for name, way in ways.items():
        advance(f"{name}: memory")
        peaks[name] = way.peak_bytes(counts[name])
    middle = {name: float(np.median(s)) for name, s in seconds.items()}
    reference = {size: (results["loop"][1], middle["loop"])}
    if again in turns:
        reference[short] = loop.call(short)[1], middle[again]
    rows = []
    for name, way in ways.items():
        (value, gradient), (wanted, loop_time) = results[name], reference[counts[name]]
        rows.append(Row(name, counts[name], value, difference(gradient, wanted), tuple(seconds[name]),
                        loop_time / middle[name], peaks[name], count_nodes(way.compiled.graph),
                        way.operations(counts[name]), built[name], _note(name, size, short, chunk)))
    dtype = np.result_type(*(g.dtype for g in results["loop"][1]))
    return tuple(rows), float(np.finfo(dtype).eps)


def difference(have: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """Return the largest difference of an element, relative to the largest element of its array in `want`."""
    worst = 0.0
    for h, w in zip(have, want, strict=True):
        gap = float(np.max(np.abs(np.subtract(h, w, dtype=float)), initial=0.0))
        scale = float(np.max(np.abs(w), initial=0.0))
        worst = max(worst, gap / scale if scale else gap) if np.isfinite(gap) else float("nan")
        if np.isnan(worst):
            break
    return worst


def _note(name: str, size: int, short: int, chunk: int) -> str:
    if name == "unrolled" and short < size:
        return (f"on the first {short} of {size:,} examples, as one graph with {short} copies; compared with the loop "
                "on the same ones")
    if name == "microbatched":
        passes = -(-size // chunk)
        return f"{chunk:,} at a time, {passes} pass{'es' * (passes != 1)}" + (
            f", the last of {size % chunk}" if size % chunk else "")
    return ""


def _in_turns(turns: dict[str, tuple[Way, int]], repeats: int, advance: Callable[[str], None]) -> dict[
        str, list[float]]:
    """Time all ways in turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, (way, n) in turns.items():
            advance(f"{name}: time")
            if sum(seconds[name]) < _PATIENCE:
                seconds[name].append(way.timed(n))
    return seconds


def _median_time(way: Way, n: int) -> float:
    way.call(n)
    seconds = [way.timed(n)]
    while len(seconds) < 5 and sum(seconds) < _PATIENCE / 20:
        seconds.append(way.timed(n))
    return float(np.median(seconds))


def _doubling(n: int) -> list[int]:
    """Return 1, 2, 4, …, n."""
    return [*(2**k for k in range((n - 1).bit_length())), n]


@contextmanager
def progress_bar(wanted: bool, title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that says what is done next, on a bar where someone is watching."""
    if not wanted or not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda what: None
        return
    from rich.console import Console  # rich takes long to import, and only this needs it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("[bold]{task.fields[title]}"), BarColumn(), TextColumn("{task.description}"),
               TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, title=title)
        started = False

        def advance(what: str) -> None:
            nonlocal started
            bar.update(task, description=what, advance=int(started))
            started = True

        yield advance

"""Variants of the computation of one mean gradient: their time, memory and operations."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import optree

from .. import backends
from ..compiler import Compiled, compile
from ..errors import TraceError, at_user_line
from ..graph import Graph, InAxes, PyTree
from ..locks import importing
from ..primitive import on_host
from ..progress import in_notebook, is_terminal, notebook_bar
from ..symbolic import size_of, value
from ..transforms.arguments_by_name import positional_axes
from ..transforms.example_arguments import ExampleArguments
from ..transforms.in_axes import by_kind, mapped_axes
from ..transforms.trace import flatten_arguments, function_name
from .flops import count_operations

_PATIENCE = 3.0  # seconds of runs after which a row is not timed again


def moved(tree: PyTree, backend: str | None) -> PyTree:
    """Return a pytree with its arrays in the memory of a backend."""
    if backend is None or not (own := backends.get(backend)).on_device:
        return tree
    return optree.tree_map(lambda x: own.asarray(x, x.dtype), tree)


def side_by_side(backend: str) -> tuple[str, ...]:
    """Return the backends of a report: for a GPU's, the host's first, as the reference."""
    name = backends.chosen(backend)
    return (backends.on_host(), name) if backends.get(name).on_device else (name,)


def titled(name: str, backend: str) -> str:
    """Return the title of a row."""
    return f"{name}, {backend}" if backends.get(backend).on_device else name


def example_arguments(loss: Callable[..., PyTree], examples: PyTree, caller: str) -> tuple[PyTree, ...]:
    """Return the arguments of a loss after its parameters: a tuple as it is, anything else as the only one.

    Raises
    ------
    TraceError
        If the loss needs more than the only one.
    """
    if type(examples) is tuple:
        return examples
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # no signature can be read
        return (examples,)
    try:
        signature.bind(None, examples)
    except TypeError as error:
        raise TraceError(at_user_line(
            f"{caller}({function_name(loss)}): {error}. The loss is called with the parameters and one example; "
            "`examples` is a tuple of one array per further argument, such as (x, y)")) from None
    return (examples,)


class Data(ExampleArguments):
    """The arguments of a per-example loss, with the examples along axes of arrays.

    Attributes
    ----------
    each : list of tuple
        The arguments of each example.
    """

    each: list[tuple[PyTree, ...]]

    def __init__(self, loss: Callable[..., PyTree], args: tuple[PyTree, ...], in_axes: InAxes,
                 backend: str | None = None):
        types = flatten_arguments(loss, args, {}).types
        in_axes = positional_axes(loss, in_axes, len(args), "compare")
        mapped_axes(loss, args, {}, in_axes, types, "compare", symbolic=False)  # refuses axes that do not fit
        on_backend = moved([optree.tree_map(lambda x: np.asarray(on_host(x)), a) for a in args], backend)
        super().__init__(tuple(on_backend), in_axes)
        self.each = [self.take(k) for k in range(self.size)]  # views

    def first(self, n: int) -> tuple[PyTree, ...]:
        """Return the arguments of the first `n` examples."""
        return self.take(slice(n))


@by_kind
def example_data(more: tuple[PyTree, ...], loss: Callable[..., PyTree], params: PyTree, in_axes: InAxes,
                 backend: str | None = None) -> Data:
    """Return the arguments of a per-example loss, whose examples are those of `more`."""
    return Data(loss, (params, *more), in_axes, backend)


class Variant:
    """One variant of the computation of the mean loss and its gradient.

    Attributes
    ----------
    name : str
        ``"loop"`` is called once per example.
    data : Arguments
    function : callable
        The function to compile.
    size : int
        The number of examples.
    """

    def __init__(self, name: str, data: Data, function: Callable[..., PyTree], size: int, backend: str):
        self.name, self.data, self.function, self.size, self._backend = name, data, function, size, backend
        self.looped = name == "loop"
        self.compiled = self._fresh()

    def _fresh(self) -> Compiled:
        return compile(self.function, self._backend)

    def call(self, n: int, compiled: Compiled | None = None) -> tuple[float, list[np.ndarray]]:
        """Return the mean loss of the first `n` examples, and the leaves of its gradient."""
        step = compiled or self.compiled
        if not self.looped:
            value, gradient = step(*self.data.first(n))
            return float(value), [on_host(g) for g in optree.tree_leaves(gradient)]
        total = 0.0
        sums: list[np.ndarray] = []
        for args in self.data.each[:n]:
            value, gradient = step(*args)
            total += float(value)
            leaves = [on_host(g) for g in optree.tree_leaves(gradient)]
            for s, g in zip(sums, leaves, strict=bool(sums)):
                np.add(s, g, out=s)
            sums = sums or leaves
        return total / n, [s / n for s in sums]

    def build(self, n: int, compiled: Compiled | None = None) -> float:
        """Build the program for `n` examples, and return the seconds."""
        start = time.perf_counter()
        (compiled or self.compiled).build(*(self.data.each[0] if self.looped else self.data.first(n)))
        return time.perf_counter() - start

    def timed(self, n: int) -> float:
        """Return the seconds of one call."""
        start = time.perf_counter()
        self.call(n)
        return time.perf_counter() - start

    def peak_bytes(self, n: int) -> int:
        """Return the peak memory of a first call beyond its arguments and its program.

        NumPy reports its arrays to `tracemalloc`. The program is built anew before, so that the peak includes its
        workspace, which later calls reuse. On a GPU the peak is the program's workspace and its results.
        """
        if backends.get(self._backend).on_device:
            args = self.data.each[0] if self.looped else self.data.first(n)
            results = self.compiled.build(*args).graph.outputs
            held = sum(value(size_of(r.shape), {}) * r.dtype.itemsize for r in results)
            return self.compiled.workspace_bytes(*args) + held
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
        """Return the number of arithmetic operations of the program for `n` examples."""
        args: PyTree = self.data.each[0] if self.looped else self.data.first(n)
        shapes = [np.shape(x) for x in optree.tree_leaves(args)]
        entry = self.compiled.entries[-1]
        stages = sorted(entry.stages, key=lambda s: s.name == "parts")  # the whole of a program in parts comes last
        graph = next(g for s in reversed(stages) if isinstance(g := s.after, Graph))
        sizes = {**entry.sizes(shapes), **getattr(entry.program, "latest_sizes", {})}
        count = count_operations(graph, sizes)
        if self.looped:  # with the sum of the gradients
            count = n * (count + sum(value(size_of(g.shape), {}) for g in graph.outputs))
        return count


def difference(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest difference of an element, relative to the largest element of its array in `expected`."""
    worst = 0.0
    for h, w in zip(actual, expected, strict=True):
        gap = float(np.max(np.abs(np.subtract(h, w, dtype=float)), initial=0.0))
        scale = float(np.max(np.abs(w), initial=0.0))
        worst = max(worst, gap / scale if scale else gap) if np.isfinite(gap) else float("nan")
        if np.isnan(worst):
            break
    return worst


def interleaved(turns: dict[str, tuple[Variant, int]], repeats: int,
                advance: Callable[[str], None]) -> dict[str, list[float]]:
    """Interleave the timings, so that background load affects all variants equally."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, (variant, n) in turns.items():
            advance(f"{name}: time")
            if sum(seconds[name]) < _PATIENCE:
                seconds[name].append(variant.timed(n))
    return seconds


def median_time(variant: Variant, n: int) -> float:
    """Return the median seconds of a call on `n` examples, after a first one."""
    variant.call(n)
    seconds = [variant.timed(n)]
    while len(seconds) < 5 and sum(seconds) < _PATIENCE / 20:
        seconds.append(variant.timed(n))
    return float(np.median(seconds))


def doubling(n: int) -> list[int]:
    """Return 1, 2, 4, …, n."""
    return [*(2**k for k in range((n - 1).bit_length())), n]


@contextmanager
def progress_bar(enabled: bool, title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes the name of the next step, and shows it on a bar in a terminal or a notebook."""
    if enabled and in_notebook():
        with notebook_bar(title, total, transient=True) as update:
            steps = itertools.count()
            yield lambda step: update(next(steps), step)
        return
    if not enabled or not is_terminal(sys.stderr) or importlib.util.find_spec("rich") is None:
        yield lambda step: None
        return
    with importing:
        from rich.console import Console  # slow to import
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("[bold]{task.fields[title]}"), BarColumn(), TextColumn("{task.description}"),
               TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, title=title)
        started = False

        def advance(step: str) -> None:
            nonlocal started
            bar.update(task, description=step, advance=int(started))
            started = True

        yield advance

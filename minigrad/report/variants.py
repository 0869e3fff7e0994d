"""Ways to compute the same mean gradient, and how each is timed and weighed."""

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

from .. import backends
from ..compiler import Compiled, compile
from ..graph import Graph
from ..primitive import on_host
from ..symbolic import size_of
from ..transforms.in_axes import mapped_axes
from ..transforms.trace import flatten_arguments
from .flops import count_operations

_PATIENCE = 3.0  # seconds: a row that takes longer is not run again


def moved(tree: Any, backend: str | None) -> Any:
    """Return a pytree with its arrays where a backend computes: they are moved once, as one would for training."""
    if backend is None or not (own := backends.get(backend)).on_device:
        return tree
    return optree.tree_map(lambda x: own.asarray(x, x.dtype), tree)


def side_by_side(backend: str) -> tuple[str, ...]:
    """Return the backends whose rows stand side by side: the host's first, which the GPU's are compared with."""
    wanted = backends.chosen(backend)
    return (backends.on_host(), wanted) if backends.get(wanted).on_device else (wanted,)


def titled(name: str, backend: str) -> str:
    """Return what a row is called."""
    return f"{name}, {backend}" if backends.get(backend).on_device else name


class Data:
    """The arguments of a per-example loss for a whole batch, and how to take some of the examples."""

    def __init__(self, loss: Callable[..., Any], args: tuple, in_axes: Any, backend: str | None = None):
        self.loss, self.in_axes = loss, in_axes
        self._leaves, self._tree, types = flatten_arguments(loss, args, {})
        self._leaves = moved([np.asarray(x) for x in map(on_host, self._leaves)], backend)
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
    name : str
        ``"loop"`` is called once per example.
    function : callable
        What is compiled.
    size : int
        How many examples it is to run on.
    """

    def __init__(self, name: str, data: Any, function: Callable[..., Any], size: int, backend: str):
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
        later calls would find in place, is counted. On the GPU it is what the program lays out, and its results.
        """
        if backends.get(self._backend).on_device:
            args = self.data.each[0] if self.looped else self.data.first(n)
            results = self.compiled.build(*args).graph.outputs
            return self.compiled.workspace_bytes(*args) + sum(size_of(r.shape) * r.dtype.itemsize for r in results)
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


def in_turns(turns: dict[str, tuple[Way, int]], repeats: int, advance: Callable[[str], None]) -> dict[
        str, list[float]]:
    """Time all ways in turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, (way, n) in turns.items():
            advance(f"{name}: time")
            if sum(seconds[name]) < _PATIENCE:
                seconds[name].append(way.timed(n))
    return seconds


def median_time(way: Way, n: int) -> float:
    way.call(n)
    seconds = [way.timed(n)]
    while len(seconds) < 5 and sum(seconds) < _PATIENCE / 20:
        seconds.append(way.timed(n))
    return float(np.median(seconds))


def doubling(n: int) -> list[int]:
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

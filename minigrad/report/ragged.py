"""`compare` for examples of different size: the loop, every example filled up to the largest, and the giant graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from ..errors import MinigradError, at_user_line
from ..ragged.batch import Batch, _pack, batch
from ..ragged.schema import schema_of
from ..transforms.grad import value_and_grad
from ..transforms.mean import mean_loss
from ..transforms.ragged import is_batch
from ..transforms.symbolic_trace import trace
from ..transforms.trace import function_name
from ..transforms.vmap import vmap
from .comparison import compare_on
from .environment import environment
from .measure import growth, table
from .report import Report
from .variants import Way, doubling, moved, progress_bar, side_by_side, titled

ROWS = ("loop", "padded", "giant")


def are_examples(x: Any) -> bool:
    """Tell whether `x` is a list of examples of a schema."""
    return isinstance(x, list) and bool(x) and schema_of(type(x[0])) is not None


class RaggedData:
    """The arguments of a loss for a batch of examples of different size, and how to take some of the examples."""

    def __init__(self, args: tuple, in_axes: Any, backend: str | None = None):
        self.args, self._backend = args, backend
        self._first: dict[int, tuple] = {}
        self._parts, self._tree = optree.tree_flatten(args, is_leaf=is_batch)
        whole = optree.tree_unflatten(self._tree, [0] * len(self._parts))
        self._axes = optree.broadcast_prefix(in_axes, whole, none_is_leaf=True)
        self.size = next(len(p) for p, a in zip(self._parts, self._axes, strict=True) if is_batch(p) and a is not None)
        # Batches of one: one program for all.
        self.each = [moved(self.take(slice(k, k + 1)), backend) for k in range(self.size)]

    def take(self, rows: slice) -> tuple:
        return optree.tree_unflatten(self._tree, [
            p if a is None else p[rows] if is_batch(p) else np.asarray(p)[(slice(None),) * a + (rows,)]
            for p, a in zip(self._parts, self._axes, strict=True)])

    def first(self, n: int) -> tuple:
        """Return the arguments of the first `n` examples, made and moved once."""
        if n not in self._first:
            self._first[n] = moved(self._some(n), self._backend)
        return self._first[n]

    def _some(self, n: int) -> tuple:
        return self.take(slice(n))

    def example(self) -> tuple:
        """Return the arguments of the first example alone."""
        return optree.tree_unflatten(self._tree, [
            p if a is None else p[0] if is_batch(p) else np.take(p, 0, axis=a)
            for p, a in zip(self._parts, self._axes, strict=True)])

    def batches(self) -> list[Batch]:
        return [p for p, a in zip(self._parts, self._axes, strict=True) if is_batch(p) and a is not None]

    def padded(self) -> RaggedData:
        """Return the data with a filler behind each example, such that both together are as large as the largest."""
        parts = [p if a is None else _filled(p) if is_batch(p) else np.repeat(p, 2, axis=a)
                 for p, a in zip(self._parts, self._axes, strict=True)]
        return _Padded(optree.tree_unflatten(self._tree, parts), self._axes_tree(), self._backend)

    def _axes_tree(self) -> Any:
        return optree.tree_unflatten(self._tree, self._axes)


class _Padded(RaggedData):
    """Examples and fillers in turns; the last argument says which are examples."""

    def __init__(self, args: tuple, in_axes: Any, backend: str | None):
        self._backend, self._first = backend, {}
        self._parts, self._tree = optree.tree_flatten(args, is_leaf=is_batch)
        self._axes = optree.tree_leaves(in_axes, none_is_leaf=True)
        self.size = next(len(p) for p, a in zip(self._parts, self._axes, strict=True) if is_batch(p) and a is not None)
        self.size //= 2
        self.args = self._some(self.size)
        self.each = []

    def _some(self, n: int) -> tuple:
        return (*self.take(slice(2 * n)), np.tile([True, False], n))


def _filled(b: Batch) -> Batch:
    """Return a batch in which a filler follows each example: zeros, and indices to its first row."""
    largest = {a: int(n.max(initial=0)) for a, n in b.lengths.items()}
    sizes, columns = [], {n: [] for n in b.schema.fields}
    pointed = {t.target for t in b.schema.fields.values() if t.target is not None}
    examples = b.unbatch()
    for k, x in enumerate(examples):
        own = {a: int(n[k]) for a, n in b.lengths.items()}
        # A row to point at, if there is nothing else to fill.
        fill = {a: max(largest[a] - n, int(a in pointed)) for a, n in own.items()}
        sizes += [tuple(own.values()), tuple(fill.values())]
        for name, value in b.schema.values(x).items():
            t = b.schema.fields[name]
            if t.counts or value is None or t.shared:
                filler = value
            elif t.shape:
                filler = np.zeros(tuple(fill.get(n, n) for n in t.shape), t.dtype)
            else:
                filler = t.dtype.type(0)
            columns[name] += [value, filler]
    return _pack(b.schema, columns, sizes)


@compare_on.register(are_examples)
def _compare_lists(more: tuple, *args: Any) -> Report:
    return compare_on(optree.tree_map(lambda x: batch(x) if are_examples(x) else x, more, is_leaf=are_examples), *args)


@compare_on.register(is_batch)
def compare_ragged(more: tuple, loss: Callable[..., Any], params: Any, in_axes: Any, microbatch: int | None,
                   rows: Sequence[str], repeats: int, copies: int, progress: bool, backend: str) -> Report:
    """Compare the ways to treat examples of different size; see `compare`."""
    unknown = sorted(set(rows) - set(ROWS) - {"unrolled", "vmapped", "microbatched"})
    if unknown or repeats < 1:
        raise MinigradError(at_user_line(f"compare: no row {unknown[0]!r} for examples of different size; there are "
                                         f"{', '.join(ROWS)}" if unknown else "compare: repeats is at least 1"))
    axes = (None, *(0 for _ in more)) if in_axes is None else in_axes
    every = {b: RaggedData((params, *more), axes, b) for b in side_by_side(backend)}
    data = next(iter(every.values()))
    mean = mean_loss(loss, axes)
    each = vmap(loss, axes)

    def mean_of_examples(*args: Any) -> Any:
        *args, is_example = args
        return np.sum(np.where(is_example, each(*args), 0)) / np.sum(is_example)

    functions = {"loop": mean, "padded": mean_of_examples, "giant": mean}
    wanted = [n for n in ROWS if n in rows or n == "loop"]
    ways = {titled(n, b): Way(n, d.padded() if n == "padded" else d, value_and_grad(functions[n]), data.size, b)
            for b, d in every.items() for n in (wanted if len(wanted) > 1 else ROWS)}
    sizes = doubling(data.size)
    with progress_bar(progress, f"compare {function_name(loss)}", (repeats + 2) * len(ways) + len(sizes)) as advance:
        found, roundoff = table(ways, repeats, _note, advance)
        curves = growth(ways, sizes, advance)
    giant = (ways.get("giant") or ways["loop"]).compiled
    graphs = {"one example": trace(loss)(*data.example()), "the batch": trace(mean)(*data.args),
              "value and gradient": giant.graph}
    return Report(function_name(loss), found, curves, graphs, giant.source,
                  tuple((s.name, s.note) for s in giant.stages), roundoff, environment())


def _note(way: Way) -> str:
    name, data = way.name, way.data
    if name == "loop":
        return "one batch of one example after the other, by one program"
    rows = {str(a): int(n.sum()) for b in data.batches() for a, n in b.lengths.items()}
    held = sum(b.nbytes for b in data.batches())
    text = ", ".join(f"{n:,} {a}s" for a, n in rows.items())
    return (f"{text}, {held:,} bytes of arrays" + (": a filler makes each example as large as the largest"
                                                   if name == "padded" else ": laid end to end"))

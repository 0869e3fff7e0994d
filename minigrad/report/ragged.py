"""`compare` for examples of different size: the loop, padded examples, and the packed batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from ..errors import MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..ragged.axes import Axis
from ..ragged.batch import Batch, _pack, batch, is_batch
from ..ragged.schema import schema_of
from ..transforms.example_arguments import ExampleArguments
from ..transforms.grad import value_and_grad
from ..transforms.mean import mean_loss
from ..transforms.static_arguments import bound_static
from ..transforms.symbolic_trace import trace
from ..transforms.trace import function_name
from ..transforms.vmap import vmap
from .comparison import compare_on
from .measure import measured
from .report import Report
from .variants import Data, Variant, example_data, moved, side_by_side, titled

ROWS = ("loop", "padded", "giant")


def are_examples(x: object) -> bool:
    """Return whether `x` is a list of examples of a schema."""
    return isinstance(x, list) and bool(x) and schema_of(type(x[0])) is not None


class RaggedData(Data):
    """The arguments of a loss for a batch of examples of different size, on one backend."""

    def __init__(self, args: tuple[PyTree, ...], in_axes: InAxes, backend: str | None = None):
        ExampleArguments.__init__(self, args, in_axes, is_batch)
        self._backend = backend
        self._first: dict[int, tuple[PyTree, ...]] = {}
        self.each = self._each()

    def _each(self) -> list[tuple[PyTree, ...]]:
        """Return the batches of one example, which one program runs."""
        return [moved(self.take(slice(k, k + 1)), self._backend) for k in range(self.size)]

    def first(self, n: int) -> tuple[PyTree, ...]:
        """Return the arguments of the first `n` examples, on the backend; they are moved once."""
        if n not in self._first:
            self._first[n] = moved(self._some(n), self._backend)
        return self._first[n]

    def _some(self, n: int) -> tuple[PyTree, ...]:
        return self.take(slice(n))

    def batches(self) -> list[Batch]:
        """Return the mapped batches."""
        return [p for p, a in zip(self.parts, self.axes, strict=True) if is_batch(p) and a is not None]

    def padded(self) -> RaggedData:
        """Return the data with a filler behind each example, such that both together have the size of the largest."""
        parts = [p if a is None else _filled(p) if is_batch(p) else np.repeat(p, 2, axis=a)
                 for p, a in zip(self.parts, self.axes, strict=True)]
        return _Padded(self._with(parts), self.in_axes, self._backend)


class _Padded(RaggedData):
    """Examples and fillers in turns; the last argument marks the examples."""

    def __init__(self, args: tuple[PyTree, ...], in_axes: InAxes, backend: str | None):
        super().__init__(args, in_axes, backend)
        self.size //= 2
        self.args = self._some(self.size)

    def _each(self) -> list[tuple[PyTree, ...]]:
        return []

    def _some(self, n: int) -> tuple[PyTree, ...]:
        return (*self.take(slice(2 * n)), np.tile([True, False], n))


def _filled(b: Batch) -> Batch:
    """Return a batch in which a filler follows each example: zeros, and indices to its first row, or to none."""
    largest = {a: int(n.max(initial=0)) for a, n in b.lengths.items()}
    sizes: list[tuple[int, ...]] = []
    columns: dict[str, list[Any]] = {n: [] for n in b.schema.fields}
    targets = {t.target for t in b.schema.fields.values() if t.target is not None}
    for k, x in enumerate(b.unbatch()):
        own = {a: int(n[k]) for a, n in b.lengths.items()}
        # At least one row of each axis that indices point into.
        fill = {a: max(largest[a] - n, int(a in targets)) for a, n in own.items()}
        sizes += [tuple(own.values()), tuple(fill.values())]
        for name, value in b.schema.values(x).items():
            t = b.schema.fields[name]
            if t.counts or value is None or t.shared:
                filler = value
            elif t.shape:
                shape = tuple(fill[n] if isinstance(n, Axis) else n for n in t.shape)
                filler = np.full(shape, 0 if t.null is None else t.null, t.dtype)
            else:
                filler = t.dtype.type(0)
            columns[name] += [value, filler]
    return _pack(b.schema, columns, sizes)


def packed_lists(more: PyTree) -> PyTree:
    """Return the arguments with each list of examples as a batch."""
    packed: PyTree = optree.tree_map(lambda x: batch(x) if are_examples(x) else x, more, is_leaf=are_examples)
    return packed


@compare_on.register(are_examples)
def _compare_lists(more: PyTree, *args: PyTree) -> Report:
    report: Report = compare_on(packed_lists(more), *args)
    return report


@example_data.register(are_examples)
def _data_of_lists(more: PyTree, *args: PyTree) -> Data:
    data: Data = example_data(packed_lists(more), *args)
    return data


@example_data.register(is_batch)
def _data_of_batches(more: tuple[PyTree, ...], loss: Callable[..., PyTree], params: PyTree, in_axes: InAxes,
                     backend: str | None = None) -> Data:
    return RaggedData((params, *more), in_axes, backend)


@compare_on.register(is_batch)
def compare_ragged(more: tuple[PyTree, ...], loss: Callable[..., PyTree], params: PyTree, in_axes: InAxes,
                   microbatch: int | None, rows: Sequence[str], repeats: int, copies: int, progress: bool,
                   backend: str) -> Report:
    """Compare the variants for examples of different size; see `compare`."""
    unknown = sorted(set(rows) - set(ROWS) - {"unrolled", "vmapped", "microbatched"})
    if unknown or repeats < 1:
        raise MinigradError(at_user_line(f"compare: no row {unknown[0]!r} for examples of different size; there are "
                                         f"{', '.join(ROWS)}" if unknown else "compare: repeats must be at least 1"))
    axes = (None, *(0 for _ in more)) if in_axes is None else in_axes
    loss, (params, *further) = bound_static(loss, (params, *more))
    more = tuple(further)
    every = {b: RaggedData((params, *more), axes, b) for b in side_by_side(backend)}
    data = next(iter(every.values()))
    mean = mean_loss(loss, axes)
    each = vmap(loss, axes)

    def mean_of_examples(*args: Any) -> Any:
        *own, is_example = args
        return np.sum(np.where(is_example, each(*own), 0)) / np.sum(is_example)

    functions = {"loop": mean, "padded": mean_of_examples, "giant": mean}
    names = [n for n in ROWS if n in rows or n == "loop"]
    variants = {titled(n, b): Variant(n, d.padded() if n == "padded" else d, value_and_grad(functions[n]), data.size, b)
                for b, d in every.items() for n in (names if len(names) > 1 else ROWS)}
    return measured(function_name(loss), variants, data, repeats, _note,
                    lambda: {"one example": trace(loss)(*data.take(0)), "the batch": trace(mean)(*data.args)},
                    (variants.get("giant") or variants["loop"]).compiled, progress)


def _note(variant: Variant) -> str:
    data = variant.data
    if variant.name == "loop" or not isinstance(data, RaggedData):
        return "one batch of one example after the other, by one program"
    rows = {str(a): int(n.sum()) for b in data.batches() for a, n in b.lengths.items()}
    nbytes = sum(b.nbytes for b in data.batches())
    text = ", ".join(f"{n:,} {a}s" for a, n in rows.items())
    return (f"{text}, {nbytes:,} bytes of arrays" + (": a filler makes each example as large as the largest"
                                                     if variant.name == "padded" else ": laid end to end"))

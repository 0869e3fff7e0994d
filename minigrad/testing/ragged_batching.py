"""`check_batching` of examples of different size: against the loop, in another order, with one example moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from .. import interpreters
from ..errors import MinigradError
from ..graph import Graph, InAxes, Node, PyTree, TupleType, reachable
from ..immutable import cached_property
from ..primitive import input_
from ..ragged.batch import Batch, is_batch
from ..ragged.rules import Batching
from ..symbolic import Symbol, value
from ..transforms.ragged import StagedBatch, stage_batch
from ..transforms.trace import Call, Staged, function_name
from ..transforms.vmap import vmap
from .batching import Examples, check_batch_of
from .common import Checked, at_element, number, plural, precision, widen
from .tolerance import Seen, tolerance

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@check_batch_of.register(is_batch)
def check_ragged(args: Sequence[PyTree], f: Callable[..., PyTree], in_axes: InAxes, rtol: float | None,
                 atol: float | None) -> Checked:
    """Check that ``vmap(f, in_axes)`` over batches equals the loop over their examples; see `check_batching`."""
    examples = PackedExamples(f, widen(tuple(args)), in_axes)
    seen = Seen(tolerance(precision(examples.graph), rtol, atol))
    n = examples.size
    for some in (examples, examples.some([0]), examples.some(list(range(n))[::-1])):
        some.against_loop(seen)
    examples.without_leaks(seen)
    return Checked(f"check_batching({function_name(f)}): {plural(n, 'example')} of different size, one alone, all in "
                   "the other order, each moved in turn", seen.comparisons, seen.largest)


class PackedExamples(Examples):
    """Examples of different size, in batches among the arguments."""

    agreement = "each node's rows are those of its examples"

    def __init__(self, f: Callable[..., PyTree], args: tuple[PyTree, ...], in_axes: InAxes):
        super().__init__(args, in_axes, is_batch)
        self.f = f

    @cached_property
    def _batch(self) -> StagedBatch:
        return stage_batch(Call(self.f, self.args), self.in_axes)

    @cached_property
    def staged(self) -> Staged:  # type: ignore[override]  # an attribute, traced on first use
        return self._batch.staged

    def some(self, rows: Sequence[int]) -> PackedExamples:
        """Return some of the examples."""
        return PackedExamples(self.f, self.take(rows), self.in_axes)

    def moved(self, k: int) -> PackedExamples:
        def move(p: Any, a: int | None) -> Any:
            if a is None:
                return p
            if not is_batch(p):
                return _moved(np.asarray(p), np.arange(np.shape(p)[a]) == k, a)
            fields = {}
            for name, t in p.schema.fields.items():
                x = p._fields.get(name)
                if x is not None and not t.shared:
                    own = np.arange(len(p)) == k
                    x = _moved(x, np.repeat(own, p._rows(t)) if t.axes else own, 0)
                if not t.counts:
                    fields[name] = x
            return Batch(p.schema, fields, p._lengths, size=len(p))

        parts = [move(p, a) for p, a in zip(self.parts, self.axes, strict=True)]
        return PackedExamples(self.f, self._with(parts), self.in_axes)

    def together(self) -> list[Sequence[ArrayLike]]:
        out: list[Any] = optree.tree_leaves(vmap(self.f, self.in_axes)(*self.args), is_leaf=is_batch)
        return [x.unbatch() if is_batch(x) else list(x) for x in out]

    def first_wrong(self, seen: Seen) -> tuple[Node | None, str]:
        batch = self._batch
        staged, batching = batch.staged, batch.batching
        arrays = [np.asarray(x) for x in batch.call.leaves]
        nodes = [n for n in reachable(staged.outputs, staged.since)
                 if n.prim is not input_ and not isinstance(n.type, TupleType)]
        try:
            outputs = batching.run(nodes, staged.since)
        except MinigradError as error:
            return None, str(error)
        values = interpreters.evaluate(Graph(tuple(batch.inputs), tuple(n for n, _ in outputs)), arrays)
        lengths = {s: np.asarray(v) for s, v in zip(batching.rows.lengths, interpreters.evaluate(
            Graph(tuple(batch.inputs), tuple(batching.rows.lengths.values())), arrays),
            strict=True)}
        graph = Graph(tuple(staged.inputs), tuple(nodes), staged.call.names)
        begin = dict.fromkeys(nodes, 0)
        for k in range(self.size):
            sizes = {s: int(n[k]) for s, n in lengths.items()}
            alone = interpreters.evaluate(graph, self.leaves_of(k), sizes)
            for node, (_, mapped), batched, expected in zip(nodes, outputs, values, alone, strict=True):
                actual, rows = _rows_of(node, batching, batched, mapped, k, begin[node], sizes)
                begin[node] += rows
                index = seen.first(actual, expected)
                if index is None:
                    continue
                if np.shape(actual) != np.shape(expected):
                    return node, f"example {k} has shape {np.shape(actual)} in the batch, {np.shape(expected)} alone"
                return node, (f"{at_element(f'example {k}', index)}: {number(np.asarray(actual)[index])} in the batch, "
                              f"{number(np.asarray(expected)[index])} alone")
        return None, ""


def _moved(x: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """Return an array with the floating values of some rows changed."""
    if x.dtype.kind != "f":
        return x
    rows = rows.reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return np.where(rows, x * 1.125 + 0.01 * (x == 0), x)


def _rows_of(node: Node, batching: Batching, batched: np.ndarray, mapped: bool, k: int, begin: int,
             sizes: dict[Symbol, int]) -> tuple[np.ndarray, int]:
    """Return example `k` of a node's batch in the shape that it has alone, and its number of rows."""
    if not mapped:
        return batched, 0
    if not batching.is_ragged(node):
        return batched[k], 0
    shape = [value(n, sizes) for n in node.shape]
    ragged = [a for a, n in enumerate(node.shape) if batching.rows.ragged(n)]
    dense = [a for a in range(node.ndim) if a not in ragged]
    rows = int(np.prod([shape[a] for a in ragged], dtype=int))
    part = batched[begin:begin + rows].reshape([shape[a] for a in (*ragged, *dense)])
    return part.transpose(np.argsort((*ragged, *dense))), rows

"""The program of a chunk of the arguments: a batch of its own, with the values that all chunks share."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..argument_sizes import argument_sizes
from ..compiler import Entry
from ..errors import ShapeError
from ..graph import Graph
from ..symbolic import value
from .blocks import run_in_blocks
from .divide import Divided, PartProgram, entry_of, pickled


class Results(NamedTuple):
    """The results of a chunk.

    Attributes
    ----------
    counts : tuple of int
        Its number of examples, and of the rows along each ragged axis.
    values : list of (array or None)
        None for the sum of a chunk without examples.
    """

    counts: tuple[int, ...]
    values: list[np.ndarray | None]


class ChunkProgram(NamedTuple):
    """From the leaves of a chunk, and shared values, to the results.

    Attributes
    ----------
    part : PartProgram
    rows : Entry
        From the leaves, and `extra` shared ones, to the operands of the part with rows that are not leaves.
    extra : int
        The number of shared values, the last of them, that `rows` reads.
    places : tuple of (str, int)
        The source of each operand: "leaves", "shared" or "rows", and its place there.
    totals : tuple of (int, int)
        The leaves and axes of the sizes that `counts` are.
    out_axes : tuple of (int or None)
        The axis of each result along which chunks follow each other; None for sums.
    """

    part: PartProgram
    rows: Entry
    extra: int
    places: tuple[tuple[str, int], ...]
    totals: tuple[tuple[int, int], ...]
    out_axes: tuple[int | None, ...]

    @classmethod
    def of(cls, divided: Divided, leaves: Sequence[int]) -> ChunkProgram:
        """Return the program of chunks that have the leaves at these places of the arguments."""
        p, graph = divided.node.params, divided.graph
        extra = shared_leaves(divided, leaves)
        inputs = [*leaves, *extra]
        rows = Graph(tuple(graph.inputs[k] for k in inputs), divided.rows.entry.graph.outputs,
                     tuple(graph.names[k] for k in inputs), name=graph.name)
        places: list[tuple[str, int]] = []
        for i, axis in enumerate(p["in_axes"]):
            source = "shared" if axis is None else "leaves" if i in divided.own else "rows"
            place = sum(s == source for s, _ in places) if source != "leaves" else leaves.index(divided.own[i])
            places.append((source, place))
        sizes = {n: (k, axis) for k, i in reversed(list(enumerate(rows.inputs))) for axis, n in enumerate(i.shape)}
        totals = tuple(sizes[n] for n in (p["total"], *(n for _, n in p["packed"])))
        return cls(PartProgram.of(divided.node), entry_of(rows), len(extra), tuple(places), totals, p["out_axes"])

    def differs(self, leaves: Sequence[np.ndarray]) -> str | None:
        """Return why leaves are not those that the program was made for, or None."""
        graph = self.rows.graph
        for n, name, x in zip(graph.inputs, graph.names, leaves, strict=False):
            if x.dtype != n.dtype:
                return f"argument {name} has dtype {x.dtype} here, and {n.dtype} in the first chunk"
        own = Graph(graph.inputs[:len(leaves)], (), graph.names[:len(leaves)])
        try:
            argument_sizes(own, [x.shape for x in leaves])
        except ShapeError as error:
            return str(error)
        return None

    def counts(self, leaves: Sequence[np.ndarray]) -> tuple[int, ...]:
        """Return the number of examples of a chunk, and of its rows along each ragged axis."""
        return tuple(leaves[k].shape[axis] for k, axis in self.totals)

    def run(self, leaves: Sequence[np.ndarray], shared: Sequence[np.ndarray], first: int) -> Results:
        """Return the results of a chunk whose examples begin with `first` of the whole batch."""
        arrays = [*leaves, *shared[len(shared) - self.extra:]]
        counts = self.counts(leaves)
        if not counts[0]:
            return self.nothing()
        rows = self.rows.program(arrays, self.rows.sizes([x.shape for x in arrays])) if self.rows.graph.outputs else []
        sources = {"leaves": leaves, "shared": shared, "rows": rows}
        operands = [sources[source][k] for source, k in self.places]
        return Results(counts, list(run_in_blocks(self.part, operands, first)))

    def nothing(self) -> Results:
        """Return the results of a chunk without examples."""
        graph = self.part.entry.graph
        none = dict.fromkeys(graph.symbols, 0)
        return Results((0,) * len(self.totals), [
            None if axis is None else np.zeros([value(n, none) for n in o.shape], o.dtype)
            for o, axis in zip(graph.outputs, self.out_axes, strict=True)])


def shared_leaves(divided: Divided, leaves: Sequence[int]) -> list[int]:
    """Return the places of shared leaves that the operands with rows need."""
    return [k for k in divided.rows.reads if k not in leaves]


class Sent:
    """A program on its way to workers: each unpickles it once.

    Attributes
    ----------
    program : ChunkProgram
    """

    def __init__(self, program: ChunkProgram, body: Callable[[], bytes]):
        self.program, self._body = program, functools.cache(body)

    @classmethod
    def of(cls, divided: Divided, leaves: Sequence[int]) -> Sent:
        """Return the program of chunks of a division."""
        program = ChunkProgram.of(divided, leaves)
        return cls(program, lambda: pickled(divided.graph, program, divided.caller))

    @property
    def body(self) -> bytes:
        """The pickled program."""
        return self._body()

    def __reduce__(self) -> tuple[Callable[[bytes], Sent], tuple[bytes]]:
        return _received, (self.body,)


@functools.lru_cache(64)
def _received(body: bytes) -> Sent:
    return Sent(pickle.loads(body), lambda: body)



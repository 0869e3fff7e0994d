"""Tasks of the workers: a chunk is checked, counted, and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import NamedTuple

import numpy as np
import optree

from ...errors import MinigradError
from ...graph import PyTree
from ...ragged.batch import Batch, is_batch, shift_indices
from ...ragged.schema import Schema
from ..chunks import Results, Sent
from ..divide import Values
from ..files import InFile
from .arguments import ChunkError, together

Terms = list[tuple[int, int]]  # places among the counts of a chunk, and factors


class Place(NamedTuple):
    """A chunk among all, for errors: its number, and its examples in the whole batch if known."""

    name: str
    number: int
    of: int
    examples: tuple[int, int] | None

    def __str__(self) -> str:
        chunk = f"chunk {self.number} of {self.of}"
        if self.examples is None or self.examples[0] == self.examples[1]:
            return chunk
        return f"{chunk} (examples {self.examples[0]} to {self.examples[1] - 1})"


def _leaves(block: PyTree, paths: Sequence[str]) -> Values | None:
    """Return the arrays of a chunk of an argument; None for a bag's without an example."""
    if isinstance(block, InFile):
        return [block.open()]
    if isinstance(block, np.ndarray):
        return [block]
    if hasattr(block, "to_numpy"):
        return [block.to_numpy()]
    if not is_batch(block):
        examples = block if hasattr(block, "shape") else list(block)
        if not len(examples):
            return None
        if hasattr(examples, "shape"):  # of an array library like NumPy
            return [np.asarray(examples)]
        block = together(examples)
    if (have := paths_of(block)) != list(paths):
        raise ChunkError(f"the examples have {', '.join(have)} here, and {', '.join(paths)} in the first chunk")
    return [np.asarray(x) for x in optree.tree_leaves(block)]


def paths_of(tree: PyTree) -> list[str]:
    """Return the names of the leaves of a batch."""
    return [".".join(map(str, path)) or "one array" for path in optree.tree_paths(tree)]


def _opened(program: Sent, paths: Sequence[Sequence[str]], blocks: Sequence[PyTree]) -> Values | None:
    """Return the leaves of a chunk, after a check against the program."""
    columns = [_leaves(block, names) for block, names in zip(blocks, paths, strict=True)]
    if any(c is None for c in columns):
        filled = [c for c in columns if c is not None]
        if any(len(c[0]) for c in filled):
            raise ChunkError("one argument has examples, and another has none")
        return None
    leaves = [x for column in columns if column is not None for x in column]
    if (why := program.program.differs(leaves)) is not None:
        raise ChunkError(why)
    return leaves


def _checked(place: Place, work: Callable[[], Results]) -> Results:
    """Return the results of a chunk; errors name it."""
    try:
        return work()
    except ChunkError as error:
        raise ChunkError(f"{place.name}: {place}: {error}") from None
    except Exception as error:
        if isinstance(error, MinigradError) or type(error) is IndexError:
            own = "" if place.examples is not None else ", whose examples are counted from its first one"
            raise type(error)(f"{error}\n{place}{own}") from error
        raise MinigradError(f"{place.name}: {place}: {type(error).__name__}: {error}") from error


def run(program: Sent, shared: Values, paths: Sequence[Sequence[str]], place: Place, *blocks: PyTree) -> Results:
    """Return the results of a chunk."""

    def work() -> Results:
        leaves = _opened(program, paths, blocks)
        if leaves is None:
            return program.program.nothing()
        return program.program.run(leaves, shared, place.examples[0] if place.examples is not None else 0)

    return _checked(place, work)


def count_chunk(program: Sent, shared: Values, paths: Sequence[Sequence[str]], place: Place, *blocks: PyTree
                ) -> Results:
    """Return the counts of a chunk, without values."""

    def work() -> Results:
        leaves = _opened(program, paths, blocks)
        counts = program.program.nothing().counts if leaves is None else program.program.counts(leaves)
        return Results(counts, [])

    return _checked(place, work)


def some(results: Results, which: Sequence[int]) -> Results:
    """Return some of the results of a chunk."""
    return results._replace(values=[results.values[k] for k in which])


def one(results: Results, which: int) -> np.ndarray | None:
    """Return one result of a chunk."""
    return results.values[which]


def rows_of(results: Results, terms: Terms) -> int:
    """Return a number of rows of a chunk."""
    return sum(results.counts[k] * factor for k, factor in terms)


def moved(results: Results, which: int, before: int, null: bool) -> np.ndarray:
    """Return indices of a chunk as those of the whole batch, where so many rows precede the chunk's."""
    x = results.values[which]
    assert x is not None
    out = x.copy()
    shift_indices(out, before, -1 if null else None)
    return out


def examples_of(schema: Schema, places: Mapping[str, int], results: Results) -> list[PyTree]:
    """Return the examples of a chunk, from the places of a batch's arrays among its results."""
    return Batch.of_leaves(schema, {name: results.values[k] for name, k in places.items()}).unbatch()


def first_of(examples: Iterable[PyTree]) -> list[PyTree]:
    """Return the first example of a partition, if it has one."""
    return [x for x, _ in zip(examples, range(1), strict=False)]


def length(block: Iterable[PyTree]) -> int:
    """Return the number of examples of a partition."""
    return len(block) if isinstance(block, Sized) else sum(1 for _ in block)



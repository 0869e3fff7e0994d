"""The sizes of a call: from numbers of examples and rows, and of the largest passes over a ragged batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import optree

from . import interpreters
from .defined_sizes import symbols_of_node
from .errors import BatchError, MinigradError, at_user_line
from .graph import Graph, Node, PyTree, reachable
from .ops.control import chunked
from .ops.cuts import by_number, rows_before, symbols_of_pass
from .ragged.axes import Axis
from .ragged.batch import Batch, is_batch
from .symbolic import Dim, Symbol, value

Rows: TypeAlias = "Mapping[Axis | str, int | Sequence[int] | np.ndarray]"


class BatchSizes(NamedTuple):
    """The sizes of a batch, as far as numbers of examples and rows tell.

    Attributes
    ----------
    sizes : dict of Symbol to int
    lengths : dict of int to ndarray
        The rows of each example (B,), by the number of the input that holds them.
    """

    sizes: dict[Symbol, int]
    lengths: dict[int, np.ndarray]


def has_rows(graph: Graph) -> bool:
    """Return whether a graph depends on the rows of ragged batches."""
    return any(s.rows for s in graph.symbols)


def sizes_of_examples(graph: Graph, optimized: Graph, tree: optree.PyTreeSpec, number: int, rows: Rows) -> BatchSizes:
    """Return the sizes of a call with `number` examples, and so many rows along each ragged axis.

    Parameters
    ----------
    graph, optimized : Graph
        The traced program, and the one that runs.
    tree : PyTreeSpec
        The structure of the arguments.
    number : int
    rows : mapping of Axis or str to int or (B,) array of int
        The rows of all examples, or of each.

    Raises
    ------
    BatchError
        If the numbers are no sizes of a batch.
    MinigradError
        If they do not determine the sizes of the program.
    """
    call = f"memory({number}{', rows=...' if rows else ''})"
    if number < 1:
        raise BatchError(at_user_line(f"memory: the number of examples must be positive, got {number}"))
    if not isinstance(rows, Mapping):
        raise BatchError(at_user_line(f"{call}: rows must map ragged axes to numbers of rows, as in {{'word': 3000}}, "
                                      f"got {rows!r}"))
    given = {Axis(a) if isinstance(a, str) else a: _checked(a, n, number, call) for a, n in rows.items()}
    axes_of, inputs = _ragged_sizes(graph, tree)
    known = dict.fromkeys(a for axes in axes_of.values() for a in axes)
    for a in given:
        if a not in known:
            raise BatchError(at_user_line(f"{call}: {graph.name} has no ragged axis {a}; it has "
                                          f"{', '.join(map(str, known)) or 'none'}"))
    examples = [s for s in graph.symbols if s not in axes_of]
    missing = [a for a in known if a not in given]
    if len(examples) != 1 or examples[0].rows or missing:
        others = ", ".join(map(str, graph.symbols))
        more = f"the rows of {', '.join(map(str, missing))} too, as in rows={{{missing[0].name!r}: 3000}}, or " if (
            missing) else ""
        raise MinigradError(at_user_line(f"{call}: {graph.name} depends on the sizes {others}, which a number of "
                                         f"examples does not tell. Give {more}its arguments, or their types"))
    sizes = {examples[0]: number}
    for symbol, axes in axes_of.items():
        sizes[symbol] = _total(symbol, [given[a] for a in axes], number, optimized, axes, call)
    lengths = {i: n for i, a in inputs.items() if isinstance(n := given[a], np.ndarray)}
    return BatchSizes(sizes, lengths)


def _checked(axis: Axis | str, rows: object, number: int, call: str) -> int | np.ndarray:
    """Return the rows of all examples or of each, or raise `BatchError`."""
    n = np.asarray(rows)
    if n.dtype.kind not in "iu" or n.shape not in ((), (number,)) or (n < 0).any():
        raise BatchError(at_user_line(f"{call}: rows of {axis} must be the rows of all examples, an int, or of each, "
                                      f"{number} ints, got {rows!r}"))
    return n.astype(np.int64) if n.ndim else int(n)


def _ragged_sizes(graph: Graph, tree: optree.PyTreeSpec) -> tuple[dict[Symbol, tuple[Axis, ...]], dict[int, Axis]]:
    """Return the ragged axes of each number of rows, and the axis of each input that holds lengths."""
    axes_of: dict[Symbol, tuple[Axis, ...]] = {}
    inputs: dict[int, Axis] = {}
    whole: PyTree = optree.tree_unflatten(tree, range(tree.num_leaves))
    batches: list[Batch] = [x for x in optree.tree_leaves(whole, is_leaf=is_batch) if is_batch(x)]
    for batch in batches:
        schema = batch.schema
        inputs |= {i: a for a, i in batch.lengths.items()}
        for name, i in batch.leaves().items():
            if i is None or not (axes := schema.row_axes(schema.leaf_types[name])):
                continue
            if isinstance(n := graph.inputs[i].shape[0], Dim) and n.symbol is not None:
                axes_of[n.symbol] = axes
    return axes_of, inputs


def _total(symbol: Symbol, rows: Sequence[int | np.ndarray], number: int, optimized: Graph, axes: Sequence[Axis],
           call: str) -> int:
    """Return the rows of all examples along an axis, or the elements of their blocks."""
    if len(rows) == 1:
        return int(np.sum(rows[0]))
    each = [n if isinstance(n, np.ndarray) else np.full(number, n // number) for n in rows]
    equal = number == 1 or not any(np.sum(n) for n in rows)
    if not equal and not all(isinstance(n, np.ndarray) for n in rows) and any(
            symbol in symbols_of_node(n) for n in optimized.nodes if n not in optimized.inputs):
        names = " and ".join(dict.fromkeys(map(str, axes)))
        raise MinigradError(at_user_line(
            f"{call}: {optimized.name} has an element per pair of rows of an example ({' x '.join(map(str, axes))}), "
            f"which sums over the examples do not tell: give the rows of each example for {names}, or a batch"))
    return int(np.prod(each, axis=0).sum())


def largest_passes(graph: Graph, known: Mapping[int, np.ndarray], sizes: Mapping[Symbol, int]) -> dict[Symbol, int]:
    """Return the most rows of a pass along each ragged axis, for passes of a number of examples.

    Parameters
    ----------
    graph : Graph
        The program that runs, with passes within its passes.
    known : dict of int to ndarray
        The inputs whose values are known. Without the rows of each example, a pass may have all of them.
    sizes : mapping of Symbol to int
    """
    most: dict[Symbol, int] = {}
    _enter_passes(graph, {graph.inputs[i]: x for i, x in known.items()}, sizes, most)
    return most


def _enter_passes(graph: Graph, values: Mapping[Node, np.ndarray], sizes: Mapping[Symbol, int],
                  most: dict[Symbol, int], within: bool = False) -> None:
    """Enter the most rows of the passes of a graph, and of the passes `within` these, which may begin at any example.

    The values, those of inputs of a pass included, are of all examples.
    """
    known: dict[Node, np.ndarray | None] = dict(values)

    def value_of(n: Node) -> np.ndarray | None:
        if n not in known:
            nodes = reachable([n])
            read = [i for i in nodes if i in values]
            ready = all(i in values if i in graph.inputs else _is_arithmetic(i) for i in nodes)
            known[n] = interpreters.evaluate(Graph(tuple(read), (n,)), [values[i] for i in read],
                                             dict(sizes))[0] if ready else None
        return known[n]

    for n in graph.nodes:
        if n.prim is not chunked or not n.params["packed"] or not isinstance(n.params["size"], int):
            continue
        counts = [value_of(i) for i in n.inputs[:len(n.params["packed"])]]
        if any(c is None for c in counts):
            continue
        total, size = value(n.params["total"], sizes), n.params["size"]
        symbols = symbols_of_pass(n.params)
        for symbol, before in zip(symbols[1:], rows_before([c for c in counts if c is not None]), strict=True):
            ends = np.minimum(np.arange(total) + size, total)
            rows = before[ends] - before[:-1] if within else np.diff(before[by_number(total, size)])
            most[symbol] = int(rows.max(initial=0))
        body, axes = n.params["graph"], n.params["in_axes"]
        inner = {own: x for own, i, axis in zip(body.inputs, n.inputs, axes, strict=True)
                 if own.ndim == 1 and axis == 0 and (x := value_of(i)) is not None}
        _enter_passes(body, inner, {**sizes, symbols[0]: total}, most, within=True)


def _is_arithmetic(node: Node) -> bool:
    """Return whether a node computes with numbers of rows alone: quickly, and without effects."""
    return node.prim.kind in ("elementwise", "leaf")

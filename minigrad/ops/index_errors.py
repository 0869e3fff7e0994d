"""Errors of indices out of range: the index, the argument that holds it, and its example in the batch.

Programs check indices without them; the words are found when the reference refuses an index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..graph import Graph, Node
from ..interpreters import evaluate
from ..primitive import ArrayNamespace, on_host
from ..symbolic import Dim, Symbol
from .checks import READS, picked
from .index import INDEXED_AXES, gather, unexpanded
from .segments import checked_index
from .strict_index import PLACES, Reading, row_or_null
from .subgraph import example_of_part, running

_INNER = re.compile(r"(in|outer|shared|ahead)\d+")  # names that transforms give to inputs
Refused = tuple[Node, int, int, int, Node | None]  # an index, a position in it, the value there, the size; its node


def sentence(node: Node, operands: Sequence[np.ndarray], graph: Graph, arrays: Sequence[np.ndarray],
             sizes: Mapping[Symbol, int] | None, xp: ArrayNamespace) -> str | None:
    """Return the words about the first index that a node refuses, or None.

    Parameters
    ----------
    node : Node
    operands : sequence of array
        Their values.
    graph, arrays, sizes, xp
        The program of the node and its run, as of `evaluate`.
    """
    def value_of(n: Node) -> np.ndarray:
        return on_host(evaluate(graph.replace(outputs=(n,), out_names=()), arrays, sizes, xp)[0])

    refused = next(_refused(node, operands, sizes or {}), None)
    if refused is None:
        return None
    index, position, value, size, counts = refused
    sizes_of = counts and unexpanded(counts)[0]  # of examples of different size: a gather by the example of each row
    owner = sizes_of.inputs[1] if sizes_of is not None and sizes_of.prim is gather else None
    example, name = _example(node, index, position, counts, owner, graph, value_of), _argument(index, graph)
    rows = f"an example with {size} rows" if node.prim is checked_index or owner else f"an axis of size {size}"
    place = " of ".join(words for words in (name, example) if words)
    return f"index {value} is out of range for {rows}" + f", in {place}" * bool(place)


def _refused(node: Node, operands: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> Iterator[Refused]:
    """Yield the first bad element of each index that a node reads."""
    name, values = node.prim.name, dict(zip(node.inputs, map(on_host, operands), strict=True))
    if name in PLACES or node.prim is checked_index:
        index, counts, *null = node.inputs
        yield from _outside(index, values[index], values[counts], name, *(values[n] for n in null), counts=counts)
    elif name in READS:
        checks = list(READS[name](node))
        readings: Sequence[Reading] = node.params.get("read") or [None] * len(checks)
        for (index, size), reading in zip(checks, readings, strict=False):
            read, *nulls = reading or (name,)
            n = size.value(sizes) if isinstance(size, Dim) else size
            assert n is not None
            yield from _outside(index, values[index], np.array(n - len(nulls)), read, *map(np.asarray, nulls))


def _outside(index: Node, value: np.ndarray, size: np.ndarray, reading: str, *nulls: np.ndarray,
             counts: Node | None = None) -> Iterator[Refused]:
    value, size = np.broadcast_arrays(value.astype(np.int64), size)
    outside = (value >= size) | (value < (0 if reading in PLACES and reading != row_or_null.name else -size))
    for null in nulls:
        outside &= value != null
    for position in np.flatnonzero(outside)[:1]:
        yield index, int(position), int(value.flat[position]), int(size.flat[position]), counts


def _example(node: Node, index: Node, position: int, counts: Node | None, owner: Node | None, graph: Graph,
             value_of: Callable[[Node], np.ndarray]) -> str:
    """Return the words for the example of an element of an index, or an empty string."""
    if "vmap" not in node.rules:
        return ""
    root = node
    while root.source is not None:
        root = root.source
    own = root.inputs[root.prim.axes is INDEXED_AXES] if root.inputs else root
    length = math.prod(value_of(index).shape[1:])
    varying = {axis for x in (index, counts) if x is not None for axis in unexpanded(x)[1]}
    if owner is not None:
        owners = value_of(owner)
        owners = owners.reshape(*owners.shape, *[1] * (index.ndim - owners.ndim))
        k = int(np.broadcast_to(owners, value_of(index).shape).flat[position])
    elif index.ndim > own.ndim and 0 in varying:
        k = position // length
        if running.parts and running.parts[-1][0] != index.shape[0]:
            return ""
    else:
        ids = [n for n, name in zip(graph.inputs, graph.names, strict=True)
               if own.shape and name.endswith(f"segment_ids {own.shape[0]}']")]
        if index.ndim != own.ndim or len(ids) != 1 or ids[0].shape != index.shape[:1]:
            return ""
        return f"example {value_of(ids[0])[position // length]}"  # a part of the batch has the numbers of the whole
    example = example_of_part(k)
    return "" if example is None else f"example {example}"


def _argument(index: Node, graph: Graph) -> str:
    """Return the name of the argument with the elements of an index, or an empty string."""
    while index not in graph.inputs:
        sources = index.inputs[:1] if index.prim.name in (*PLACES, checked_index.name) else picked(index)
        if len(sources) != 1:
            return ""
        (index,) = sources
    name = graph.names[graph.inputs.index(index)]
    return "" if _INNER.fullmatch(name) else name

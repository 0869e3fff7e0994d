"""The checks of indices that the nodes of a program make.

*A program refuses every index that the function refuses from which it is derived.* A gather or a scatter checks the
indices that it reads, and a node that holds a graph makes the checks of that graph each time it runs (`checks_of`).
The definition of a size (`selection.defined_size`) counts as a check: the types of other nodes need it. So does an
extreme along a ragged axis, which has none in an example without rows.

A rewrite may remove the reader of an index: the sum over all places is the sum of all rows, the gradient of a sum is 1,
a result is unused. Then a remaining result waits for the check: for an `in_range`, or for the node that holds a graph,
reduced to its checks (`results.keep_checks`). Effects, such as the lines of `mg.print`, are kept in the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..axes import POINTWISE, axis_rule, rearranges
from ..families import discrete
from ..graph import ArrayType, Node, TupleType
from ..primitive import FIRST, ArrayNamespace, Primitive, Sample
from ..symbolic import Dim, differs
from .refusals import first_where, require_ints
from .selection import defined_size
from .subgraph import HELD, graphs_of

# An index with the size of its axis, or None and a node: a check, an effect, or one that holds a graph with checks.
Check = tuple[Node, "int | Dim | None"]

_VIEWS = ("reshape", "transpose", "flip")


def _in_range_eval(xp: ArrayNamespace, index: np.ndarray, *, size: int) -> np.ndarray:
    if not index.ndim and xp is np and -size <= index < size:
        return index
    if bad := first_where(xp, (index < 0) & (index + size < 0) | (index >= size), index):
        raise IndexError(f"index {bad[1]} is out of range for an axis of size {size}")
    return index


in_range = discrete(
    "in_range", lambda index, *, size: require_ints("in_range", index), _in_range_eval, axes=POINTWISE, picks=FIRST,
    params={"size": int | Dim},
    samples=lambda: [Sample((np.array([[0, 2], [-3, 1]]),), {"size": 4}, order=0)])


READS: dict[str, Callable[[Node], Iterable[Check]]] = {
    "gather": lambda node: zip(node.inputs[1:], node.inputs[0].shape, strict=False),
    **dict.fromkeys(("scatter_add", "scatter_max", "scatter_min"),
                    lambda node: zip(node.inputs[1:], node.params["shape"], strict=False)),
    **dict.fromkeys(("gather_sum", "weighted_sum"), lambda node: zip(
        node.inputs[1:3], (node.inputs[0].shape[0], node.params["size"]), strict=True)),
    "in_range": lambda node: [(node.inputs[0], node.params["size"])],
    "defined_size": lambda node: [(node.inputs[0], node.params["size"])]}
CHECKS = (in_range, defined_size)


def checking(index: Node, size: int | Dim, reader: Node) -> Node:
    """Return a node that makes a check of `reader`: of an index, or the definition of a size."""
    return (defined_size if reader.prim is defined_size else in_range)(index, size=size)


def checks_of(nodes: Iterable[Node]) -> dict[Check, Node]:
    """Return the checks of nodes, but for indices known to be in range, with their makers."""
    checks: dict[Check, Node] = {}
    for check, node in _checks(nodes):
        checks.setdefault(check, node)
    return checks


@functools.cache
def may_check(prim: Primitive) -> bool:
    """Return whether a node of the primitive may make a check, or hold a graph that does."""
    by = prim.combiner
    return (prim.name in READS or prim.kind == "check" or prim.effect or prim.name in HELD
            or (by is not None and by.ufunc.identity is None))


def _checks(nodes: Iterable[Node]) -> Iterator[tuple[Check, Node]]:
    for node in nodes:
        if not may_check(node.prim):
            continue
        read = READS.get(node.prim.name)
        if read is not None:
            for index, size in read(node):
                index = _viewed(index)
                if size is not None and not _within(index, size):
                    yield (index, size), node
        elif node.prim.kind == "check" or node.prim.effect or _needs_rows(node) or (
                type(node.type) is TupleType and any(next(_checks(graph.nodes), None) is not None
                                                     for graph, _ in graphs_of(node))):
            yield (node, None), node


def _needs_rows(node: Node) -> bool:
    """Return whether a node is an extreme, or its position, along an axis that has no rows in some examples."""
    by = node.prim.combiner
    if by is None or by.ufunc.identity is not None or not (node.prim.kind == "reduce" or by.position):
        return False
    axes = node.params["axes"] if node.prim.kind == "reduce" else (node.params["axis"],)
    return any(differs(node.inputs[0].shape[a]) for a in axes)


def _viewed(index: Node) -> Node:
    """Return the array that an index is a view of, with the same elements."""
    while index.prim.name in _VIEWS or (index.prim.name == "expand" and all(
            index.shape[a] != 0 for a in index.params["axes"])):
        (index,) = index.inputs
    return index


def _within(index: Node, size: int | Dim) -> bool:
    """Tell whether an index is known to be in range."""
    name = index.prim.name
    if name == "iota":
        return bool(index.params["size"] == size)
    if name == "segment_ids":
        return index.inputs[0].shape[0] == size
    if name in ("const", "full") and isinstance(size, int):
        value = index.params["value"]
        return not np.size(value) or bool(-size <= np.min(value) and np.max(value) < size)
    return False


# -- operations that only move elements ------------------------------------------------------------------------


def picked(node: Node) -> tuple[Node, ...]:
    """Return the operands that the elements of the result come from, unchanged."""
    if node.prim.view is not None and type(node.type) is ArrayType:
        return node.inputs[:1]
    operands = node.inputs[node.prim.picks]
    if node.prim.kind == "elementwise" or len(node.inputs) != 1 or isinstance(node.type, TupleType):
        return operands
    rule = axis_rule(node)
    permutes = rule is not None and rearranges(rule) and node.type.size == node.inputs[0].types[0].size
    return node.inputs if permutes else operands

"""Values of all nodes of a graph, for drawings and for the explorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optree

from .. import interpreters
from ..argument_sizes import argument_sizes
from ..errors import ShapeError, TraceError, at_user_line, format_structure
from ..graph import Graph, Node, PyTree
from ..static import flatten_as
from ..symbolic import Symbol


def input_arrays(graph: Graph, values: Sequence[PyTree], method: str) -> list[np.ndarray]:
    """Return the leaves of `values`, one array per input of the graph; `method` stands in the error."""
    arguments: PyTree = (tuple(values), {})
    leaves: list[PyTree] = optree.tree_leaves(arguments)
    if len(leaves) > len(graph.inputs):  # with static values among them
        leaves, tree = flatten_as(arguments, graph.in_tree)
        if graph.in_tree is not None and len(leaves) == len(graph.inputs) and tree != graph.in_tree:
            raise TraceError(at_user_line(f"{graph.name}.{method}: expected arguments of structure "
                                          f"{format_structure(graph.in_tree)}, got {format_structure(tree)}"))
    if len(leaves) != len(graph.inputs):
        raise TraceError(at_user_line(f"{graph.name}.{method}: expected {len(graph.inputs)} values "
                                      f"({', '.join(graph.names)}), got {len(leaves)}"))
    return [np.asarray(x, n.dtype) for x, n in zip(leaves, graph.inputs, strict=True)]


def input_sizes(graph: Graph, arrays: Sequence[np.ndarray], method: str = "explore") -> dict[Symbol, int]:
    """Return the numbers of the symbolic sizes, or raise `ShapeError` for arrays of other shapes."""
    try:
        return argument_sizes(graph, [a.shape for a in arrays])
    except ShapeError as error:
        raise ShapeError(at_user_line(f"{graph.name}.{method}: {error}")) from None


def node_values(graph: Graph, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> dict[Node, np.ndarray]:
    """Return the value of every node; nodes with several results have a tuple."""
    every = graph.replace(outputs=graph.nodes, out_names=(), out_tree=None)
    return dict(zip(graph.nodes, interpreters.evaluate(every, arrays, sizes), strict=True))

"""Values of all nodes of a graph, for drawings and for the explorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optree

from .. import interpreters
from ..argument_sizes import argument_sizes
from ..errors import TraceError, at_user_line
from ..graph import Graph, Node, PyTree
from ..symbolic import Symbol


def input_arrays(graph: Graph, values: Sequence[PyTree], method: str) -> list[np.ndarray]:
    """Return the leaves of `values`, one array per input of the graph; `method` stands in the error."""
    tree: PyTree = tuple(values)
    leaves = optree.tree_leaves(tree)
    if len(leaves) != len(graph.inputs):
        raise TraceError(at_user_line(f"{graph.name}.{method}: expected {len(graph.inputs)} values "
                                      f"({', '.join(graph.names)}), got {len(leaves)}"))
    return [np.asarray(x, n.dtype) for x, n in zip(leaves, graph.inputs, strict=True)]


def input_sizes(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[Symbol, int]:
    """Return the numbers of the symbolic sizes, or raise `ShapeError` for arrays of other shapes."""
    return argument_sizes(graph, [a.shape for a in arrays])


def node_values(graph: Graph, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> dict[Node, np.ndarray]:
    """Return the value of every node; nodes with several results have a tuple."""
    every = graph.replace(outputs=graph.nodes, out_names=(), out_tree=None)
    return dict(zip(graph.nodes, interpreters.evaluate(every, arrays, sizes), strict=True))

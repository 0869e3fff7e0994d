"""Fusion of independent loops over the same chunks.

The value and the gradient of a microbatched loss are two such loops; fused, they run the forward pass once.
"""

from __future__ import annotations

from ..graph import Graph
from ..ops.chunk_loops import fused_chunk_loops
from .simplify import simplify


def fuse_chunk_loops(graph: Graph) -> Graph:
    """Return an equal graph with independent loops over equal chunks fused."""
    return fused_chunk_loops(graph, simplify)

"""All modules that plug into the core: primitives, NumPy's functions, ragged batches, checks of traced functions.

The core reaches them by the tables that they fill when they are imported: `PRIMITIVES`, `TABLE`, and the like.
"""

# ruff: noqa: F401
from typing import Any

from . import codec, numpy, size_queries, text
from .graph import CALLS, TEXTS, Graph, Node
from .ops import (
    block_einsum,
    branches,
    broadcast,
    checks,
    constants,
    control,
    custom,
    determinants,
    einsum,
    elementwise,
    fourier,
    index,
    integer,
    linalg,
    loops,
    mean,
    overflow,
    random,
    reduce,
    results,
    scatter,
    segments,
    shape,
    sort,
    special,
    strict_index,
)
from .transforms import effects, host_random, ragged


def _draw(graph: Graph, form: str, *args: object) -> str:
    from . import draw  # takes long to import, and most programs draw nothing

    drawing: str = getattr(draw, form)(graph, *args)
    return drawing


def _roles(graph: Graph) -> dict[Node, str]:
    from . import draw

    return draw.roles(graph)


TEXTS.update(to_svg=lambda graph: _draw(graph, "graph_svg"), _repr_html_=lambda graph: _draw(graph, "graph_html"),
             show=lambda graph, path, values: _draw(graph, "show", path, values))
CALLS["roles"] = _roles

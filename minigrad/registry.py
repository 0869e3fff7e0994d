"""All modules that plug into the core: primitives, NumPy's functions, ragged batches, checks of traced functions.

The core reaches them by the tables that they fill when they are imported: `PRIMITIVES`, `TABLE`, and the like.
"""

# ruff: noqa: F401
from collections.abc import Callable
from typing import Any

from . import codec, numpy, size_queries, text
from .graph import CALLS, FORMS, TEXTS
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
    index_errors,
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
from .transforms import effects, graph_methods, host_random, ragged


def _drawn(name: str) -> Callable[..., Any]:
    """Return a function of `draw`, which takes long to import; most programs draw nothing."""
    def call(*args: object) -> Any:
        from . import draw

        return getattr(draw, name)(*args)

    return call


TEXTS.update(to_svg=_drawn("graph_svg"), _repr_html_=_drawn("graph_html"), show=_drawn("show"))
FORMS["with_values"] = _drawn("with_values")
CALLS["roles"] = _drawn("roles")

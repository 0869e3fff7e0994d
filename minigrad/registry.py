"""All modules that plug into the core: primitives, NumPy's functions, ragged batches, checks of traced functions.

The core reaches them by the tables that they fill when they are imported: `PRIMITIVES`, `TABLE`, and the like.
"""

# ruff: noqa: F401
from functools import partial
from typing import Any

from . import numpy, size_queries, text
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
    effects,
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
    packed_scan,
    random,
    recurrence,
    reduce,
    results,
    scatter,
    segments,
    selection,
    shape,
    sort,
    special,
    strict_index,
    tree_scan,
    unrolled_loops,
)
from .ragged import loops as ragged_loops
from .ragged import matrices, trees
from .transforms import arguments_by_name, graph_methods, host_random, ragged, static_arguments
from .transforms import effects as keepers
from .transforms.trace import SHORTENERS


def _draw(form: str, *args: object) -> Any:
    from . import draw  # takes long to import, and most programs draw nothing

    return getattr(draw, form)(*args)


TEXTS.update(to_svg=partial(_draw, "graph_svg"), _repr_html_=partial(_draw, "graph_html"), show=partial(_draw, "show"))
SHORTENERS.append(unrolled_loops.rolled)
FORMS["with_values"] = partial(_draw, "with_values")
CALLS["roles"] = partial(_draw, "roles")

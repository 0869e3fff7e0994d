"""All modules that plug into the core: primitives, NumPy's functions, ragged batches, checks of traced functions.

The core reaches them by the tables that they fill when they are imported: `PRIMITIVES`, `TABLE`, and the like. The
first gradient of most programs needs few of them: the others are imported when a table lacks a key (`graph.Table`).
"""

# ruff: noqa: F401
from functools import partial
from typing import Any

from . import size_queries, text
from .graph import CALLS, FORMS, TEXTS, Table
from .locks import importing
from .numpy import (
    calculus,
    convolution,
    creation,
    decompositions,
    fft,
    functional,
    linear_equations,
    norms,
    polynomials,
    refused,
    searching,
    sets,
    sorting,
    statistics,
    updates,
)
from .numpy import linalg as linalg_functions
from .numpy import special as special_functions
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
    integer,
    linalg,
    loops,
    matrix_errors,
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
    weighted_sum,
)
from .ragged import loops as ragged_loops
from .ragged import matrices, trees
from .transforms import arguments_by_name, call, graph_methods, host_random, ragged, static_arguments
from .transforms import effects as keepers


def _draw(form: str, *args: object) -> Any:
    with importing:
        from . import draw  # takes long to import, and most programs draw nothing

    return getattr(draw, form)(*args)


TEXTS.update(to_svg=partial(_draw, "graph_svg"), _repr_html_=partial(_draw, "graph_html"), show=partial(_draw, "show"))
FORMS["with_values"] = partial(_draw, "with_values")
CALLS["roles"] = partial(_draw, "roles")
Table.complete = staticmethod(int)

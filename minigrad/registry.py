"""All modules that plug into the core: primitives, NumPy's functions, ragged batches, checks of traced functions.

The core reaches them by the tables that they fill when they are imported: `PRIMITIVES`, `TABLE`, and the like.
"""

# ruff: noqa: F401
from . import numpy
from .ops import (
    bits,
    blocks,
    branches,
    checks,
    constants,
    contract,
    control,
    custom,
    elementwise,
    fourier,
    index,
    integers,
    layout,
    linalg,
    loops,
    order,
    places,
    random,
    results,
    scatter,
    segments,
    special,
    spread,
)
from .transforms import draws, effects, ragged

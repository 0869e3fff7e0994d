"""The primitives, one file per family of adjoint pairs."""

from . import (
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
    scatter,
    segments,
    special,
    spread,
)

__all__ = ["bits", "blocks", "branches", "checks", "constants", "contract", "control", "custom", "elementwise",
           "fourier", "index", "integers", "layout", "linalg", "loops", "order", "places", "random", "scatter",
           "segments", "special", "spread"]

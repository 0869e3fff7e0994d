"""The primitives, one file per family of adjoint pairs."""

from . import (
    bits,
    branches,
    constants,
    contract,
    control,
    custom,
    elementwise,
    fourier,
    index,
    layout,
    linalg,
    loops,
    order,
    random,
    scatter,
    segments,
    special,
    spread,
)

__all__ = ["bits", "branches", "constants", "contract", "control", "custom", "elementwise", "fourier", "index",
           "layout", "linalg", "loops", "order",
           "random", "scatter", "segments", "special", "spread"]

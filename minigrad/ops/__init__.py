"""The primitives, one file per family of adjoint pairs."""

from . import branches, constants, contract, control, elementwise, index, layout, linalg, loops, order, random, spread

__all__ = ["branches", "constants", "contract", "control", "elementwise", "index", "layout", "linalg", "loops", "order",
           "random", "spread"]

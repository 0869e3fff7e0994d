"""The primitives, one file per family of adjoint pairs."""

from . import constants, contract, control, elementwise, index, layout, linalg, loops, order, random, spread

__all__ = ["constants", "contract", "control", "elementwise", "index", "layout", "linalg", "loops", "order", "random", "spread"]

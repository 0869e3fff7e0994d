"""Arithmetic on Python's numbers in a trace: the results are such numbers, and integers have no bounds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Node
from ..ops import elementwise as ew
from ..ops import overflow
from ..traced_array import Array, hooks

# The operations that can exceed the widest integers, computed as floats. Counts stay below.
_GROWING: dict[np.ufunc, Callable[[Node, Node], Node]] = {
    np.multiply: operator.mul, np.power: ew.pow_, np.left_shift: lambda x, y: x * ew.exp2(y)}


def python_number(ufunc: np.ufunc, out: Array, xs: Sequence[Array]) -> Array:
    """Return the result of a ufunc on Python's numbers as such a number, with a check of its range."""
    node = out._node
    if ufunc in _GROWING and node.dtype.kind in "iu" and not node.is_constant:
        x, y = (ew.cast_to(x._node, np.dtype(float)) for x in xs)
        node = overflow.held(node, _GROWING[ufunc](x, y), node.dtype)
    return Array(node, weak=node.dtype != np.bool_)


hooks.python_number = python_number

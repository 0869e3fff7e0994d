"""Combiners: the associative operations of reductions, scans and scatters.

A primitive names its combiner once. Axis rules print the name; the evaluation, NumPy's text, machine code and CUDA
read the identity, the ufunc, the kernel and the functor.
"""

from __future__ import annotations

import math

import numpy as np

from .graph import Node, Number
from .primitive import Combiner


def _end(dtype: np.dtype, upper: bool) -> Number:
    """Return the largest or the least value of a dtype."""
    if dtype.kind == "b":
        return upper
    least, largest = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return largest if upper else least


ADD = Combiner("add", lambda dtype: 0, "Sum", np.add, "{0} + {1}")
MAX = Combiner("max", lambda dtype: _end(dtype, False), "Max", np.maximum, "max({0}, {1})")
MIN = Combiner("min", lambda dtype: _end(dtype, True), "Min", np.minimum, "min({0}, {1})")
FMAX = Combiner("fmax", lambda dtype: math.nan, "FMax", np.fmax, "{0} >= {1} || isnan({1}) ? {0} : {1}")
FMIN = Combiner("fmin", lambda dtype: math.nan, "FMin", np.fmin, "{0} <= {1} || isnan({1}) ? {0} : {1}")
ANY = Combiner("any", lambda dtype: False, "Any", np.logical_or, "{0} | {1}")
ALL = Combiner("all", lambda dtype: True, "All", np.logical_and, "{0} & {1}")
ARGMAX = Combiner("argmax", MAX.identity, "ArgMax", MAX.ufunc, MAX.kernel, position=True)
ARGMIN = Combiner("argmin", MIN.identity, "ArgMin", MIN.ufunc, MIN.kernel, position=True)


def combiner_of(node: Node) -> Combiner:
    """Return the combiner of a reduction, a scan or a scatter."""
    assert node.prim.combiner is not None, node
    return node.prim.combiner

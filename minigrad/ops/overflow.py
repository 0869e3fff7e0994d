"""Checks that a dtype holds Python's integers, which are unbounded.

As with `strict_index`, `eval` raises; a kernel returns a value that the check of an index refuses.
"""

from __future__ import annotations

import numpy as np

from ..errors import IntegerRangeError, at_user_line
from ..families import elementwise
from ..graph import Node, full
from ..primitive import ArrayNamespace, Sample
from .elementwise import cast_to
from .refusals import first_where
from .results import after_checks


def message(value: object, dtype: np.dtype, line: str) -> str:
    """Return the error message for an integer that `dtype` cannot hold."""
    instead = "Use a float." if dtype.itemsize == 8 else "Cast the array beside it first, with astype(int)."
    return f"{line}the integer {value} is out of bounds for {dtype}. {instead}"


def _overflow_eval(xp: ArrayNamespace, x: np.ndarray, low: np.ndarray, high: np.ndarray, *, dtype: np.dtype,
                   line: str) -> np.ndarray:
    if not x.ndim and xp is np and low <= x <= high:  # a tenth of the time that masks of one number take
        return np.zeros_like(x)
    outside = (x < low) | (x > high)
    if bad := first_where(xp, outside, x):
        value = bad[1]
        raise IntegerRangeError(message(f"{value:.17g}" if value.dtype.kind == "f" else value, dtype, line))
    return outside.astype(x.dtype) if xp is np else xp.astype(outside, x.dtype)


# 0 where x is between low and high, and 1 elsewhere.
overflow = elementwise("overflow", _overflow_eval, "({0} < {1} || {0} > {2}) ? 1 : 0", domain="iuf", order=0,
                       params={"dtype": np.dtype, "line": str}, samples=lambda: [Sample(
                           tuple(map(np.array, ([[0, 2], [3, 9]], [[0, 0], [0, 0]], [[9, 9], [9, 9]]))),
                           {"dtype": np.dtype("i1"), "line": ""}, order=0)])


def held(node: Node, value: Node, dtype: np.dtype) -> Node:
    """Return `node` behind a check that `value`, whose dtype may be wider, fits into `dtype`."""
    info = np.iinfo(dtype)
    low, high = (_within(n, value.dtype) for n in (info.min, info.max))
    outside = overflow(value, *(full(n, value.shape, value.dtype) for n in (low, high)), dtype=dtype,
                       line=at_user_line(""))
    return after_checks([node], {(cast_to(outside, np.dtype(np.int64)), 1): node})[0]


def refused_by(node: Node) -> Node | None:
    """Return the `overflow` whose result the check `node` refuses; None for other checks."""
    (source,) = node.inputs[:1]
    source = source.inputs[0] if source.prim.name == "cast" else source
    return source if source.prim is overflow else None


def _within(bound: int, dtype: np.dtype) -> int | float:
    """Return the number of `dtype` that is nearest to a bound without exceeding it."""
    if dtype.kind != "f":
        return min(max(bound, np.iinfo(dtype).min), np.iinfo(dtype).max)
    rounded = dtype.type(bound)
    return float(rounded if abs(int(rounded)) <= abs(bound) else np.nextafter(rounded, dtype.type(0)))

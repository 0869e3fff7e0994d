"""Running and whole reductions by a ufunc: ``np.maximum.accumulate``, ``np.logaddexp.reduce`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import Node
from ..ops import elementwise as ew
from ..ops import sort
from ..ops.shape import concatenate
from ..tracing import number
from .array import METHODS, NAMES, TABLE, Array, as_array, as_axes, as_axis, implements
from .reductions import _cut, _one_axis, cumprod, filled, given

ASSOCIATIVE = (np.add, np.multiply, np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot,
               np.logical_and, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd,
               np.lcm)


_EXTREMES = {np.maximum: sort.cummax, np.minimum: sort.cummin, np.fmax: sort.cumfmax, np.fmin: sort.cumfmin}
_OF_NUMBERS = {np.fmax: np.maximum, np.fmin: np.minimum}  # of dtypes without NaN
_NAN_LEFT_OUT = {np.fmax: "nanmax", np.fmin: "nanmin"}


def running(ufunc: np.ufunc, x: Node, axis: int) -> Node:
    """Return the running reduction by an associative ufunc, by doubling: log2(n) steps, none of which is a loop.

    Extremes have a primitive: in pairs, three equal elements would share a cotangent as 1/4, 1/4 and 1/2.
    """
    combine, n, reach = TABLE[ufunc], number(x.shape[axis]), 1
    if ufunc in _EXTREMES:
        x = x if x.shape[axis] is n else _cut(x, axis, 0, n)
        return _EXTREMES[ufunc if x.type.floating else _OF_NUMBERS.get(ufunc, ufunc)](x, axis=axis)
    while reach < n:
        later = combine(Array(_cut(x, axis, reach, n)), Array(_cut(x, axis, 0, n - reach)))._node
        x = concatenate(_cut(x, axis, 0, reach), later, axis=axis)
        reach *= 2
    return x


def folded(ufunc: np.ufunc, x: Node, axes: tuple[int, ...]) -> Node:
    """Return the reduction by an associative ufunc over axes, by halving."""
    combine = TABLE[ufunc]
    if ufunc in _NAN_LEFT_OUT and all(number(x.shape[a]) for a in axes):
        return NAMES[_NAN_LEFT_OUT[ufunc]](Array(x), axes)._node
    for a in sorted(axes, reverse=True):
        n = number(x.shape[a])
        if not n:
            raise ShapeError(at_user_line(f"np.{ufunc.__name__}.reduce of an empty axis of {x.type}"))
        while n > 1:
            half, odd = divmod(n, 2)
            halves = combine(Array(_cut(x, a, 0, half)), Array(_cut(x, a, half, 2 * half)))._node
            x = halves if not odd else concatenate(halves, _cut(x, a, n - 1, n), axis=a)
            n = half + odd
        x = NAMES["squeeze"](Array(x), a)._node
    return x


def _enter(ufunc: np.ufunc) -> None:
    def accumulate(x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Array:
        x = _typed(ufunc, x, dtype)
        return Array(running(ufunc, x._node, as_axis(axis, x.ndim, f"{ufunc.__name__}.accumulate")))

    def reduce(x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False,
               initial: Any = None, where: Any = True) -> Array:
        if where is not True:
            raise ShapeError(at_user_line(f"np.{ufunc.__name__}.reduce with where=: put the ufunc's neutral number "
                                          "there first, with np.where"))
        x = _typed(ufunc, x, dtype)
        axes = as_axes(axis, x.ndim, f"{ufunc.__name__}.reduce")
        out = Array(folded(ufunc, x._node, axes))
        if given(initial):
            out = TABLE[ufunc](out, Array(filled(initial, (), out.dtype)))
        return NAMES["expand_dims"](out, axes) if keepdims and axes else out

    METHODS.setdefault((ufunc, "accumulate"), accumulate)
    METHODS.setdefault((ufunc, "reduce"), reduce)


def _typed(ufunc: np.ufunc, x: Any, dtype: Any) -> Array:
    """Return the operand in the dtype that the ufunc reduces in."""
    x = as_array(x)
    try:
        return x.astype(ufunc.reduce(np.ones(1, x.dtype), dtype=dtype).dtype)
    except TypeError as error:
        raise DtypeError(at_user_line(f"np.{ufunc.__name__}.reduce of {x._node.type}: {error}")) from None


for _ufunc in ASSOCIATIVE:
    _enter(_ufunc)


@implements(np.cumulative_prod)
def cumulative_prod(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    """Cumulative product by the array API's rules."""
    x = as_array(x)
    if axis is None and x.ndim != 1:
        raise ShapeError(at_user_line("cumulative_prod: an array of several axes needs axis="))
    a = as_axis(0 if axis is None else axis, x.ndim, "cumulative_prod")
    done = cumprod(x, a, dtype)
    if not include_initial:
        return done
    first = tuple(1 if i == a else n for i, n in enumerate(done._node.shape))
    return NAMES["concatenate"]([NAMES["ones_like"](done, shape=first), done], a)


@implements(name="cumulative_logsumexp")
def cumulative_logsumexp(x, axis=-1):
    """Logarithm of the running sum of exponentials; -inf adds nothing, in derivatives too."""
    x, a = _one_axis(x, axis, "cumulative_logsumexp")
    return Array(running(np.logaddexp, x if x.type.floating else ew.cast_to(x, np.dtype(float)), a))

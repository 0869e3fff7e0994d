"""Functions of functions: by pieces, along an axis, over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import interpreters
from ..errors import ShapeError, at_user_line
from ..graph import PRIMITIVES
from ..ops import shape as shapes
from ..symbolic import size_of
from ..traced_array import Array, ArrayLike, as_array
from .arguments import Axes, as_axis, checked_cast
from .creation import zeros_like
from .dispatch import implements
from .elementwise import where
from .joining import stack
from .manipulation import expand_dims, moveaxis
from .reductions import any_


@implements(np.piecewise)
def piecewise(x: ArrayLike, condlist: Sequence[ArrayLike], funclist: Sequence[Callable[..., ArrayLike] | ArrayLike],
              *args: ArrayLike, **kw: object) -> Array:
    """Apply to each element the function of the last condition that holds for it.

    All functions see all elements.
    """
    x = as_array(x)
    one = not isinstance(condlist, (list, tuple)) or (condlist and as_array(condlist[0]).ndim == 0 and x.ndim)
    conditions = [as_array(c) for c in ([condlist] if one else condlist)]
    functions = list(funclist)
    if len(functions) == len(conditions) + 1:
        otherwise = functions.pop()
        conditions.append(~(any_(stack(conditions), 0) if len(conditions) > 1 else conditions[0]))
        functions.append(otherwise)
    if len(functions) != len(conditions):
        raise ShapeError(at_user_line(f"np.piecewise: {len(conditions)} conditions for {len(funclist)} functions"))
    out = zeros_like(x)
    for condition, function in zip(conditions, functions, strict=True):
        value = Array(checked_cast(function(x, *args, **kw) if callable(function) else function, x.dtype))
        out = where(condition, value, out)
    return out


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Callable[..., ArrayLike], axis: int, arr: ArrayLike, *args: ArrayLike,
                     **kwargs: object) -> Array:
    """Apply a function of vectors along an axis: traced once, and batched."""
    x = as_array(arr)
    a = as_axis(axis, x.ndim, "apply_along_axis")
    rows = moveaxis(x, a, -1)
    lead, n = rows._node.shape[:-1], rows._node.shape[-1]
    count = size_of(lead)
    row = PRIMITIVES["input"](shape=(n,), dtype=x.dtype)
    one = as_array(func1d(Array(row), *args, **kwargs))._node
    (node, has_axis), = interpreters.batch([one], {}, {row: shapes.reshape(rows._node, shape=(count, n))}, count)
    node = interpreters.broadcast_unmapped(node, has_axis, count)
    out = Array(shapes.reshape(node, shape=(*lead, *one.shape)))
    k = one.ndim
    return moveaxis(out, tuple(range(len(lead), len(lead) + k)), tuple(range(a, a + k))) if k else out


@implements(np.apply_over_axes)
def apply_over_axes(func: Callable[..., ArrayLike], a: ArrayLike, axes: Axes) -> Array:
    """Apply a reduction over several axes, one after the other."""
    x = as_array(a)
    for axis in (axes if isinstance(axes, (tuple, list)) else (axes,)):
        out = as_array(func(x, as_axis(axis, x.ndim, "apply_over_axes")))
        x = out if out.ndim == x.ndim else expand_dims(out, as_axis(axis, x.ndim, "apply_over_axes"))
    return x

"""What NumPy builds from its own functions: clip, nan_to_num, isclose, round."""

from __future__ import annotations

import builtins

import numpy as np

from ..errors import TraceError, at_user_line
from ..graph import full
from ..ops import elementwise as ew
from ..ops import special
from .array import Array, as_array, as_int, implements
from .shaping import where
from .ufuncs import refuse_where


@implements(np.clip)
def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, dtype=None, **rest):
    """Limit values to an interval; the gradient at a bound is half of that inside."""
    refuse_where("clip", rest)
    x = as_array(a) if dtype is None else as_array(a).astype(dtype)
    low, high = (v if v is not None else w for v, w in ((a_min, min), (a_max, max)))
    if low is not None and low is not np._NoValue:
        x = np.maximum(x, _bound(low, x.dtype, builtins.max, np.maximum, "min"))
    if high is not None and high is not np._NoValue:
        x = np.minimum(x, _bound(high, x.dtype, builtins.min, np.minimum, "max"))
    return x


def _bound(value, dtype, of_numbers, of_arrays, end):
    """Return a bound of values of `dtype`: a Python int beyond all of these is no bound."""
    if dtype.kind not in "iu":
        return value
    limit = getattr(np.iinfo(dtype), end)
    if type(value) is int:
        return of_numbers(value, limit)
    bound = as_array(value)
    if not bound._weak or bound.dtype.kind not in "iu" or not np.can_cast(np.min_scalar_type(limit), bound.dtype):
        return bound
    return Array(of_arrays(bound, limit)._node, weak=True)


@implements(np.round, np.around)
def round_(a, decimals=0, out=None):
    """Round half to even."""
    x, decimals = as_array(a), as_int(decimals, "round", "decimals")
    if x.dtype.kind != "f":
        if decimals < 0:
            raise TraceError(at_user_line("np.round of integers to tens: write np.floor_divide yourself"))
        return x
    return np.rint(x) if not decimals else np.rint(x * 10.0 ** decimals) / 10.0 ** decimals


@implements(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """Replace NaN and infinities by numbers."""
    x = as_array(x)
    if x.dtype.kind != "f":
        return x
    info = np.finfo(x.dtype)
    out = where(np.isnan(x), nan, x)
    out = where(x == np.inf, float(info.max) if posinf is None else posinf, out)
    return where(x == -np.inf, float(info.min) if neginf is None else neginf, out)


@implements(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Elementwise closeness."""
    a, b = as_array(a), as_array(b)
    near = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@implements(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements are close."""
    return isclose(a, b, rtol, atol, equal_nan).all()


@implements(np.sinc)
def sinc(x):
    """The function sin(pi x) / (pi x), 1 at 0."""
    x = as_array(x)
    return Array(special.sinc((x if x.dtype.kind == "f" else x.astype(float))._node))


@implements(np.nansum)
def nansum(a, axis=None, dtype=None, out=None, keepdims=False, initial=np._NoValue, where=True):
    """Sum of what is not NaN."""
    x = as_array(a)._node
    kept = ew.where(ew.isnan(x), full(0, x.shape, x.dtype), x) if x.type.floating else x
    return np.sum(Array(kept), axis=axis, dtype=dtype, keepdims=keepdims is True, initial=initial, where=where)


Array.clip, Array.round = clip, round_

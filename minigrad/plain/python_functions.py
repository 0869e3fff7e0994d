"""Functions of Python and `math` on traced numbers."""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Iterable, Sized
from typing import cast

from .. import numpy as ours
from ..numpy import special
from ..traced_array import Array

Function = Callable[..., object]


def _extreme(of_numbers: Function, of_two: Function) -> Function:
    """Return ``max`` or ``min`` of traced numbers; that of Python where it takes a key."""

    def extreme(*args: object, **options: object) -> object:
        items = args if len(args) > 1 else tuple(cast("Iterable[object]", args[0]))
        return of_numbers(*args, **options) if options else functools.reduce(of_two, items)

    return extreme


def _length(x: Sized) -> object:
    """Return the length of an array; one of a symbolic size stays so."""
    return x.shape[0] if isinstance(x, Array) and x.ndim else len(x)


def _product(values: Iterable[object], *, start: object = 1) -> object:
    return functools.reduce(ours.multiply, values, start)


def _log(x: object, *base: object) -> object:
    return ours.log(x) / ours.log(*base) if base else ours.log(x)


def _isclose(a: object, b: object, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> object:
    larger = ours.maximum(ours.absolute(a), ours.absolute(b))
    return (a == b) | (ours.absolute(ours.subtract(a, b)) <= ours.maximum(rel_tol * larger, abs_tol))


def _remainder(x: object, y: object) -> object:
    return x - y * ours.rint(ours.divide(x, y))


_SAME = (math.cos, math.cosh, math.copysign, math.degrees, math.exp, math.expm1,
         math.fabs, math.fmod, math.gcd, math.isfinite, math.isinf, math.isnan, math.lcm, math.ldexp, math.log10,
         math.log1p, math.log2, math.modf, math.nextafter, math.radians, math.sin, math.sinh, math.sqrt, math.tan,
         math.tanh, math.cbrt, math.exp2)
MATH: dict[Function, Function] = {
    **{f: getattr(ours, f.__name__) for f in _SAME},
    math.acosh: ours.arccosh, math.asinh: ours.arcsinh, math.atanh: ours.arctanh,
    math.acos: ours.arccos, math.asin: ours.arcsin, math.atan: ours.arctan, math.atan2: ours.arctan2,
    math.dist: lambda p, q: ours.linalg.norm(ours.subtract(p, q)), math.erf: special.erf, math.erfc: special.erfc,
    math.gamma: special.gamma, math.lgamma: special.gammaln, math.fsum: lambda x: ours.sum(ours.asarray(list(x))),
    math.prod: _product, math.log: _log, math.pow: ours.power, math.isclose: _isclose, math.remainder: _remainder,
    math.hypot: lambda *x: ours.linalg.norm(ours.stack(ours.broadcast_arrays(*x)), axis=0),
    math.floor: lambda x: ours.floor(x).astype(int), math.ceil: lambda x: ours.ceil(x).astype(int),
    math.trunc: lambda x: ours.trunc(x).astype(int)}

BUILTINS: dict[Function, Function] = {
    builtins.len: _length, builtins.max: _extreme(builtins.max, ours.maximum),
    builtins.min: _extreme(builtins.min, ours.minimum)}
OF_ITERABLES = (builtins.max, builtins.min, math.dist, math.fsum, math.prod)  # that may be read only once

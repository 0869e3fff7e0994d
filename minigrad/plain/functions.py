"""Stand-ins for functions and types of NumPy, `math`, SciPy and Python, on arrays of NumPy code.

A `StandIn` is that object itself outside of such code, in other threads too.
"""

from __future__ import annotations

import builtins
import functools
import math
import sys
from collections.abc import Callable, Iterable, Sized
from types import ModuleType
from typing import cast

import numpy as np

from .. import numpy as ours
from ..numpy import special
from ..numpy.dispatch import FFT, LINALG, NAMES
from ..numpy.updates import At, Update
from ..traced_array import Array, as_array
from ..tracing import thread
from .mutable_array import MutableArray, applied, holds_traced, mutable, plain

Function = Callable[..., object]


class StandIn:
    """A function that takes the arrays of NumPy code while that is traced, and is another function elsewhere.

    Attributes, and the methods of ufuncs, are those of the function.
    """

    def __init__(self, function: Function, traced: Function, name: str):
        self._function, self._traced, self._name = function, traced, name
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: object, **options: object) -> object:
        if not thread.trace.numpy_code:
            return self._function(*args, **options)
        return applied(self._either, args, options, self._name)

    def _either(self, *args: object, **options: object) -> object:
        traced = any(map(holds_traced, args)) or any(map(holds_traced, options.values()))
        return (self._traced if traced else self._function)(*args, **options)

    def __getattr__(self, name: str) -> object:
        found = getattr(self._function, name)
        if isinstance(self._function, np.ufunc) and thread.trace.numpy_code:
            if name == "at":
                return functools.partial(_at, self._function)
            if name in ("reduce", "accumulate", "outer", "reduceat"):
                return functools.partial(_with_method, getattr(self._traced, name))
        return found

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce__(self) -> tuple[Function, tuple[Function]]:
        return _itself, (self._function,)


def _itself(function: Function) -> Function:
    return function


def _with_method(method: Function, *args: object, **options: object) -> object:
    return applied(method, args, options)


class Kind(type):
    """The class of stand-ins for types of numbers: called with a traced value, they cast it."""

    stands_for: type

    def __call__(cls, *args: object, **options: object) -> object:
        given = plain(args)
        if not thread.trace.numpy_code or not holds_traced(given):
            return cls.stands_for(*cast("tuple[object, ...]", given), **options)
        x = as_array(cast("tuple[object, ...]", given)[0])
        number = cls.stands_for in (float, int)  # of Python: its dtype gives way to others
        return MutableArray(Array((x.reshape(()) if number else x).astype(np.dtype(cls.stands_for))._node, number))

    def __instancecheck__(cls, x: object) -> bool:
        if isinstance(x, Array):
            if cls.stands_for is np.ndarray:
                return bool(x.ndim)
            return not x.ndim and (issubclass(x.dtype.type, cls.stands_for)
                                   or (x._weak and np.dtype(cls.stands_for).kind == x.dtype.kind))
        return isinstance(x, cls.stands_for)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other.stands_for if isinstance(other, Kind) else other, cls.stands_for)

    def __getattr__(cls, name: str) -> object:
        return getattr(cls.stands_for, name)

    def __eq__(cls, other: object) -> bool:
        return cls.stands_for is (other.stands_for if isinstance(other, Kind) else other)

    def __hash__(cls) -> int:
        return hash(cls.stands_for)

    def __repr__(cls) -> str:
        return repr(cls.stands_for)


def kind(of: type) -> Kind:
    """Return the stand-in of a type of numbers, or of ``np.ndarray``."""
    return cast(Kind, stand_in(of))


def _kind(of: type) -> Kind:
    names: dict[str, object] = {"stands_for": of, "__slots__": ()}
    if of is not np.ndarray:
        names["dtype"] = np.dtype(of)  # NumPy reads it off where a type is passed as a dtype
    return Kind(of.__name__, (), names)


# -- functions that write into their first argument ------------------------------------------------------------------

_UPDATES = {np.add: Update.add, np.subtract: Update.subtract, np.multiply: Update.multiply, np.divide: Update.divide,
            np.maximum: Update.max, np.minimum: Update.min}


def _at(ufunc: np.ufunc, array: object, indices: object, *values: object) -> None:
    """Apply a ufunc to elements of an array, in place."""
    key, given = plain(indices), [plain(v) for v in values]
    known = array.known() if isinstance(array, MutableArray) else array
    if not isinstance(array, MutableArray) or ufunc not in _UPDATES or (
            known is not None and not holds_traced(key) and not holds_traced(given)):
        cast(Function, ufunc.at)(known, key, *given)
    else:
        array[...] = cast(Function, _UPDATES[ufunc])(At[Array](array.traced())[key], *given)


def _fill_diagonal(a: MutableArray, val: object, wrap: bool = False) -> None:
    places = np.arange(min(map(int, a.shape)))
    a[(places,) * a.ndim] = val


def _copyto(dst: MutableArray, src: object, casting: str = "same_kind", where: object = True) -> None:
    dst[...] = src if where is True else applied(ours.where, (where, src, dst), {})


def _put_along_axis(arr: MutableArray, indices: object, values: object, axis: int = -1) -> None:
    arr[...] = applied(ours.put_along_axis, (arr, indices, values, axis), {})


def _put(a: MutableArray, ind: object, v: object, mode: str = "raise") -> None:
    cast(MutableArray, a.reshape(-1))[ind] = v


_WRITERS: dict[Function, Function] = {
    np.fill_diagonal: _fill_diagonal, np.copyto: _copyto, np.put_along_axis: _put_along_axis, np.put: _put}


class _Writer(StandIn):
    """A function that writes into its first argument."""

    def __call__(self, *args: object, **options: object) -> object:
        if args and isinstance(args[0], MutableArray) and thread.trace.numpy_code:
            return self._traced(*args, **options)
        return self._function(*args, **options)


# -- Python's numbers ----------------------------------------------------------------------------------------------


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
_MATH: dict[Function, Function] = {
    **{f: getattr(ours, f.__name__) for f in _SAME},
    math.acosh: ours.arccosh, math.asinh: ours.arcsinh, math.atanh: ours.arctanh,
    math.acos: ours.arccos, math.asin: ours.arcsin, math.atan: ours.arctan, math.atan2: ours.arctan2,
    math.dist: lambda p, q: ours.linalg.norm(ours.subtract(p, q)), math.erf: special.erf, math.erfc: special.erfc,
    math.gamma: special.gamma, math.lgamma: special.gammaln, math.fsum: lambda x: ours.sum(ours.asarray(list(x))),
    math.prod: _product, math.log: _log, math.pow: ours.power, math.isclose: _isclose, math.remainder: _remainder,
    math.hypot: lambda *x: ours.linalg.norm(ours.stack(ours.broadcast_arrays(*x)), axis=0),
    math.floor: lambda x: ours.floor(x).astype(int), math.ceil: lambda x: ours.ceil(x).astype(int),
    math.trunc: lambda x: ours.trunc(x).astype(int)}


# -- the stand-in of each object -------------------------------------------------------------------------------------


class Indexer:
    """``np.r_``, ``np.c_``, ``np.mgrid`` and ``np.ogrid``."""

    def __init__(self, own: object, traced: object):
        self._own, self._traced = own, traced

    def __getitem__(self, key: object) -> object:
        indexed = cast("dict[object, object]", self._traced if thread.trace.numpy_code else self._own)
        return mutable(indexed[plain(key)]) if thread.trace.numpy_code else indexed[key]

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


class Module(ModuleType):
    """A module that has stand-ins for its functions in NumPy code, and is another module elsewhere."""

    def __init__(self, module: ModuleType):
        super().__init__(module.__name__, module.__doc__)
        vars(self)["_module"] = module

    def __getattr__(self, name: str) -> object:
        found: object = getattr(vars(self)["_module"], name)
        if not thread.trace.numpy_code:
            return found
        other = stand_in(found)
        return found if other is None else other

    def __setattr__(self, name: str, value: object) -> None:
        setattr(vars(self)["_module"], name, value)

    def __dir__(self) -> list[str]:
        return dir(vars(self)["_module"])

    def __repr__(self) -> str:
        return repr(vars(self)["_module"])

    def __reduce__(self) -> tuple[Function, tuple[str]]:
        return _imported, (self.__name__,)


def _imported(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


MODULES = ("numpy", "numpy.linalg", "numpy.fft", "math", "scipy", "scipy.special", "scipy.linalg")
_made: dict[int, tuple[object, object]] = {}  # an object's id -> the object, and its stand-in


def stand_in(x: object) -> object | None:
    """Return the stand-in of a module, a function or a type, or None."""
    known = _made.get(id(x))
    if known is None:
        made = _stand_in(x)
        if made is None:
            return None
        known = _made.setdefault(id(x), (x, made))  # by one step, for threads
    return known[1]


def _stand_in(x: object) -> object | None:
    if isinstance(x, (StandIn, Indexer, Module, Kind)):
        return None
    if isinstance(x, ModuleType):
        return Module(x) if x.__name__ in MODULES else None
    for name in _INDEXERS:
        if x is getattr(np, name):
            return Indexer(x, getattr(ours, name))
    if isinstance(x, type):
        return _kind(x) if x in (float, int, np.ndarray) or (
            issubclass(x, np.generic) and x.__module__ == "numpy" and x not in _ABSTRACT
            and np.dtype(x).kind in "biuf") else None
    return _function(cast(Function, x)) if callable(x) else None


_INDEXERS = ("r_", "c_", "mgrid", "ogrid")
_ABSTRACT = (np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating,
             np.complexfloating, np.flexible, np.character)


def _function(x: Function) -> StandIn | None:
    name = getattr(x, "__name__", "")
    if x is builtins.max or x is builtins.min:
        return StandIn(x, _extreme(x, ours.maximum if x is builtins.max else ours.minimum), name)
    if x is builtins.len:
        return StandIn(x, _length, name)
    try:
        writer, of_math = _WRITERS.get(x), _MATH.get(x)
    except TypeError:  # not hashable
        return None
    if of_math is not None:
        return StandIn(x, of_math, name)
    if x is np.isscalar:
        return StandIn(x, lambda element: not np.ndim(element), name)
    if writer is not None:
        return _Writer(x, writer, name)
    for space, table in ((np, NAMES), (np.linalg, LINALG), (np.fft, FFT)):
        if getattr(space, name, None) is x:
            return StandIn(x, table.get(name, x), name)
    for scipy_name, table in (("scipy.special", special.NAMES), ("scipy.linalg", _LINALG)):
        if getattr(sys.modules.get(scipy_name), name, None) is x and name in table:
            return StandIn(x, table[name], name)
    return None


def solve(a: object, b: object) -> object:
    return ours.linalg.solve(a, b)


def solve_triangular(a: object, b: object, lower: bool = False) -> object:
    return ours.linalg.solve((ours.tril if lower else ours.triu)(a), b)


def cholesky(a: object, lower: bool = False) -> object:
    root = ours.linalg.cholesky(a)
    return root if lower else ours.swapaxes(root, -1, -2)


def cho_factor(a: object, lower: bool = False) -> tuple[object, bool]:
    return ours.linalg.cholesky(a), True


def cho_solve(c_and_lower: tuple[Array, bool], b: object) -> object:
    root = c_and_lower[0]
    return ours.linalg.solve(ours.matmul(root, root.T), b)


_LINALG: dict[str, Function] = {f.__name__: f for f in (
    ours.linalg.det, ours.linalg.expm, ours.linalg.inv, ours.linalg.norm, solve, solve_triangular, cholesky, cho_factor,
    cho_solve)}

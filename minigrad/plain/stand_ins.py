"""Stand-ins for modules, functions and types of NumPy, `math`, SciPy and Python.

A stand-in takes the arrays of NumPy code while that is traced. Elsewhere, in other threads too, it is the object that
it stands for.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import cast

import numpy as np

from .. import numpy as ours
from ..numpy import special
from ..numpy.dispatch import FFT, LINALG, NAMES
from ..traced_array import Array, as_array
from ..tracing import thread
from . import scipy_linalg
from .mutable_array import MutableArray, applied, elementwise, holds_traced, mutable, named_from_out, plain
from .python_functions import BUILTINS, MATH, OF_ITERABLES
from .python_loops import LOOPS, Vectorized
from .writers import WRITERS, at

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
        if self._function in OF_ITERABLES:
            args = tuple(list(x) if isinstance(x, Iterator) else x for x in args)
        elif isinstance(self._function, np.ufunc) and len(args) > self._function.nin:
            args, options = args[:self._function.nin], {**options, "out": args[self._function.nin:]}
        else:
            args, options = named_from_out(self._traced, args, options)
        apply = elementwise if isinstance(self._function, np.ufunc) else applied
        return apply(self._either, args, options, self._name)

    def _either(self, *args: object, **options: object) -> object:
        traced = any(map(holds_traced, args)) or any(map(holds_traced, options.values()))
        return (self._traced if traced else self._function)(*args, **options)

    def __getattr__(self, name: str) -> object:
        found = getattr(self._function, name)
        if isinstance(self._function, np.ufunc) and thread.trace.numpy_code:
            if name == "at":
                return functools.partial(at, self._function)
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


class _Own(StandIn):
    """A function that handles the arrays of NumPy code itself."""

    def __call__(self, *args: object, **options: object) -> object:
        return (self._traced if thread.trace.numpy_code else self._function)(*args, **options)


class _Writer(StandIn):
    """A function that writes into its first argument."""

    def __call__(self, *args: object, **options: object) -> object:
        if args and isinstance(args[0], MutableArray) and thread.trace.numpy_code:
            return self._traced(*args, **options)
        return self._function(*args, **options)


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
        found = getattr(cls.stands_for, name)
        if cls.stands_for is np.ndarray and callable(found) and thread.trace.numpy_code:
            return lambda x, *args, **options: getattr(x, name)(*args, **options)  # the method of any array
        return found

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
    if isinstance(x, (StandIn, Indexer, Module, Kind, Vectorized)):
        return None
    if isinstance(x, ModuleType):
        return Module(x) if x.__name__ in MODULES else None
    for name in _INDEXERS:
        if x is getattr(np, name):
            return Indexer(x, getattr(ours, name))
    if isinstance(x, np.vectorize):
        return _Own(x, Vectorized(x), "vectorize")
    if isinstance(x, type) and x not in LOOPS:
        return _kind(x) if x in (float, int, np.ndarray) or (
            issubclass(x, np.generic) and x.__module__ == "numpy" and x not in _ABSTRACT
            and np.dtype(x).kind in "biuf") else None
    return _function(cast(Function, x)) if callable(x) else None


_INDEXERS = ("r_", "c_", "mgrid", "ogrid")
_ABSTRACT = (np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating,
             np.complexfloating, np.flexible, np.character)


def _function(x: Function) -> StandIn | None:
    name = getattr(x, "__name__", "")
    try:
        own, writer, other = LOOPS.get(x), WRITERS.get(x), MATH.get(x) or BUILTINS.get(x)
    except TypeError:  # not hashable
        return None
    if own is not None:
        return _Own(x, own, name)
    if writer is not None:
        return _Writer(x, writer, name)
    if other is not None:
        return StandIn(x, other, name)
    if x is np.isscalar:
        return StandIn(x, lambda element: not np.ndim(element), name)
    for space, entered in ((np, NAMES), (np.linalg, LINALG), (np.fft, FFT)):
        if getattr(space, name, None) is x:
            return StandIn(x, entered.get(name, x), name)
    for scipy_name, table in (("scipy.special", special.NAMES), ("scipy.linalg", scipy_linalg.NAMES)):
        if getattr(sys.modules.get(scipy_name), name, None) is x and name in table:
            return StandIn(x, table[name], name)
    return None

"""The table of NumPy's functions on traced arrays.

Every function is entered in `TABLE` under the NumPy function that it stands for. The protocol ``__array_function__``,
the namespace ``minigrad.numpy`` and ``__array_namespace__`` look functions up in that one table.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import DtypeError, TraceError, at_user_line
from ..graph import Table
from ..ops.accumulators import accumulator
from ..sizes import Size
from ..tracebacks import for_user
from ..traced_array import TABLE, Array, ArrayLike, as_array

F = TypeVar("F", bound=Callable[..., object])

NAMES: Table[str, Callable[..., Any]] = Table()  # the namespace minigrad.numpy
LINALG: Table[str, Callable[..., Any]] = Table()  # the namespace minigrad.numpy.linalg
FFT: Table[str, Callable[..., Any]] = Table()  # the namespace minigrad.numpy.fft
_NAMESPACES = {"numpy.linalg": LINALG, "numpy.fft": FFT}
# a ufunc's method -> a name in NAMES, or our function
UFUNC_METHODS: dict[tuple[np.ufunc, str], str | Callable[..., Array]] = {
    (np.add, "reduce"): "sum", (np.multiply, "reduce"): "prod", (np.maximum, "reduce"): "max",
    (np.minimum, "reduce"): "min", (np.logical_and, "reduce"): "all", (np.logical_or, "reduce"): "any",
    (np.add, "accumulate"): "cumsum", (np.multiply, "accumulate"): "cumprod",
}
REFUSED: Table[str, tuple[str, str]] = Table()  # a function's name -> the reason for its refusal, and an alternative
SCIPY: Table[str, Callable[..., Any]] = Table()  # the name of a ufunc of scipy.special -> ours


def any_traced(values: Iterable[object]) -> bool:
    """Return whether values, or lists of values, hold a traced one."""
    return any(isinstance(v, (Array, Size)) or (isinstance(v, (list, tuple)) and any_traced(v)) for v in values)


def accumulates(function: F) -> F:
    """Compute float16 in the accumulator's dtype, and round the result once."""

    @functools.wraps(function)
    def wide(a: ArrayLike, *args: object, **kwargs: object) -> object:
        x = as_array(a)
        if accumulator(x.dtype) == x.dtype or kwargs.get("dtype") is not None:
            return function(a, *args, **kwargs)
        out: Any = function(x.astype(accumulator(x.dtype)), *args, **kwargs)
        return tuple(o.astype(x.dtype) for o in out) if isinstance(out, tuple) else out.astype(x.dtype)

    return cast(F, wide)


def implements(*functions: Callable[..., object], name: str | None = None,
               namespace: dict[str, Callable[..., Any]] | None = None, doc: str | None = None) -> Callable[[F], F]:
    """Enter a function in the table, as the meaning of NumPy functions on traced arrays.

    In the namespace (that of NumPy's function, where there is one) it carries the name `name` (default: that of the
    first NumPy function, or its own); there, on arguments without a traced value, it *is* the NumPy function. `doc`
    replaces its docstring.
    """

    def enter(function: F) -> F:
        label = name or (functions[0] if functions else function).__name__
        function.__doc__ = function.__doc__ if doc is None else doc
        ours = _without_out(function, label)
        TABLE.update(dict.fromkeys(functions, cast("Callable[..., Array]", ours)))
        first = functions[0] if functions else None
        names = _NAMESPACES.get(getattr(first, "__module__", ""), NAMES) if namespace is None else namespace
        names[label] = _public(ours, first, label)
        for f in functions:
            own = getattr(f, "__name__", label)
            names.setdefault(own, names[label] if f is first else _public(ours, f, own))
        return ours

    return enter


def _public(ours: Callable[..., object], numpys: Callable[..., object] | None, label: str) -> Callable[..., object]:
    """Return a function of a namespace: ours on traced values, that of NumPy on others."""

    @functools.wraps(ours)
    def public(*args: object, **kwargs: object) -> object:
        try:
            if numpys is None or any_traced(args) or any_traced(kwargs.values()):
                return ours(*args, **kwargs)
            try:
                return numpys(*args, **kwargs)
            except TypeError as error:
                if type(error) is not TypeError:
                    raise
                raise DtypeError(at_user_line(f"np.{label}: {error}")) from error
        except Exception as error:
            raise for_user(error)  # noqa: B904

    public.__name__ = public.__qualname__ = label
    if isinstance(numpys, np.ufunc):
        for method in ("reduce", "accumulate", "outer", "reduceat", "at"):
            setattr(public, method, _ufunc_method(numpys, method))
    return public


def namespace(names: Mapping[str, Callable[..., Any]], numpys: ModuleType, *more: str
              ) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a namespace: the table's functions and modules `more`, else NumPy's."""

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return names[name]
        except KeyError:
            own = sys.modules.get(f"minigrad.{numpys.__name__}.{name}")
        if own is None and name in more:
            raise AttributeError(name)  # so that ``from minigrad.numpy import fft`` imports it
        return own or getattr(numpys, name)

    return attribute, lambda: sorted({*names, *more})


def _ufunc_method(ufunc: np.ufunc, method: str) -> Callable[..., object]:
    """Return a method of a ufunc that takes lists of traced values, too."""

    def call(*args: ArrayLike, **kwargs: object) -> object:
        if not any_traced(args) and not any_traced(kwargs.values()):
            result: object = getattr(ufunc, method)(*args, **kwargs)
            return result
        first, *others = (as_array(a) if isinstance(a, (list, tuple)) and any_traced(a) else a for a in args)
        return as_array(first).__array_ufunc__(ufunc, method, first, *others, **kwargs)

    return call


def positional_names(function: Callable[..., object]) -> tuple[str, ...]:
    """Return the names of the arguments that a function of a table takes by position."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_varnames[:code.co_argcount] if code else ()


def _without_out(function: F, label: str) -> F:
    """Refuse ``out=`` for every function of the table alike: an array of the caller's is not written to."""
    positional = positional_names(function)
    place = positional.index("out") if "out" in positional else sys.maxsize

    @functools.wraps(function)
    def checked(*args: object, **kwargs: object) -> object:
        if kwargs.get("out") is not None or (len(args) > place and args[place] is not None):
            raise TraceError(at_user_line(f"np.{label} with out=: traced arrays never change; use the result"))
        return function(*args, **kwargs)

    return cast(F, checked)

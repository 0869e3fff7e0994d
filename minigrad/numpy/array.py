"""The table of functions, and the arguments that NumPy's functions share: shapes, axes, integers, broadcasting.

Every function is entered once in `TABLE`, under the NumPy function that it stands for; the protocol
``__array_function__``, the namespace ``minigrad.numpy`` and ``__array_namespace__`` are three doors to
that one table.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DtypeError, IntegerRangeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node
from ..ops import overflow
from ..ops.accumulators import accumulator
from ..ops.elementwise import cast_to
from ..ops.reduce import expand_to
from ..ops.shape import reshape
from ..sizes import Size, unwrap
from ..symbolic import Dim, Shape, format_shape
from ..tracebacks import for_user
from ..traced_array import TABLE, Array, any_traced, as_array
from ..tracing import guard_equal, number

NAMES: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy
LINALG: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy.linalg
FFT: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy.fft
_NAMESPACES = {"numpy.linalg": LINALG, "numpy.fft": FFT}
NAMESPACE: list[Any] = []  # the module minigrad.numpy, put here by itself

METHODS: dict[tuple[np.ufunc, str], Any] = {  # a ufunc's method -> a name in NAMES, or a function
    (np.add, "reduce"): "sum", (np.multiply, "reduce"): "prod", (np.maximum, "reduce"): "max",
    (np.minimum, "reduce"): "min", (np.logical_and, "reduce"): "all", (np.logical_or, "reduce"): "any",
    (np.add, "accumulate"): "cumsum", (np.multiply, "accumulate"): "cumprod",
}

REFUSED: dict[str, tuple[str, str]] = {}  # a function's name -> why it is refused, and what to write instead
SCIPY: dict[str, Callable[..., Any]] = {}  # the name of a ufunc of scipy.special -> ours


def accumulates(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute sums of sums in the accumulator's dtype: float16 goes in as float32, and the result is rounded once."""

    @functools.wraps(function)
    def wide(a: Any, *args: Any, **kwargs: Any) -> Any:
        x = as_array(a)
        if accumulator(x.dtype) == x.dtype or kwargs.get("dtype") is not None:
            return function(a, *args, **kwargs)
        out = function(x.astype(accumulator(x.dtype)), *args, **kwargs)
        return tuple(o.astype(x.dtype) for o in out) if isinstance(out, tuple) else out.astype(x.dtype)

    return wide


def implements(*functions: Callable[..., Any], name: str | None = None,
               namespace: dict[str, Callable[..., Any]] | None = None) -> Callable[..., Any]:
    """Enter a function in the table, as what the given NumPy functions do to traced values.

    In the namespace (that of NumPy's function, where there is one) it carries the name `name` (default: its own,
    without a trailing underscore); there, on arguments without a traced value, it *is* the NumPy function.
    """

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        ours = _without_out(function, name or function.__name__.rstrip("_"))
        for f in functions:
            TABLE[f] = ours
        label = name or ours.__name__.rstrip("_")
        numpys = functions[0] if functions else None

        @functools.wraps(ours)
        def public(*args: Any, **kwargs: Any) -> Any:
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
        names = namespace if namespace is not None else _NAMESPACES.get(getattr(numpys, "__module__", ""), NAMES)
        names[label] = public
        for f in functions:
            names.setdefault(getattr(f, "__name__", label), public)
        return ours

    return enter


def _ufunc_method(ufunc: np.ufunc, method: str) -> Callable[..., Any]:
    """Return a method of a ufunc that takes lists of traced values, too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not any_traced(args) and not any_traced(kwargs.values()):
            return getattr(ufunc, method)(*args, **kwargs)
        first, *rest = (as_array(a) if isinstance(a, (list, tuple)) and any_traced(a) else a for a in args)
        return as_array(first).__array_ufunc__(ufunc, method, first, *rest, **kwargs)

    return call


def _without_out(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    """Refuse ``out=`` for every function of the table alike: an array of the caller's is not written to."""
    parameters = inspect.signature(function).parameters.values()
    places = [i for i, p in enumerate(parameters) if p.name == "out" and p.kind is p.POSITIONAL_OR_KEYWORD]

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None or any(args[i] is not None for i in places if i < len(args)):
            raise TraceError(at_user_line(f"np.{label} with out=: traced arrays never change; use the result"))
        return function(*args, **kwargs)

    return checked




def held(x: Any, dtype: np.dtype) -> Node:
    """Return `x` as a node of `dtype`, which must be able to hold it where it is a Python int, as NumPy has it.

    Raises
    ------
    IntegerRangeError
        If it is not; where its number is known only when the program runs, then.
    """
    x = as_array(x)
    node = cast_to(x._node, dtype)
    if node is x._node or not x._weak or {x.dtype.kind, dtype.kind} - {"i", "u"}:
        return node
    if not x._node.is_constant:
        return overflow.held(node, x._node, dtype)
    if node.params["value"] != x._node.params["value"]:
        raise IntegerRangeError(overflow.message(x._node.params["value"], dtype, at_user_line("")))
    return node


def broadcast_shapes(name: str, types: Sequence[ArrayType]) -> Shape:
    """Return the shape that `types` broadcast to by NumPy's rules, or raise `ShapeError`."""
    shapes = [t.shape for t in types]
    if all(s == shapes[0] for s in shapes[1:]):
        return shapes[0]
    out: list[int | Dim] = []
    for back in range(1, max(map(len, shapes)) + 1):
        size: int | Dim = 1
        for s in shapes:
            n = s[-back] if back <= len(s) else 1
            if n == 1 or guard_equal(size, n):
                continue
            if size == 1:
                size = n
            elif _is_one(n):
                continue
            elif _is_one(size):
                size = n
            else:
                shapes_text = " and ".join(map(str, types))
                raise ShapeError(at_user_line(
                    f"{name}: {shapes_text} do not broadcast: sizes differ ({size}, {n}) at axis -{back}."
                    + _suggest(types)))
        out.append(size)
    return tuple(reversed(out))


def _is_one(n: int | Dim) -> bool:
    """Tell whether a symbolic size is 1 in the example at hand; asking specialises it."""
    return isinstance(n, Dim) and n.hint == 1 and number(n) == 1


def _suggest(types: Sequence[ArrayType]) -> str:
    if len(types) == 2:
        a, b = (t.shape for t in types)
        if len(a) == len(b) == 2 and a == b[::-1]:
            return " Did you mean .T of one of them?"
        if len(b) == 1 and len(a) > 1 and a[0] == b[0]:
            return " Did you mean b[:, None]?"
        if len(a) == 1 and len(b) > 1 and b[0] == a[0]:
            return " Did you mean a[:, None]?"
    return ""


def broadcast_node(x: Node, shape: Shape) -> Node:
    """Return `x` broadcast to `shape`: its axes of size 1 are dropped, then expanded."""
    if x.shape == shape:
        return x
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ShapeError(at_user_line(f"{x.type} cannot be broadcast to {format_shape(shape)}"))
    ones = tuple(a for a, (n, m) in enumerate(zip(x.shape, shape[lead:], strict=True))
                 if not (n is m or n == m) and (n == 1 or (_is_one(n) and not guard_equal(n, m))))
    for a, (n, m) in enumerate(zip(x.shape, shape[lead:], strict=True)):
        if a not in ones and not guard_equal(n, m):
            raise ShapeError(at_user_line(f"{x.type} cannot be broadcast to {format_shape(shape)}"))
    if ones:
        x = reshape(x, shape=tuple(n for a, n in enumerate(x.shape) if a not in ones))
    return expand_to(x, shape, (*range(lead), *(a + lead for a in ones)))


def as_shape(shape: Any) -> Shape:
    """Return a shape argument as a tuple of sizes."""
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    for n in items:
        if not (isinstance(n, Dim) or hasattr(n, "__index__")):
            raise DtypeError(at_user_line(f"a shape is made of whole numbers, and {n!r} is none: {shape!r}"))
    return tuple(n if isinstance(n, Dim) else unwrap(n) if isinstance(n, Size) else int(n.__index__()) for n in items)


def as_axis(axis: Any, ndim: int, name: str) -> int:
    """Return an axis argument as a non-negative int, or raise `ShapeError`."""
    try:
        a = operator.index(axis)
    except TypeError:
        if isinstance(axis, Array):
            raise
        raise ShapeError(at_user_line(f"{name}: an axis is an int, not {axis!r}")) from None
    if not -ndim <= a < ndim:
        raise ShapeError(at_user_line(f"{name}: no axis {a} in an array of {ndim} axes"))
    return a % ndim if ndim else 0


def as_int(value: Any, name: str, parameter: str) -> int:
    """Return an integer argument as an int, or raise `DtypeError`: NumPy would cut a fraction off, or fail later."""
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, Array):
            raise
        raise DtypeError(at_user_line(f"np.{name}: {parameter} must be an integer, not {value!r}")) from None


def as_ints(values: Any, name: str, parameter: str) -> np.ndarray:
    """Return an argument of integers, of any shape, as an array of int64, or raise `DtypeError`."""
    found = np.asarray(values)
    if found.dtype.kind == "O":
        return np.array([as_int(v, name, parameter) for v in found.flat], np.int64).reshape(found.shape)
    if found.dtype.kind not in "iub" and found.size:
        raise DtypeError(at_user_line(f"np.{name}: {parameter} must be an integer, or several, not {values!r}"))
    return found.astype(np.int64)


def as_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """Return an axis argument (None: all) as a sorted tuple."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(as_axis(a, ndim, name) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    if len(set(axes)) != len(axes):
        raise ShapeError(at_user_line(f"{name}: duplicate axis in {axis}"))
    return tuple(sorted(axes))

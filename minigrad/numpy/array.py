"""The traced array: what a person's NumPy code holds while it is traced.

An `Array` answers NumPy's own protocols, so code written with ``import numpy as np`` traces unchanged.
Every function is entered once in `TABLE`, under the NumPy function that it stands for; the protocol
``__array_function__``, the namespace ``minigrad.numpy`` and ``__array_namespace__`` are three doors to
that one table.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import walk
from ..dims import Dim, Shape, format_shape
from ..errors import DtypeError, IntegerRangeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Graph, Node, dtype_of, full
from ..ops import integers
from ..ops.accumulators import accumulator
from ..ops.constants import constant, size_scalar
from ..ops.elementwise import cast_to
from ..ops.layout import reshape
from ..ops.spread import expand_to
from ..primitive import on_host
from ..sizes import Size, shown, unwrap
from ..tracebacks import for_user
from ..tracing import guard_equal, number, thread
from . import asked

TABLE: dict[Callable[..., Any], Callable[..., Any]] = {}  # NumPy's function -> ours
NAMES: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy
LINALG: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy.linalg
FFT: dict[str, Callable[..., Any]] = {}  # the namespace minigrad.numpy.fft
_NAMESPACES = {"numpy.linalg": LINALG, "numpy.fft": FFT}
_LARGE = 1 << 16  # constants of more bytes are looked up by identity within a trace


def _not_a_number(what: str, instead: str, convert: Callable[..., Any] | None = None,
                  ask: Callable[[], asked.Answer | None] = lambda: None) -> Callable[..., Any]:
    """Return a method that needs a number: where there is none, `ask` says who wanted it and what to write."""

    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        if convert is not None and (known := _known(self._node)) is not None:
            return convert(known, *args, **kwargs)
        if (name := _library_caller()) is not None:
            raise refusal(name)
        answer = ask()
        said, better = (f"`{answer[0]}`: ", answer[1]) if answer else ("", instead)
        raise TraceError(at_user_line(
            f"{said}{what} of a traced value ({self._node.type}, from {self._node.where}): its number is known only "
            f"when the program runs. {better}"))

    return method


def _library_caller() -> str | None:
    """Return the name of the NumPy or SciPy function, called by the user, that asks for a number; None without one."""
    name, frame = None, sys._getframe(2)
    while frame is not None and (module := frame.f_globals.get("__name__", "")).startswith(("numpy", "scipy",
                                                                                            "minigrad.numpy")):
        if not module.startswith("minigrad"):
            first = frame.f_code.co_qualname.split(".")[0]
            inner = module.split("._")[0]
            name = "numpy." + first if hasattr(np, first) else inner if first[0] == "_" else f"{inner}.{first}"
        frame = frame.f_back
    return name and _short(name)


def _short(name: str) -> str:
    return "np." + name.removeprefix("numpy.") if name.startswith("numpy.") else name


def _known(node: Node) -> np.ndarray | None:
    """Return the value of a node that depends on no input; a size that it depends on is specialised."""
    graph = Graph((), (node,))
    if any(n.prim.name == "input" for n in graph.nodes):
        return None
    dims = [d for n in graph.nodes for p in n.params.values() for d in (p if isinstance(p, tuple) else (p,))
            if isinstance(d, Dim)]
    for d in dims:
        number(d)
    return np.asarray(walk.evaluate(graph, (), {s: s.hint for d in dims for s in d.symbols})[0])


class Array:
    """A traced value: it reads like a NumPy array and records what is done with it.

    Attributes
    ----------
    shape, dtype, ndim, size, T, mT : as in NumPy
        A size that is symbolic shows as a `Size`.
    at : At
        Functional updates: ``x.at[i].set(v)``.
    """

    __slots__ = ("__weakref__", "_node", "_weak")
    __array_priority__ = 1000

    def __init__(self, node: Node, weak: bool = False):
        self._node = node
        if (values := thread.trace.values) is not None:
            values.append(node)
        self._weak = weak  # a Python scalar, whose dtype gives way to others (NEP 50)

    # -- what it is ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int | Size, ...]:
        return tuple(shown(n) for n in self._node.shape)

    @property
    def dtype(self) -> np.dtype:
        return self._node.dtype

    @property
    def ndim(self) -> int:
        return self._node.ndim

    @property
    def size(self) -> int | Size:
        return shown(self._node.type.size)

    @property
    def T(self) -> Array:
        return NAMES["transpose"](self)

    @property
    def mT(self) -> Array:
        return NAMES["matrix_transpose"](self)

    @property
    def real(self) -> Array:
        return self

    @property
    def imag(self) -> Array:
        return NAMES["zeros_like"](self)

    @property
    def device(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return f"<traced {self._node.type}: {self._node.prim.name} at {self._node.where}>"

    def __len__(self) -> int:
        if not self.ndim:
            raise TraceError(at_user_line("len() of a traced scalar"))
        return number(self._node.shape[0])

    def __iter__(self) -> Iterator[Array]:
        if not self.ndim:
            raise TraceError(at_user_line("iteration over a traced scalar"))
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __copy__(self) -> Array:  # it never changes
        return self

    def __deepcopy__(self, memo: dict) -> Array:
        return self

    def __reduce__(self) -> Any:
        raise TraceError(at_user_line(
            f"pickle of a traced value ({self._node.type}, from {self._node.where}): its number is known only when the "
            "program runs. Return it from the traced function, and pickle what that returns."))

    # -- what it cannot be -----------------------------------------------------------------------------

    __bool__ = _not_a_number("the truth", "For `if` use np.where(condition, a, b), or mg.cond where the other branch "
                             "must not run; for `assert`, check the inputs before tracing.", bool, asked.truth)
    __float__ = _not_a_number("float()", "Keep the value as an array: arithmetic and np functions take it as it is.",
                              float, asked.number)
    __int__ = _not_a_number("int()", "Keep the value as an array, or use x.astype(int).", int, asked.number)
    __index__ = _not_a_number("the index number", "To index an array with it write x[i]; a size, a range or an axis "
                              "must be an ordinary int.", operator.index, asked.index)
    __complex__ = _not_a_number("complex()", "minigrad has no complex arrays.")
    __array__ = _not_a_number("np.asarray()", "Use np functions on it directly. np.stack([a, b]) makes one array of "
                              "several; minigrad.numpy.take(table, i, axis=0) indexes an ndarray with it. What "
                              "else must be an ndarray must come from outside the traced function.", np.asarray,
                              asked.array)
    item = _not_a_number("item()", "Keep it as an array.", np.ndarray.item)
    tolist = _not_a_number("tolist()", "Keep it as an array.", np.ndarray.tolist)

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        if (known := _known(self._node)) is not None:
            return format(known[()], spec)
        raise TraceError(at_user_line(
            f"a traced value ({self._node.type}, from {self._node.where}) in the format {spec!r}: its number is known "
            f"only when the program runs. {asked.formatted()}"))

    def __setitem__(self, *args: Any) -> None:
        raise TraceError(at_user_line(
            f"in-place assignment to a traced value ({self._node.type}, from {self._node.where}): traced arrays never "
            "change. Write x = x.at[i].set(new), or x = np.where(mask, new, x)."))

    __delitem__ = __setitem__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        instead = f" Write np.{name}(x)." if name in NAMES else ""
        raise AttributeError(at_user_line(f"a traced array ({self._node.type}) has no attribute {name!r}.{instead}"))

    # -- NumPy's protocols -----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            raise TraceError(at_user_line(
                f"np.{ufunc.__name__} with out=, or an in-place operator such as x += y, on an array with a traced "
                "operand: arrays outside the trace cannot take traced values. Write x = x + y."))
        if method == "__call__":
            return _look_up(ufunc)(*inputs, **{k: v for k, v in kwargs.items() if k != "out"})
        if method in ("reduce", "accumulate") and (found := METHODS.get((ufunc, method))):
            kwargs.setdefault("axis", 0)
            function = NAMES[found] if isinstance(found, str) else found
            return function(*inputs, **{k: v for k, v in kwargs.items() if v is not None or k == "axis"})
        if method == "outer":
            a, b = (as_array(x) for x in inputs)
            return _look_up(ufunc)(a.reshape(a.shape + (1,) * b.ndim), b)
        raise TraceError(at_user_line(f"np.{ufunc.__name__}.{method} is not supported on traced values: "
                                      + _INSTEAD_OF.get(method, "use np.sum, np.prod, np.max or np.cumsum")))

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return _look_up(func)(*args, **kwargs)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return NAMESPACE[0]


NAMESPACE: list[Any] = []  # the module minigrad.numpy, put here by itself

METHODS: dict[tuple[np.ufunc, str], Any] = {  # a ufunc's method -> a name in NAMES, or a function
    (np.add, "reduce"): "sum", (np.multiply, "reduce"): "prod", (np.maximum, "reduce"): "max",
    (np.minimum, "reduce"): "min", (np.logical_and, "reduce"): "all", (np.logical_or, "reduce"): "any",
    (np.add, "accumulate"): "cumsum", (np.multiply, "accumulate"): "cumprod",
}


_INSTEAD_OF = {"at": "arrays do not change in a trace. Write minigrad.numpy.at(x)[i].add(v), multiply, max or min",
               "reduceat": "write minigrad.numpy.at(np.zeros(n))[segment].add(v), or np.cumsum and a difference"}

REFUSED: dict[str, tuple[str, str]] = {}  # a function's name -> why it is refused, and what to write instead
SCIPY: dict[str, Callable[..., Any]] = {}  # the name of a ufunc of scipy.special -> ours


def _look_up(func: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return TABLE[func]
    except (KeyError, TypeError):
        name = getattr(func, "__name__", str(func))
    special = sys.modules.get("scipy.special")
    if special is not None and isinstance(func, np.ufunc) and getattr(special, name, None) is func:
        if name in SCIPY:
            return SCIPY[name]
        module = "scipy.special"
    else:
        module = "numpy" if getattr(np, name, None) is func else (getattr(func, "__module__",
                                                                          None) or "").split("._")[0]
    raise refusal(_library_caller() or _short(f"{module}.{name}" if module else name))


def refusal(name: str) -> TraceError:
    """Return the error of a function that is not supported: its name, why, and what to write instead."""
    why, instead = REFUSED.get(name) or _not_handed_over(name) or (
        "it is not supported on traced values",
        "What it computes must be written with the functions in minigrad.numpy, or computed outside the traced "
        "function; mg.callback calls NumPy code as it is.")
    message = at_user_line(f"{name} of a traced value: {why}. {instead}")
    if name in ("np.array_equal", "np.array_equiv"):  # they return False on every error
        warnings.warn(message, UserWarning, stacklevel=2)
    return TraceError(message)


def _not_handed_over(name: str) -> tuple[str, str] | None:
    """Return why NumPy itself ran a function that traced values have, and what to write instead."""
    space, _, short = name.removeprefix("np.").rpartition(".")
    names = {"linalg": LINALG, "fft": FFT, "scipy.linalg": LINALG}.get(space, NAMES if name.startswith("np.") else {})
    if short not in names:
        return None
    if space == "scipy.linalg":
        return "SciPy makes an ndarray of its argument", f"Write np.linalg.{short}(...)."
    return ("NumPy hands a call over where the traced value itself is an array argument, and not within a list, or as "
            "an index, a size or a fill value", f"Write minigrad.numpy.{name.removeprefix('np.')}(...), which takes it "
            "there (import minigrad.numpy as np); or, of a list, np.stack([a, b]) first.")


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
                if numpys is None or _any_traced(args) or _any_traced(kwargs.values()):
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
        if not _any_traced(args) and not _any_traced(kwargs.values()):
            return getattr(ufunc, method)(*args, **kwargs)
        first, *rest = (as_array(a) if isinstance(a, (list, tuple)) and _any_traced(a) else a for a in args)
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


def _any_traced(values: Any) -> bool:
    return any(isinstance(v, (Array, Size)) or (isinstance(v, (list, tuple)) and _any_traced(v)) for v in values)


# -- from people's values to nodes -----------------------------------------------------------------------


def number_dtype(x: bool | int | float) -> np.dtype:
    """Return the dtype of a Python number: an int is int64, or uint64 where it is too large for that."""
    dtype = np.asarray(x).dtype
    if dtype.kind == "O":
        raise IntegerRangeError(at_user_line(f"the integer {x} is too large for any dtype: use a float"))
    return dtype


def as_array(x: Any) -> Array:
    """Return `x` as a traced value: a constant where it is a number or an array.

    Raises
    ------
    DtypeError
        If it is complex, of objects, or not an array at all.
    """
    if isinstance(x, Array):
        return x
    if isinstance(x, Size):
        return Array(size_scalar(x.dim, np.dtype(np.int64)), weak=True)
    if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic):
        dtype = number_dtype(x)
        return Array(full(x, (), dtype), weak=not isinstance(x, bool))
    if isinstance(x, (list, tuple)) and _any_traced(x):
        return NAMES["stack"]([as_array(v) for v in x])
    if hasattr(x, "tocoo"):
        raise DtypeError(at_user_line(f"a {type(x).__name__} of SciPy with a traced value: write "
                                      "mg.Sparse.from_scipy(A), which multiplies traced values"))
    try:
        value = on_host(x)
        if value.dtype == object and all(isinstance(v, (int, float, Size, Array)) for v in value.flat):
            # What NumPy makes of sizes, in np.arange(x.shape[0]) or np.array(x.shape): numbers after all.
            listed = value.tolist()
            if _any_traced([listed]):
                return as_array(listed)
            value = np.asarray(listed)
    except ValueError as error:
        raise ShapeError(at_user_line(f"a {type(x).__name__} that is no array: {error}")) from None
    dtype_of(value.dtype, lambda: f"a {type(x).__name__}: ")
    known = thread.trace.constants
    if known is None or value.nbytes <= _LARGE:
        return Array(constant(value))
    if id(x) not in known:
        known[id(x)] = (x, constant(value))
    return Array(known[id(x)][1])


Size.lift = as_array


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
    if x._node.prim.name != "full":
        return integers.held(node, x._node, dtype)
    if node.params["value"] != x._node.params["value"]:
        raise IntegerRangeError(integers.message(x._node.params["value"], dtype, at_user_line("")))
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

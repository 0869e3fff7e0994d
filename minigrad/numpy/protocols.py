"""NumPy's protocols on traced arrays, and the errors of code that needs a number or an unsupported function.

NumPy hands each call with a traced array over to ``__array_ufunc__`` or ``__array_function__``, which look it up in
`TABLE`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from types import FrameType, MappingProxyType
from typing import TypeAlias

import numpy as np

from .. import expression, interpreters
from ..errors import TraceError, at_user_line
from ..graph import Graph, Node
from ..primitive import input_
from ..sizes import Size
from ..symbolic import Dim, differs
from ..traced_array import TABLE, Array, ArrayLike, as_array, hooks
from ..tracing import number, thread
from . import conversion_errors
from .arguments import numbers
from .conversion_errors import as_it_stands
from .dispatch import FFT, LINALG, NAMES, REFUSED, SCIPY, UFUNC_METHODS

_BRACKETS = "np.lib.AxisConcatenator"
_INSTEAD_OF = {"at": "arrays do not change in a trace. Write minigrad.numpy.at(x)[i].add(v), multiply, max or min",
               "reduceat": "write minigrad.numpy.at(np.zeros(n))[segment].add(v), or np.cumsum and a difference"}


# -- functions --------------------------------------------------------------------------------------


def _look_up(func: Callable[..., object]) -> Callable[..., object]:
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
    """Return the error of an unsupported function: its name, the reason, the way out."""
    why, instead = REFUSED.get(name) or _not_handed_over(name) or (
        "it is not supported on traced values",
        "What it computes must be written with the functions in minigrad.numpy, or computed outside the traced "
        "function; mg.callback calls NumPy code as it is.")
    mended = name == _BRACKETS or why == conversion_errors.WRITES
    message = at_user_line(f"{name} of a traced value: {why}. {instead}{as_it_stands() if mended else ''}")
    if name in ("np.array_equal", "np.array_equiv"):  # they return False on every error
        warnings.warn(message, UserWarning, stacklevel=2)
    return TraceError(message)


def _not_handed_over(name: str) -> tuple[str, str] | None:
    """Return the reason why NumPy ran a supported function itself, and the way out."""
    space, _, short = name.removeprefix("np.").rpartition(".")
    names = {"linalg": LINALG, "fft": FFT, "scipy.linalg": LINALG}.get(space, NAMES if name.startswith("np.") else {})
    if short not in names:
        return None
    if space == "scipy.linalg":
        return "SciPy makes an ndarray of its argument", f"Write np.linalg.{short}(...)."
    return ("NumPy hands a call over where the traced value itself is an array argument, and not within a list, or as "
            "an index, a size or a fill value", f"Write minigrad.numpy.{name.removeprefix('np.')}(...), which takes it "
            "there (import minigrad.numpy as np); or, of a list, np.stack([a, b]) first." + as_it_stands())


# -- values -------------------------------------------------------------------------------------------------

_STAND_INS = ("__float__", "__int__", "__array__", "item", "tolist")  # conversions that `numpy_code` does without
Explain: TypeAlias = Callable[[], conversion_errors.Answer | None]

# A method of `Array` that needs a value -> its name in errors, an alternative, and a function that finds the user's
# expression with an alternative for it.
_CONVERSIONS: dict[str, tuple[str, str, Explain]] = {
    "__bool__": ("the truth", "For `if` use np.where(condition, a, b), or mg.cond where the other branch must not run; "
                 "for `assert`, check the inputs before tracing.", conversion_errors.truth),
    "__float__": ("float()", "Keep the value as an array: arithmetic and np functions take it as it is.",
                  conversion_errors.number),
    "__int__": ("int()", "Keep the value as an array, or use x.astype(int).", conversion_errors.number),
    "__index__": ("the index number", "To index an array with it write x[i]; a size, a range or an axis must be an "
                  "ordinary int.", conversion_errors.index),
    "__complex__": ("complex()", "minigrad has no complex arrays.", lambda: None),
    "__array__": ("np.asarray()", "Use np functions on it directly. np.stack([a, b]) makes one array of several; "
                  "minigrad.numpy.take(table, i, axis=0) indexes an ndarray with it. What else must be an ndarray must "
                  "come from outside the traced function.", conversion_errors.array),
    "__hash__": ("the hash", "Dicts, sets and caches need the number itself. minigrad.numpy.take(values, i) looks up a "
                 "number, and mg.switch(i, [f, g], x) chooses a function. An argument of a compiled function is a key "
                 "if it is static: mg.compile(f, static_argnums=...).", conversion_errors.key),
    "item": ("item()", "Keep it as an array.", lambda: None),
    "tolist": ("tolist()", "Keep it as an array.", lambda: None),
}


def value(x: Array, method: str) -> np.ndarray:
    """Return the value of an array without inputs, for a method of `Array`.

    Raises
    ------
    TraceError
        If the value is known only when the program runs: names the caller and the way out.
    """
    if method != "__complex__" and (known := known_array(x)) is not None:
        return known
    if (name := _library_caller()) is not None:
        raise refusal(name)
    needed, instead, explain = _CONVERSIONS[method]
    answer = explain()
    instead += as_it_stands() if method in _STAND_INS else ""
    expression, instead = (f"`{answer[0]}`: ", answer[1]) if answer else ("", instead)
    raise TraceError(at_user_line(
        f"{expression}{needed} of a traced value ({x._node.type}, from {x._node.where}): its number is known only "
        f"when the program runs. {instead}"))


def formatted(x: Array, spec: str) -> str:
    """Return the value of an array that depends on no input as text; without a format, a number's, or the type."""
    if (spec or not x.ndim) and (known := known_array(x)) is not None:
        return format(known.item() if x._weak else known[()], spec)
    if not spec:
        return f"<traced {x._node.type}: {x._node.prim.name} at {x._node.where}>"
    raise TraceError(at_user_line(
        f"a traced value ({x._node.type}, from {x._node.where}) in the format {spec!r}: its number is known "
        f"only when the program runs. {conversion_errors.FORMATTED}"))


# The modules between the user and a conversion.
_FACE = ("numpy.", "scipy.", "minigrad.numpy.", "minigrad.traced_array.", "minigrad.plain.")


def _library_caller() -> str | None:
    """Return the NumPy or SciPy function that needs a number, or None."""
    name: str | None = None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
            module := frame.f_globals.get("__name__") or "") and f"{module}.".startswith(_FACE):
        if not module.startswith("minigrad"):
            first = frame.f_code.co_qualname.split(".")[0]
            inner = module.split("._")[0]
            name = "numpy." + first if hasattr(np, first) else inner if first[0] == "_" else f"{inner}.{first}"
        frame = frame.f_back
    if name is not None and "." not in name:  # a decorator's frame, before the function's own
        called = expression.calls(*expression.running())
        if getattr(called, "__module__", "").startswith(name):
            name = f"{called.__module__.split('._')[0]}.{called.__name__}"
    return name and _short(name)


def _short(name: str) -> str:
    return "np." + name.removeprefix("numpy.") if name.startswith("numpy.") else name


def known_array(x: Array) -> np.ndarray | None:
    """Return the value of an array that depends on integers among the arguments at most, which it fixes, or None."""
    return known_value(x._node, thread.trace.integers)


def known_value(node: Node, integers: Mapping[Node, Callable[[], int | Node]] = MappingProxyType({})
                ) -> np.ndarray | None:
    """Return the value of a node without inputs but `integers`, or None; guards fix these, and its sizes."""
    graph = Graph((), (node,))
    inputs = [n for n in graph.nodes if n.prim is input_]
    if not all(map(integers.__contains__, inputs)):
        return None
    arrays: list[np.ndarray] = []
    for n in inputs:
        number_or_node = integers[n]()
        known = known_value(number_or_node, integers) if isinstance(number_or_node, Node) else number_or_node
        if known is None:
            return None
        arrays.append(np.asarray(known, n.dtype))
    graph = Graph(tuple(inputs), (node,))
    dims = _sizes_of(graph)
    for d in dims:
        number(d)
    sizes = {s: s.hint for d in dims for s in d.symbols if s.hint is not None}
    return np.asarray(interpreters.evaluate(graph, arrays, sizes)[0])


def _sizes_of(graph: Graph) -> list[Dim]:
    return [d for n in graph.nodes for p in n.params.values() for d in (p if isinstance(p, tuple) else (p,))
            if isinstance(d, Dim)]


def follows_examples(x: Array) -> bool:
    """Return whether an array depends on sizes that differ between examples, so that no guard can fix its value."""
    return any(map(differs, _sizes_of(Graph((), (x._node,)))))


# -- NumPy's protocols ----------------------------------------------------------------------------------------


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[ArrayLike, ...], options: dict[str, object]) -> object:
    """Apply a ufunc, or a method of it, to traced values."""
    if options.get("out") is not None:
        raise TraceError(at_user_line(
            f"np.{ufunc.__name__} with out=, or an in-place operator such as x += y, on an array with a traced "
            "operand: arrays outside the trace cannot take traced values. Write x = x + y." + as_it_stands()))
    if method == "__call__":
        return _look_up(ufunc)(*inputs, **{k: v for k, v in options.items() if k != "out"})
    if method in ("reduce", "accumulate") and (reduction := UFUNC_METHODS.get((ufunc, method))):
        options.setdefault("axis", 0)
        function = NAMES[reduction] if isinstance(reduction, str) else reduction
        return function(*inputs, **{k: v for k, v in options.items() if v is not None or k == "axis"})
    if method == "outer":
        a, b = (Array(as_array(x)._node) for x in inputs)  # NumPy makes arrays of Python's numbers
        return _look_up(ufunc)(a.reshape(a.shape + (1,) * b.ndim), b)
    raise TraceError(at_user_line(f"np.{ufunc.__name__}.{method} is not supported on traced values: "
                                  + _INSTEAD_OF.get(method, "use np.sum, np.prod, np.max or np.cumsum")))


def apply_function(function: Callable[..., object], args: tuple[object, ...], options: dict[str, object]) -> object:
    """Apply a function of NumPy to traced values, or to sizes: one without a traced form takes the numbers of these."""
    if _holds_size((*args, *options.values())) and function not in TABLE:  # the table is completed to know
        return function(*map(numbers, args), **{k: numbers(v) for k, v in options.items()})
    return _look_up(function)(*args, **options)


def _holds_size(x: object) -> bool:
    return isinstance(x, Size) or (isinstance(x, (list, tuple)) and any(map(_holds_size, x)))


hooks.ufunc, hooks.function, hooks.value, hooks.formatted = apply_ufunc, apply_function, value, formatted

"""NumPy's protocols on traced arrays, and the errors of code that needs a number or an unsupported function.

NumPy hands each call with a traced array over to ``__array_ufunc__`` or ``__array_function__``, which look it up in
`TABLE`.
"""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import interpreters
from ..errors import TraceError, at_user_line
from ..graph import Graph, Node
from ..primitive import input_
from ..symbolic import Dim
from ..traced_array import TABLE, Array, as_array
from ..tracing import number
from . import conversion_errors
from .dispatch import FFT, LINALG, METHODS, NAMES, NAMESPACE, REFUSED, SCIPY

_INSTEAD_OF = {"at": "arrays do not change in a trace. Write minigrad.numpy.at(x)[i].add(v), multiply, max or min",
               "reduceat": "write minigrad.numpy.at(np.zeros(n))[segment].add(v), or np.cumsum and a difference"}


# -- functions --------------------------------------------------------------------------------------


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
    """Return the error of an unsupported function: its name, the reason, the way out."""
    why, instead = REFUSED.get(name) or _not_handed_over(name) or (
        "it is not supported on traced values",
        "What it computes must be written with the functions in minigrad.numpy, or computed outside the traced "
        "function; mg.callback calls NumPy code as it is.")
    message = at_user_line(f"{name} of a traced value: {why}. {instead}")
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
            "there (import minigrad.numpy as np); or, of a list, np.stack([a, b]) first.")


# -- numbers ----------------------------------------------------------------------------------------


def _not_a_number(what: str, instead: str, convert: Callable[..., Any] | None = None,
                  ask: Callable[[], conversion_errors.Answer | None] = lambda: None) -> Callable[..., Any]:
    """Return a method that needs a number; without one, `ask` names the caller and the way out."""

    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        if convert is not None and (known := known_value(self._node)) is not None:
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


def known_value(node: Node) -> np.ndarray | None:
    """Return the value of a node that depends on no input; a size that it depends on is specialised."""
    graph = Graph((), (node,))
    if any(n.prim is input_ for n in graph.nodes):
        return None
    dims = [d for n in graph.nodes for p in n.params.values() for d in (p if isinstance(p, tuple) else (p,))
            if isinstance(d, Dim)]
    for d in dims:
        number(d)
    return np.asarray(interpreters.evaluate(graph, (), {s: s.hint for d in dims for s in d.symbols})[0])


# -- the methods --------------------------------------------------------------------------------------------


class _Protocols:
    """Methods of `Array` that Python and NumPy call."""

    def __array_ufunc__(self: Array, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
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

    def __array_function__(self: Array, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return _look_up(func)(*args, **kwargs)

    def __array_namespace__(self: Array, api_version: str | None = None) -> Any:
        return NAMESPACE[0]

    __bool__ = _not_a_number("the truth", "For `if` use np.where(condition, a, b), or mg.cond where the other branch "
                             "must not run; for `assert`, check the inputs before tracing.", bool,
                             conversion_errors.truth)
    __float__ = _not_a_number("float()", "Keep the value as an array: arithmetic and np functions take it as it is.",
                              float, conversion_errors.number)
    __int__ = _not_a_number("int()", "Keep the value as an array, or use x.astype(int).", int, conversion_errors.number)
    __index__ = _not_a_number("the index number", "To index an array with it write x[i]; a size, a range or an axis "
                              "must be an ordinary int.", operator.index, conversion_errors.index)
    __complex__ = _not_a_number("complex()", "minigrad has no complex arrays.")
    __array__ = _not_a_number("np.asarray()", "Use np functions on it directly. np.stack([a, b]) makes one array of "
                              "several; minigrad.numpy.take(table, i, axis=0) indexes an ndarray with it. What "
                              "else must be an ndarray must come from outside the traced function.", np.asarray,
                              conversion_errors.array)
    item = _not_a_number("item()", "Keep it as an array.", np.ndarray.item)
    tolist = _not_a_number("tolist()", "Keep it as an array.", np.ndarray.tolist)

    def __format__(self: Array, spec: str) -> str:
        if not spec:
            return repr(self)
        if (known := known_value(self._node)) is not None:
            return format(known[()], spec)
        raise TraceError(at_user_line(
            f"a traced value ({self._node.type}, from {self._node.where}) in the format {spec!r}: its number is known "
            f"only when the program runs. {conversion_errors.formatted()}"))


for _name, _method in vars(_Protocols).items():
    if callable(_method):
        setattr(Array, _name, _method)

"""Error types, and the location in the user's code of errors and nodes."""

from __future__ import annotations

import linecache
import re
import sys
import weakref
from types import FrameType
from typing import NamedTuple, TypeAlias


class MinigradError(Exception):
    """The base of every error that minigrad raises on purpose.

    Examples
    --------
    >>> try:
    ...     mg.vmap(np.add)(np.zeros(2), np.zeros(3))
    ... except mg.MinigradError as error:
    ...     print(type(error).__name__)
    BatchError
    """


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit an operation.

    Examples
    --------
    >>> mg.trace(lambda x: x @ x)(mg.f64[2, 3])
    Traceback (most recent call last):
        ...
    minigrad.errors.ShapeError: ...matmul f64[2, 3] @ f64[2, 3]: inner sizes differ (3, 2). Did you mean b.T?
    """


class DtypeError(MinigradError, TypeError):
    """A dtype, or a Python type, that minigrad has no arrays of.

    Examples
    --------
    >>> mg.trace(lambda x: x + 1)(np.zeros(2, complex))
    Traceback (most recent call last):
        ...
    minigrad.errors.DtypeError: ...dtype complex128: minigrad has bool, integer and floating arrays, not complex ones...
    """


class IntegerRangeError(DtypeError, OverflowError):
    """A Python int that the dtype beside it cannot hold."""


class TraceError(MinigradError, TypeError):
    """Code that needs a number while it is traced, or a value that left its trace.

    Examples
    --------
    >>> mg.trace(lambda x: 1.0 if x > 0 else 0.0)(mg.f64[()])
    Traceback (most recent call last):
        ...
    minigrad.errors.TraceError: ...`1.0 if x > 0 else 0.0`: the truth of a traced value...
    """


class MissingAttribute(TraceError, AttributeError):
    """An attribute of arrays that traced values cannot have."""


class BatchError(MinigradError, ValueError):
    """A batch axis that is missing, differs between arguments, or cannot be split.

    Examples
    --------
    >>> mg.vmap(np.add)(np.zeros(2), np.zeros(3))
    Traceback (most recent call last):
        ...
    minigrad.errors.BatchError: ...batch sizes differ: 2 (axis 0 of x1: f64[2]) and 3 (axis 0 of x2: f64[3])...
    """


class IndexRangeError(ShapeError, BatchError, IndexError):
    """An index out of range that is detected before a program runs; a program raises `IndexError`."""


class GradError(MinigradError, TypeError):
    """A derivative that does not exist.

    Examples
    --------
    >>> mg.grad(lambda x: x)(np.ones(2))
    Traceback (most recent call last):
        ...
    minigrad.errors.GradError: ...it returns f64[2], and a gradient needs one floating number...
    """


class GraphError(MinigradError, ValueError):
    """A graph, or its JSON, that is malformed.

    Examples
    --------
    >>> mg.Graph.from_json("{}")
    Traceback (most recent call last):
        ...
    minigrad.errors.GraphError: format None, expected 'minigrad-graph-1'
    """


class Unsupported(MinigradError, NotImplementedError):
    """A rule that does not exist, with the reason.

    Examples
    --------
    >>> mg.grad(lambda x: mg.callback(np.sin, mg.f64[()], x))(1.0)
    Traceback (most recent call last):
        ...
    minigrad.errors.Unsupported: ...callback has no vjp rule...
    """


class CheckError(MinigradError, AssertionError):
    """A wrong derivative or a wrong batch, found by `check_grads` or `check_batching`.

    Attributes
    ----------
    node : Node or None
        The first node of the graph that disagrees.

    Examples
    --------
    >>> square = mg.custom_vjp(lambda g, out, x: (g * x,))(lambda x: x**2)
    >>> mg.check_grads(square, (3.0,))
    Traceback (most recent call last):
        ...
    minigrad.errors.CheckError: ...the derivative of the result by x is 3 in reverse mode and 6 by finite differences...
    """

    def __init__(self, message: str, node: object = None):
        super().__init__(message)
        self.node = node

    def __reduce__(self) -> tuple[type[CheckError], tuple[object, ...]]:
        return CheckError, self.args  # another process has no such node


_LIBRARIES = ("minigrad.", "numpy.", "optree.", "functools", "contextlib", "scipy.")
_COMMAND_LINE = "minigrad.cli"
_internal: dict[int, tuple[bool, object]] = {}  # id of a code object -> is it library code? until it is collected


def is_library(module: str) -> bool:
    """Return whether a module belongs to minigrad or to a library that minigrad runs on."""
    return (module + ".").startswith(_LIBRARIES)


def is_internal(frame: FrameType) -> bool:
    """Return whether a frame runs library code rather than the user's.

    Modules of minigrad that play the user (the digits model of `compare`) define ``__user_code__ = True``.
    """
    key = id(code := frame.f_code)  # codes hash slowly
    known, _ = _internal.get(key, (None, code))
    if known is None:
        module = frame.f_globals.get("__name__") or ""
        known = is_library(module) or code.co_filename.startswith("<__array_function__")  # and methods of dataclasses:
        known = (known and not frame.f_globals.get("__user_code__")) or code.co_qualname.startswith("__create_fn__.")
        if module != _COMMAND_LINE:  # `user_frame` stops there, and asks the cache alone
            _internal[key] = known, weakref.ref(code, lambda _: _internal.pop(key, None))
    return known


def of_user(error: Exception) -> bool:
    """Return whether the user's code raised an error, as a callback does."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and not is_internal(tb.tb_frame)


def user_frame() -> FrameType | None:
    """Return the innermost frame outside minigrad and NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _internal.get(id(frame.f_code), (False,))[0]:  # hot: each new node gets its line here
            if frame.f_globals.get("__name__") == _COMMAND_LINE:  # its caller is not the user's code
                return None
            if not is_internal(frame):
                return frame
        frame = frame.f_back
    return None


class Place(NamedTuple):
    """A line of the user's code, with the scope around it and the label of its value."""

    file: str
    line: int
    scope: str = ""
    label: str = ""


Location: TypeAlias = tuple[str, int] | Place


def user_location() -> tuple[str, int] | None:
    """Return the ``(file, line)`` of the innermost frame outside minigrad and NumPy."""
    frame = user_frame()
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def printable(text: str) -> str:
    """Return `text` on one line, with line breaks and control characters escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def notebook_shell() -> object:
    """Return IPython's shell, if this process runs in one."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def file_name(path: str) -> str:
    """Return a file's name without its folder, or ``In[3]`` for a cell of a notebook."""
    # IPython has `format_code_name` since version 8.
    cell = getattr(getattr(notebook_shell(), "compile", None), "format_code_name", lambda path: None)(path)
    return str(cell[1]) if cell else path.replace("\\", "/").rsplit("/", 1)[-1]


def format_structure(tree: object) -> str:
    """Return the structure of a pytree with ``*`` for each leaf: ``(*, {'w': *})``."""
    text = str(tree).removeprefix("PyTreeSpec(").removesuffix(")")
    return re.sub(r"CustomTreeNode\(Static\[(.*?)\], \[\]\)", r"\1", text)


def format_location(loc: Location | None) -> str:
    """Return a location without its folder: ``file.py:12``, ``file.py:12 (layer 1, score)``, ``In[3]:2``."""
    if loc is None:
        return "?"
    names = ", ".join(filter(None, loc[2:]))
    return printable(f"{file_name(loc[0])}:{loc[1]}" + (f" ({names})" if names else ""))


def line_at(location: Location) -> str:
    """Return the source of a line, shortened; empty where the source is unknown."""
    return shortened(linecache.getline(*location[:2]))


def shortened(code: str, longest: int = 60) -> str:
    """Return source text on one line of at most `longest` characters."""
    line = " ".join(code.split())
    return line if len(line) <= longest else line[:longest - 3] + "..."


def at_user_line(message: str) -> str:
    """Return `message` behind the ``file:line`` of the user's code."""
    loc = user_location()
    return f"{format_location(loc)}: {message}" if loc else message

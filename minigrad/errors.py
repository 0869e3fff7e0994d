"""Error types, and the line of the user's code that an error or a node belongs to."""

import linecache
import sys
from types import FrameType


class MinigradError(Exception):
    """The base of every error that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes that an operation cannot work on."""


class DtypeError(MinigradError, TypeError):
    """A dtype, or a Python type, that minigrad has no arrays of."""


class IntegerRangeError(DtypeError, OverflowError):
    """A Python int that the dtype beside it cannot hold."""


class TraceError(MinigradError, TypeError):
    """Code that needs a number while it is traced, or a value that left its trace."""


class MissingAttribute(TraceError, AttributeError):
    """An attribute that arrays have and traced values cannot have."""


class BatchError(MinigradError, ValueError):
    """A batch axis that is missing, differs, or cannot be split."""


class IndexRangeError(ShapeError, BatchError, IndexError):
    """An index that is out of range, where that is known before a program runs; a program raises `IndexError`."""


class GradError(MinigradError, TypeError):
    """A derivative that does not exist."""


class GraphError(MinigradError, ValueError):
    """A graph, or its JSON, that is not well formed."""


class Unsupported(MinigradError, NotImplementedError):
    """A rule that does not exist, with the reason."""


class CheckError(MinigradError, AssertionError):
    """A derivative or a batch that is not what it should be: what `check_grads` and `check_batching` raise.

    Attributes
    ----------
    node : Node or None
        The first node of the graph that disagrees.
    """

    def __init__(self, message: str, node: object = None):
        super().__init__(message)
        self.node = node

    def __reduce__(self) -> tuple:
        return CheckError, self.args  # another process has no such node


_LIBRARIES = ("minigrad.", "numpy.", "optree.", "functools", "contextlib", "scipy.")
_COMMAND_LINE = "minigrad.cli"
_internal: dict[object, bool] = {}  # code object -> is it library code?


def is_library(module: str) -> bool:
    """Tell whether a module is minigrad's or of a library that minigrad runs on."""
    return (module + ".").startswith(_LIBRARIES)


def is_internal(frame: FrameType) -> bool:
    """Tell whether `frame` runs library code rather than the user's.

    A module inside minigrad that plays the user (the digits model of `compare`) says so with
    ``__user_code__ = True``.
    """
    code = frame.f_code
    known = _internal.get(code)
    if known is None:
        module = frame.f_globals.get("__name__") or ""
        known = is_library(module) or code.co_filename.startswith("<__array_function__")
        known = known and not frame.f_globals.get("__user_code__", False)
        known = known or code.co_qualname.startswith("__create_fn__.")  # what a dataclass writes for its user
        if module != _COMMAND_LINE:  # `user_frame` stops there, and asks the cache alone
            _internal[code] = known
    return known


def of_user(error: Exception) -> bool:
    """Tell whether the user's code raised an error, as a callback does."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and not is_internal(tb.tb_frame)


def user_frame() -> FrameType | None:
    """Return the innermost frame outside minigrad and NumPy."""
    frame = sys._getframe(1)
    while frame is not None:
        if not _internal.get(frame.f_code):  # each node asks for its line: no call for the frames of minigrad
            if frame.f_globals.get("__name__") == _COMMAND_LINE:  # its caller is no one's code
                return None
            if not is_internal(frame):
                return frame
        frame = frame.f_back
    return None


def user_location() -> tuple[str, int] | None:
    """Return the ``(file, line)`` of the innermost frame outside minigrad and NumPy."""
    frame = user_frame()
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def printable(text: str) -> str:
    """Return `text` on one line: escaped where it has line breaks or control characters."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def format_location(loc: tuple[str, int] | None) -> str:
    """Return ``file.py:12`` for a location, with the folder left out."""
    if loc is None:
        return "?"
    return printable(f"{loc[0].replace(chr(92), '/').rsplit('/', 1)[-1]}:{loc[1]}")


def line_at(location: tuple[str, int]) -> str:
    """Return the source of a line, shortened; nothing where the source is not known."""
    return shortened(linecache.getline(*location))


def shortened(code: str, longest: int = 60) -> str:
    """Return source text on one line, of at most so many characters."""
    line = " ".join(code.split())
    return line if len(line) <= longest else line[:longest - 3] + "..."


def at_user_line(message: str) -> str:
    """Put the user's own ``file:line`` in front of `message`."""
    loc = user_location()
    return f"{format_location(loc)}: {message}" if loc else message

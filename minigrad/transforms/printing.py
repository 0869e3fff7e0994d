"""Watching values while a program runs: `print` and `breakpoint`."""

from __future__ import annotations

import builtins
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import CodeType

import optree

from ..errors import TraceError, at_user_line, user_frame
from ..graph import PyTree
from ..tracebacks import boundary
from ..traced_array import Array
from .custom import callback


@boundary
def print(text: PyTree, *values: PyTree, **named: PyTree) -> None:
    """Print values while the program runs: once for every example of a batch, in order.

    It prints in a compiled function, a gradient or a batch as it does where the function runs on its own. In a
    gradient, it shows the values of the forward pass.

    Parameters
    ----------
    text : str
        A format, as of `str.format`: ``"h {}"``, ``"loss {loss:.3f}"``. Without one, the values are printed with
        spaces between.
    *values, **named : pytrees
        Arrays, and values that are no arrays.

    Returns
    -------
    None

    Raises
    ------
    TraceError
        If a value has no place in the format, or a place has no value.

    Examples
    --------
    >>> def loss(w, x):
    ...     h = np.tanh(w * x)
    ...     mg.print("h = {:.3f}, w = {w}", h, w=w)
    ...     return h**2
    >>> gradient = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))))
    >>> _ = gradient(2.0, np.array([0.0, 1.0]))
    h = 0.000, w = 2.0
    h = 0.964, w = 2.0
    """
    if not isinstance(text, str):
        text, values = " ".join(["{}"] * (1 + len(values))), (text, *values)
    try:
        _Places(len(values), named).vformat(text, range(len(values)), dict.fromkeys(named))
    except ValueError as error:
        raise TraceError(at_user_line(f"print({text!r}): {error}")) from None
    callback(_Line(text), None, values, named)


def _name(place: str) -> str:
    """Return the name or number of a place, without attributes and indices."""
    return re.split(r"[.[]", place, maxsplit=1)[0]


class _Places(string.Formatter):
    """A check that the places of a format are those of the values; it formats no value."""

    def __init__(self, count: int, named: Iterable[str]):
        self._count = count
        self._named = named
        self._numbered, self._numbers = 0, False

    def parse(self, format_string: str) -> Iterator[tuple[str, str | None, str | None, str | None]]:
        """Number the places as `str.format` does: a Formatter numbers ``{}``, but not ``{.shape}`` and ``{[0]}``."""
        for literal, place, spec, conversion in super().parse(format_string):
            if place is not None and not _name(place):
                place = f"{self._numbered}{place}"
                self._numbered += 1
            elif place is not None:
                self._numbers |= _name(place).isdigit()
            if self._numbered and self._numbers:
                raise ValueError("the format numbers some places, and leaves the number of others out")
            yield literal, place, spec, conversion

    def get_field(self, field_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[str, int | str]:
        name = _name(field_name)
        key = int(name) if name.isdigit() else name
        if key not in (range(self._count) if isinstance(key, int) else self._named):
            raise ValueError(f"the format has a place {{{field_name}}}, which has no value")
        return "", key

    def format_field(self, value: object, format_spec: str) -> str:
        return ""

    def check_unused_args(self, used_args: Collection[int | str], args: Sequence[object],
                          kwargs: Mapping[str, object]) -> None:
        unused = [f"value {k}" if isinstance(k, int) else k
                  for k in [*range(self._count), *self._named] if k not in used_args]
        if unused:
            raise ValueError(f"the format has no place for {', '.join(unused)}. Write {{}} for each value, and "
                             "{name} for one by keyword")


class _Line:
    """A function that prints a format filled with values."""

    __name__ = "print"

    def __init__(self, text: str):
        self._text = text

    def __call__(self, values: tuple[PyTree, ...], named: dict[str, PyTree]) -> None:
        builtins.print(self._text.format(*values, **named))


@boundary
def breakpoint(**values: PyTree) -> None:
    """Stop in the debugger while the program runs, where the variables of the function have their values.

    It calls Python's `breakpoint`, once for every example of a batch. ``PYTHONBREAKPOINT=0`` in the environment
    switches it off.

    Parameters
    ----------
    **values : pytrees
        The variables to see; without any, all local ones of the function. Changes to them have no effect.

    Returns
    -------
    None

    Examples
    --------
    >>> import sys
    >>> before, sys.breakpointhook = sys.breakpointhook, lambda: print("h is", sys._getframe(1).f_locals["h"])
    >>> def f(x):
    ...     h = np.exp(x)
    ...     mg.breakpoint()
    ...     return h[0]
    >>> mg.compile(f)(np.array([0.0, 1.0]))
    h is [1.         2.71828183]
    np.float64(1.0)
    >>> sys.breakpointhook = before
    """
    frame = user_frame()
    traced: dict[str, PyTree] = dict(values)
    others: dict[str, object] = {}
    where = ("<breakpoint>", 1)
    if frame is not None:
        where = frame.f_code.co_filename, frame.f_lineno
        for name, value in {} if values else frame.f_locals.items():
            arrays = any(isinstance(x, Array) for x in optree.tree_leaves(value))
            (traced if arrays else others)[name] = value
    callback(_Stop(where, others), None, traced)


class _Stop:
    """A function that enters the debugger, in a frame at the user's line where the values are local variables."""

    __name__ = "breakpoint"

    def __init__(self, where: tuple[str, int], others: dict[str, object]):
        self._where, self._others = where, others

    def __call__(self, values: dict[str, PyTree]) -> None:
        name, line = self._where
        code: CodeType = compile("\n" * (line - 1) + "breakpoint()", name, "exec")
        run: Callable[..., None] = exec
        run(code, {"__builtins__": builtins}, {**self._others, **values})

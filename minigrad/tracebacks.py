"""Tracebacks for users: their own frames, and one of minigrad's.

Functions that users call filter the errors that leave them. ``MINIGRAD_TRACEBACK=full`` in the environment, or
`full_tracebacks` (`debugging`), keeps everything.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from .errors import MinigradError, is_internal

P = ParamSpec("P")
R = TypeVar("R")

_OURS = (AssertionError, AttributeError, KeyError, NameError, RecursionError, TypeError)  # a fault of minigrad's
show_all = os.environ.get("MINIGRAD_TRACEBACK", "") == "full"


def for_user(error: Exception) -> Exception:
    """Return an error as the user is to see it: without the frames of libraries.

    An error of minigrad that NumPy has turned into a ValueError of its own comes back. What minigrad did not raise on
    purpose keeps all frames: it is a fault to report.
    """
    cause = error.__cause__
    if type(error) is ValueError and isinstance(cause, MinigradError):
        cause.__suppress_context__ = True
        error = cause.with_traceback(error.__traceback__)
    if type(error) is TypeError and re.search(r"\bArray\b", str(error)) and "traced" not in str(vars(error)):
        error.add_note("An Array is a traced value: functions of NumPy, minigrad.numpy and minigrad.special take it.")
    steps: list[TracebackType] = []
    tb = None if show_all else error.__traceback__
    while tb is not None:
        steps.append(tb)
        tb = tb.tb_next
    ours = isinstance(error, _OURS) and not isinstance(error, MinigradError) and _is_ours(steps[-1]) if steps else True
    if ours and len(steps) != 1:  # one step alone is the call, with arguments that do not fit
        return error
    kept = None
    for step in reversed(steps):
        if not is_internal(step.tb_frame):
            kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return error.with_traceback(kept)


def _is_ours(step: TracebackType) -> bool:
    return is_internal(step.tb_frame) and step.tb_frame.f_globals.get("__name__", "").startswith("minigrad")


def boundary(function: Callable[P, R]) -> Callable[P, R]:
    """Filter the errors that leave a function which users call."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise for_user(error)  # noqa: B904

    return call

"""Random numbers that NumPy draws while a function is traced: constants of its program, and so told of once."""

from __future__ import annotations

import ctypes
import dis
import functools
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import format_location, is_library

_STATE = 625 * 4  # bytes of the Mersenne Twister's state: its words, and the place of the next one
_told: set[tuple[str, int]] = set()
_SOURCES: list[type] = []  # the types of generators, put here when numpy.random is there: importing it takes long


def states(f: Callable[..., Any]) -> list[tuple[Any, Any]]:
    """Return NumPy's global generator, and those that `f` names, each with its state, to compare them later."""
    if "numpy.random" not in sys.modules:
        return []
    if not _SOURCES:
        _SOURCES[:] = np.random.Generator, np.random.RandomState
    return [(g, _state(g)) for g in (np.random.mtrand._rand._bit_generator, *_named(f))]


def warn_of_draws(f: Callable[..., Any], before: list[tuple[Any, Any]]) -> None:
    """Warn, once for each line, where a generator has another state than `before` `f` was traced."""
    if all(_state(g) == state for g, state in before):
        return
    place = _place(f, set())
    if place is None or place in _told:
        return
    _told.add(place)
    warnings.warn_explicit(
        f"{format_location(place)}: NumPy draws random numbers while {getattr(f, '__name__', 'the function')} is "
        "traced. They are constants of the program: it draws them once, and no more when it runs. Draw them outside "
        "and pass them as an argument, or use mg.random with a key.", UserWarning, *place)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.MT19937):  # reading its 624 words as an array takes longer than a small trace
        return bytes(_memory(generator))
    return generator.state


@functools.lru_cache(maxsize=16)
def _memory(generator: Any) -> memoryview:
    return memoryview((ctypes.c_char * _STATE).from_address(generator.ctypes.state_address))


def _names(f: Any) -> dict[str, Any]:
    """Return the values of the global names and of the variables around it that a function uses."""
    code = f.__code__
    inside = dict(zip(code.co_freevars, f.__closure__ or (), strict=True))
    found = {n: f.__globals__[n] for n in code.co_names if n in f.__globals__}
    for name, cell in inside.items():
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    return found


def _plain(f: Any) -> Any:
    """Return the Python function that a callable wraps; None where there is none."""
    while not isinstance(f, types.FunctionType):
        f = getattr(f, "__wrapped__", None) or getattr(f, "__func__", None) or getattr(f, "func", None)
        if f is None:
            return None
    return f


def _named(f: Any) -> list[Any]:
    """Return the generators that a function names itself."""
    f = _plain(f)
    if f is None:
        return []
    known = f.__globals__.get
    found = [x for x in map(known, f.__code__.co_names) if type(x) in _SOURCES]
    if f.__closure__:
        found += [x for x in _names(f).values() if type(x) in _SOURCES]
    return [x.bit_generator if type(x) is np.random.Generator else x._bit_generator for x in found]


def _draws(x: Any) -> bool:
    return x is np.random or type(x) in _SOURCES or type(getattr(x, "__self__", None)) in _SOURCES


def _place(f: Any, seen: set[Any]) -> tuple[str, int] | None:
    """Return the first line, in a function or in those that it calls by name, that names a source of random numbers."""
    f = _plain(f)
    if f is None or f.__code__ in seen or is_library(f.__module__ or ""):
        return None
    seen.add(f.__code__)
    names, more = _names(f), []
    codes = [f.__code__]
    for code in codes:
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        value: Any = None
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"):
                value = names.get(step.argval, f.__globals__.get(step.argval))
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, types.ModuleType):
                value = getattr(value, step.argval, None)
            elif step.opname not in ("CACHE", "PUSH_NULL"):
                value = None
            if value is not None and _draws(value):
                return code.co_filename, step.positions.lineno or code.co_firstlineno
            if _plain(value) is not None:
                more.append(value)
    return next((p for g in more if (p := _place(g, seen)) is not None), None)

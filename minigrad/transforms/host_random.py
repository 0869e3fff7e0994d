"""Random numbers that NumPy or Python draws while a function is traced: constants of its program, and so told of once.

The loaded values are read from the code of the function and of its callees. A generator among that is compared with
itself before the trace; one that is made without a seed is told of as it stands. One that the function seeds itself
draws the same numbers at each call, traced or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import dis
import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import format_location, is_library
from ..graph import Node, reachable
from .trace import WATCHERS

_STATE = 625 * 4  # bytes of the Mersenne Twister's state: its words, and the place of the next one
_REACH = 32  # functions that are read
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_BETWEEN = ("CACHE", "EXTENDED_ARG", "PUSH_NULL", "PRECALL")
_told: set[tuple[str, int]] = set()


class Draw(NamedTuple):
    """A place that may draw random numbers: its line, whose they are, the generator, its state before the trace."""

    place: tuple[str, int]
    whose: str
    generator: Any = None  # None: it is made there, without a seed
    state: Any = None


def draws(f: Callable[..., object]) -> list[Draw]:
    """Return the places at which `f` may draw random numbers, before it is traced."""
    unseeded = _unseeded()
    known: dict[int, Draw] = {}
    for value, place, bare in _loaded(f):
        if bare and any(value is maker for maker in unseeded):
            known[id(place)] = Draw(place, _library(value))
        elif (generator := _generator(value)) is not None and id(generator) not in known:
            known[id(generator)] = Draw(place, _library(type(generator)), generator, _state(generator))
    return list(known.values())


def warn_of_draws(f: Callable[..., object], before: list[Draw], outputs: Sequence[Node]) -> None:
    """Warn, once for each line, of random numbers that have been drawn since `before` `f` was traced to `outputs`."""
    for place, whose, generator, state in before:
        if place in _told or (generator is not None and _state(generator) == state):
            continue
        if generator is None and any(n.prim.name == "callback" for n in reachable(outputs)):
            continue  # callbacks draw when the program runs
        _told.add(place)
        warnings.warn_explicit(
            f"{format_location(place)}: {whose} draws random numbers while {getattr(f, '__name__', 'the function')} is "
            "traced. They are constants of the program: it draws them once, and no more when it runs. Draw them "
            "outside and pass them as an argument, or use mg.random with a key.", UserWarning, *place)


@WATCHERS.append
def _watch(f: Callable[..., object]) -> Callable[[Sequence[Node]], None]:
    return functools.partial(warn_of_draws, f, draws(f))


# -- generators --------------------------------------------------------------------------------------------


def _unseeded() -> list[Any]:
    """Return the constructors of generators that seed themselves when called without arguments."""
    makers: list[Any] = []
    if (pythons := _pythons()) is not None:  # importing one of the two takes long
        makers = [pythons.Random]
    if _has_numpys():
        makers += [np.random.default_rng, np.random.RandomState, *np.random.BitGenerator.__subclasses__()]
    return makers


def _pythons() -> Any:
    """Return Python's module `random`; None until it is imported, as another thread may be about to."""
    module = sys.modules.get("random")
    return module if hasattr(module, "_inst") else None


def _has_numpys() -> bool:
    """Return whether NumPy's module `random` is imported; `np.random` would import it, or wait for another thread."""
    return "random" in vars(np)


def _library(source: object) -> str:
    return "NumPy" if source.__module__.startswith("numpy") else "Python"


def _generator(x: object) -> Any:
    """Return the source of random numbers that a module, a generator or one of its methods has; None without one."""
    x = getattr(x, "__self__", x) if isinstance(x, (types.BuiltinFunctionType, types.MethodType)) else x
    if (pythons := _pythons()) is not None:
        own: Any = pythons._inst
        if x is pythons:
            return own
        if type(x) is pythons.Random:
            return x
    if not _has_numpys():
        return None
    if x is np.random:
        return np.random.mtrand._rand._bit_generator
    if type(x) is np.random.Generator:
        return x.bit_generator
    return x._bit_generator if type(x) is np.random.RandomState else None


def _state(generator: Any) -> Any:
    if hasattr(generator, "getstate"):  # Python's
        return generator.getstate()
    if isinstance(generator, np.random.MT19937):  # reading its 624 words as an array takes longer than a small trace
        return bytes(_memory(generator))
    return generator.state


@functools.lru_cache(maxsize=16)
def _memory(generator: Any) -> memoryview:
    return memoryview((ctypes.c_char * _STATE).from_address(generator.ctypes.state_address))


# -- values that a function loads --------------------------------------------------------------------------


def _loaded(f: object) -> Iterator[tuple[object, tuple[str, int], bool]]:
    """Yield each value that a function loads, itself or by calls: the value, its place, whether ``()`` follows."""
    todo: list[object] = [f]
    seen: set[types.CodeType] = set()
    while todo and len(seen) < _REACH:
        f = todo.pop(0)
        todo += [inner for inner in (getattr(f, "__wrapped__", None), getattr(f, "func", None)) if inner is not None]
        function, known = _plain(f)
        if function is None or function.__code__ in seen or is_library(function.__globals__.get("__name__", "")):
            continue
        seen.add(function.__code__)
        codes = [function.__code__]
        for code in codes:
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
            for (name, *attributes), line, bare in _names(code):
                value = known.get(name, function.__globals__.get(name))
                place = (code.co_filename, line)
                for attribute in attributes:
                    yield value, place, False
                    value = _attribute(value, attribute)
                yield value, place, bare
                todo.append(value)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> list[tuple[list[str], int, bool]]:
    """Return the names that code loads, each with the attributes taken of it, its line, and whether ``()`` follows."""
    steps = [s for s in dis.get_instructions(code) if s.opname not in _BETWEEN]
    chains, chain = [], None
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain is not None:
            chain.append(step.argval)
        else:
            own = step.opname.startswith("LOAD_FAST") and step.argval in code.co_varnames[:1]
            chain = [step.argval] if own or step.opname in _LOADS else None
        if chain is not None and (after is None or after.opname not in ("LOAD_ATTR", "LOAD_METHOD")):
            bare = after is not None and after.opname.startswith("CALL") and not after.arg
            chains.append((chain, (step.positions and step.positions.lineno) or code.co_firstlineno, bare))
    return chains


def _plain(f: Any) -> tuple[types.FunctionType | None, dict[str, object]]:
    """Return the Python function that a callable runs, if any, and the values of its variables that are known."""
    known = {}
    if not isinstance(f, (types.FunctionType, types.MethodType)):
        call = getattr(type(f), "__call__", None)  # noqa: B004
        f = types.MethodType(call, f) if isinstance(call, types.FunctionType) else None
    if isinstance(f, types.MethodType):
        if not isinstance(f.__func__, types.FunctionType):  # a compiled method, or that of another decorator
            return _plain(f.__func__)
        f, known = f.__func__, dict(zip(f.__func__.__code__.co_varnames[:1], [f.__self__], strict=False))
    if not isinstance(f, types.FunctionType):
        return None, {}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it has no value yet
            known[name] = cell.cell_contents
    return f, known


def _attribute(x: object, name: str) -> Any:
    """Return an attribute of a module or an object, without running code of it; None where it has none."""
    own = getattr(x, "__dict__", None) or {}
    if name in own or isinstance(x, types.ModuleType):
        return own.get(name)
    method = next((vars(c)[name] for c in type(x).__mro__ if name in vars(c)), None)
    return types.MethodType(method, x) if isinstance(method, types.FunctionType) else None

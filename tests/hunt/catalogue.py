"""The calls of NumPy's functions that a program may make.

The package's own table says which functions there are. Each is tried in every way of calling on small arrays; a way
that both NumPy and a trace accept is in the catalogue.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.errors import MinigradError
from minigrad.traced_array import TABLE

from .choices import Choices

# Their results are undefined, random or not arrays, or they count something that a trace decides when it runs.
EXCLUDED = {"empty", "empty_like", "can_cast", "result_type", "common_type", "ndim", "size", "shape", "iscomplexobj",
            "isrealobj", "require", "allclose", "array_equal", "array_equiv", "argpartition", "partition",
            # of matrices or of nothing they are not documented
            "polyder", "polyint", "tensorsolve",
            # drop zeros, so that the shapes of their results depend on values
            "polymul", "trim_zeros",
            # a contraction adds to +0, and so makes +0 of -0
            "angle", "signbit", "copysign",
            # eigen- and singular vectors have no sign of their own, and least squares no single answer
            "eigh", "svd", "qr", "lstsq", "pinv", "matrix_rank"}


@dataclass(frozen=True)
class Way:
    """A way of calling: the number and kinds of the operands, and how parameters are drawn.

    Attributes
    ----------
    operands : str
        A letter each: ``f`` float array, ``i`` array of small indices, ``b`` bool array.
    draw : callable
        ``draw(choices, first operand)`` returns the parameter.
    call : callable
        ``call(function, operands, parameter)``.
    """

    operands: str
    draw: Callable[[Choices, np.ndarray], Any]
    call: Callable[[Callable[..., Any], list[Any], Any], Any]


def _none(choices: Choices, x: np.ndarray) -> None:
    return None


def _axis(choices: Choices, x: np.ndarray) -> int:
    return choices.integer(-max(x.ndim, 1), max(x.ndim, 1) - 1)


def _axes(choices: Choices, x: np.ndarray) -> tuple[int, ...]:
    return tuple(k for k in range(x.ndim) if choices.chance(0.5))


def _small(choices: Choices, x: np.ndarray) -> int:
    return choices.integer(-2, 3)


def _shape(choices: Choices, x: np.ndarray) -> tuple[int, ...]:
    factors = [*x.shape, 1]
    choices.rng.shuffle(factors)
    return tuple(int(n) for n in factors)


def _permutation(choices: Choices, x: np.ndarray) -> tuple[int, ...]:
    return tuple(int(k) for k in choices.rng.permutation(x.ndim))


def _subscripts(choices: Choices, x: np.ndarray) -> str:
    return choices.pick(["...i,...i->...", "i...,i...->i", "ij,jk->ik", "ij,kj->ki", "i,j->ij", "ij,ij->", "ij,i->j",
                         "i,i->i", "ii,ij->j", "ij,j->i", "i,i->"])


WAYS = {
    "x": Way("f", _none, lambda f, a, p: f(a[0])),
    "x, y": Way("ff", _none, lambda f, a, p: f(a[0], a[1])),
    "x, x": Way("f", _none, lambda f, a, p: f(a[0], a[0])),
    "x, axis": Way("f", _axis, lambda f, a, p: f(a[0], axis=p)),
    "x, axes": Way("f", _axes, lambda f, a, p: f(a[0], axis=p)),
    "x, keepdims": Way("f", _axis, lambda f, a, p: f(a[0], axis=p, keepdims=True)),
    "x, ddof": Way("f", _axis, lambda f, a, p: f(a[0], axis=p, ddof=1)),
    "x, k": Way("f", _small, lambda f, a, p: f(a[0], p)),
    "x, k, axis": Way("f", lambda c, x: (_small(c, x), _axis(c, x)), lambda f, a, p: f(a[0], p[0], axis=p[1])),
    "x, q": Way("f", lambda c, x: (c.pick([0.0, 0.25, 0.6, 1.0]), _axis(c, x)),
                lambda f, a, p: f(a[0], p[0], axis=p[1])),
    "x, shape": Way("f", _shape, lambda f, a, p: f(a[0], p)),
    "x, permutation": Way("f", _permutation, lambda f, a, p: f(a[0], p)),
    "x, number": Way("f", lambda c, x: c.pick([-0.5, 0.0, 1.0, 2, 3]), lambda f, a, p: f(a[0], p)),
    "number, x": Way("f", lambda c, x: c.pick([-0.5, 0.0, 1.0, 2, 3]), lambda f, a, p: f(p, a[0])),
    "x, bounds": Way("f", _none, lambda f, a, p: f(a[0], -0.7, 0.9)),
    "[x, y]": Way("ff", _none, lambda f, a, p: f([a[0], a[1]])),
    "[x, x]": Way("f", _none, lambda f, a, p: f([a[0], a[0]])),
    "[x, y], axis": Way("ff", _axis, lambda f, a, p: f([a[0], a[1]], axis=p)),
    "x, i": Way("fi", _none, lambda f, a, p: f(a[0], a[1])),
    "x, i, axis": Way("fi", _axis, lambda f, a, p: f(a[0], a[1], axis=p)),
    "b, x, y": Way("bff", _none, lambda f, a, p: f(a[0], a[1], a[2])),
    "x, where": Way("fb", _axis, lambda f, a, p: f(a[0], axis=p, where=a[1], initial=0.5)),
    "i": Way("i", _none, lambda f, a, p: f(a[0])),
    "i, i": Way("ii", _none, lambda f, a, p: f(a[0], a[1])),
    "b": Way("b", _none, lambda f, a, p: f(a[0])),
    "b, b": Way("bb", _none, lambda f, a, p: f(a[0], a[1])),
    "b, axis": Way("b", _axis, lambda f, a, p: f(a[0], axis=p)),
    "subscripts": Way("ff", _subscripts, lambda f, a, p: f(p, a[0], a[1])),
    "subscripts, x": Way("f", _subscripts, lambda f, a, p: f(p, a[0], a[0])),
}


def path_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of a NumPy function below ``numpy``."""
    name = function.__name__
    for prefix, space in (("", np), ("linalg.", np.linalg), ("fft.", np.fft)):
        if getattr(space, name, None) is function:
            return prefix + name
    return ""


def find(space: Any, path: str) -> Callable[..., Any]:
    """Return the function at a dotted name below a namespace."""
    for part in path.split("."):
        space = getattr(space, part)
    return space


@functools.cache
def calls() -> tuple[tuple[str, str], ...]:
    """Return the pairs of function and way that NumPy and a trace accept on some small arrays."""
    rng = np.random.default_rng(0)
    shapes = ((3, 3), (3,), (2, 3), (), (2, 2, 3))
    floats = [rng.uniform(0.2, 0.9, s) for s in shapes]
    arrays = {"f": floats, "i": [rng.integers(0, 2, s) for s in shapes], "b": [x > 0.5 for x in floats]}
    trials = {name: list(_trials(way, [[arrays[k][s] for k in way.operands] for s in range(len(shapes))]))
              for name, way in WAYS.items()}
    found = []
    for function in TABLE:
        path = path_of(function)
        if not path or function.__name__ in EXCLUDED:
            continue
        for name, way in WAYS.items():
            if _meaningful(function, name) and any(_accepted(function, way, *trial) for trial in trials[name]):
                found.append((path, name))
    return tuple(sorted(found))


def _trials(way: Way, lists: list[list[np.ndarray]]) -> Iterator[tuple[list[np.ndarray], Any]]:
    """Yield lists of operands, each with the different parameters among three draws."""
    for operands in lists:
        drawn = [way.draw(Choices(n), operands[0]) for n in range(3)]
        yield from ((operands, param) for param in {repr(param): param for param in drawn}.values())


def _meaningful(function: Callable[..., Any], way: str) -> bool:
    """Return whether a call has one meaning.

    A quantile of integers at an integer is an integer or a float, by its value; the reciprocal of the integer 0 is what
    the processor makes of it.
    """
    name = function.__name__
    return not ((name.endswith(("quantile", "percentile")) and way == "i, i") or (name == "reciprocal" and way == "i"))


def _accepted(function: Callable[..., Any], way: Way, operands: list[np.ndarray], param: Any) -> bool:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = way.call(function, [x.copy() for x in operands], param)  # some write into their arguments
            if not all(isinstance(r, (np.ndarray, np.generic)) and np.asarray(r).dtype.kind in "fib"
                       for r in (result if isinstance(result, (tuple, list)) else [result])):
                return False
            graph = mg.trace(lambda *xs: way.call(function, list(xs), param))(*operands)
        except (MinigradError, ValueError, TypeError, IndexError, np.linalg.LinAlgError, AttributeError):
            return False
    # Loops and branches refuse selections, whose size depends on values; `tests/numpy/test_selections.py` has them.
    return all(isinstance(n, int) for o in graph.outputs for n in o.shape)

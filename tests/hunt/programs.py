"""Dense random programs, with loops and branches, and the ways to run them.

A program is a list of steps. Each step takes values by their number and adds one, so the same list runs as plain NumPy
(Python's loops and branches: the reference), under minigrad, and under JAX.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

import minigrad as mg

from .catalogue import WAYS, calls, find
from .choices import Choices
from .wide import WIDE, shapes

LARGEST, LARGEST_WIDE, HIGHEST, DEEPEST = 60, 4000, 1e3, 5
WIDE_SHARE = 0.2


@dataclass(frozen=True)
class Step:
    """One operation: its kind and name, its operands by number, its parameter, and the programs that it holds."""

    kind: str
    name: str
    operands: tuple[int, ...]
    param: Any = None
    bodies: tuple[Program, ...] = ()

    def __str__(self) -> str:
        held = "".join(f" {{{body}}}" for body in self.bodies)
        return f"{self.kind} {self.name}{list(self.operands)} {self.param!r}{held}"


@dataclass(frozen=True)
class Program:
    """A program of a shared array, a mapped array and a small integer."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps))

    def values(self, face: Face, *values: Any) -> list[Any]:
        """Return all values, the arguments first."""
        values = list(values)
        for step in self.steps:
            values.append(RUN[step.kind](face, step, values))
            face.note(step, values[-1])
        return values

    def tree(self, face: Face) -> Callable[..., Any]:
        """Return the function whose results are the last values, one of them twice, and an argument as it came."""

        def f(w: Any, x: Any, n: Any) -> dict[str, Any]:
            values = self.values(face, w, x, n)
            return {"last": values[-1], "rest": [values[-2], values[-1], x],
                    "mean": face("mean")(values[-1] * 1.0), "made": values[-1] * 2}

        return f

    def loss(self, face: Face) -> Callable[..., Any]:
        """Return the function whose result is one number made of the last values."""

        def f(w: Any, x: Any, n: Any) -> Any:
            total = face("sum")(face("sin")(x))
            for k, v in enumerate(self.values(face, w, x, n)[-3:]):
                if np.prod(v.shape):  # a mean of nothing is NaN
                    total = total + (k + 1.5) * face("sum" if k % 2 else "mean")(face("tanh")(v * 0.5))
            return total

        return f


# -- faces: whose functions a program calls -----------------------------------------------------------------


def _take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """`np.take` by indexing: NumPy's own leaves the indices unchecked where an axis before theirs is empty."""
    x, axis = (np.ravel(x), 0) if axis is None else (np.asarray(x), axis)
    return x[(slice(None),) * (axis % x.ndim) + (np.asarray(indices),)]


class Face:
    """NumPy's functions, and loops and branches as Python has them."""

    space: Any = np
    instead: ClassVar[dict[str, Callable[..., Any]]] = {"take": _take}

    def __call__(self, path: str) -> Callable[..., Any]:
        return self.instead.get(path) or find(self.space, path)

    def at(self, x: Any, index: Any, method: str, y: Any) -> Any:
        """Return `x` with the elements at `index` updated."""
        x = np.array(x)
        if method == "set":
            x[index] = y
        else:
            # one element after the other: the ufuncs' own `at` of NumPy 2.4 can crash
            operation = {"add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum}[method]
            places = np.arange(x.size).reshape(x.shape)[index]
            for place, value in zip(places.ravel(), np.broadcast_to(y, places.shape).ravel(), strict=True):
                x.flat[place] = operation(x.flat[place], value)
        return x

    def fori(self, lower: Any, upper: Any, body: Callable[[Any, Any], Any], carry: Any) -> Any:
        for k in range(int(lower), int(upper)):
            carry = body(k, carry)
        return carry

    def scan(self, body: Callable[[Any, Any], Any], carry: Any, rows: Any, reverse: bool) -> tuple[Any, Any]:
        order = range(len(rows))
        results: dict[int, Any] = {}
        for k in reversed(order) if reverse else order:
            carry, results[k] = body(carry, rows[k])
        return carry, self("stack")([results[k] for k in order]) if results else None

    def while_loop(self, test: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
        while bool(test(carry)):
            carry = body(carry)
        return carry

    def cond(self, pred: Any, first: Callable[..., Any], second: Callable[..., Any], *operands: Any) -> Any:
        return (first if bool(pred) else second)(*operands)

    def switch(self, index: Any, branches: list[Callable[..., Any]], *operands: Any) -> Any:
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)

    def checkpoint(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def note(self, step: Step, value: Any) -> None:
        """See the value of a step, such as to print it."""


class Traced(Face):
    """NumPy's functions on traced values, and minigrad's loops and branches."""

    instead: ClassVar[dict[str, Callable[..., Any]]] = {}

    def at(self, x: Any, index: Any, method: str, y: Any) -> Any:
        return getattr(mg.numpy.at(x)[index], method)(y)

    def fori(self, lower: Any, upper: Any, body: Callable[[Any, Any], Any], carry: Any) -> Any:
        return mg.fori_loop(lower, upper, body, carry)

    def scan(self, body: Callable[[Any, Any], Any], carry: Any, rows: Any, reverse: bool) -> tuple[Any, Any]:
        return mg.scan(body, carry, rows, reverse=reverse)

    def while_loop(self, test: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
        return mg.while_loop(test, body, carry)

    def cond(self, pred: Any, first: Callable[..., Any], second: Callable[..., Any], *operands: Any) -> Any:
        return mg.cond(pred, first, second, *operands)

    def switch(self, index: Any, branches: list[Callable[..., Any]], *operands: Any) -> Any:
        return mg.switch(index, branches, *operands)

    def checkpoint(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return mg.checkpoint(f)


class Jax(Face):
    """JAX's functions, under Python's loops and branches."""

    instead: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.space = jax.numpy

    def at(self, x: Any, index: Any, method: str, y: Any) -> Any:
        return getattr(self.space.asarray(x).at[index], method)(y)


PLAIN, TRACED = Face(), Traced()

# -- functions that are no single call ----------------------------------------------------------------------

COMPOSITES: dict[str, Callable[..., Any]] = {
    "guarded root": lambda F, x: F("where")(x > 0, F("sqrt")(F("where")(x > 0, x, 1.0)), 0.0),
    "where root": lambda F, x: F("where")(x > 0, F("sqrt")(x), x),
    "where log": lambda F, x: F("where")(x > 0, F("log")(x), 0.5 * x),
    "where ratio": lambda F, x: F("where")(x != 0, F("sin")(x) / x, 1.0),
    "softmax": lambda F, x: F("exp")(x - F("max")(x)) / F("sum")(F("exp")(x - F("max")(x))),
    "norm": lambda F, x: F("sqrt")(F("sum")(x * x) + 0.1),
    "centred": lambda F, x: x - F("mean")(x),
    "last axis centred": lambda F, x: x - F("mean")(x, axis=-1, keepdims=True),
    "standard": lambda F, x: (x - F("mean")(x, 0)) / F("sqrt")(F("var")(x, 0) + 0.1),
    "gram": lambda F, x: x @ F("transpose")(x),
    "differences": lambda F, x: x[:, None] - x[None, :],
    "cholesky": lambda F, x: F("linalg.cholesky")(x @ x.T + 2 * np.eye(x.shape[0])),
    "eigenvalues": lambda F, x: F("linalg.eigvalsh")(x @ x.T + np.diag(np.arange(1.0, 1 + x.shape[0]))),
    "singular values": lambda F, x: F("linalg.svdvals" if hasattr(np.linalg, "svdvals") else "linalg.norm")(x),
    "solve": lambda F, x: F("linalg.solve")(x @ x.T + 2 * np.eye(x.shape[0]), x),
    "log det": lambda F, x: F("linalg.slogdet")(x @ x.T + np.eye(x.shape[0]))[1],
    "as int": lambda F, x: F("floor")(x * 3).astype(np.int64),
    "bool times": lambda F, x: (x > 0.1) * x,
    "mean of squares": lambda F, x: F("mean")(x ** 2),
    "power": lambda F, x: (x * x + 1) ** 1.5,
    "negative power": lambda F, x: (x * x + 0.5) ** -2,
    "relu": lambda F, x: F("maximum")(x, 0.0),
    "sigmoid": lambda F, x: 1 / (1 + F("exp")(-x)),
    "log sum exp": lambda F, x: F("log")(F("sum")(F("exp")(x), axis=-1)),
    "convex mix": lambda F, x: 0.3 * x + 0.7 * F("flip")(x),
    "twice": lambda F, x: F("concatenate")([x, x * 2]),
    "outer": lambda F, x: F("outer")(x, x),
    "reverse slice": lambda F, x: x[::-1],
    "neighbours": lambda F, x: x[1:] * x[:-1],
    "cumulative": lambda F, x: F("cumsum")(x, axis=0) + x,
}

# A choice inside a loop does not reach the values that other turns saved: their second derivatives at a pole are NaN.
SINGULAR = {"where root", "where log", "where ratio"}

# What a turn of a loop of `end` turns adds: each raises an error, or never ends, at turn `end`.
TURNS: dict[str, Callable[..., Any]] = {
    "row": lambda F, k, end, rows: F("tanh")((rows + 0.0 * k)[len(rows) - end + k]),  # of a sum that is traced
    "root": lambda F, k, end, rows: F("linalg.cholesky")(np.eye(2) * ((end - k) * 0.25))[1, 1],
    "quotient": lambda F, k, end, rows: 0.1 * (5 // (end - k)),
    "loop": lambda F, k, end, rows: 0.1 * F.while_loop(lambda y: y < 4.0, lambda y: y * (1.0 + (end - k)), 1.0),
    "branch": lambda F, k, end, rows: F.cond(end > 1, lambda r: F("linalg.inv")(np.eye(2) * (end - k))[0, 0],
                                             lambda r: 0.5 / (end - k), 1.0),
    "rows": lambda F, k, end, rows: 0.1 * F.fori(0, end - k, lambda j, c: c + (j + k) // (end - k - j), np.int64(0)),
}

# -- running a step -----------------------------------------------------------------------------------------


def _call(face: Face, step: Step, values: list[Any]) -> Any:
    return WAYS[step.param[0]].call(face(step.name), [values[i] for i in step.operands], step.param[1])


def _composite(face: Face, step: Step, values: list[Any]) -> Any:
    return COMPOSITES[step.name](face, values[step.operands[0]])


def _wide(face: Face, step: Step, values: list[Any]) -> Any:
    return WIDE[step.name](face, *(values[i] for i in step.operands))


def _index(face: Face, step: Step, values: list[Any]) -> Any:
    return values[step.operands[0]][step.param]


def _at(face: Face, step: Step, values: list[Any]) -> Any:
    return face.at(values[step.operands[0]], step.param, step.name, values[step.operands[1]])


def _fitted(face: Face, carry: Any, result: Any) -> Any:
    """Return the next carry, of the type of the last one."""
    if np.shape(result) == np.shape(carry):
        return face("tanh")(result * 1.0) + 0.25 * carry  # of a bool, tanh is float16
    return 0.5 * carry + (face("mean")(face("tanh")(result * 1.0)) if np.prod(np.shape(result)) else 0.0)


def _loop(face: Face, step: Step, values: list[Any]) -> Any:
    """Run a loop or a branch; its body sees all outer values, then its carry."""
    carry = values[step.operands[0]] * 1.0

    def run(body: Program, *own: Any) -> Any:
        return body.values(face, *values, *own)[-1]

    if step.name == "fori":
        turns = step.param if step.param is not None else values[2]
        return face.fori(0, turns, lambda k, c: _fitted(face, c, run(step.bodies[0], c)), carry)
    if step.name == "fori, counted":
        return face.fori(0, step.param, lambda k, c: _fitted(face, c, run(step.bodies[0], c) * (1.0 + k)), carry)
    if step.name == "scan":
        rows = values[step.operands[1]]
        rows = rows[:step.param[0]]

        def turn(c: Any, row: Any) -> tuple[Any, Any]:
            out = run(step.bodies[0], c, row)
            return _fitted(face, c, out), face("sum")(c) + face("mean")(row)

        carry, results = face.scan(turn, carry, rows, step.param[1])
        return carry + (face("sum")(results) if rows.shape[0] else 0.0)
    if step.name == "while":
        bound, turn_of = step.param
        rows = face("ravel")(values[step.operands[1]])
        end = values[2] + bound if turn_of != "row" else face("minimum")(values[2] + bound, len(rows))

        def next_turn(s: tuple[Any, Any]) -> tuple[Any, Any]:
            k, c = s
            more = 0.0 if turn_of is None else TURNS[turn_of](face, k, end, rows)
            return k + 1, _fitted(face, c, run(step.bodies[0], c)) + more

        return face.while_loop(lambda s: s[0] < end, next_turn, (np.int64(0), carry))[1]
    if step.name == "cond":
        pred = values[2] > 0 if step.param else face("sum")(values[step.operands[1]]) > 0.1
        return face.cond(pred, lambda c: _fitted(face, c, run(step.bodies[0], c)),
                         lambda c: c if len(step.bodies) < 2 else _fitted(face, c, run(step.bodies[1], c)), carry)
    if step.name == "switch":
        return face.switch(values[2], [lambda c, b=b: _fitted(face, c, run(b, c)) for b in step.bodies]
                           + [lambda c: c], carry)
    return face.checkpoint(lambda c: _fitted(face, c, run(step.bodies[0], c)))(carry)


RUN = {"call": _call, "composite": _composite, "wide": _wide, "index": _index, "at": _at, "loop": _loop}

# -- drawing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A program, arguments that it takes, and whether these have ties (no finite differences there)."""

    program: Program
    w: np.ndarray
    x: np.ndarray
    n: np.int64
    ties: bool
    wide: bool = False

    def replace(self, steps: tuple[Step, ...]) -> Case:
        return replace(self, program=Program(steps))

    def __str__(self) -> str:
        w, x = (a.shape if self.wide else a.tolist() for a in (self.w, self.x))
        return f"w = {w}, x = {x}, n = {self.n}\n    " + "\n    ".join(
            f"v{k} = {step}" for k, step in enumerate(self.program.steps, 3))


def draw(choices: Choices, longest: int = 6, wide_share: float = WIDE_SHARE) -> Case:
    """Return a case whose values are finite and small; those of a wide one have many elements."""
    ties, wide = choices.chance(0.25), choices.chance(wide_share)
    w, x = (choices.floats(s, ties) for s in (shapes(choices) if wide else (choices.shape(), choices.shape())))
    n = np.int64(choices.integer(0, 2))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        steps = _draw_steps(choices, [w, x, n], choices.integer(1, longest), 0, wide)
    return Case(Program(tuple(steps)), w, x, n, ties, wide)


def _draw_steps(choices: Choices, values: list[Any], number: int, depth: int, wide: bool) -> list[Step]:
    """Return steps that fit the values; `values` grows by theirs."""
    largest = LARGEST_WIDE if wide else LARGEST
    steps: list[Step] = []
    for _ in range(8 * number):
        if len(steps) == number:
            break
        step = _draw_step(choices, values, depth, wide)
        if step is None:
            continue
        try:
            out = RUN[step.kind](PLAIN, step, values)
        except (ValueError, IndexError, TypeError, ZeroDivisionError, AttributeError, np.linalg.LinAlgError):
            continue  # this operation does not fit these values
        if isinstance(out, (tuple, list)):
            continue
        out = np.asarray(out)
        if out.size > largest or out.ndim > DEEPEST or out.dtype not in (np.float64, np.int64, np.bool_):
            continue
        if out.dtype == np.float64 and not (np.isfinite(out).all() and np.abs(out).max(initial=0) < HIGHEST):
            continue
        if out.dtype == np.int64 and np.abs(out).max(initial=0) > 10 ** 6:
            continue
        steps.append(step)
        values.append(out)
    return steps


def _of_kind(choices: Choices, values: list[Any], kind: str) -> int | None:
    dtype = {"f": np.float64, "i": np.int64, "b": np.bool_}[kind]
    fit = [k for k, v in enumerate(values) if np.asarray(v).dtype == dtype]
    # the last values more often, so that programs are deep
    return None if not fit else choices.pick(fit[-3:] if choices.chance(0.5) else fit)


def _draw_step(choices: Choices, values: list[Any], depth: int, wide: bool) -> Step | None:
    loops = {0: 2, 1: 1}.get(depth, 0)
    kinds = ["call"] * 6 + ["composite"] * 3 + ["index", "at"] + ["loop"] * loops
    kind = choices.pick(kinds + ["wide"] * (2 * len(kinds) if wide else 0))
    first = _of_kind(choices, values, "f")
    x = np.asarray(values[first])
    if kind == "call":
        path, way = choices.pick(calls())
        operands = tuple(_of_kind(choices, values, k) for k in WAYS[way].operands)
        if None in operands:
            return None
        return Step("call", path, operands, (way, WAYS[way].draw(choices, np.asarray(values[operands[0]]))))
    if kind == "composite":
        names = [n for n in sorted(COMPOSITES) if not depth or n not in SINGULAR]
        return Step("composite", choices.pick(names), (first,))
    if kind == "wide":
        other = 0 if choices.chance(0.7) else _of_kind(choices, values, "f")
        return Step("wide", choices.pick(sorted(WIDE)), (first, other))
    if kind == "index":
        return Step("index", "[]", (first,), draw_index(choices, x.shape))
    if kind == "at":
        return Step("at", choices.pick(["set", "add", "multiply", "max", "min"]),
                    (first, _of_kind(choices, values, "f")), draw_index(choices, x.shape, update=True))
    name = choices.pick(["fori", "fori, counted", "scan", "scan", "while", "cond", "switch", "checkpoint"])
    second = _of_kind(choices, values, "f")
    own = [x * 1.0]
    param: Any = None
    if name == "fori":
        param = choices.pick([0, 1, 2, 3, None])
    elif name == "fori, counted":
        param = choices.integer(0, 3)
    elif name == "scan":
        if not np.ndim(values[second]):
            return None
        param = (choices.pick([0, 1, 2, None, None]), choices.chance(0.3))
        rows = np.asarray(values[second])
        own.append(rows[0] if len(rows) else np.zeros(rows.shape[1:]))
    elif name == "while":
        param = choices.integer(-1, 1), choices.pick([None, *sorted(TURNS)])
    elif name == "cond":
        param = choices.chance(0.5)
    bodies = tuple(Program(tuple(_draw_steps(choices, [*values, *own], choices.integer(1, 3), depth + 1, wide)))
                   for _ in range(choices.integer(1, 2) if name in ("cond", "switch") else 1))
    return Step("loop", name, (first, second), param, bodies)


def draw_index(choices: Choices, shape: tuple[int, ...], update: bool = False) -> Any:
    """Return an index: integers, slices, new axes, an ellipsis, arrays of integers, a mask."""
    if shape and choices.chance(0.1):
        return choices.rng.random(shape) > 0.5 if update else np.newaxis
    parts: list[Any] = []
    broadcast = () if choices.chance(0.5) else (2,)
    for n in shape[:choices.integer(0, len(shape))]:
        what = choices.pick(["int", "slice", "slice", "array", "all"])
        if what == "int" and n:
            parts.append(choices.integer(-n, n - 1))
        elif what == "array" and n:
            parts.append(choices.rng.integers(-n, n, broadcast or (choices.pick([1, 2]),) if broadcast else (2,)))
        elif what == "slice":
            bounds = [None, *range(-n - 1, n + 2)]
            parts.append(slice(choices.pick(bounds), choices.pick(bounds), choices.pick([None, 1, 2, -1, -2])))
        else:
            parts.append(slice(None))
        if choices.chance(0.15) and not update:
            parts.append(None)
    if choices.chance(0.4):
        parts.insert(choices.integer(0, len(parts)), Ellipsis)
    return tuple(parts)

"""Comparisons of machine code with itself and with the NumPy program, on any threads, memory and numbers.

A gradient and its program's values run as machine code; NumPy's programs answer for numbers of every kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

import minigrad as mg
from minigrad.backends.native.runtime.background import BUILDER
from minigrad.backends.native.runtime.jit import building

from .choices import Choices
from .oracles import Mismatch, Refused, agree, examples, nudged, quietly, reference, refusable, takes_gradient
from .programs import PLAIN, TRACED, Case

AXES = (None, 0, 0)
THREADS = (1, 2, 3, 8)
STRANGE = (np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e-310, 1e300)


def _function(case: Case) -> Callable[..., Any]:
    """Return the function of a batch: its values, and its gradient if it has one."""
    refusable(mg.trace(case.program.tree(TRACED)), case.w, case.x, case.n)
    mapped = mg.vmap(case.program.tree(TRACED), AXES)
    if not takes_gradient(case):
        return mapped
    step = mg.value_and_grad(mg.mean_loss(case.program.loss(TRACED), AXES), (0, 1))
    return lambda *args: (mapped(*args), step(*args))


def _arguments(case: Case, choices: Choices) -> tuple[Any, ...]:
    args = (case.w, *examples(case, choices.integer(1, 4), choices))
    for x, n in zip(*args[1:], strict=True):
        reference(case.program.tree(PLAIN), case.w, x, n)
    return args


def _equal(have: Any, want: Any, about: str) -> None:
    """Raise `Mismatch` unless all leaves have the same bits."""
    for k, (h, w) in enumerate(zip(*(map(np.asarray, optree.tree_leaves(t)) for t in (have, want)), strict=True)):
        if (h.shape, h.dtype, h.tobytes()) != (w.shape, w.dtype, w.tobytes()):
            raise Mismatch(f"{about}: leaf {k} has other bits:\n{h}\n{w}")


def _one_nan(tree: Any) -> Any:
    """Return the arrays with one NaN for all: the optimizer leaves the signs of NaN open."""
    return optree.tree_map(lambda x: np.where(np.isnan(x), np.nan, x).astype(np.asarray(x).dtype), tree)


def threads(case: Case, choices: Choices) -> None:
    """Machine code gives equal bits on any number of threads, and to several callers at once."""
    args = _arguments(case, choices)
    compiled = mg.compile(_function(case), backend="native", tier="final")
    before = mg.get_num_threads()
    try:
        mg.set_num_threads(1)
        want = quietly(compiled, *args)
        for number in THREADS[1:]:
            mg.set_num_threads(number)
            _equal(quietly(compiled, *args), want, f"{number} threads")
        results: list[Any] = []
        callers = [threading.Thread(target=lambda: results.extend(quietly(compiled, *args) for _ in range(3)))
                   for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        if len(results) != 9:
            raise Mismatch("a call among several at once raised an error")
        for result in results:
            _equal(result, want, "one of several calls at once")
    finally:
        mg.set_num_threads(before)


def _strided(x: np.ndarray) -> np.ndarray:
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 77).astype(x.dtype)
    wide[..., 1::2] = x
    return wide[..., 1::2]


def _misaligned(x: np.ndarray) -> np.ndarray:
    moved = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "column by column": np.asfortranarray, "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "strided": _strided, "misaligned": _misaligned, "read-only": _read_only,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder())}


def layouts(case: Case, choices: Choices) -> None:
    """Arguments in any memory give equal bits, stay as they are, and share no memory with the results."""
    args = _arguments(case, choices)
    compiled = mg.compile(_function(case), backend="native", tier="final")
    want = quietly(compiled, *args)
    for name in choices.rng.permutation(sorted(LAYOUTS))[:3]:
        moved = tuple(LAYOUTS[name](np.asarray(a)) if np.ndim(a) else np.asarray(a) for a in args)
        before = [a.tobytes() for a in moved]
        have = quietly(compiled, *moved)
        _equal(have, want, f"arguments {name}")
        if before != [a.tobytes() for a in moved]:
            raise Mismatch(f"arguments {name} were written to")
        results = [r for r in optree.tree_leaves(have) if isinstance(r, np.ndarray)]
        if any(np.shares_memory(r, other) for k, r in enumerate(results) for other in (*moved, *results[:k])):
            raise Mismatch(f"arguments {name}: a result shares memory")


def extremes(case: Case, choices: Choices) -> None:
    """Machine code and the NumPy program agree on NaN, infinities, -0 and denormal numbers."""
    w, X, N = _arguments(case, choices)
    f = _function(case)
    programs = [mg.compile(f, backend=backend) for backend in ("native", "numpy")]
    for value in choices.rng.permutation(STRANGE)[:3]:
        Y = X.copy()
        Y.flat[choices.integer(0, Y.size - 1) if Y.size else slice(0)] = value
        try:
            have, want = (quietly(p, w, Y, N) for p in programs)
        except (ValueError, IndexError, np.linalg.LinAlgError) as error:
            raise Refused(str(error)) from None

        def again(s: float, args: tuple[Any, ...] = (w, Y, N)) -> Any:
            return quietly(lambda: programs[1](*nudged(args, s)))

        agree(have, want, f"native beside numpy, with {value} in x", again, 1e-7)


def tiers(case: Case, choices: Choices) -> None:
    """Quick code gives the bits of optimized code, the early tier those of NumPy's program before its build."""
    args = _arguments(case, choices)
    f = _function(case)
    want, compiled = quietly(mg.compile(f, backend="numpy"), *args), mg.compile(f, backend="native", tier="quick")
    with building:  # the code stays quick
        quick = quietly(compiled, *args)
    final = quietly(mg.compile(f, backend="native", tier="final"), *args)
    _equal(*map(_one_nan, (quick, final)), "quick code")
    early = mg.compile(f, backend="native", tier="early")
    _equal(quietly(early, *args), want, "the first answer")
    while (thread := BUILDER._thread) is not None and thread.is_alive():
        thread.join(0.1)
    _equal(quietly(early, *args), final, "the answer after the build")
    _equal(quietly(compiled, *args), final, "optimized code after quick code")


ORACLES: dict[str, Callable[[Case, Choices], None]] = {f.__name__: f for f in (threads, layouts, extremes, tiers)}

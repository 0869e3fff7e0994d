"""Comparisons of a program under minigrad with an independent answer.

Each oracle takes a case and raises `Mismatch` where the two differ by more than round-off, measured by how far a change
of the arguments in their last places moves the answer. A program that minigrad refuses raises `Refused`.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import optree

import minigrad as mg
from minigrad import interpreters
from minigrad.errors import IndexRangeError, MinigradError

from .choices import Choices
from .programs import PLAIN, TRACED, Case, Face, Jax, Program, Step

BACKENDS = ("numpy", "numpy", "native")  # machine code takes ten times as long to make
NUDGE = 1e-11


class Mismatch(AssertionError):
    """Two answers that should be one."""


class Refused(Exception):
    """A program that minigrad says that it does not take."""


def agree(have: Any, want: Any, about: str, again: Callable[[float], Any] | None = None, rtol: float = 1e-8) -> None:
    """Raise `Mismatch` unless two pytrees agree in structure, shapes, dtypes and, to round-off, in values.

    Parameters
    ----------
    again : callable
        ``again(nudge)`` returns `want` at arguments changed by that relative amount; how much it changes says how far
        rounding may carry.
    """
    if optree.tree_structure(have) != optree.tree_structure(want):
        raise Mismatch(f"{about}: structure {optree.tree_structure(have)}, expected {optree.tree_structure(want)}")
    pairs = list(zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True))
    wrong = []
    for k, (h, w) in enumerate(pairs):
        h, w = np.asarray(h), np.asarray(w)
        if h.shape != w.shape or h.dtype != w.dtype:
            raise Mismatch(f"{about}: leaf {k} is {h.dtype}{h.shape}, expected {w.dtype}{w.shape}")
        if not _close(h, w, rtol):
            wrong.append(k)
    if not wrong:
        return
    if again is not None:  # only now, for it costs as much as the answer
        moved = [[np.asarray(leaf) for leaf in optree.tree_leaves(again(s * NUDGE))] for s in (1, -1)]
        wrong = [k for k in wrong if not _within(*(np.asarray(a) for a in pairs[k]), *(m[k] for m in moved), rtol)]
    if wrong:
        h, w = pairs[wrong[0]]
        raise Mismatch(f"{about}: leaf {wrong[0]} is\n{np.asarray(h)}\nexpected\n{np.asarray(w)}")


def _close(have: np.ndarray, want: np.ndarray, rtol: float) -> bool:
    if want.dtype.kind != "f":
        return bool(np.array_equal(have, want))
    finite = want[np.isfinite(want)]
    scale = 1 + np.abs(finite).max(initial=0.0)
    return bool(np.allclose(have, want, rtol=rtol, atol=rtol * scale, equal_nan=True))


def _within(have: np.ndarray, want: np.ndarray, up: np.ndarray, down: np.ndarray, rtol: float) -> bool:
    """Return whether a difference is of the size that rounding makes, or the point is no regular one."""
    if want.dtype.kind != "f":
        return not (np.array_equal(up, want) and np.array_equal(down, want))  # on a jump
    if not (np.isfinite(want).all() and np.isfinite(up).all() and np.isfinite(down).all()):
        return bool(np.array_equal(np.isfinite(want), np.isfinite(have))) or not (
            np.array_equal(np.isfinite(up), np.isfinite(want)) and np.array_equal(np.isfinite(down), np.isfinite(want)))
    change = max(np.abs(up - want).max(initial=0), np.abs(down - want).max(initial=0))
    return bool(np.abs(have - want).max(initial=0) <= 10 * change + rtol)


def nudged(arrays: tuple[Any, ...], by: float) -> tuple[Any, ...]:
    """Return the arrays with floats changed by a relative amount, in a pattern of signs."""
    out = []
    for a in arrays:
        a = np.asarray(a)
        if a.dtype.kind == "f":
            signs = np.where(np.arange(a.size).reshape(a.shape) % 3 == 1, -1.0, 1.0)
            a = a + by * signs * (np.abs(a) + 1)
        out.append(a)
    return tuple(out)


def examples(case: Case, size: int, choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """Return the mapped arguments of a batch."""
    def like(k: int) -> np.ndarray:
        if not case.ties:
            return case.x * choices.rng.uniform(0.5, 1.5) + 0.01 * k
        return choices.rng.permutation(case.x.ravel()).reshape(case.x.shape) if k else case.x

    X = np.stack([like(k) for k in range(size)])
    return X, np.array([(int(case.n) + k) % 3 for k in range(size)])


def loop(f: Callable[..., Any], w: Any, X: np.ndarray, N: np.ndarray) -> Any:
    """Return the function of each example, results stacked."""
    rows = [f(w, x, n) for x, n in zip(X, N, strict=True)]
    return optree.tree_map(lambda *leaves: np.stack(leaves), *rows)


def quietly(f: Callable[..., Any], *args: Any) -> Any:
    """Call without NumPy's warnings."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f(*args)


def reference(f: Callable[..., Any], *args: Any) -> Any:
    """Call plain NumPy; where it refuses these arguments, the case is `Refused`."""
    try:
        return quietly(f, *args)
    except (ValueError, IndexError, TypeError, np.linalg.LinAlgError) as error:
        raise Refused(f"NumPy: {error}") from None


def refusable(f: Callable[..., Any], *args: Any) -> Any:
    """Call a function of minigrad; where it refuses these arguments, the case is `Refused`."""
    try:
        return quietly(f, *args)
    except (MinigradError, ValueError, TypeError) as error:  # a body that NumPy never ran may be no program at all
        raise Refused(str(error)) from None


def compiled_agrees(f: Callable[..., Any], calls: list[tuple], about: str, wants: list[Any], backend: str,
                    again: Callable[..., Any], rtol: float = 1e-8) -> None:
    """Compare the compiled function with known answers, in turn: results are the caller's own, arguments stay."""
    compiled = mg.compile(f, backend=backend)
    results, before = [], copy.deepcopy(calls)
    for args, want in zip(calls, wants, strict=True):
        results.append(quietly(compiled, *args))
        agree(results[-1], want, f"{about}, {backend}", lambda s, a=args: again(*nudged(a, s)), rtol)
    for args, have, want in zip(calls, results, wants, strict=True):
        agree(have, want, f"{about}, {backend}, after further calls", lambda s, a=args: again(*nudged(a, s)), rtol)
    for new, old in zip(calls, before, strict=True):
        agree(new, old, f"{about}, {backend}: an argument was written to")


# -- the oracles --------------------------------------------------------------------------------------------


def traced(case: Case, choices: Choices) -> None:
    """The traced program, run node by node, from its JSON too, is NumPy's."""
    args = (case.w, case.x, case.n)
    plain = case.program.tree(PLAIN)
    want = reference(plain, *args)
    graph = refusable(mg.trace(case.program.tree(TRACED)), *args)
    leaves, given = optree.tree_leaves(want), args[:len(graph.inputs)]  # without a number that is part of the graph
    have = quietly(interpreters.evaluate, graph, given)
    agree(have, leaves, "evaluated", lambda s: optree.tree_leaves(reference(plain, *nudged(args, s))))
    again = mg.Graph.from_json(graph.to_json())
    if str(again) != str(graph):
        raise Mismatch("the graph read back from JSON prints differently")
    agree(quietly(interpreters.evaluate, again, given), have, "from JSON")


def compiled(case: Case, choices: Choices) -> None:
    """The compiled program is NumPy's, for other arguments of the same shape too."""
    plain, f = case.program.tree(PLAIN), case.program.tree(TRACED)
    args = (case.w, case.x, case.n)
    refusable(mg.trace(f), *args)
    other = (case.w * 0.5, case.x * 0.7, np.int64((case.n + 1) % 3))
    calls = [args, other, args]
    compiled_agrees(f, calls, "compiled", [reference(plain, *a) for a in calls], choices.pick(BACKENDS),
                    lambda *a: reference(plain, *a))


def mapped(case: Case, choices: Choices) -> None:
    """`vmap` is the loop, uncompiled and compiled, for several batch sizes."""
    plain, f = case.program.tree(PLAIN), case.program.tree(TRACED)
    refusable(mg.trace(f), case.w, case.x, case.n)
    batched = mg.vmap(f, (None, 0, 0))
    calls = [(case.w, *examples(case, n, choices)) for n in (3, 1, 2)]
    wants = [reference(loop, plain, *a) for a in calls]
    agree(quietly(batched, *calls[0]), wants[0], "vmap",
          lambda s: reference(loop, plain, *nudged(calls[0], s)))
    compiled_agrees(batched, calls, "compiled vmap", wants, choices.pick(BACKENDS),
                    lambda *a: reference(loop, plain, *a))


def nested(case: Case, choices: Choices) -> None:
    """`vmap` of `vmap`, which may share an argument, is the loop of loops, uncompiled, compiled and in microbatches."""
    plain, f = case.program.tree(PLAIN), case.program.tree(TRACED)
    refusable(mg.trace(f), case.w, case.x, case.n)
    rows = choices.integer(1, 3)
    inner = choices.pick([(None, 0, 0), (None, 0, 0), (None, None, 0), (None, 0, None)])

    def arguments(size: int) -> tuple[Any, ...]:
        batches = zip(*(examples(case, size, choices) for _ in range(rows)), strict=True)
        X, N = (np.stack(a) if axis == 0 else np.stack(a)[:, 0] for a, axis in zip(batches, inner[1:], strict=True))
        return case.w, X, N

    def of_row(w: Any, x: Any, n: Any) -> Any:
        size = len(n if inner[1] is None else x)
        return loop(plain, w, np.stack([x] * size) if inner[1] is None else x,
                    np.stack([n] * size) if inner[2] is None else n)

    def want(w: Any, X: Any, N: Any) -> Any:
        return loop(of_row, w, X, N)

    calls = [arguments(size) for size in (2, 3)]
    wants = [reference(want, *a) for a in calls]
    batched = mg.vmap(mg.vmap(f, inner), (None, 0, 0))
    for name, g in (("vmap of vmap", batched), ("its microbatch", mg.microbatch(batched, 1, (None, 0, 0)))):
        agree(quietly(g, *calls[0]), wants[0], name, lambda s: reference(want, *nudged(calls[0], s)))
    compiled_agrees(batched, calls, "compiled vmap of vmap", wants, choices.pick(BACKENDS),
                    lambda *a: reference(want, *a))


def forward(case: Case, choices: Choices) -> None:
    """Tangents are finite differences, of each example of a batch too, compiled and not."""
    f, plain = case.program.loss(TRACED), case.program.loss(PLAIN)
    refusable(mg.trace(f), case.w, case.x, case.n)
    size = choices.integer(1, 3)
    w, (X, N) = case.w, examples(case, size, choices)
    tw, tX = choices.rng.normal(size=w.shape), choices.rng.normal(size=X.shape)
    rows = [(w, x, n, t) for x, n, t in zip(X, N, tX, strict=True)]
    values = [reference(case.program.values, PLAIN, *row[:3]) for row in rows]

    def slope(w: Any, x: Any, n: Any, tx: Any) -> Any:
        return mg.jvp(lambda w, x: f(w, x, n), (w, x), (tw, tx))[1]

    def again(s: float) -> Any:
        return np.stack([quietly(slope, *nudged(row[:3], s), row[3]) for row in rows])

    try:
        want = again(0.0)
    except MinigradError as error:
        if "has no jvp" in str(error) or isinstance(error, IndexRangeError):  # in a body that does not run
            raise Refused(str(error)) from None
        raise
    for (_, x, n, tx), inner, have in zip(rows, values, want, strict=True):
        if not all(np.isfinite(v).all() for v in inner):
            continue  # a pole within the program
        _compare_with_differences(lambda h, x=x, n=n, tx=tx: reference(plain, w + h * tw, x + h * tx, n), have,
                                  "tangent", case.ties)
    each = mg.vmap(slope, (None, 0, 0, 0))
    agree(quietly(each, w, X, N, tX), want, "vmap of jvp", again, 1e-7)
    batched = mg.vmap(f, (None, 0, 0))

    def all_slopes(w: Any, X: Any, N: Any, tX: Any) -> Any:
        return mg.jvp(lambda w, X: batched(w, X, N), (w, X), (tw, tX))[1]

    agree(quietly(all_slopes, w, X, N, tX), want, "jvp of vmap", again, 1e-7)
    backend = choices.pick(BACKENDS)
    for name, g in (("vmap of jvp", each), ("jvp of vmap", all_slopes)):
        agree(quietly(mg.compile(g, backend=backend), w, X, N, tX), want, f"compiled {name}, {backend}", again, 1e-7)


def autobatched(case: Case, choices: Choices) -> None:
    """`autobatch` of literal graphs, one for each example or one for all, is the loop; so are gradients."""
    plain, f = case.program.tree(PLAIN), case.program.tree(TRACED)
    size = choices.integer(1, 4)
    X, N = examples(case, size, choices)
    args = (case.w, tuple(X), tuple(N))
    graphs = [refusable(mg.trace(f), case.w, x, n) for x, n in zip(X, N, strict=True)]
    want = reference(loop, plain, case.w, X, N)

    def again(s: float) -> Any:
        return reference(loop, plain, *nudged((case.w, X, N), s))

    found = mg.autobatch(graphs, in_axes=(None, 0, 0))
    agree(quietly(found, *args), want, "autobatch of a list", again)
    agree(quietly(mg.compile(found, backend=choices.pick(BACKENDS)), *args), want, "compiled autobatch", again)
    loss = case.program.loss(TRACED)

    def literal(w: Any, X: Any, N: Any) -> Any:
        return sum(loss(w, X[k], N[k]) * (1.0 + k) for k in range(size))

    try:
        gradient = quietly(mg.trace(literal)(case.w, X, N).grad, (0, 1))
    except MinigradError as error:
        if "while" in str(error) or "has no vjp" in str(error):
            raise Refused(str(error)) from None
        raise
    want = quietly(gradient, case.w, X, N)
    agree(quietly(mg.autobatch(gradient), case.w, X, N), want, "autobatch of a gradient",
          lambda s: quietly(gradient, *nudged((case.w, X, N), s)), 1e-7)


def _gradient(case: Case, batch: bool = False) -> Callable[..., Any]:
    """Return the gradient for one example; in a `batch`, numbers of turns are traced."""
    gradient = mg.grad(case.program.loss(TRACED), (0, 1))
    refusable(mg.trace(case.program.loss(TRACED)), case.w, case.x, case.n)
    try:
        quietly(gradient, case.w, case.x, case.n)
        if batch:
            mg.trace(gradient)(case.w, case.x, np.asarray(case.n))
    except MinigradError as error:
        if "while" in str(error) or "has no vjp" in str(error) or "is a traced value" in str(error):  # of bins, say
            raise Refused(str(error)) from None
        raise
    return gradient


def takes_gradient(case: Case) -> bool:
    """Return whether a batch of the case has a gradient."""
    try:
        _gradient(case, batch=True)
    except Refused:
        return False
    return True


def differences(case: Case, choices: Choices) -> None:
    """The gradient is the finite difference, and forward mode agrees with it; to second order as well."""
    loss, plain = case.program.loss(TRACED), case.program.loss(PLAIN)
    gradient = _gradient(case)
    w, x, n = case.w, case.x, case.n
    tw, tx = choices.rng.normal(size=w.shape), choices.rng.normal(size=x.shape)
    gw, gx = quietly(gradient, w, x, n)
    reverse = np.sum(gw * tw) + np.sum(gx * tx)
    size = np.sum(np.abs(gw * tw)) + np.sum(np.abs(gx * tx))
    _, forward = quietly(mg.jvp, lambda w, x: loss(w, x, n), (w, x), (tw, tx))
    if np.isfinite(size) and not abs(forward - reverse) <= 1e-8 * (1 + size):
        moved = quietly(gradient, *nudged((w, x, n), NUDGE))
        if abs(np.sum(moved[0] * tw) + np.sum(moved[1] * tx) - reverse) < 1e-9 * (1 + size):
            raise Mismatch(f"forward mode gives {forward}, reverse mode {reverse}")
    _compare_with_differences(lambda h: reference(plain, w + h * tw, x + h * tx, n), reverse, "gradient", case.ties)

    def slope(w: Any, x: Any) -> Any:
        a, b = mg.grad(loss, (0, 1))(w, x, n)
        return np.sum(a * tw) + np.sum(b * tx)

    try:
        second = quietly(mg.grad(slope, (0, 1)), w, x)
        _, pushed = quietly(mg.jvp, slope, (w, x), (tw, tx))
    except MinigradError as error:
        if "has no vjp" in str(error) or "has no jvp" in str(error):
            raise Refused(str(error)) from None
        raise
    both = np.sum(second[0] * tw) + np.sum(second[1] * tx)
    size = 1 + sum(np.sum(np.abs(g)) for g in second)
    if np.isfinite(size) and np.isfinite(pushed) and abs(both - pushed) > 1e-6 * size and not case.ties:
        moved = quietly(mg.grad(slope, (0, 1)), *nudged((w, x), NUDGE))
        if abs(np.sum(moved[0] * tw) + np.sum(moved[1] * tx) - both) < 1e-7 * size:
            raise Mismatch(f"second order: reverse of reverse gives {both}, forward of reverse {pushed}")
    _compare_with_differences(lambda h: quietly(slope, w + h * tw, x + h * tx), both, "second derivative", case.ties)


def _compare_with_differences(phi: Callable[[float], Any], have: float, about: str, ties: bool) -> None:
    """Compare a slope with central differences of fourth order, where those agree with each other."""
    if ties:
        return  # the point may lie on a kink

    def difference(h: float) -> float:
        return float((8 * (phi(h) - phi(-h)) - (phi(2 * h) - phi(-2 * h))) / (12 * h))

    first, second, third = difference(1e-3), difference(2.1e-4), difference(4.3e-5)
    if not np.isfinite([first, second, third]).all():
        return
    spread = max(abs(first - second), abs(second - third))
    if spread > 1e-5 * (1 + abs(second)):
        return  # a kink, a jump or a high curvature is near
    if not abs(have - second) <= 30 * spread + 1e-6 * (1 + abs(second)):
        raise Mismatch(f"{about} is {have}, finite differences give {second} ({first}, {third})")


def gradients_compiled(case: Case, choices: Choices) -> None:
    """Compiled gradients are the uncompiled ones: the mean's, each example's, and second derivatives."""
    loss = case.program.loss(TRACED)
    gradient = _gradient(case, batch=True)
    n = choices.integer(2, 3)
    calls = [(case.w, *examples(case, n, choices)), (case.w * 0.9, *examples(case, 1, choices))]
    for args in calls:
        reference(loop, case.program.loss(PLAIN), *args)
    wants = [quietly(loop, gradient, *a) for a in calls]
    each = mg.per_example_grad(loss, (0, 1), in_axes=(None, 0, 0))

    def again(*a: Any) -> Any:
        return quietly(loop, gradient, *a)

    agree(quietly(each, *calls[0]), wants[0], "per-example gradients", lambda s: again(*nudged(calls[0], s)), 1e-7)
    compiled_agrees(each, calls, "compiled per-example gradients", wants, choices.pick(BACKENDS), again, 1e-7)

    def mean(want: Any, k: int = 1) -> Any:
        return want[0].mean(0)

    total = mg.grad(mg.mean_loss(loss, (None, 0, 0)))
    compiled_agrees(total, calls, "compiled gradient of the mean", [mean(w) for w in wants], choices.pick(BACKENDS),
                    lambda *a: mean(again(*a)), 1e-7)


def hessian(case: Case, choices: Choices) -> None:
    """The compiled Hessian of the mean is that of uncompiled gradients, differentiated by differences."""
    loss = case.program.loss(TRACED)
    _gradient(case, batch=True)
    if case.w.size > 6 or case.ties:
        raise Refused("a large or irregular case")
    X, N = examples(case, 2, choices)
    reference(loop, case.program.loss(PLAIN), case.w, X, N)
    tw = choices.rng.normal(size=case.w.shape)
    mean = mg.mean_loss(loss, (None, 0, 0))
    try:
        want = quietly(mg.jvp, lambda w: mg.grad(mean)(w, X, N), (case.w,), (tw,))[1]
    except MinigradError as error:
        raise Refused(str(error)) from None

    def again(s: float) -> Any:
        return quietly(mg.jvp, lambda w: mg.grad(mean)(w, X, N), nudged((case.w,), s), (tw,))[1]

    backend = choices.pick(BACKENDS)
    full = quietly(mg.compile(mg.hessian(mean), backend=backend), case.w, X, N)
    agree(np.tensordot(full, tw, case.w.ndim), want, f"compiled Hessian times vector, {backend}", again, 1e-6)


def microbatches(case: Case, choices: Choices) -> None:
    """Microbatches of any size give the whole batch: results of examples, losses, gradients."""
    f, loss = case.program.tree(TRACED), case.program.loss(TRACED)
    refusable(mg.trace(f), case.w, case.x, case.n)
    args = (case.w, *examples(case, choices.integer(1, 5), choices))
    size = choices.integer(1, 5)
    axes = (None, 0, 0)
    plain = case.program.tree(PLAIN)
    cut = mg.microbatch(mg.vmap(f, axes), size)
    want = reference(loop, plain, *args)
    agree(quietly(cut, *args), want, f"microbatch(vmap(f), {size})", lambda s: reference(loop, plain, *nudged(args, s)))
    compiled_agrees(cut, [args], f"compiled microbatch(vmap(f), {size})", [want], choices.pick(BACKENDS),
                    lambda *a: reference(loop, plain, *a))
    if not takes_gradient(case):
        return
    whole = mg.value_and_grad(mg.mean_loss(loss, axes), (0, 1))
    each = mg.per_example_grad(loss, in_axes=axes)
    wants = quietly(whole, *args), quietly(each, *args)

    def again(g: Callable[..., Any]) -> Callable[[float], Any]:
        return lambda s: quietly(g, *nudged(args, s))

    inside = mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, axes), size), (0, 1))
    agree(quietly(inside, *args), wants[0], f"gradient of microbatch({size})", again(whole), 1e-7)
    agree(quietly(mg.microbatch(each, size, axes), *args), wants[1], f"microbatch of per-example gradients, {size}",
          again(each), 1e-7)
    compiled_agrees(inside, [args], f"compiled gradient of microbatch({size})", [wants[0]], choices.pick(BACKENDS),
                    lambda *a: quietly(whole, *a), 1e-7)


def copies(case: Case, choices: Choices) -> None:
    """A compiled function and its graph survive pickling and copying."""
    f = case.program.tree(TRACED)
    args = (case.w, case.x, case.n)
    refusable(mg.trace(f), *args)
    backend = choices.pick(BACKENDS)
    compiled = mg.compile(f, backend=backend)
    want = quietly(compiled, *args)
    for name, twin in (("pickle", pickle.loads(pickle.dumps(compiled))), ("deepcopy", copy.deepcopy(compiled)),
                       ("copy", copy.copy(compiled))):
        agree(quietly(twin, *args), want, f"{name} of a compiled function, {backend}")


class Noted:
    """A face that writes down the values of some steps, as they are computed.

    Attributes
    ----------
    lines : list of (int, float)
        The number of a step in `steps`, and the sum of its value.
    """

    def __init__(self, face: Face, steps: list[Step]):
        self._face, self._steps = face, steps
        self.lines: list[tuple[int, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._face, name)

    def __call__(self, path: str) -> Callable[..., Any]:
        return self._face(path)

    def note(self, step: Step, value: Any) -> None:
        for k, noted in enumerate(self._steps):
            if noted is step:
                mg.callback(lambda v, k=k: self.lines.append((k, float(np.sum(v * 1.0)))), None, value)

    def of(self, f: Callable[..., Any], *args: Any) -> list[tuple[int, float]]:
        """Return the lines that a call writes."""
        self.lines = []
        quietly(f, *args)
        return self.lines


def _steps_of(program: Program) -> list[Step]:
    return [s for step in program.steps for s in (step, *(inner for b in step.bodies for inner in _steps_of(b)))]


def effects(case: Case, choices: Choices) -> None:
    """Effects run as often as in a loop over the examples, in one order compiled and not, in gradients too."""
    chosen = [s for s in _steps_of(case.program) if choices.chance(0.5)] or list(case.program.steps[-1:])
    plain, face = Noted(PLAIN, chosen), Noted(TRACED, chosen)
    loss, reference_loss = case.program.loss(face), case.program.loss(plain)
    refusable(mg.trace(loss), case.w, case.x, case.n)
    args = (case.w, *examples(case, choices.integer(1, 3), choices))
    reference(loop, reference_loss, *args)
    want = plain.of(loop, reference_loss, *args)
    axes = (None, 0, 0)
    mean = mg.mean_loss(loss, axes)
    forms = {"vmap": mg.vmap(loss, axes), "mean": mean, "microbatch": mg.microbatch(mean, choices.integer(1, 3))}
    if takes_gradient(case):
        forms |= {"gradient": mg.value_and_grad(mean, (0, 1)), "per-example": mg.per_example_grad(loss, (0, 1), axes),
                  "gradient of microbatch": mg.grad(mg.microbatch(mean, choices.integer(1, 3)))}
    for name, f in forms.items():
        lines = face.of(f, *args)
        _same_lines(lines, want, name)
        backend = choices.pick(BACKENDS)
        again = face.of(mg.compile(f, backend=backend), *args)
        _same_lines(again, want, f"{name}, {backend}")
        if "microbatch" not in name and [k for k, _ in again] != [k for k, _ in lines]:
            raise Mismatch(f"{name}, {backend}: effects come in the order {again}, uncompiled in {lines}")


def _same_lines(have: list[tuple[int, float]], want: list[tuple[int, float]], about: str) -> None:
    """Raise `Mismatch` unless each step has written the same values, in any order."""
    for step in sorted({k for k, _ in have + want}):
        h, w = (sorted(v for k, v in lines if k == step) for lines in (have, want))
        if len(h) != len(w):
            raise Mismatch(f"{about}: step {step} has {len(h)} effects, expected {len(w)}")
        if not _close(np.array(h), np.array(w), 1e-6):
            raise Mismatch(f"{about}: step {step} writes {h}, expected {w}")


OPTIONS = ("sum", "sin", "cumsum", "flip", "square")


def static(case: Case, choices: Choices) -> None:
    """Bools, strings, functions and sizes among the arguments are static, under each transform."""
    def chosen(face: Face) -> Callable[..., Any]:
        def f(w: Any, x: Any, n: Any, size: int, flag: bool, name: str, last: Any = None) -> Any:
            v = face("ravel")(case.program.values(face, w, x, n)[-1] * 1.0)[:size]
            padded = face("concatenate")([v, np.zeros(size)])[:size]
            out = face(name)(padded) if flag else padded * float(size)
            return last(out) if last else out

        return f

    plain, f = chosen(PLAIN), chosen(TRACED)
    refusable(mg.trace(case.program.tree(TRACED)), case.w, case.x, case.n)
    options = [(choices.integer(0, 4), choices.chance(0.7), choices.pick(OPTIONS), choices.pick([None, np.tanh]))
               for _ in range(2)]
    calls = [(case.w, case.x, case.n, *option) for option in (*options, options[0])]
    backend = choices.pick(BACKENDS)
    compiled = mg.compile(f, backend=backend)
    axes = (None, 0, 0, None, None, None, None)
    batched = mg.vmap(f, axes)
    all_compiled = mg.compile(batched, backend=backend)
    X, N = examples(case, 2, choices)
    for w, x, n, *option in calls:
        want = reference(plain, w, x, n, *option)
        agree(quietly(compiled, w, x, n, *option), want, f"{option}, {backend}",
              lambda s, a=(w, x, n), o=option: reference(plain, *nudged(a, s), *o))
        many = reference(loop, lambda w, x, n, o=option: plain(w, x, n, *o), w, X, N)
        for name, g in (("vmap", batched), (f"compiled vmap, {backend}", all_compiled)):
            agree(quietly(g, w, X, N, *option), many, f"{name}, {option}",
                  lambda s, a=(w, X, N), o=option: reference(loop, lambda *b: plain(*b, *o), *nudged(a, s)))
    try:
        _gradient(case)
    except Refused:
        return

    def total(*args: Any) -> Any:
        return np.sum(f(*args))

    for w, x, n, *option in calls[:2]:
        want = quietly(mg.grad(lambda w, x, o=option, n=n: total(w, x, n, *o), (0, 1)), w, x)
        have = quietly(mg.compile(mg.grad(total, (0, 1)), backend=backend), w, x, n, *option)
        agree(have, want, f"gradient, {option}, {backend}", rtol=1e-7)


def low_precision(case: Case, choices: Choices) -> None:
    """In float32 and float16 compiled programs are as near the exact numbers as NumPy's."""
    plain, f = case.program.tree(PLAIN), case.program.tree(TRACED)
    dtype = choices.pick([np.float32, np.float16])
    args = (case.w.astype(dtype), case.x.astype(dtype), case.n)
    exact = reference(plain, case.w.astype(dtype).astype(float), case.x.astype(dtype).astype(float), case.n)
    try:
        want = reference(plain, *args)
    except (TypeError, np.linalg.LinAlgError) as error:  # NumPy's linear algebra takes no float16
        raise Refused(str(error)) from None
    refusable(mg.trace(f), *args)
    backend = choices.pick(BACKENDS)
    have = quietly(mg.compile(f, backend=backend), *args)
    for k, (h, w, e) in enumerate(zip(*map(optree.tree_leaves, (have, want, exact)), strict=True)):
        h, w, e = np.asarray(h), np.asarray(w), np.asarray(e, dtype=float)
        if h.shape != w.shape or h.dtype != w.dtype:
            raise Mismatch(f"{dtype.__name__}, {backend}: leaf {k} is {h.dtype}{h.shape}, "
                           f"expected {w.dtype}{w.shape}")
        if not (np.isfinite(e).all() and np.isfinite(w.astype(float)).all()) or w.dtype.kind != "f":
            continue
        size = 1 + np.abs(e).max(initial=0)
        ours, numpys = np.abs(h - e).max(initial=0), np.abs(w - e).max(initial=0)
        if numpys > 0.05 * size:
            continue  # a jump, or nothing is left of the number
        if not ours <= 20 * numpys + 100 * np.finfo(dtype).eps * size:
            raise Mismatch(f"{dtype.__name__}, {backend}: leaf {k} is\n{h}\nNumPy has\n{w}\nexact\n{e}")


def jax(case: Case, choices: Choices) -> None:
    """Values and gradients are JAX's, where it is installed."""
    import jax

    face = Jax()
    loss = case.program.loss(face)
    gradient = _gradient(case)
    try:
        value = quietly(loss, case.w, case.x, case.n)
        want = quietly(jax.grad(loss, (0, 1)), case.w, case.x, case.n)
    except Exception as error:  # JAX's refusals are of every type
        raise Refused(f"JAX: {error}") from None
    plain = quietly(case.program.loss(PLAIN), case.w, case.x, case.n)
    if case.ties or not abs(float(value) - float(plain)) <= 1e-9 * (1 + abs(float(plain))):
        raise Refused("JAX's functions differ from NumPy's here")
    have = quietly(gradient, case.w, case.x, case.n)
    want = tuple(np.asarray(g) for g in want)
    if all(np.isfinite(g).all() for g in want):
        agree(have, want, "gradient beside JAX", lambda s: tuple(np.asarray(g) for g in quietly(
            jax.grad(loss, (0, 1)), *nudged((case.w, case.x, case.n), s))), 1e-7)


ORACLES: dict[str, Callable[[Case, Choices], None]] = {
    f.__name__: f for f in (traced, compiled, mapped, nested, forward, autobatched, differences, gradients_compiled,
                            hessian, microbatches, copies, effects, static, low_precision,
                            *([jax] if find_spec("jax") else []))}

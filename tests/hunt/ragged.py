"""Programs over examples of different size, beside the loop over these examples."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import minigrad as mg

from ..ragged.cases import unbatched
from ..ragged.programs import an_example, draw_batch, draw_program, run
from .catalogue import WAYS, calls, find
from .choices import Choices
from .oracles import BACKENDS, Mismatch, Refused, agree, quietly, refusable


@dataclass(frozen=True)
class RaggedCase:
    """A schema, two batches of its examples, and the steps of a program of one example."""

    cls: type
    steps: tuple[tuple[str, int, Any], ...]
    batches: tuple[tuple[Any, ...], ...]

    def replace(self, steps: tuple[Any, ...]) -> RaggedCase:
        return replace(self, steps=steps)

    def value(self, g: Any) -> Any:
        return run(self.steps, self.cls, g)

    def loss(self, c: Any, g: Any) -> Any:
        return np.sum(np.sin(run(self.steps, self.cls, g, c)))

    def __str__(self) -> str:
        fields = ", ".join(f"{name}: {t}" for name, t in self.cls.__schema__.fields.items())
        rows = [{name: np.shape(getattr(g, name)) for name in self.cls.__schema__.fields} for g in self.batches[0]]
        return f"fields {fields}\n    " + "\n    ".join(map(str, self.steps)) + f"\n    shapes {rows}"


def draw(choices: Choices) -> RaggedCase:
    """Return a case; some of its examples have no rows."""
    cls, first = draw_batch(choices)
    steps, _ = draw_program(choices, cls)
    second = [first[i] for i in choices.rng.permutation(len(first))][:choices.integer(1, len(first))]
    return RaggedCase(cls, tuple(steps), (tuple(first), tuple(second)))


def _all(results: Any, want: list[Any], about: str) -> None:
    for k, (h, w) in enumerate(zip(unbatched(results), want, strict=True)):
        agree(np.asarray(h), np.asarray(w), f"{about}, example {k}")


def packed(case: RaggedCase, choices: Choices) -> None:
    """A batch, its copies and its pickle give the examples back."""
    batch = mg.batch(list(case.batches[0]))
    twins = {"batch": batch, "pickle": pickle.loads(pickle.dumps(batch)), "copy": copy.deepcopy(batch)}
    for about, twin in twins.items():
        for g, want in zip(twin, case.batches[0], strict=True):
            for name in case.cls.__schema__.fields:
                h, w = np.asarray(getattr(g, name)), np.asarray(getattr(want, name))
                if h.dtype != w.dtype or not np.array_equal(h, w):
                    raise Mismatch(f"{about}: field {name} is\n{h!r}\nexpected\n{w!r}")


def mapped(case: RaggedCase, choices: Choices) -> None:
    """`vmap` is the loop, uncompiled and compiled, for several batches."""
    batches = [mg.batch(list(examples)) for examples in case.batches]
    wants = [[quietly(case.value, g) for g in examples] for examples in case.batches]
    f = mg.vmap(case.value)
    _all(quietly(f, batches[0]), wants[0], "vmap")
    backend = choices.pick(BACKENDS)
    compiled = mg.compile(f, backend=backend)
    results = [quietly(compiled, b) for b in batches]
    for result, want in zip(results, wants, strict=True):
        _all(result, want, f"compiled vmap, {backend}")


def gradients(case: RaggedCase, choices: Choices) -> None:
    """Gradients are those of each example, and those agree with finite differences."""
    c = np.array(0.7)
    examples = case.batches[0]
    batch = mg.batch(list(examples))
    want = np.array([quietly(mg.grad(case.loss), c, g) for g in examples])
    h = 1e-4

    def phi(g: Any, by: float) -> float:
        return float(quietly(case.loss, c + by, g))

    for g, w in zip(examples, want, strict=True):
        first, second = ((8 * (phi(g, s) - phi(g, -s)) - (phi(g, 2 * s) - phi(g, -2 * s))) / (12 * s)
                         for s in (h, 5 * h))
        size = 1 + abs(first)
        if np.isfinite(first) and abs(first - second) < 1e-6 * size < 0.1 * abs(w - first):
            raise Mismatch(f"gradient of one example is {w}, finite differences give {first}")
    if not np.isfinite(want).all():
        return
    each = mg.per_example_grad(case.loss, in_axes=(None, 0))
    total = mg.grad(mg.mean_loss(case.loss, in_axes=(None, 0)))
    agree(quietly(each, c, batch), want, "per-example gradients", rtol=1e-7)
    for about, f, result in (("per-example gradients", each, want), ("gradient of the mean", total, want.mean())):
        backend = choices.pick(BACKENDS)
        have = quietly(mg.compile(f, backend=backend), c, batch)
        agree(have, result, f"compiled {about}, {backend}", rtol=1e-7)
    several = np.array([0.7, 0.7, -0.3])
    ensemble = mg.vmap(total, in_axes=(0, None))
    alone = np.array([quietly(total, each_c, batch) for each_c in several])
    if np.isfinite(alone).all():
        backend = choices.pick(BACKENDS)
        have = quietly(mg.compile(ensemble, backend=backend), several, batch)
        agree(have, alone, f"compiled gradients by several parameters, {backend}", rtol=1e-7)


def microbatches(case: RaggedCase, choices: Choices) -> None:
    """Microbatches of any size give the whole batch."""
    c = np.array(0.7)
    batch = mg.batch(list(case.batches[0]))
    size = choices.integer(1, 4)
    mean = mg.mean_loss(case.loss, in_axes=(None, 0))
    for name, f in (("value", mean), ("value and gradient", mg.value_and_grad(mean)),
                    ("per-example gradients", mg.per_example_grad(case.loss, in_axes=(None, 0)))):
        want = quietly(f, c, batch)
        cut = mg.microbatch(f, size, (None, 0))
        agree(quietly(cut, c, batch), want, f"microbatch of the {name}, {size}", rtol=1e-7)
    outside = mg.compile(mg.value_and_grad(mg.microbatch(mean, size)), backend=choices.pick(BACKENDS))
    agree(quietly(outside, c, batch), quietly(mg.value_and_grad(mean), c, batch), f"gradient of microbatch({size})",
          rtol=1e-7)
    want = [quietly(case.value, g) for g in case.batches[0]]
    _all(quietly(mg.microbatch(mg.vmap(case.value), size), batch), want, f"microbatch(vmap(f), {size})")
    _within_memory(mean, c, batch, 1000 * choices.integer(2, 100), choices.pick(BACKENDS))


def _within_memory(mean: Callable[..., object], c: np.ndarray, batch: mg.Batch, memory: int, backend: str) -> None:
    """Passes within a budget of memory give the whole batch, unless one example exceeds it."""
    step = mg.compile(mg.value_and_grad(mg.microbatch(mean, memory=memory)), backend=backend)
    try:
        found = quietly(step, c, batch)
    except mg.BatchError as error:
        if f"memory is {memory:,} bytes" not in str(error) and "the data determine a size" not in str(error):
            raise
    else:
        agree(found, quietly(mg.value_and_grad(mean), c, batch), f"gradient within {memory} bytes", rtol=1e-7)


def two_batches(case: RaggedCase, choices: Choices) -> None:
    """Functions of two batches are the loop: rows of equal lengths one by one, rows of any lengths in pairs."""
    first = list(case.batches[0])
    schema = case.cls.__schema__
    shapes = [[(t.shape, np.shape(getattr(g, name))) for name, t in schema.fields.items()] for g in first]
    sizes = [{a: n for pair in each for a, n in zip(*pair, strict=True) if a in schema.axes} for each in shapes]
    equal = [an_example(case.cls, choices.rng, each) for each in sizes]
    permuted = [first[i] for i in choices.rng.permutation(len(first))]
    c, axes = np.array(0.7), (None, 0, 0)

    def rows(c: Any, g: Any, h: Any) -> Any:
        a, b = (np.tanh(run(case.steps, case.cls, e, c)) for e in (g, h))
        return a * b + h.y[0] * a

    def pairs(c: Any, g: Any, h: Any) -> Any:
        a, b = (run(case.steps, case.cls, e, c) for e in (g, h))
        a, b = (np.sum(np.tanh(x), axis=tuple(range(1, x.ndim))) for x in (a, b))
        return a[:, None] * np.sin(b)[None] - b[None]

    def loss(c: Any, g: Any, h: Any) -> Any:
        return np.sum(np.sin(f(c, g, h)))

    for about, f, second in (("rows", rows, equal), ("pairs", pairs, permuted)):
        if f is pairs and not np.ndim(quietly(case.value, first[0])):
            continue
        both = mg.batch(first), mg.batch(second)
        backend = choices.pick(BACKENDS)
        want = [quietly(f, c, g, h) for g, h in zip(first, second, strict=True)]
        for name, g in (("vmap", mg.vmap(f, axes)), (backend, mg.compile(mg.vmap(f, axes), backend=backend))):
            _all(quietly(g, c, *both), want, f"{about} of two batches, {name}")
        slopes = np.array([quietly(mg.grad(loss), c, g, h) for g, h in zip(first, second, strict=True)])
        if not np.isfinite(slopes).all():
            continue
        mean = mg.mean_loss(loss, axes)
        for name, g, result in (("per-example gradients", mg.per_example_grad(loss, in_axes=axes), slopes),
                                ("gradient", mg.grad(mean), slopes.mean()),
                                ("gradient of microbatch", mg.grad(mg.microbatch(mean, 2)), slopes.mean())):
            have = quietly(mg.compile(g, backend=backend), c, *both)
            agree(have, result, f"{name} of {about} of two batches, {backend}", rtol=1e-7)


SIZE_WAYS = ("x, y", "x, number", "number, x", "b, x, y", "[x, y]", "i, i")


def sizes(case: RaggedCase, choices: Choices) -> None:
    """Functions of a size and of arrays outside the trace are those of Python's int, dtypes included."""
    path, name = choices.pick([call for call in calls() if call[1] in SIZE_WAYS])
    way, shape = WAYS[name], choices.pick([(), (3,), (2, 3)])
    draws = {"f": lambda: choices.rng.uniform(0.2, 0.9, shape).astype(choices.pick([np.float32, np.float64])),
             "i": lambda: choices.rng.integers(0, 2, shape).astype(np.int32),
             "b": lambda: choices.rng.random(shape) > 0.5}
    operands = [draws[kind]() for kind in way.operands]
    place = choices.pick([k for k, kind in enumerate(way.operands) if kind != "b"])
    param, function = way.draw(choices, operands[0]), find(np, path)

    def f(n: Any) -> Any:
        return way.call(function, [n if k == place else v for k, v in enumerate(operands)], param)

    try:
        wants = [np.asarray(quietly(f, n)) for n in (3, 1)]
    except (ValueError, TypeError, IndexError, AttributeError, np.linalg.LinAlgError) as error:
        raise Refused(f"NumPy: {error}") from None
    batch = mg.batch([np.ones((n, 2)) for n in (3, 1)], mg.f64[mg.axis("row"), 2])
    have = refusable(mg.vmap(lambda x: f(x.shape[0])), batch)
    for k, want in enumerate(wants):
        agree(np.asarray([h[k] for h in have] if isinstance(have, (list, tuple)) else have[k]), want,
              f"{path} of a size ({name}, operand {place}, {shape})", rtol=1e-5)


def empty_blocks(case: RaggedCase, choices: Choices) -> None:
    """Extremes of blocks, some of them empty, are those of the loop, and are refused where the loop refuses them."""
    name, axis = choices.pick(["max", "min", "argmax", "argmin"]), choices.pick([0, 1, None])
    blocks = [choices.rng.normal(size=(choices.integer(0, 2), choices.integer(0, 2))) for _ in range(3)]
    batch = mg.batch(blocks, mg.f64[mg.axis("row"), mg.axis("column")])

    def f(x: Any) -> Any:
        return getattr(np, name)(x, axis=axis)

    try:
        wants = [f(x) for x in blocks]
    except ValueError:
        try:
            mg.vmap(f)(batch)
        except ValueError:
            return
        raise Mismatch(f"{name} along {axis} of {[x.shape for x in blocks]} is not refused") from None
    _all(mg.compile(mg.vmap(f), backend=choices.pick(BACKENDS))(batch), wants, f"{name} along {axis}")


ORACLES: dict[str, Callable[[RaggedCase, Choices], None]] = {
    f"ragged {f.__name__}": f for f in (packed, mapped, gradients, microbatches, two_batches, sizes, empty_blocks)}

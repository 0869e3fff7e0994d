"""`audit`: the weights of the examples in a training step's gradient."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optree
from numpy.random import default_rng

from ..errors import BatchError, GradError, MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..ragged.axes import Axis
from ..ragged.batch import batch
from ..report.ragged import are_examples
from ..report.variants import example_arguments, progress_bar
from ..tracebacks import boundary
from ..transforms.trace import function_name
from .clipping import read_clipping
from .evidence import Evidence, Fit, Reading, Scheme
from .examples import Examples, Parameters, Step, precision_of
from .gradients import IN_MEMORY, ForeignGradients, OwnGradients, Point, Rows, Source, extra_rows, stacked
from .least_squares import Solution
from .mixing import Mixing, persists, probe
from .readings import read
from .report import Audit

_ROUNDOFF = 2.0**10  # multiples of the round-off that a residual by round-off alone may have
_WEIGHTS = 16.0  # the same for the uncertainty of weights
_FURTHER = 2  # values of the parameters drawn where the first ones leave weights undetermined, or without a name
_MOST_POINTS = 64
_SINGLE_PRECISION = 2.0**-23  # the round-off of float32
_LOW_PRECISION = 2.0**-12  # a larger round-off is that of float16 or bfloat16
_MOST_FALL = 2.0**-6  # of the largest element, by round-off
_MOST_ROUNDOFF = 2.0**-5  # the largest residual that counts as round-off
_FREE = 16  # dimensions of a residual whose direction tells
_SPREAD = 6.0  # multiples of its expected error that a combination in low precision may have
_FEW = 16  # elements whose order may agree by chance


@boundary
def audit(step: Step, loss: Step | None, params: PyTree, examples: PyTree, *, in_axes: InAxes = None,
          gradients: Step | None = None, per: int | str | Axis | None = None, expected: str | np.ndarray = "mean",
          lengths: Mapping[str, PyTree] | None = None, reduction: str = "sum", extra: Mapping[str, Step] | None = None,
          tolerance: float | None = None, seed: int = 0, progress: bool = True) -> Audit:
    """Find the weight of each example in the gradient that a training step returns.

    The weights are the least-squares solution of ``G = Σ w_i g_i``, where g_i is the gradient of example i and G that
    of the step. The step is a black box, in any framework: accumulated micro-batches, padding, shards and clipping show
    in its weights, and examples that mix show in the residual.

    Parameters
    ----------
    step : callable
        ``step(params, *examples)`` returns a gradient in the structure of `params`, as arrays of any library, or
        ``(value, gradient)``.
    loss : callable or None
        The loss of one example, ``loss(params, *example)``: a floating scalar. With `per`, one number per row.
    params : pytree of arrays
    examples : tuple of arrays, a pytree of arrays, a Batch, or a list of examples
        Each entry of a tuple is one more argument, with the examples along axis 0; a list holds one entry per example.
    in_axes : optional
        The axes of all arguments, as in `vmap`; by default ``(None, 0, …, 0)``.
    gradients : callable, optional
        In place of `loss`: ``gradients(params, *example)`` returns the gradient of one example, from any library.
    per : str, Axis or int, optional
        The rows that have a weight each (tokens, nodes, edges), by a name; the loss then returns one number per row.
    expected : {"mean", "sum", "mean over ..."} or array (U,)
        The right weights, for `Audit.right` and `Audit.check`. ``"mean over token"`` needs `lengths` of that name, or
        ragged examples with that axis.
    lengths : mapping of str to array (B,), optional
        The number of rows of each example, such as ``{"token": [5, 3]}``; ragged examples bring their own.
    reduction : {"sum", "mean"}
        Whether the loss of one example adds up or averages the losses of its rows.
    extra : mapping of str to callable, optional
        Further directions: ``{"l2": f}``, where ``f(params)`` is the gradient of a regulariser. Its right factor is 1.
    tolerance : float, optional
        The residual, relative to the norm of G, that counts as round-off; by default from the dtypes.
    seed : int
        Of the values of the parameters drawn, and of a sketch.
    progress : bool
        Whether to show a progress bar, in a notebook or if the standard error is a terminal.

    Returns
    -------
    Audit
        ``print(report)``, ``report.verdict``, ``report.weights``, ``report.check("mean")``,
        ``report.to_json()``.

    Raises
    ------
    BatchError
        If the batch is empty, or the arguments differ in their number of examples.
    GradError
        If a gradient has another structure or shape than the parameters, is not finite, or the step is random.
    MinigradError
        If an option is unknown, or both or neither of `loss` and `gradients` are given.

    Examples
    --------
    Micro-batches of two, two and one example, whose means are averaged:

    >>> def loss(w, x, y):
    ...     return (x @ w - y) ** 2
    >>> mean = mg.grad(lambda w, X, Y: np.mean((X @ w - Y) ** 2))
    >>> def step(w, X, Y):
    ...     return sum(mean(w, X[k:k + 2], Y[k:k + 2]) for k in (0, 2, 4)) / 3
    >>> rng = np.random.default_rng(0)
    >>> w, X, Y = rng.normal(size=8), rng.normal(size=(5, 8)), rng.normal(size=5)
    >>> report = mg.audit(step, loss, w, (X, Y), progress=False)
    >>> report.weights.round(4)
    array([0.1667, 0.1667, 0.1667, 0.1667, 0.3333])
    >>> report.right
    False
    """
    if (loss is None) == (gradients is None):
        raise MinigradError(at_user_line("audit: give the loss of one example, or gradients=, one of the two"))
    if reduction not in ("sum", "mean"):
        raise MinigradError(at_user_line(f"audit: reduction is 'sum' or 'mean', not {reduction!r}"))
    if per is not None and loss is None:
        raise MinigradError(at_user_line("audit: per= needs the loss, which returns one number per row"))
    more = example_arguments(loss, examples, "audit") if loss is not None else (
        examples if type(examples) is tuple else (examples,))
    units = Examples(more, in_axes).size
    with progress_bar(progress, f"audit {function_name(step)}", units + 1) as advance:
        sizes = None if lengths is None else {k: np.asarray(v) for k, v in lengths.items()}
        session = _Session(step, loss, gradients, params, more, in_axes, per, sizes, extra or {}, tolerance, seed,
                           advance)
        return session.run(expected, reduction)


class _Session:
    """One audit: the step and the gradients at several values of the parameters."""

    def __init__(self, step: Step, loss: Step | None, gradients: Step | None, params: PyTree, more: tuple[PyTree, ...],
                 in_axes: InAxes, per: int | str | Axis | None, lengths: Mapping[str, np.ndarray] | None,
                 extra: Mapping[str, Step], tolerance: float | None, seed: int, advance: Callable[[str], None]):
        self._start = time.perf_counter()
        self._step, self._name, self._extra, self._tolerance = step, function_name(step), extra, tolerance
        self._advance = advance
        self._parameters = Parameters(params)
        self._examples = Examples(more, in_axes)
        self._rng, self._seed = default_rng(seed), seed
        self._per = "row" if isinstance(per, int) else per.name if isinstance(per, Axis) else per
        self._source: Source
        self._sizes = _checked(lengths or {}, self._examples.size)
        if loss is not None:
            packed = tuple(batch(x) if are_examples(x) else x for x in more)
            own = Examples(packed, in_axes)
            rows = self._sizes.get(self._per or "")
            self._sizes = self._sizes or own.lengths()
            self._source = OwnGradients(loss, own, self._parameters, per is not None, rows, advance)
        else:
            assert gradients is not None
            self._source = ForeignGradients(gradients, self._examples, self._parameters, advance)
        self._roundoff = 0.0
        self._measured = 0.0  # the residual of low precision, of the sum of the parts' norms
        self._first = np.zeros(0)  # the gradient at the given parameters
        self._fixed = False  # whether it was the same at others

    # -- the step ------------------------------------------------------------------------------------------

    def _call(self, params: PyTree, args: tuple[PyTree, ...]) -> np.ndarray:
        gradient = self._parameters.gradient_of(self._step(params, *args))
        self._roundoff = max(self._roundoff, precision_of(gradient))
        return self._parameters.vector(gradient, f"the gradient of {self._name}")

    def _gradient(self) -> np.ndarray:
        """Return the step's gradient; refuse a step whose calls differ."""
        self._advance("the step")
        before = self._examples.checksum()
        first = self._call(self._parameters.tree, self._examples.args)
        if self._parameters.changed or self._examples.checksum() != before:
            argument = "parameters" if self._parameters.changed else "examples"
            raise GradError(at_user_line(f"audit({self._name}): the step writes to the arrays of its {argument}, which "
                                         "later calls need. Copy them within the step"))
        second = self._call(self._parameters.tree, self._examples.args)
        scale, gap = float(np.linalg.norm(first)), float(np.linalg.norm(second - first))
        if gap > _ROUNDOFF * self._roundoff * scale:
            raise GradError(at_user_line(
                f"audit({self._name}): two calls of the step with the same arguments differ by {gap / scale:.1e} of "
                "the gradient's norm: it draws random numbers, or keeps a state. Set its seed, or its state, within "
                "the step"))
        return first

    def _point(self, params: PyTree, gradient: np.ndarray) -> Point:
        rows = extra_rows(self._extra, params, self._parameters)
        return self._source.point(params, gradient, rows, self._seed)

    def _another(self) -> Point:
        params = self._parameters.near(self._rng)
        gradient = self._call(params, self._examples.args)
        self._fixed = self._fixed or np.array_equal(gradient, self._first)
        return self._point(params, gradient)

    # -- the run -------------------------------------------------------------------------------------------

    def run(self, goal: str | np.ndarray, reduction: str) -> Audit:
        """Return the report."""
        schemes = _schemes(self._source, self._per, self._sizes, reduction)
        unit = self._per or "example"
        if isinstance(goal, str):
            if goal not in schemes:
                raise MinigradError(at_user_line(f"audit: expected={goal!r}; there are {', '.join(schemes)}"))
            wanted, goal_name = schemes[goal].weights, goal
        else:
            wanted, goal_name = np.asarray(goal, float), "given weights"
            if wanted.shape != (len(self._source.examples),):
                raise MinigradError(at_user_line(f"audit: {wanted.shape} weights are expected, for "
                                                 f"{len(self._source.examples)} {unit}s"))
        gradient = self._first = self._gradient()
        points = [self._point(self._parameters.tree, gradient)]
        first, solution, together = self._solve(points)
        lower = self._lower_precision(together, solution, points)
        if lower:
            solution = together.solve(self._precision()) if isinstance(together, Rows) else solution
        n = len(self._source.examples)
        norm = float(np.linalg.norm(gradient)) or 1.0
        room = self._room(first, solution)
        varies, mixing = "", None
        if solution.residual > room and together is not first:
            alone = first.solve(self._precision())
            if alone.residual <= self._room(first, alone):
                varies = ("The step returns this gradient at other parameters too: it does not compute with those that "
                          "it is given." if self._fixed else "The weights change with the parameters.")
                solution, together = alone, first
        readings: list[Reading] = []
        evidence = self._evidence(together, solution, schemes, goal_name)
        if solution.residual > self._room(together, solution):
            mixing = self._probe(gradient, math.sqrt(max(0.0, 1 - (solution.residual / norm) ** 2)))
        else:
            readings = read(evidence)
            if not any(r.named for r in readings) and isinstance(together, Rows):
                goals = (schemes, goal_name)
                varies, readings = self._elsewhere(points, solution, evidence, readings, varies, goals)
        size = float(np.linalg.norm(together.gradient)) or 1.0
        shown = solution.weights[:n] if not readings or solution.undetermined == [] else readings[0].weights
        undetermined = [s[s < n] for s in solution.undetermined]
        undetermined = [s for s in undetermined if len(s)]
        entangled = {name: s[s < n] for k, name in enumerate(self._extra) for s in solution.undetermined if n + k in s}
        coefficients = readings[0].extra if readings else solution.weights[n:]
        return Audit(
            name=self._name, unit=unit, weights=shown, uncertainty=evidence.uncertainty, expected=wanted,
            goal=goal_name, residual=solution.residual / size, tolerance=self._room(together, solution) / size,
            condition=solution.condition, rank=solution.rank, undetermined=undetermined, readings=readings,
            extra=dict(zip(self._extra, map(float, coefficients), strict=True)), mixing=mixing, varies=varies,
            extra_uncertainty=dict(zip(self._extra, map(float, self._error(together, solution)[n:]), strict=True)),
            lower_precision=lower, examples=self._source.examples, rows=self._source.rows, norms=first.norms[:n],
            points=len(points), method=first.method, seconds=time.perf_counter() - self._start, schemes=schemes,
            entangled=entangled, elementwise=mixing is not None and self._is_elementwise(first, solution, wanted))

    def _is_elementwise(self, point: Point, solution: Solution, wanted: np.ndarray) -> bool:
        """Return whether the elements of the gradient have the order of the expected one's, or the reverse order."""
        total = point.combine(np.concatenate([wanted, np.ones(len(self._extra))]))
        if len(total) != self._parameters.size or len(total) < _FEW:  # a sketch has no elements
            return False
        ordered = point.gradient[np.argsort(total)] * np.sign(point.gradient @ total)
        falls = np.diff(ordered).min() < -min(_ROUNDOFF * self._precision(), _MOST_FALL) * np.abs(ordered).max()
        return not falls and solution.residual > _MOST_ROUNDOFF * float(np.linalg.norm(point.gradient))

    def _precision(self) -> float:
        return max(self._roundoff, self._source.roundoff, 2.0**-52)

    def _lower_precision(self, point: Point, solution: Solution, points: Sequence[Point]) -> str:
        """Return the precision of a step that computes in a lower one than it returns, and take its round-off over."""
        if self._tolerance is not None:
            return ""
        sums, precision = self._sums(point, solution), self._precision()
        beyond = solution.residual > self._room(point, solution)
        if beyond and precision < _SINGLE_PRECISION and solution.residual <= _WEIGHTS * _SINGLE_PRECISION * sums:
            self._roundoff = _SINGLE_PRECISION
            return "single precision"
        free = len(point.gradient) - len(solution.weights)
        if not beyond and precision <= _LOW_PRECISION:
            return ""
        tells = point is points[0] and free >= _FREE
        parts = float(np.linalg.norm(solution.weights * _row_norms(point)))  # their errors are independent
        small = solution.residual <= _MOST_ROUNDOFF * max(parts, float(np.linalg.norm(point.gradient)))
        turns = small and self._turns(point, solution) if tells else not beyond
        error = solution.residual * math.sqrt(len(point.gradient) / max(free, 1))  # that of G, by that of a part
        if turns:
            self._measured = _SPREAD * error / sums
        elif tells and not beyond:
            self._measured = solution.residual / (2 * sums)  # no round-off, however low the precision
        return "low precision" if beyond and turns else ""

    def _nearby(self) -> PyTree:
        """Return parameters that differ by more than the round-off of their dtype."""
        return self._parameters.nudged(self._rng, 2.0**-5 if self._precision() > _LOW_PRECISION else 2.0**-6)

    def _turns(self, point: Point, solution: Solution) -> bool:
        """Return whether the residual changes its direction at nearby parameters: round-off does, mixing does not."""
        params = self._nearby()
        there = self._point(params, self._call(params, self._examples.args))
        a = point.gradient - point.combine(solution.weights)
        b = there.gradient - there.combine(there.solve(self._precision()).weights)
        return not persists(a, b)

    def _sums(self, point: Point, solution: Solution) -> float:
        """Return the sum of the norms of the weighted gradients, at least the norm of their sum."""
        return max(float(np.abs(solution.weights) @ _row_norms(point)), float(np.linalg.norm(point.gradient)))

    def _room(self, point: Point, solution: Solution) -> float:
        """Return the residual that round-off explains."""
        if self._tolerance is not None:
            return self._tolerance * float(np.linalg.norm(point.gradient))
        part = self._measured or min(_ROUNDOFF * self._precision(), _MOST_ROUNDOFF)
        return part * self._sums(point, solution)

    def _solve(self, points: list[Point]) -> tuple[Point, Solution, Point]:
        """Return the first equations, the weights, and the equations of as many points as determine them."""
        first = points[0]
        n, size = len(first.norms), len(first.gradient)
        if not isinstance(first, Rows):
            return first, first.solve(self._precision()), first
        rows = [first]
        needed = math.ceil((n + max(4, n // 10)) / size) if size < n + max(4, n // 10) else 1
        affordable = max(1, IN_MEMORY // max(1, n * size))
        while len(rows) < min(needed, _MOST_POINTS, affordable):
            self._add(points, rows)
        together = stacked(rows) if len(rows) > 1 else first
        solution = together.solve(self._precision())
        for _ in range(_FURTHER):
            if not solution.undetermined or len(rows) >= affordable:
                break
            self._add(points, rows)
            together = stacked(rows)
            solution = together.solve(self._precision())
        return first, solution, together

    def _add(self, points: list[Point], rows: list[Rows]) -> None:
        another = self._another()
        assert isinstance(another, Rows)
        points.append(another)
        rows.append(another)

    def _evidence(self, point: Point, solution: Solution, schemes: Mapping[str, Scheme], goal: str) -> Evidence:
        n, directions = len(self._source.examples), len(self._extra)
        beside = [point.combine(np.concatenate([np.zeros(n), row])) for row in np.eye(directions)]
        room = self._room(point, solution)
        dependent = any((s >= n).any() for s in solution.undetermined)

        def fit(pattern: np.ndarray) -> Fit:
            own = point.combine(np.concatenate([pattern, np.zeros(directions)]))
            columns = np.stack([own, *beside], axis=1)
            limit = max(room, 2 * solution.residual)
            if dependent:  # the factors are undetermined: take the pattern once, if that explains the gradient
                others, *_ = np.linalg.lstsq(columns[:, 1:], point.gradient - own, rcond=None)
                if np.linalg.norm(own + columns[:, 1:] @ others - point.gradient) <= limit:
                    return Fit(1.0, others, True)
            factors, *_ = np.linalg.lstsq(columns, point.gradient, rcond=None)
            rest = float(np.linalg.norm(columns @ factors - point.gradient))
            return Fit(float(factors[0]), factors[1:], rest <= limit)

        def norm(weights: np.ndarray) -> float:
            return float(np.linalg.norm(point.combine(np.concatenate([weights, np.zeros(directions)]))))

        ordered = {id(s): s for k, s in sorted(schemes.items(), key=lambda item: item[0] != goal) if k != "sum"}
        padded = {k: float(m.size * self._width(m)) for k, m in self._sizes.items() if self._width(m)}
        undetermined = [s[s < n] for s in solution.undetermined if (s < n).any()]
        loose = room / (float(np.linalg.norm(point.gradient)) or 1.0) if self._measured or self._tolerance else 0.0
        return Evidence(solution.weights[:n], self._error(point, solution)[:n], point.norms[:n], [*ordered.values()],
                        fit, norm, undetermined, padded, self._per or "example", loose)

    def _error(self, point: Point, solution: Solution) -> np.ndarray:
        """Return the error of each weight by round-off."""
        if self._measured:  # of no direction, so that one dimension has a small share
            return solution.noise * self._room(point, solution) * min(1.0, 1 / math.sqrt(len(point.gradient)))
        sums = float(np.abs(solution.weights) @ _row_norms(point))
        return solution.noise * max(solution.residual, _WEIGHTS * self._precision() * sums)

    def _width(self, lengths: np.ndarray) -> int:
        """Return the number of rows to which examples are padded, or a step pads lists of them; 0 without padding."""
        if not self._examples.dense:
            return int(lengths.max()) if np.ptp(lengths) else 0
        widths = [np.shape(x)[1] for arg, axis in zip(self._examples.args, self._examples.axes, strict=True)
                  if axis == 0 for x in optree.tree_leaves(arg) if np.ndim(x) > 1]
        return next((w for w in widths if w >= lengths.max(initial=0) and w > lengths.min(initial=0)), 0)

    def _elsewhere(self, points: list[Point], solution: Solution, evidence: Evidence, readings: list[Reading],
                   varies: str, goal: tuple[Mapping[str, Scheme], str]) -> tuple[str, list[Reading]]:
        """Compare the weights with those at other parameters, where they have no name."""
        first = points[0]
        if not isinstance(first, Rows) or solution.undetermined:
            return varies, readings
        seen = [evidence]
        for _ in range(2 * _FURTHER):
            other = self._another()
            points.append(other)
            there = other.solve(self._precision())
            if there.undetermined or there.residual > self._room(other, there):
                return varies, readings
            if not self._differ((first, solution), (other, there)):
                continue
            varies = "The weights change with the parameters."
            before, after = (float(np.linalg.norm(p.gradient)) for p in (first, other))
            if readings and readings[0].name == "scaled" and abs(before - after) <= 1e-4 * after:
                r = readings[0]
                return "", [Reading("clipped batch", f"the mean, clipped to the norm {before:.6g}", r.weights, r.extra,
                                    bound=before)]
            seen.append(self._evidence(other, there, *goal))
            clipping = read_clipping(seen)
            if clipping:
                return "", [r for r in clipping if r.factor == 1] or clipping[:1]
        return varies, readings

    def _differ(self, a: tuple[Point, Solution], b: tuple[Point, Solution]) -> bool:
        """Return whether the weights at two points differ by more than their uncertainty."""
        gap = np.abs(a[1].weights - b[1].weights)
        scale = max(np.abs(a[1].weights).max(), np.abs(b[1].weights).max())
        error = self._error(*a) + self._error(*b)
        return bool((gap > np.maximum(1e-4 * scale, 8 * error)).any())

    def _probe(self, gradient: np.ndarray, cosine: float) -> Mixing:
        params = self._parameters.tree
        of_one = None if self._per else functools.partial(self._source.of_one, params)
        nudged = self._nearby()
        again = None if self._precision() < _SINGLE_PRECISION else lambda args: self._call(nudged, args)
        return probe(lambda args: self._call(params, args), self._examples, gradient, of_one, self._sizes, cosine,
                     self._precision(), self._advance, again)


def _checked(lengths: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    for k, v in lengths.items():
        if v.shape != (size,):
            raise BatchError(at_user_line(f"audit: lengths[{k!r}] has shape {v.shape}, for {size} examples"))
        if (v < 0).any() or (v != np.round(v)).any() or not v.any():
            raise BatchError(at_user_line(f"audit: lengths[{k!r}] must be numbers of rows: whole, not negative, and "
                                          f"not all zero; it is {v}"))
    return {k: v.astype(int) for k, v in lengths.items()}


def _row_norms(point: Point) -> np.ndarray:
    return np.linalg.norm(point.rows, axis=1) if isinstance(point, Rows) else point.norms


def _schemes(source: Source, per: str | None, sizes: Mapping[str, np.ndarray], reduction: str) -> dict[str, Scheme]:
    """Return the means by name: over the units, over the rows of each axis; and the sum."""
    n = len(source.examples)
    ones = np.ones(n)
    if per is not None:
        own = np.bincount(source.examples)[source.examples]
        rows = Scheme(per, ones, ones)
        return {"mean": rows, f"mean over {per}": rows, "mean of example means": Scheme("example", 1 / own, 1 / own),
                "sum": Scheme(per, n * ones, ones)}
    out = {"mean": Scheme("example", ones, ones)}
    for name, m in sizes.items():
        out[f"mean over {name}"] = Scheme(name, ones if reduction == "sum" else m.astype(float), m.astype(float))
        if reduction == "sum":
            out[f"mean of {name} means"] = Scheme(f"{name} mean", 1 / np.maximum(m, 1), ones)
    return {**out, "sum": Scheme("example", n * ones, ones)}

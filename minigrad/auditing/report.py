"""The report of `audit`: weights, verdict, checks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CheckError, MinigradError, at_user_line
from ..locks import importing
from ..report import formatting
from ..report.report import rich_table
from . import page
from .evidence import Reading, Scheme
from .mixing import Mixing
from .verdict import verdict_of
from .weight_table import columns, table_rows

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


@dataclass(frozen=True, eq=False)
class Audit:
    """The weight of each example in a step's gradient; the result of `audit`.

    Attributes
    ----------
    name : str
        The name of the step.
    unit : str
        ``"example"``, or the row that has a weight of its own.
    weights : array (U,)
        The weight of each unit: the least-squares solution of ``G = Σ w_u g_u``.
    uncertainty : array (U,)
        The error of each weight by the round-off of the gradients.
    expected : array (U,)
        The weights of `goal`.
    goal : str
        ``"mean"``, ``"sum"``, ``"mean over …"`` or ``"given weights"``.
    residual : float
        The distance of G from the nearest combination of the gradients, relative to its norm.
    tolerance : float
        The residual of a combination by round-off alone.
    condition : float
        Of the gradients of length one; the weights have this multiple of the round-off as error.
    rank : int or None
        The number of independent gradients, None where it is not known.
    undetermined : list of arrays
        The sets of units whose weights cannot be told apart.
    readings : list of Reading
        The explanations of the weights; several may fit.
    extra, extra_uncertainty : dict of str to float
        The factor of each further direction, and its error by round-off.
    mixing : Mixing or None
        The experiments on mixing, where the residual is beyond round-off.
    varies : str
        How the weights change with the parameters; empty if they do not.
    lower_precision : str
        The arithmetic of a step whose residual is the round-off of a lower precision than that of its gradient; empty
        if it is not.
    examples, rows : array (U,)
        The example of each unit, and its row.
    norms : array (U,)
        The norm of each unit's gradient.
    points : int
        The values of the parameters at which the step was called.
    method : str
    seconds : float
    entangled : dict of str to array
        For a further direction that is a combination of the units' gradients: these units.
    elementwise : bool
        Whether examples mix, but the elements have the order of those of the expected gradient, or the reverse.

    Examples
    --------
    >>> def loss(w, x, y):
    ...     return (x @ w - y) ** 2
    >>> rng = np.random.default_rng(0)
    >>> w, X, Y = rng.normal(size=5), rng.normal(size=(3, 5)), rng.normal(size=3)
    >>> step = mg.grad(lambda w, X, Y: np.mean((X @ w - Y)[:2] ** 2))
    >>> report = mg.audit(step, loss, w, (X, Y), progress=False)
    >>> report.weights.round(6), report.verdict
    (array([0.5, 0.5, 0. ]), 'The step returns the mean over 2 examples; example 2 has weight 0.')
    """

    name: str
    unit: str
    weights: np.ndarray
    uncertainty: np.ndarray
    expected: np.ndarray
    goal: str
    residual: float
    tolerance: float
    condition: float
    rank: int | None
    undetermined: list[np.ndarray]
    readings: list[Reading]
    extra: dict[str, float]
    mixing: Mixing | None
    varies: str
    lower_precision: str
    examples: np.ndarray
    rows: np.ndarray
    norms: np.ndarray
    points: int
    method: str
    seconds: float
    schemes: Mapping[str, Scheme] = field(default_factory=dict, repr=False)
    entangled: Mapping[str, np.ndarray] = field(default_factory=dict)
    elementwise: bool = False
    extra_uncertainty: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The finding, as a sentence or more."""
        return verdict_of(self)

    @property
    def right(self) -> bool:
        """Whether the step's gradient is the expected combination."""
        try:
            self.check()
        except CheckError:
            return False
        return True

    @property
    def microbatches(self) -> tuple[np.ndarray, ...]:
        """The units of each micro-batch, where they are found."""
        return next((r.microbatches for r in self.readings if r.microbatches), ())

    def check(self, expected: str | np.ndarray | None = None, tolerance: float | None = None) -> Audit:
        """Check that the step's gradient is the expected combination of the examples' gradients.

        Parameters
        ----------
        expected : {"mean", "sum", "mean over ..."} or array (U,), optional
            By default the `goal` of the audit.
        tolerance : float, optional
            The largest difference of a weight, relative to the largest expected one; by default the uncertainty of the
            weights by round-off, and at least 1e-6.

        Returns
        -------
        Audit
            The report itself.

        Raises
        ------
        CheckError
            If examples mix, a further direction has another factor than 1, or a weight differs: with the verdict.
        """
        goal = self.expected if expected is None else self._weights(expected)
        name = self.goal if expected is None else expected if isinstance(expected, str) else "given weights"
        if self.residual > max(self.tolerance, tolerance or 0):
            raise CheckError(at_user_line(f"audit({self.name}): {self.verdict}"))
        if any(abs(v - 1) > self.extra_room(k, tolerance) for k, v in self.extra.items()):
            raise CheckError(at_user_line(f"audit({self.name}): {self.verdict}"))
        scale = np.abs(goal).max(initial=0.0)
        room = tolerance * scale if tolerance else np.maximum(1e-6 * scale, 8 * self.uncertainty)
        explained = any(np.allclose(r.weights, goal, rtol=tolerance or 1e-6, atol=1e-9 * scale) for r in self.readings)
        off = self.undetermined or (np.abs(self.weights - goal) > room).any()
        unread = tolerance is None and name in self.schemes  # the pattern does not give the gradient
        if not explained and (off or self.readings or self.varies or unread):
            raise CheckError(at_user_line(f"audit({self.name}): expected the {name}: {self.verdict}"))
        return self

    def extra_room(self, name: str, tolerance: float | None = None) -> float:
        """Return the difference from 1 that the factor of a further direction may have."""
        return max(tolerance or 1e-3, 4 * self.extra_uncertainty.get(name, 0.0))

    def _weights(self, expected: str | np.ndarray) -> np.ndarray:
        if not isinstance(expected, str):
            out = np.asarray(expected, float)
            if out.shape != self.weights.shape:
                raise MinigradError(at_user_line(f"audit: {out.shape} weights are expected, for {self.weights.shape} "
                                                 f"{self.unit}s"))
            return out
        if expected not in self.schemes:
            raise MinigradError(at_user_line(f"audit: no {expected!r}; there are {', '.join(self.schemes)}"))
        return self.schemes[expected].weights

    @property
    def notes(self) -> list[str]:
        """The notes below the table."""
        directions = len(self.weights) + len(self.extra)
        return [
            f"residual {self.residual:.1e} (round-off: up to {self.tolerance:.1e}); condition {self.condition:.2g}"
            + ("" if self.rank is None else f"; {self.rank} of {directions} gradients are independent"),
            f"by {self.method}; {self.points} value{'s' * (self.points != 1)} of the parameters; "
            f"{formatting.seconds(self.seconds)}"]

    def __str__(self) -> str:
        lines = [self.verdict, "", *_table(self), "", *self.notes]
        if self.mixing is not None:
            lines += ["", *_matrix(self.mixing)]
        return "\n".join(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render the report with `rich`."""
        with importing:
            from rich.markup import escape  # rich is for the command line only

        yield f"[bold {'green' if self.right else 'red'}]{escape(self.verdict)}[/]"
        yield rich_table(columns(self), table_rows(self))
        yield from (f"[dim]{escape(n)}[/dim]" for n in self.notes)
        if self.mixing is not None:
            yield ""
            yield from map(escape, _matrix(self.mixing))

    def _repr_html_(self) -> str:
        return page.notebook_cell(self)

    def to_html(self, path: str | os.PathLike[str]) -> str:
        """Write the report as one self-contained HTML page, and return its path."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(page.page(self))
        return os.fspath(path)

    def to_json(self) -> str:
        """Return the numbers as JSON text."""
        mixing = None if self.mixing is None else {
            "examples": self.mixing.tried.tolist(), "interactions": self.mixing.interactions.tolist(),
            "groups": [g.tolist() for g in self.mixing.groups], "order": self.mixing.order,
            "alone": self.mixing.alone, "split": self.mixing.split, "padding": self.mixing.padding,
            "cosine": self.mixing.cosine}
        readings = [{"name": r.name, "text": r.text, "factor": r.factor, "bound": r.bound,
                     "microbatches": [m.tolist() for m in r.microbatches]} for r in self.readings]
        out: dict[str, object] = {
            "name": self.name, "verdict": self.verdict, "right": self.right, "goal": self.goal, "unit": self.unit,
            "weights": self.weights.tolist(), "uncertainty": self.uncertainty.tolist(),
            "expected": self.expected.tolist(), "examples": self.examples.tolist(), "rows": self.rows.tolist(),
            "norms": self.norms.tolist(), "residual": self.residual, "tolerance": self.tolerance,
            "condition": self.condition, "rank": self.rank,
            "undetermined": [u.tolist() for u in self.undetermined], "readings": readings, "extra": self.extra,
            "varies": self.varies,
            "lower_precision": self.lower_precision, "mixing": mixing, "points": self.points, "method": self.method,
            "seconds": self.seconds}
        return json.dumps(out, indent=1, ensure_ascii=False)


def _table(report: Audit) -> list[str]:
    """Return the table of weights as aligned lines."""
    lines = [columns(report), *table_rows(report)]
    first, second = (max(len(r[c]) for r in lines) for c in (1, 2))
    return [f"{weight:>{first}}  {multiple:>{second}}  {units}" for units, weight, multiple in lines]


def _matrix(mixing: Mixing) -> list[str]:
    """Return the interactions as text, in hundredths."""
    width = max(3, len(str(int(mixing.tried.max()))))
    head = " " * (width + 2) + " ".join(f"{j:>{width}}" for j in mixing.tried)
    rows = [f"{j:>{width}}  " + " ".join(f"{100 * x:>{width}.0f}" if x else " " * (width - 1) + "·" for x in row)
            for j, row in zip(mixing.tried, mixing.interactions, strict=True)]
    return ["interaction of two replaced examples, in hundredths of the larger change by one of them:", head, *rows]

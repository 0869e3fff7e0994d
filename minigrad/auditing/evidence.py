"""The evidence of an audit: the weights of one point, and the tests of a pattern against the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

EXACT = 1e-6  # relative difference below which a factor has a name
_SHARP = 0.02  # relative uncertainty of a value below which units of other values are told from it

@dataclass(frozen=True, eq=False)
class Scheme:
    """A mean: unit u has the weight ``shares[u] / counts.sum()``.

    Attributes
    ----------
    name : str
        The rows that ``counts`` numbers: examples, tokens.
    shares, counts : array (U,)
    """

    name: str
    shares: np.ndarray
    counts: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """The weights of the mean."""
        out: np.ndarray = self.shares / self.counts.sum()
        return out


class Fit(NamedTuple):
    """A pattern against the gradient: its factor, the further directions', and whether the rest is round-off."""

    factor: float
    extra: np.ndarray
    exact: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """An explanation of the weights.

    Attributes
    ----------
    name : str
        ``"mean"``, ``"sum"``, ``"mean over …"``, ``"scaled"``, ``"micro-batch means"``, ``"multiples"``,
        ``"clipped"`` or ``"clipped micro-batches"``.
    text : str
        A clause with the numbers.
    weights : array (U,)
    extra : array
        The factor of each further direction.
    factor : float
        The weights over those of the correct pattern.
    named : bool
        Whether the factor has an explanation.
    microbatches : tuple of arrays
        The units of each micro-batch, where they are found.
    bound : float or None
        The norm to which gradients are clipped.
    """

    name: str
    text: str
    weights: np.ndarray
    extra: np.ndarray
    factor: float = 1.0
    named: bool = True
    microbatches: tuple[np.ndarray, ...] = ()
    bound: float | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """The weights of one point, and the ways to test a pattern against the gradient.

    Attributes
    ----------
    weights, uncertainty, norms : array (U,)
    schemes : sequence of Scheme
        The expected one first.
    fit : callable
        From a pattern (U,) to a `Fit`.
    norm : callable
        From weights (U,) to the norm of their combination.
    undetermined : sequence of arrays
        The sets of units that share a weight.
    padded : dict of str to float
        The number of rows of a padded batch along each axis.
    unit : str
    roundoff : float
        The relative error of factors where the step computes in low precision.
    """

    weights: np.ndarray
    uncertainty: np.ndarray
    norms: np.ndarray
    schemes: Sequence[Scheme]
    fit: Callable[[np.ndarray], Fit]
    norm: Callable[[np.ndarray], float]
    undetermined: Sequence[np.ndarray] = ()
    padded: dict[str, float] = field(default_factory=dict)
    unit: str = "example"
    roundoff: float = 0.0

    @property
    def known(self) -> np.ndarray:
        """Which units have a weight of their own, known well enough to tell it from zero, (U,)."""
        largest = np.abs(self.weights).max(initial=0.0)
        out = np.asarray(8 * self.uncertainty <= largest)
        for units in self.undetermined:
            out[units] = False
        return out


def is_close(a: float, b: float) -> bool:
    """Return whether two factors are equal to the precision of names."""
    return abs(a - b) <= EXACT * max(abs(a), abs(b))


def is_factor(found: Evidence, a: float, b: float) -> bool:
    """Return whether a factor is `b` to within the tolerance of names and the uncertainty of the weights."""
    scale = np.abs(found.weights).max(initial=0.0)
    loose = float(np.median(found.uncertainty)) / scale if scale else 0.0
    return abs(a - b) <= max(EXACT, min(loose, 1e-3), found.roundoff) * max(abs(a), abs(b))


def explained(factor: float, total: float, padded: float | None, found: Evidence, microbatches: int = 0) -> str:
    """Return the causes that a wrong factor has, joined by "or"; an empty text if it has no simple one."""
    if factor < 0:
        rest = "" if is_factor(found, factor, -1) else f", with the rate {-factor:.6g}"
        return f"an update, against the gradient{rest}"
    causes = []
    if microbatches > 1 and is_factor(found, factor, microbatches):
        return f"the division by the {microbatches} micro-batches is missing"
    if is_factor(found, factor, total):
        causes.append(f"the division by {total:g} is missing")
    if is_factor(found, factor, 1 / total):
        causes.append(f"divided by {total:g} twice")
    if padded and is_factor(found, factor, total / padded):
        causes.append(f"padding counts in the denominator ({padded:g} instead of {total:g})")
    power = math.log2(factor)
    if abs(power) > 2.5 and is_factor(found, factor, 2.0 ** round(power)):
        causes.append(f"a loss scale of 2^{round(power)} left in")
    whole, part = round(factor), round(1 / factor)
    if 1 < whole < total and is_factor(found, factor, whole):
        causes.append(f"the division by {whole} is missing (as by the number of micro-batches)")
    if 1 < part < total and is_factor(found, factor, 1 / part):
        causes.append(f"divided by {part} once too often")
    return " or ".join(causes)


# -- units of equal weight ---------------------------------------------------------------------------------


def values_of_scheme(found: Evidence, scheme: Scheme) -> np.ndarray:
    """Return the weights over the units' shares: equal ones in a mean."""
    out = np.zeros(len(found.weights))
    np.divide(found.weights, scheme.shares, out=out, where=scheme.shares != 0)
    return out


def clusters(found: Evidence, values: np.ndarray, units: np.ndarray) -> list[np.ndarray]:
    """Return the units of each value, in the order of their first unit.

    Units whose values are uncertain join the nearest set in the end: they would connect the others.
    """
    scale = np.divide(values, found.weights, out=np.ones(len(values)), where=found.weights != 0)  # 1 over the shares
    doubt = 4 * found.uncertainty * np.abs(scale)
    sharp = doubt[units] <= _SHARP * np.abs(values[units])
    vague = units[~sharp] if sharp.any() else units[:0]
    order = np.setdiff1d(units, vague)
    order = order[np.argsort(values[order], kind="stable")]
    sets: list[list[int]] = []
    for k in order.tolist():
        near = sets and abs(values[k] - values[sets[-1][-1]]) <= max(
            EXACT * abs(values[k]), doubt[k] + doubt[sets[-1][-1]])
        if near:
            sets[-1].append(k)
        else:
            sets.append([k])
    levels = np.array([np.median(values[s]) for s in sets])
    for k in vague.tolist():
        nearest = int(np.argmin(np.abs(levels - values[k])))
        if abs(levels[nearest] - values[k]) <= doubt[k]:
            sets[nearest].append(k)
        else:
            sets.append([k])
            levels = np.append(levels, values[k])
    return sorted((np.array(sorted(s)) for s in sets), key=lambda s: int(s[0]))


def kept_units(found: Evidence) -> np.ndarray:
    """Return the units with a known weight other than zero."""
    largest = np.abs(found.weights).max(initial=0.0)
    return np.flatnonzero(found.known & (np.abs(found.weights) > np.maximum(
        EXACT * largest, 4 * found.uncertainty)))


def zeros_text(found: Evidence, kept: np.ndarray) -> str:
    dropped = np.setdiff1d(np.flatnonzero(found.known), kept)
    return f"; {named_units(dropped, found.unit)} {'has' if len(dropped) == 1 else 'have'} weight 0" if len(
        dropped) else ""


# -- words -------------------------------------------------------------------------------------------------


def plural(name: str, count: float) -> str:
    return name if count == 1 else f"{name}s"


def ranges(numbers: np.ndarray | Sequence[int]) -> str:
    """Return ascending numbers as text: ``0–4, 7``."""
    runs: list[list[int]] = []
    for k in map(int, numbers):
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    shown = [f"{r[0]}" if len(r) == 1 else f"{r[0]}, {r[1]}" if len(r) == 2 else f"{r[0]}–{r[-1]}" for r in runs]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:10], f"… ({len(numbers)} in all)"])


def named_units(units: np.ndarray, unit: str) -> str:
    """Return units by name and number: ``examples 0–4, 7``."""
    return f"{plural(unit, len(units))} {ranges(units)}"

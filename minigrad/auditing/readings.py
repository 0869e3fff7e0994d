"""Readings of weights: the mean and its common faults, each tested against the gradient itself.

A reading proposes a pattern, one number per unit; the step's gradient must be a multiple of the pattern's combination
(and of further directions) to round-off, or the reading is dropped. So a name never rests on the weights alone, which
may be uncertain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

_EXACT = 1e-6  # relative difference below which a factor has a name
_ADDED = (0.0, 1e-6)  # to the norm that divides the bound of clipping: 1e-6 by PyTorch and Opacus
_SHARP = 0.02  # relative uncertainty of a value below which units of other values are told from it
_MOST = 64  # the largest multiple of an example


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


def read(found: Evidence) -> list[Reading]:
    """Return the readings that explain the gradient, the likeliest first; those without a named factor come last."""
    for scheme in found.schemes:
        if (reading := _multiple(found, scheme)) is not None and reading.factor == 1:
            return [reading]
    whole = [r for scheme in found.schemes if (r := _multiple(found, scheme)) is not None]
    if whole:
        return [r for r in whole if r.named][:1] or whole[:1]
    readings: list[Reading] = []
    for propose in (_microbatches, _multiples):
        proposed = [r for scheme in found.schemes for r in propose(found, scheme)]
        readings += [r for r in proposed if r.factor == 1][:1] or proposed
    readings += read_clipping([found])
    if any(r.name == "multiples" and r.factor == 1 for r in readings):  # micro-batches of any sizes explain too much
        readings = [r for r in readings if r.name != "micro-batch means" or _is_regular(r.microbatches)]
        readings.sort(key=lambda r: not _are_consecutive(r.microbatches))  # shuffled ones are less likely
    named = [r for r in readings if r.named]
    exact = [r for r in named if r.factor == 1]
    return _distinct(exact or named or readings[:1])


def _distinct(readings: list[Reading]) -> list[Reading]:
    texts: dict[str, Reading] = {}
    for r in readings:
        texts.setdefault(r.text, r)
    return list(texts.values())


def is_close(a: float, b: float) -> bool:
    """Return whether two factors are equal to the precision of names."""
    return abs(a - b) <= _EXACT * max(abs(a), abs(b))


# -- one factor for all ------------------------------------------------------------------------------------


def _multiple(found: Evidence, scheme: Scheme) -> Reading | None:
    fit = found.fit(scheme.weights)
    if not fit.exact or fit.factor == 0:
        return None
    total = scheme.counts.sum()
    weights = fit.factor * scheme.weights
    name = "mean" if scheme is _of_examples(found) else f"mean over {scheme.name}"
    if _is(found, fit.factor, 1):
        return Reading(name, f"the mean over {total:g} {_plural(scheme.name, total)}", scheme.weights, fit.extra)
    if _is(found, fit.factor, total) and not np.ptp(scheme.shares):
        return Reading("sum", f"the sum over the {found.unit}s, not divided by {total:g} {_plural(scheme.name, total)}",
                       total * scheme.weights, fit.extra, float(total))
    why = explained(fit.factor, total, found.padded.get(scheme.name), found)
    return Reading("scaled", f"the mean over {total:g} {_plural(scheme.name, total)}, times {fit.factor:.6g}"
                   + (f": {why}" if why else ""), weights, fit.extra, fit.factor, bool(why))


def _of_examples(found: Evidence) -> Scheme | None:
    return next((s for s in found.schemes if s.name == "example"), None)


def _is(found: Evidence, a: float, b: float) -> bool:
    """Return whether a factor is `b` to within the tolerance of names and the uncertainty of the weights."""
    scale = np.abs(found.weights).max(initial=0.0)
    loose = float(np.median(found.uncertainty)) / scale if scale else 0.0
    return abs(a - b) <= max(_EXACT, min(loose, 1e-3), found.roundoff) * max(abs(a), abs(b))


def explained(factor: float, total: float, padded: float | None, found: Evidence, microbatches: int = 0) -> str:
    """Return the causes that a wrong factor has, joined by "or"; an empty text if it has no simple one."""
    if factor < 0:
        rest = "" if _is(found, factor, -1) else f", with the rate {-factor:.6g}"
        return f"an update, against the gradient{rest}"
    causes = []
    if microbatches > 1 and _is(found, factor, microbatches):
        return f"the division by the {microbatches} micro-batches is missing"
    if _is(found, factor, total):
        causes.append(f"the division by {total:g} is missing")
    if _is(found, factor, 1 / total):
        causes.append(f"divided by {total:g} twice")
    if padded and _is(found, factor, total / padded):
        causes.append(f"padding counts in the denominator ({padded:g} instead of {total:g})")
    power = math.log2(factor)
    if abs(power) > 2.5 and _is(found, factor, 2.0 ** round(power)):
        causes.append(f"a loss scale of 2^{round(power)} left in")
    whole, part = round(factor), round(1 / factor)
    if 1 < whole < total and _is(found, factor, whole):
        causes.append(f"the division by {whole} is missing (as by the number of micro-batches)")
    if 1 < part < total and _is(found, factor, 1 / part):
        causes.append(f"divided by {part} once too often")
    return " or ".join(causes)


# -- weights of few values ---------------------------------------------------------------------------------


def _clusters(found: Evidence, values: np.ndarray, units: np.ndarray) -> list[np.ndarray]:
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
            _EXACT * abs(values[k]), doubt[k] + doubt[sets[-1][-1]])
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


def _kept(found: Evidence) -> np.ndarray:
    """Return the units with a known weight other than zero."""
    largest = np.abs(found.weights).max(initial=0.0)
    return np.flatnonzero(found.known & (np.abs(found.weights) > np.maximum(
        _EXACT * largest, 4 * found.uncertainty)))


def _zeros(found: Evidence, kept: np.ndarray) -> str:
    dropped = np.setdiff1d(np.flatnonzero(found.known), kept)
    return f"; {named_units(dropped, found.unit)} {'has' if len(dropped) == 1 else 'have'} weight 0" if len(
        dropped) else ""


def _microbatches(found: Evidence, scheme: Scheme) -> Iterator[Reading]:
    """Propose the mean of the means of micro-batches: ``w_u = shares_u / (K · counts of its micro-batch)``."""
    kept = _kept(found)
    if not len(kept):
        return
    values = np.divide(found.weights, scheme.shares, out=np.zeros(len(found.weights)), where=scheme.shares != 0)
    known = _clusters(found, values, kept)
    if not 1 < len(known) <= max(32, len(kept) // 2):
        return
    levels = [float(np.median(values[s])) for s in known]
    near = max(1e-3, 4 * found.roundoff)
    for sets, first in ((c, k) for c in _completed(found, known) for k in range(1, len(c[0]) + 1)):
        counts = [float(scheme.counts[s].sum()) for s in sets]
        each = levels[0] * counts[0] / first  # the total weight of a micro-batch
        numbers = [level * count / each for level, count in zip(levels, counts, strict=True)]
        whole = [round(x) for x in numbers]
        total = sum(whole)
        if total < 2 or min(whole) < 1 or any(abs(x - n) > near * n for x, n in zip(numbers, whole, strict=True)):
            continue
        splits = [_split(s, scheme.counts[s], n) for s, n in zip(sets, whole, strict=True)]
        if not all(splits):
            continue
        pattern = np.zeros(len(found.weights))
        for s, count, n in zip(sets, counts, whole, strict=True):
            pattern[s] = scheme.shares[s] * n / (total * count)
        fit = found.fit(pattern)
        if not fit.exact:
            continue
        exact = _is(found, fit.factor, 1)
        why = "" if exact else explained(fit.factor, scheme.counts.sum(), None, found, total)
        parts = tuple(sorted(itertools.chain(*splits), key=lambda part: int(part[0])))
        sizes = [f"{scheme.counts[p].sum():g}" for p in parts]
        listed = ", ".join(sizes if len(sizes) <= 12 else [*sizes[:6], "…", *sizes[-3:]])
        text = (f"the mean of the means of {total} micro-batches of {listed} {_plural(scheme.name, 2)}"
                + ("" if exact else f", times {fit.factor:.6g}" + (f": {why}" if why else "")) + _zeros(found, kept))
        yield Reading("micro-batch means", text, fit.factor * pattern, fit.extra, 1 if exact else fit.factor,
                      exact or bool(why), parts)
        return


def _completed(found: Evidence, sets: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield the sets with units of unknown weight beside the known unit before them, or after, or left out."""
    unknown = np.flatnonzero(~found.known)
    owners = np.full(len(found.weights), -1)
    for k, units in enumerate(sets):
        owners[units] = k
    known = np.flatnonzero(owners >= 0)
    place = np.searchsorted(known, unknown)
    for beside in (place - 1, place) if len(unknown) else ():
        owners[unknown] = owners[known[np.clip(beside, 0, len(known) - 1)]]
        yield [np.flatnonzero(owners == k) for k in range(len(sets))]
    yield sets


def _split(units: np.ndarray, counts: np.ndarray, number: int) -> list[np.ndarray]:
    """Return consecutive parts with equal sums of counts, or none."""
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, ends[-1] * (np.arange(1, number) / number - 1e-9)) + 1
    sums = np.diff(ends[cuts - 1], prepend=0.0, append=ends[-1])
    return np.split(units, cuts) if sums.min() > 0 and np.ptp(sums) <= 1e-9 * sums.max() else []


def _is_regular(microbatches: Sequence[np.ndarray]) -> bool:
    """Return whether all micro-batches have one size, but for a smaller one, the last if they follow each other."""
    sizes = [len(m) for m in microbatches]
    if not _are_consecutive(microbatches):
        sizes.sort(reverse=True)
    return len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0]


def _are_consecutive(microbatches: Sequence[np.ndarray]) -> bool:
    return all(np.ptp(m) == len(m) - 1 for m in microbatches)


def _multiples(found: Evidence, scheme: Scheme) -> Iterator[Reading]:
    """Propose whole multiples of one weight: units that are dropped, or counted more than once."""
    kept = _kept(found)
    if not len(kept):
        return
    values = np.divide(found.weights, scheme.shares, out=np.zeros(len(found.weights)), where=scheme.shares != 0)
    sets = _clusters(found, values, kept)
    unit = float(np.median(values[max(sets, key=len)]))
    times = np.zeros(len(values))
    times[kept] = np.round(values[kept] / unit)
    times[~found.known] = 1
    together = []
    for units in found.undetermined:  # of one gradient: any split of the whole number
        count = values[units].sum() / unit
        if len(units) > 1 and abs(count - round(count)) <= 1e-3:
            times[units] = round(count) / len(units)
            if round(count) != len(units):
                together.append(f"; {named_units(units, found.unit)} together count {_times(round(count))}")
    if times.min() < 0 or times.max() > _MOST or (times[kept] == 0).any() or not (times != 1).any():
        return
    pattern = times * scheme.shares
    fit = found.fit(pattern)
    if not fit.exact:
        return
    drawn, whole = float((times * scheme.counts).sum()), float(scheme.counts.sum())
    over = next((total for total in (drawn, whole, float(scheme.counts[kept].sum()))
                 if _is(found, fit.factor * total, 1)), None)
    factor = 1.0 if over is not None else fit.factor * drawn
    why = "" if over is not None else explained(factor, drawn, None, found)
    own = np.where(found.known, times, 1)
    repeated = [f"; {named_units(units, found.unit)} {'counts' if len(units) == 1 else 'count'} {_times(t)}"
                for t in sorted(set(own[own > 1].tolist())) for units in [np.flatnonzero(own == t)]]
    text = (f"the mean over {over or drawn:g} {_plural(scheme.name, over or drawn)}"
            + (f", times {factor:.6g}" + (f": {why}" if why else "") if over is None else "")
            + "".join(repeated + together) + _zeros(found, kept))
    yield Reading("multiples", text, fit.factor * pattern, fit.extra, factor, over is not None or bool(why))


def _times(count: float) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(int(count), f"{count:.0f} times")


# -- clipping ----------------------------------------------------------------------------------------------


def read_clipping(found: Sequence[Evidence]) -> list[Reading]:
    """Return the readings as clipped gradients, from the weights at one or more values of the parameters."""
    for added in _ADDED:
        if readings := [*_clipped(found, added), *_clipped_microbatches(found, added)]:
            return readings
    return []


def _clipped(found: Sequence[Evidence], added: float) -> Iterator[Reading]:
    """Propose gradients clipped one by one: ``w_u = min(1, C / (‖g_u‖ + added)) / n``."""
    first = found[0]
    kept = _kept(first)
    weights, norms = (np.stack([getattr(f, k)[kept] for f in found]) for k in ("weights", "norms"))
    norms = norms + added
    bound = _bound(weights, norms, _loose(found, kept), len(kept))
    if bound is None:
        return
    pattern = np.zeros(len(first.weights))
    pattern[kept] = np.minimum(1, bound / norms[0]) / len(kept)
    fit = first.fit(pattern)
    if fit.exact:
        clipped = int((norms[0] > bound * (1 + _EXACT)).sum())
        text = f"the mean of gradients of which {clipped} of {len(kept)} are clipped, one by one,"
        yield _clip(first, "clipped", text, bound, pattern, fit, kept)


def _clipped_microbatches(found: Sequence[Evidence], added: float) -> Iterator[Reading]:
    """Propose the mean over micro-batches of their mean gradients, each clipped.

    Units of equal weights at all values of the parameters are a micro-batch; those of the largest weight may be several
    of one size, not clipped.
    """
    first = found[0]
    kept = _kept(first)
    sets = [kept]
    for f in found:
        sets = [s for group in sets for s in _clusters(f, f.weights, group)]
    n = len(first.weights)
    if not 1 < len(sets) <= max(32, len(kept) // 2):
        return
    norms = np.array([[f.norm(_mask(n, s) / len(s)) + added for s in sets] for f in found])
    totals = np.array([[f.weights[s].sum() for s in sets] for f in found])
    largest = int(np.argmax(totals.min(axis=0)))
    for several in range(1, len(sets[largest]) + 1):
        if len(sets[largest]) % several:
            continue
        counts = np.ones(len(sets))
        counts[largest] = several
        bound = _bound(totals / counts, norms, _loose(found, kept), int(counts.sum()))
        if bound is None:
            continue
        pattern = np.zeros(n)
        for s, norm, count in zip(sets, norms[0], counts, strict=True):
            pattern[s] = min(1.0, bound / norm) * count / (counts.sum() * len(s))
        fit = first.fit(pattern)
        if not fit.exact:
            continue
        clipped = int((norms[0] > bound * (1 + _EXACT)).sum())
        reading = _clip(first, "clipped micro-batches", f"the mean of the mean gradients of {counts.sum():g} "
                        f"micro-batches, of which {clipped} {'is' if clipped == 1 else 'are'} clipped", bound, pattern,
                        fit, kept)
        parts = [p for s, count in zip(sets, counts, strict=True) for p in np.array_split(s, int(count))]
        if max(map(len, parts)) > 1:
            yield replace(reading, microbatches=tuple(sorted(parts, key=lambda p: int(p[0]))))
            if reading.factor == 1:
                return


def _loose(found: Sequence[Evidence], units: np.ndarray) -> float:
    """Return the relative difference of weights that their uncertainty explains, at most five per cent."""
    ratio = max(float((f.uncertainty[units] / np.maximum(np.abs(f.weights[units]), 1e-300)).max(initial=0.0))
                for f in found)
    return max(1e-4, min(4 * ratio, 0.05))


def _bound(weights: np.ndarray, norms: np.ndarray, loose: float, count: int) -> float | None:
    """Return the norm to which the terms of a mean of `count` terms are clipped, from their weights and norms.

    Weights below the largest one belong to clipped terms; their products with the norms must agree, at least two.
    """
    if weights.size < 2 or not norms.all() or weights.min() <= 0:
        return None
    products, top = weights * norms, float(weights.max())
    if np.ptp(products) <= loose * products.max():
        return float(np.median(products) * count)
    clipped = weights < top * (1 - loose)
    if clipped.sum() < 2 or np.ptp(products[clipped]) > loose * products[clipped].max():
        return None
    bound = float(np.median(products[clipped]) / top)
    return bound if norms[~clipped].max() <= bound * (1 + loose) else None


def _clip(found: Evidence, name: str, text: str, bound: float, pattern: np.ndarray, fit: Fit, kept: np.ndarray
          ) -> Reading:
    exact = _is(found, fit.factor, 1)
    why = "" if exact else explained(fit.factor, len(pattern), None, found)
    return Reading(name, f"{text} to the norm {bound:.6g}" + (
        "" if exact else f", times {fit.factor:.6g}" + (f": {why}" if why else "")) + _zeros(found, kept),
        fit.factor * pattern, fit.extra, 1 if exact else fit.factor, True, bound=bound)


def _mask(n: int, units: np.ndarray) -> np.ndarray:
    mask = np.zeros(n)
    mask[units] = 1
    return mask


# -- words -------------------------------------------------------------------------------------------------


def _plural(name: str, count: float) -> str:
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
    return f"{_plural(unit, len(units))} {ranges(units)}"

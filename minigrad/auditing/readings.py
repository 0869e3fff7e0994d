"""Readings of weights: the mean and its common faults, each tested against the gradient itself.

A reading proposes a pattern, one number per unit; the step's gradient must be a multiple of the pattern's combination
(and of further directions) to round-off, or the reading is dropped. So a name never rests on the weights alone, which
may be uncertain.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from .clipping import read_clipping
from .evidence import (
    Evidence,
    Reading,
    Scheme,
    clusters,
    explained,
    is_factor,
    kept_units,
    named_units,
    plural,
    values_of_scheme,
    zeros_text,
)

_MOST = 64  # the largest multiple of an example

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


# -- one factor for all ------------------------------------------------------------------------------------


def _multiple(found: Evidence, scheme: Scheme) -> Reading | None:
    fit = found.fit(scheme.weights)
    if not fit.exact or fit.factor == 0:
        return None
    total = scheme.counts.sum()
    weights = fit.factor * scheme.weights
    name = "mean" if scheme is _of_examples(found) else f"mean over {scheme.name}"
    if is_factor(found, fit.factor, 1):
        return Reading(name, f"the mean over {total:g} {plural(scheme.name, total)}", scheme.weights, fit.extra)
    if is_factor(found, fit.factor, total) and not np.ptp(scheme.shares):
        return Reading("sum", f"the sum over the {found.unit}s, not divided by {total:g} {plural(scheme.name, total)}",
                       total * scheme.weights, fit.extra, float(total))
    why = explained(fit.factor, total, found.padded.get(scheme.name), found)
    return Reading("scaled", f"the mean over {total:g} {plural(scheme.name, total)}, times {fit.factor:.6g}"
                   + (f": {why}" if why else ""), weights, fit.extra, fit.factor, bool(why))


def _of_examples(found: Evidence) -> Scheme | None:
    return next((s for s in found.schemes if s.name == "example"), None)


# -- weights of few values ---------------------------------------------------------------------------------


def _microbatches(found: Evidence, scheme: Scheme) -> Iterator[Reading]:
    """Propose the mean of the means of micro-batches: ``w_u = shares_u / (K · counts of its micro-batch)``."""
    kept = kept_units(found)
    if not len(kept):
        return
    values = values_of_scheme(found, scheme)
    known = clusters(found, values, kept)
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
        exact = is_factor(found, fit.factor, 1)
        why = "" if exact else explained(fit.factor, scheme.counts.sum(), None, found, total)
        parts = tuple(sorted(itertools.chain(*splits), key=lambda part: int(part[0])))
        sizes = [f"{scheme.counts[p].sum():g}" for p in parts]
        listed = ", ".join(sizes if len(sizes) <= 12 else [*sizes[:6], "…", *sizes[-3:]])
        text = (f"the mean of the means of {total} micro-batches of {listed} {plural(scheme.name, 2)}"
                + ("" if exact else f", times {fit.factor:.6g}" + (f": {why}" if why else ""))
                + zeros_text(found, kept))
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
    kept = kept_units(found)
    if not len(kept):
        return
    values = values_of_scheme(found, scheme)
    sets = clusters(found, values, kept)
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
                 if is_factor(found, fit.factor * total, 1)), None)
    factor = 1.0 if over is not None else fit.factor * drawn
    why = "" if over is not None else explained(factor, drawn, None, found)
    own = np.where(found.known, times, 1)
    repeated = [f"; {named_units(units, found.unit)} {'counts' if len(units) == 1 else 'count'} {_times(t)}"
                for t in sorted(set(own[own > 1].tolist())) for units in [np.flatnonzero(own == t)]]
    text = (f"the mean over {over or drawn:g} {plural(scheme.name, over or drawn)}"
            + (f", times {factor:.6g}" + (f": {why}" if why else "") if over is None else "")
            + "".join(repeated + together) + zeros_text(found, kept))
    yield Reading("multiples", text, fit.factor * pattern, fit.extra, factor, over is not None or bool(why))


def _times(count: float) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(int(count), f"{count:.0f} times")

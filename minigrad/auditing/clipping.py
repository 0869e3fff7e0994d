"""Readings of weights as clipped gradients: of examples, of micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from .evidence import EXACT, Evidence, Fit, Reading, clusters, explained, is_factor, kept_units, zeros_text

_ADDED = (0.0, 1e-6)  # to the norm that divides the bound of clipping: 1e-6 by PyTorch and Opacus

def read_clipping(found: Sequence[Evidence]) -> list[Reading]:
    """Return the readings as clipped gradients, from the weights at one or more values of the parameters."""
    for added in _ADDED:
        one_by_one, in_microbatches = [*_clipped(found, added)], [*_clipped_microbatches(found, added)]
        if one_by_one and all(r.factor != 1 for r in in_microbatches):  # those that are not clipped look like one batch
            return one_by_one
        if readings := [*one_by_one, *in_microbatches]:
            return readings
    return []


def _clipped(found: Sequence[Evidence], added: float) -> Iterator[Reading]:
    """Propose gradients clipped one by one: ``w_u = min(1, C / (‖g_u‖ + added)) / n``."""
    first = found[0]
    kept = kept_units(first)
    weights, norms = (np.stack([getattr(f, k)[kept] for f in found]) for k in ("weights", "norms"))
    norms = norms + added
    bound = _bound(weights, norms, _loose(found, kept), len(kept))
    if bound is None:
        return
    pattern = np.zeros(len(first.weights))
    pattern[kept] = np.minimum(1, bound / norms[0]) / len(kept)
    fit = first.fit(pattern)
    if fit.exact:
        clipped = int((norms[0] > bound * (1 + EXACT)).sum())
        text = f"the mean of gradients of which {clipped} of {len(kept)} are clipped, one by one,"
        yield _clip(first, "clipped", text, bound, pattern, fit, kept)


def _clipped_microbatches(found: Sequence[Evidence], added: float) -> Iterator[Reading]:
    """Propose the mean over micro-batches of their mean gradients, each clipped.

    Units of equal weights at all values of the parameters are a micro-batch; those of the largest weight may be several
    of one size, not clipped.
    """
    first = found[0]
    kept = kept_units(first)
    sets = [kept]
    for f in found:
        sets = [s for group in sets for s in clusters(f, f.weights, group)]
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
        clipped = int((norms[0] > bound * (1 + EXACT)).sum())
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
    below = norms < bound * (1 - loose)
    if below.any():  # the largest weight may be that of a small gradient, with the largest round-off
        bound *= top / float(np.average(weights[below], weights=np.square(norms[below])))
    return bound if norms[~clipped].max() <= bound * (1 + loose) else None


def _clip(found: Evidence, name: str, text: str, bound: float, pattern: np.ndarray, fit: Fit, kept: np.ndarray
          ) -> Reading:
    exact = is_factor(found, fit.factor, 1)
    why = "" if exact else explained(fit.factor, len(pattern), None, found)
    return Reading(name, f"{text} to the norm {bound:.6g}" + (
        "" if exact else f", times {fit.factor:.6g}" + (f": {why}" if why else "")) + zeros_text(found, kept),
        fit.factor * pattern, fit.extra, 1 if exact else fit.factor, True, bound=bound)


def _mask(n: int, units: np.ndarray) -> np.ndarray:
    mask = np.zeros(n)
    mask[units] = 1
    return mask

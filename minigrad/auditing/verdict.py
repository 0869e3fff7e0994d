"""The verdict of an audit, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .evidence import is_close, named_units, ranges
from .mixing import Mixing

if TYPE_CHECKING:
    from .report import Audit


_DEPENDENT = 1e2  # the condition above which gradients are nearly dependent


def verdict_of(report: Audit) -> str:
    """Return the finding as a sentence or more."""
    if report.mixing is not None:
        text = _of_mixing(report, report.mixing)
    elif not report.weights.any() and not report.extra:
        return "The step returns zeros."
    elif report.readings:
        text = "The step returns " + ", or ".join(r.text for r in report.readings) + "."
    else:
        low, high = float(report.weights.min()), float(report.weights.max())
        text = (f"The step returns a combination of the {report.unit}s’ gradients with weights from {low:.4g} to "
                f"{high:.4g}, which match no known pattern.")
    for name, factor in report.extra.items():
        stated = report.mixing is None and (name not in report.entangled or report.readings)
        if stated and report.extra_room(name) > 1:
            text += f" {name} is too small beside the round-off to be counted."
        elif stated and abs(factor - 1) > report.extra_room(name):
            missing = abs(factor) < max(1e-6, report.extra_uncertainty.get(name, 0.0))
            text += f" {name} is missing." if missing else f" {name} counts {factor:.4g} times, not once."
    if report.varies:
        text += f" {report.varies}"
    if report.lower_precision:
        text += f" It computes in {report.lower_precision} (residual {report.residual:.0e})."
    if report.mixing is None:
        for name, units in report.entangled.items():
            text += (f" The gradient of {name} is a combination of those of {named_units(units, report.unit)}, so that "
                     "their factors cannot be told apart.")
        known = {int(units[0]) for units in report.entangled.values()}
        text += _undetermined([s for s in report.undetermined if int(s[0]) not in known], report.unit)
        scale = np.abs(report.weights).max(initial=0.0)
        doubt = float(report.uncertainty.max(initial=0.0)) / scale if scale else 0.0
        if doubt > 0.01 and not report.undetermined:
            cause = (f"the gradients are nearly dependent (condition {report.condition:.1e})"
                     if report.condition > _DEPENDENT else "round-off is large")
            text += f" Single weights are uncertain by up to {min(doubt, 1):.0%} of the largest: {cause}."
    return text


def _of_mixing(report: Audit, mixing: Mixing) -> str:
    size = f"residual {report.residual:.2g}"
    if report.elementwise:
        return (f"The step returns no combination of the {report.unit}s’ gradients ({size}), but its elements rise "
                f"with those of the {report.goal}, or fall with them: as after an optimizer that scales each element, "
                "such as Adam, clipping by value, or rounding. Audit the gradient before that.")
    if not mixing.mixes:
        alone = "" if mixing.alone is None or is_close(mixing.alone, 1) else (
            f"; on a batch of one example the cosine is as low as {mixing.alone:.3g}")
        apart = f", and no two of the {len(mixing.tried)} examples tried interact" if len(mixing.tried) > 1 else ""
        padding = " The numbers in the padding matter." if (mixing.padding or 0) > report.tolerance else ""
        return (f"This is not the gradient of this loss: no combination of the {report.unit}s’ gradients gives it "
                f"({size}; the cosine with the nearest one is {mixing.cosine:.6f}{alone}){apart}.{padding}")
    whole = len(mixing.groups) == 1 and len(mixing.groups[0]) == len(mixing.tried)
    among = f"of the {len(mixing.tried)} examples tried all interact" if whole else (
        "these interact: " + "; ".join(ranges(g) for g in mixing.groups))
    facts = []
    if mixing.padding is not None and mixing.padding > report.tolerance:
        facts.append("the numbers in the padding matter")
    if mixing.split is not None and mixing.split > max(report.tolerance, 1e-9):
        facts.append("the split into batches matters")
    if mixing.order > max(report.tolerance, 1e-9):
        facts.append("the order of the examples matters")
    if mixing.alone is not None and not is_close(mixing.alone, 1):
        facts.append(f"on a batch of one example the cosine with the loss’s gradient is as low as {mixing.alone:.3g}")
    more = f" {'; '.join(facts).capitalize()}." if facts else ""
    return (f"Examples mix: no combination of the {report.unit}s’ gradients gives the step’s ({size}), and "
            f"{among}.{more}")


def _undetermined(sets: list[np.ndarray], unit: str) -> str:
    """Return a sentence on the sets of units whose weights are not determined."""
    if not sets:
        return ""
    many = [s for s in sets if len(s) > 1]
    lone = [int(s[0]) for s in sets if len(s) == 1]
    parts = []
    if many:
        listed = "; ".join(ranges(s) for s in many[:6]) + (f"; … ({len(many)} sets)" if len(many) > 6 else "")
        sets_have = "a set have" if len(many) == 1 else "each set have"
        parts.append(f"the {unit}s of {sets_have} dependent gradients, so that their weights cannot be told apart: "
                     f"{listed}")
    if lone:
        parts.append(f"{named_units(np.array(lone), unit)} {'has' if len(lone) == 1 else 'have'} no gradient, so that "
                     "no weight shows")
    text = "; ".join(parts)
    return f" {text[0].upper()}{text[1:]}."

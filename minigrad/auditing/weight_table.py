"""The rows of an audit's table: units that follow each other share a row if their multiples agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .evidence import ranges

if TYPE_CHECKING:
    from .report import Audit

_SAME = 1e-3  # relative difference of weights in one row
_MOST = 24  # rows of a table


def cleaned(report: Audit) -> np.ndarray:
    """Return the weights, with those that are 0 up to their uncertainty as 0."""
    scale = np.abs(report.weights).max(initial=0.0)
    doubt = 4 * report.uncertainty if report.mixing is None else 0.0  # no combination has these weights
    zero = np.abs(report.weights) <= np.maximum(1e-9 * scale, doubt)
    out: np.ndarray = np.where(zero, 0.0, report.weights)
    return out


def multiples(report: Audit) -> np.ndarray:
    """Return the weights over the expected ones; NaN where 0 is expected."""
    out = np.full(len(report.weights), np.nan)
    np.divide(cleaned(report), report.expected, out=out, where=report.expected != 0)
    return out


def unknown(report: Audit) -> np.ndarray:
    """Return whether the weight of each unit is undetermined."""
    out = np.zeros(len(report.weights), bool)
    for units in report.undetermined:
        out[units] = True
    return out


def differing(report: Audit) -> np.ndarray:
    """Return whether the weight of each unit is determined, and differs from the expected one."""
    scale = np.abs(report.expected).max(initial=0.0)
    off = np.abs(report.weights - report.expected) > np.maximum(1e-6 * scale, 8 * report.uncertainty)
    out: np.ndarray = off & ~unknown(report)
    return out


def columns(report: Audit) -> tuple[str, str, str]:
    """Return the heads of the table's columns."""
    return f"{report.unit}s", "weight", "of the expected"


def table_rows(report: Audit) -> list[tuple[str, str, str]]:
    """Return the rows of the table: units, their weight, and its multiple of the expected one."""
    weights, ratio, open_ = cleaned(report), multiples(report), unknown(report)
    doubt = report.uncertainty if report.mixing is None else np.zeros(len(weights))
    runs: list[list[int]] = []
    for k in range(len(ratio)):
        first = runs[-1][0] if runs else k
        room = max(_SAME * abs(weights[k]), 2 * (doubt[k] + doubt[first]))
        same = runs and open_[k] == open_[first] and np.isnan(ratio[k]) == np.isnan(ratio[first]) and (
            abs(weights[k] - weights[first]) <= room if np.isnan(ratio[k]) else
            abs(ratio[k] - ratio[first]) * abs(report.expected[k]) <= room)
        if same:
            runs[-1].append(k)
        else:
            runs.append([k])
    rows = []
    for run in runs if len(runs) <= _MOST else [*runs[:_MOST // 2], [], *runs[1 - _MOST // 2:]]:
        if not run:
            rows.append((f"… {len(runs) - _MOST + 1} further rows", "…", "…"))
            continue
        k = run[0]
        text = "not determined" if open_[k] else "" if np.isnan(ratio[k]) else f"{ratio[k]:.4g} ×"
        low, high = float(weights[run].min()), float(weights[run].max())
        equal = high - low <= max(_SAME * max(abs(low), abs(high)), 4 * float(doubt[run].max()))
        rows.append((ranges(run), f"{weights[k]:.6g}" if equal else f"{low:.6g} – {high:.6g}", text))
    return rows

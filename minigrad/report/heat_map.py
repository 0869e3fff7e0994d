"""A matrix as inline SVG: a square per element, darker for larger numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from .plot import LEFT, colour_class, drawing, plot_title

_SIDE = 34.0
_TOP = 58.0


def heat_map(title: str, names: Sequence[str], values: np.ndarray, write: Callable[[float], str], axis: str) -> str:
    """Return a square matrix of numbers from 0 up as an SVG element.

    Parameters
    ----------
    title : str
    names : sequence of str
        Of the rows, which are those of the columns.
    values : array (N, N)
    write : callable
        From a number to its text in the square.
    axis : str
        What rows and columns are.
    """
    n = len(names)
    top = float(np.max(values, initial=0.0)) or 1.0
    parts = [plot_title(title), f'<text class="plot-label" x="{LEFT:g}" y="36">{escape(axis)}</text>']
    for i, name in enumerate(names):
        middle = _SIDE * (i + 0.5)
        parts.append(f'<text class="plot-tick" x="{LEFT + middle:g}" y="{_TOP - 6:g}" text-anchor="middle">'
                     f'{escape(name)}</text><text class="plot-tick" x="{LEFT - 8:g}" y="{_TOP + middle + 4:g}" '
                     f'text-anchor="end">{escape(name)}</text>')
    for i, row in enumerate(values):
        for j, value in enumerate(row.tolist()):
            x, y = LEFT + _SIDE * j, _TOP + _SIDE * i
            strength = 0.0 if value <= 0 else 0.12 + 0.88 * value / top
            dark = ' data-dark=""' if strength > 0.68 else ""
            text = "" if value <= 0 else (
                f'<text class="plot-cell" x="{x + _SIDE / 2:g}" y="{y + _SIDE / 2 + 4:g}" text-anchor="middle"{dark}>'
                f"{escape(write(value))}</text>")
            parts.append(f'<g class="{colour_class(0)}"><title>{escape(f"{names[i]} and {names[j]}: {write(value)}")}'
                         f'</title><rect class="plot-square" x="{x:g}" y="{y:g}" width="{_SIDE - 2:g}" '
                         f'height="{_SIDE - 2:g}" rx="3" fill-opacity="{max(strength, 0.05):.2f}"/>{text}</g>')
    side = LEFT + _SIDE * n + 16
    return drawing(f"{title}: {n} by {n}", "".join(parts), max(side, 560.0), _TOP + _SIDE * n + 8)

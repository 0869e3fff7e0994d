"""A number against its limit as inline SVG, on a logarithmic line."""

from __future__ import annotations

import math
from html import escape

from .plot import LEFT, RIGHT, WIDTH, Axis, colour_class, drawing, plot_title, scale

_HEIGHT, _LINE = 128.0, 72.0
_LEAST = 1e-17


def gauge(title: str, value: float, limit: float, below: str, above: str) -> str:
    """Return a number of at least 0 and the limit on one line, with names of the ranges below and above the limit."""
    low = min(_LEAST, *(v / 10 for v in (value, limit) if v > 0))
    high = max(1.0, value, limit * 10)
    line = scale(Axis("", log=True), low, high, LEFT - 40, WIDTH - RIGHT, room=8)
    start, edge, stop = line.place(low), line.place(max(limit, low)), line.place(high)
    at = line.place(min(max(value, low), high))
    right = value <= limit
    parts = [plot_title(title)]
    for a, b, colour, name in ((start, edge, 1, below), (edge, stop, 0, above)):
        parts.append(f'<g class="{colour_class(colour)}"><rect class="plot-band" x="{a:.1f}" y="{_LINE - 12:g}" '
                     f'width="{max(b - a, 0):.1f}" height="24"/><text class="plot-key" x="{(a + b) / 2:.1f}" '
                     f'y="{_LINE - 19:g}" text-anchor="middle">{escape(name)}</text></g>')
    for v in line.ticks:
        exponent = round(math.log10(v))
        parts.append(f'<text class="plot-tick" x="{line.place(v):.1f}" y="{_LINE + 29:g}" text-anchor="middle">'
                     f"{escape('1' if not exponent else f'1e{exponent}')}</text>")
    parts.append(f'<g class="{colour_class(1 if right else 0)}"><g transform="translate({at:.1f} {_LINE:g})">'
                 f'<circle r="6"/></g><text class="plot-key plot-value" x="{at:.1f}" y="{_LINE + 48:g}" '
                 f'text-anchor="middle">{escape(f"{value:.1e}")}</text></g>')
    return drawing(f"{title}: {value:.1e}, limit {limit:.1e}", "".join(parts), WIDTH, _HEIGHT)

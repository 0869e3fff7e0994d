"""A line plot as inline SVG: axes with ticks, a legend, and colours for a light and a dark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

_COLOURS = (("#c2410c", "#fb923c"), ("#0f766e", "#2dd4bf"), ("#6d28d9", "#a78bfa"), ("#1d4ed8", "#60a5fa"))
_SHAPES = ('<circle r="{r}"/>', '<rect x="-{r}" y="-{r}" width="{w}" height="{w}"/>',
           '<path d="M0-{d}L{d} {r}H-{d}Z"/>', '<path d="M0-{d}L{d} 0L0 {d}L-{d} 0Z"/>')
WIDTH, HEIGHT = 560.0, 340.0
LEFT, RIGHT, BOTTOM = 66.0, 16.0, 46.0  # the margins of the axes
_TOP = 50.0


class Axis(NamedTuple):
    """One axis: its label, how its numbers are written, and whether it is logarithmic."""

    label: str
    write: Callable[[float], str] = "{:g}".format
    log: bool = False


class Line(NamedTuple):
    """One series of points; lines of the same `colour` number look alike in all plots, but for dashes."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False


@dataclass(frozen=True)
class Scale:
    """An axis with its ticks, and the function from values to places in the drawing."""

    axis: Axis
    place: Callable[[float], float]
    ticks: Sequence[float]


def plot(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Return a plot of `lines` as an SVG element. Points that an axis cannot show are left out."""
    shown = [(line, [p for p in line.points if all(_fits(v, a) for v, a in zip(p, (x, y), strict=True))])
             for line in lines]
    xs = [p[0] for _, points in shown for p in points] or [1.0]
    ys = [p[1] for _, points in shown for p in points] or [1.0]
    keys, top = key_places([line.name for line in lines])
    across = scale(x, min(xs), max(xs), LEFT, WIDTH - RIGHT, room=7)
    up = scale(y, min(ys), max(ys), HEIGHT - BOTTOM, top, room=6)
    parts = frame(title, across, up, top)
    for (line, points), key in zip(shown, keys, strict=True):
        path = "M" + "L".join(f"{across.place(a):.1f} {up.place(b):.1f}" for a, b in points) if points else ""
        marks = "".join(
            f'<g transform="translate({across.place(a):.1f} {up.place(b):.1f})">'
            f"<title>{escape(f'{line.name}: {x.write(a)}, ')}{escape(y.write(b))}</title>{_mark(line.colour)}</g>"
            for a, b in points)
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<g class="{colour_class(line.colour)}"><path class="plot-line"{dashes} d="{path}"/>'
                     f"{marks}{key_text(key, line.name, _mark(line.colour))}</g>")
    return drawing(f"{title}: {', '.join(line.name for line in lines)}", "".join(parts))


def drawing(words: str, body: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Return an SVG element with the style of plots; `words` describe it to those who do not see it."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'aria-label="{escape(words)}"><style>{_STYLE}</style>{body}</svg>')


def frame(title: str, x: Scale, y: Scale, top: float, width: float = WIDTH) -> list[str]:
    """Return the title, the grid, and the axes with their ticks and labels."""
    right, low = width - RIGHT, HEIGHT - BOTTOM
    parts = [plot_title(title)]
    for v in y.ticks:
        parts.append(f'<path class="plot-grid" d="M{LEFT:g} {y.place(v):.1f}H{right:g}"/>'
                     f'<text class="plot-tick" x="{LEFT - 8:g}" y="{y.place(v) + 4:.1f}" text-anchor="end">'
                     f"{escape(y.axis.write(v))}</text>")
    for v in x.ticks:
        parts.append(f'<path class="plot-grid" d="M{x.place(v):.1f} {top:g}V{low:g}"/>'
                     f'<text class="plot-tick" x="{x.place(v):.1f}" y="{low + 17:g}" text-anchor="middle">'
                     f"{escape(x.axis.write(v))}</text>")
    parts.append(f'<path class="plot-axis" d="M{LEFT:g} {top:g}V{low:g}H{right:g}"/>'
                 f'<text class="plot-label" x="{(LEFT + right) / 2:g}" y="{HEIGHT - 8:g}" text-anchor="middle">'
                 f"{escape(x.axis.label)}</text>")
    return parts


def plot_title(text: str) -> str:
    """Return the title of a drawing."""
    return f'<text class="plot-title" x="{LEFT - 50:g}" y="16">{escape(text)}</text>'


def colour_class(number: int) -> str:
    """Return the class of an element whose ``currentColor`` is that of a number."""
    return f"plot-{number % len(_COLOURS)}"


def key_text(place: tuple[float, float], name: str, mark: str) -> str:
    """Return an entry of the legend: a mark and a name."""
    left, height = place
    return (f'<g transform="translate({left + 4:g} {height:g})">{mark}</g>'
            f'<text class="plot-key" x="{left + 13:g}" y="{height + 4:g}">{escape(name)}</text>')


def key_places(names: Sequence[str], width: float = WIDTH) -> tuple[list[tuple[float, float]], float]:
    """Return the places of a legend's names, in rows below the title, and the top of the plot below them."""
    places, x, y = [], LEFT, 34.0
    for name in names:
        wide = 13 + 7.2 * len(name) + 18
        if x > LEFT and x + wide > width:
            x, y = LEFT, y + 18
        places.append((x, y))
        x += wide
    return places, y + 16 if names else _TOP


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _mark(colour: int) -> str:
    return _SHAPES[colour % len(_SHAPES)].format(r=3, d=4.2, w=6)


def scale(axis: Axis, low: float, high: float, start: float, end: float, room: int) -> Scale:
    """Return the places and about `room` ticks of an axis that shows `low` to `high` between `start` and `end`."""
    if axis.log:
        low, high = low / 1.15, high * 1.15
        ticks = log_ticks(low, high, room)
        a, b = math.log(low), math.log(high)
        return Scale(axis, lambda v: start + (math.log(v) - a) / (b - a) * (end - start), ticks)
    pad = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    return Scale(axis, lambda v: start + (v - low) / (high - low) * (end - start), linear_ticks(low, high, room))


def linear_ticks(low: float, high: float, room: int) -> list[float]:
    """Return about `room` round numbers between `low` and `high`: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / room
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float, room: int) -> list[float]:
    """Return round numbers for a logarithmic axis: 1-2-5 within a short range, powers of ten within a long one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for marks, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3), ((1,), 6)):
        ticks = [m * 10.0**e for e in range(first, last + 1, every) for m in marks if low <= m * 10.0**e <= high]
        if len(ticks) <= room + 1:
            break
    return ticks if len(ticks) > 1 else [v for v in linear_ticks(low, high, 3) if v > 0]


def _style() -> str:
    light = "".join(f".plot-{i}{{color:{c}}}" for i, (c, _) in enumerate(_COLOURS))
    dark = "".join(f".plot-{i}{{color:{c}}}" for i, (_, c) in enumerate(_COLOURS))
    return (".plot{width:100%;height:auto;display:block;font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;"
            "color:#57606a}.plot text{fill:currentColor}.plot-title{font-weight:600;font-size:14px}"
            ".plot-tick{font-size:11px;font-variant-numeric:tabular-nums}.plot-label,.plot-key{font-size:12px}"
            ".plot-grid{stroke:#8b949e;stroke-opacity:.22}.plot-axis{stroke:#8b949e;fill:none}"
            ".plot-line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}"
            ".plot g circle,.plot g rect,.plot g g path{fill:currentColor}"
            ".plot g .plot-zero,.plot g .plot-hatched{fill:none;stroke:currentColor;stroke-width:1.2}"
            ".plot path.plot-hatch,.plot path.plot-range{fill:none;stroke:currentColor}.plot-hatch{stroke-opacity:.75}"
            ".plot path.plot-range{stroke:#24292f;stroke-width:1.2}.plot g .plot-band{fill-opacity:.22}"
            ".plot path.plot-expected{fill:none;stroke:#24292f;stroke-width:1.6;stroke-dasharray:6 4}"
            ".plot-value{font-weight:600}.plot .plot-cell{font-size:11px;fill:#24292f}.plot [data-dark]{fill:#fff}"
            f"{light}@media(prefers-color-scheme:dark){{.plot{{color:#9da7b3}}{dark}"
            ".plot path.plot-range,.plot path.plot-expected{stroke:#e6edf3}.plot .plot-cell{fill:#e6edf3}"
            ".plot [data-dark]{fill:#0d1117}}")


_STYLE = _style()

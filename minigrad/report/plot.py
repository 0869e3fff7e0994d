"""A line plot as inline SVG: axes with ticks, a legend, and colours for a light and a dark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = (("#c2410c", "#fb923c"), ("#0f766e", "#2dd4bf"), ("#6d28d9", "#a78bfa"), ("#1d4ed8", "#60a5fa"))
_SHAPES = ('<circle r="{r}"/>', '<rect x="-{r}" y="-{r}" width="{w}" height="{w}"/>',
           '<path d="M0-{d}L{d} {r}H-{d}Z"/>', '<path d="M0-{d}L{d} 0L0 {d}L-{d} 0Z"/>')
_WIDTH, _HEIGHT = 560.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 16.0, 50.0, 46.0


@dataclass(frozen=True)
class Axis:
    """One axis: its label, how its numbers are written, and whether it is logarithmic."""

    label: str
    write: Callable[[float], str] = "{:g}".format
    log: bool = False


@dataclass(frozen=True)
class Line:
    """One series of points; lines of the same `colour` number look alike in all plots, but for dashes."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False


def plot(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Return a plot of `lines` as an SVG element. Points that an axis cannot show are left out."""
    shown = [(line, [p for p in line.points if all(_fits(v, a) for v, a in zip(p, (x, y), strict=True))])
             for line in lines]
    xs = [p[0] for _, points in shown for p in points] or [1.0]
    ys = [p[1] for _, points in shown for p in points] or [1.0]
    keys = _keys(lines)
    top = max(y for _, y in keys) + 16 if keys else _TOP
    across, x_ticks = _scale(x, min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, room=7)
    up, y_ticks = _scale(y, min(ys), max(ys), _HEIGHT - _BOTTOM, top, room=6)
    parts = [f'<text class="plot-title" x="{_LEFT - 50:g}" y="16">{escape(title)}</text>']
    for v in y_ticks:
        parts.append(f'<path class="plot-grid" d="M{_LEFT:g} {up(v):.1f}H{_WIDTH - _RIGHT:g}"/>'
                     f'<text class="plot-tick" x="{_LEFT - 8:g}" y="{up(v) + 4:.1f}" text-anchor="end">'
                     f"{escape(y.write(v))}</text>")
    for v in x_ticks:
        parts.append(f'<path class="plot-grid" d="M{across(v):.1f} {top:g}V{_HEIGHT - _BOTTOM:g}"/>'
                     f'<text class="plot-tick" x="{across(v):.1f}" y="{_HEIGHT - _BOTTOM + 17:g}" text-anchor="middle">'
                     f"{escape(x.write(v))}</text>")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<path class="plot-axis" d="M{_LEFT:g} {top:g}V{_HEIGHT - _BOTTOM:g}H{_WIDTH - _RIGHT:g}"/>'
                 f'<text class="plot-label" x="{middle:g}" y="{_HEIGHT - 8:g}" text-anchor="middle">'
                 f"{escape(x.label)}</text>")
    for (line, points), (left, height) in zip(shown, keys, strict=True):
        path = "M" + "L".join(f"{across(a):.1f} {up(b):.1f}" for a, b in points) if points else ""
        marks = "".join(
            f'<g transform="translate({across(a):.1f} {up(b):.1f})"><title>{escape(f"{line.name}: {x.write(a)}, ")}'
            f"{escape(y.write(b))}</title>{_mark(line.colour)}</g>" for a, b in points)
        key = f'<g transform="translate({left + 4:g} {height:g})">{_mark(line.colour)}</g>'
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        name = f'<text class="plot-key" x="{left + 13:g}" y="{height + 4:g}">{escape(line.name)}</text>'
        parts.append(f'<g class="plot-{line.colour % len(_COLOURS)}"><path class="plot-line"{dashes} d="{path}"/>'
                     f"{marks}{key}{name}</g>")
    words = f"{title}: {', '.join(line.name for line in lines)}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
            f'aria-label="{escape(words)}"><style>{_STYLE}</style>{"".join(parts)}</svg>')


def _keys(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Return where the lines' names stand: below the title, in as many rows as they need."""
    places, x, y = [], _LEFT, 34.0
    for line in lines:
        width = 13 + 7.2 * len(line.name) + 18
        if x > _LEFT and x + width > _WIDTH:
            x, y = _LEFT, y + 18
        places.append((x, y))
        x += width
    return places


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _mark(colour: int) -> str:
    return _SHAPES[colour % len(_SHAPES)].format(r=3, d=4.2, w=6)


def _scale(axis: Axis, low: float, high: float, start: float, end: float,
           room: int) -> tuple[Callable[[float], float], list[float]]:
    """Return the function from values to places, and the ticks, of an axis that shows `low` to `high`."""
    if axis.log:
        low, high = low / 1.15, high * 1.15
        ticks = log_ticks(low, high, room)
        a, b = math.log(low), math.log(high)
        return lambda v: start + (math.log(v) - a) / (b - a) * (end - start), ticks
    pad = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    return lambda v: start + (v - low) / (high - low) * (end - start), linear_ticks(low, high, room)


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
            f"{light}@media(prefers-color-scheme:dark){{.plot{{color:#9da7b3}}{dark}}}")


_STYLE = _style()

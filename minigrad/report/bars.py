"""A bar chart as inline SVG, on the axes of plots: bars with ranges, hatched ones, and a line of reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .plot import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Axis,
    Scale,
    colour_class,
    drawing,
    frame,
    key_places,
    key_text,
    scale,
)

_HATCH = 6.0  # between the lines of a hatched bar
_WIDE = 1120.0
MANY = 32  # bars above which a chart is wide


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to `value` over the places `start` to `stop` of the axis.

    `low` and `high` are the ends of a range; `colour` None is grey; the `line` is a reference beside the bar.
    """

    start: float
    stop: float
    value: float
    low: float
    high: float
    line: float
    text: str
    colour: int | None = None
    hatched: bool = False


@dataclass(frozen=True)
class Key:
    """An entry of the legend."""

    name: str
    colour: int | None = None
    hatched: bool = False


def bars(title: str, values: Sequence[Bar], x: Axis, y: Axis, keys: Sequence[Key], line: str) -> str:
    """Return a chart of at least one bar as an SVG element; `line` is the name of the reference line."""
    width = _WIDE if len(values) > MANY else WIDTH
    places, top = key_places([line, *(k.name for k in keys)], width)
    ends = [v for b in values for v in (b.value, b.low, b.high, b.line)]
    start, stop = values[0].start, values[-1].stop
    low, high = min(0.0, *ends), max(0.0, *ends)
    inset = (width - RIGHT - LEFT) * 0.04 / 1.08  # the padding of a linear axis, which bars of full width do not need
    across = scale(x, start, stop, LEFT - inset, width - RIGHT + inset, room=14 if width > WIDTH else 7)
    up = scale(y, low, high, HEIGHT - BOTTOM, top, room=6)
    centre = 0.5 if values[0].stop - values[0].start == 1 else 0.0  # the tick of a bar's number is below its middle
    ticks = [v for v in across.ticks if v == int(v) and start <= v < stop]
    parts = frame(title, Scale(x, lambda v: across.place(v + centre), ticks), up, top, width)
    for bar in values:
        left, right = across.place(bar.start), across.place(bar.stop)
        gap = min(2.0, (right - left) * 0.12)
        left, right = left + gap, right - gap
        ground, height = up.place(0), up.place(bar.value)
        inside = _area(left, right, min(ground, height), max(ground, height), bar.hatched)
        middle = (left + right) / 2
        if abs(ground - height) < 0.5:
            radius = max(1.2, min(3.0, (right - left) / 2))
            inside += f'<circle class="plot-zero" cx="{middle:.1f}" cy="{ground:.1f}" r="{radius:.1f}"/>'
        if abs(up.place(bar.low) - up.place(bar.high)) > 1:
            inside += f'<path class="plot-range" d="M{middle:.1f} {up.place(bar.low):.1f}V{up.place(bar.high):.1f}"/>'
        parts.append(f'<g class="{_class(bar.colour)}"><title>{escape(bar.text)}</title>{inside}</g>')
    steps = "".join(f"{'M' if not k else 'L'}{across.place(b.start):.1f} {up.place(b.line):.1f}"
                    f"H{across.place(b.stop):.1f}" for k, b in enumerate(values))
    parts.append(f'<path class="plot-expected" d="{steps}"/>')
    parts.append(key_text(places[0], line, '<path class="plot-expected" d="M-6 0H6"/>'))
    for place, key in zip(places[1:], keys, strict=True):
        mark = _area(-5, 5, -5, 5, key.hatched)
        parts.append(f'<g class="{_class(key.colour)}">{key_text(place, key.name, mark)}</g>')
    words = f"{title}: {len(values)} bars from {y.write(min(b.low for b in values))} to " + y.write(
        max(b.high for b in values))
    return drawing(words, "".join(parts), width)


def _class(colour: int | None) -> str:
    return "plot-other" if colour is None else colour_class(colour)


def _area(left: float, right: float, top: float, bottom: float, hatched: bool) -> str:
    """Return a rectangle; hatched, its outline with diagonals."""
    shape = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
    if not hatched:
        return f'<rect class="plot-bar" {shape}/>'
    lines, total = [], left + top + _HATCH / 2
    while total < right + bottom:
        a, b = max(left, total - bottom), min(right, total - top)
        lines.append(f"M{a:.1f} {total - a:.1f}L{b:.1f} {total - b:.1f}")
        total += _HATCH
    return f'<rect class="plot-hatched" {shape}/><path class="plot-hatch" d="{"".join(lines)}"/>'

"""Bar charts: heights against the ground, ranges, hatching, and the line of reference."""

import re
import xml.etree.ElementTree as ET

import pytest

from minigrad.report.bars import MANY, Bar, Key, bars
from minigrad.report.plot import Axis

NS = "{http://www.w3.org/2000/svg}"


def bar(k, value, **more):
    return Bar(k, k + 1, value, more.pop("low", value), more.pop("high", value), 1.0, f"bar {k}", **more)


def drawn(values, keys=()):
    svg = bars("t < u", values, Axis("units"), Axis(""), keys, "expected")
    return svg, ET.fromstring(svg)


def rectangles(root, kind="plot-bar"):
    return [(float(r.get("y")), float(r.get("height"))) for r in root.iter(f"{NS}rect") if r.get("class") == kind]


def test_heights_are_proportional_and_stand_on_the_ground():
    _, root = drawn([bar(0, 1.0), bar(1, 2.0), bar(2, -1.0)])
    (a, first), (b, second), (ground, third) = rectangles(root)
    assert second == pytest.approx(2 * first, abs=0.2)
    assert third == pytest.approx(first, abs=0.2)
    assert a + first == pytest.approx(b + second, abs=0.2)
    assert ground == pytest.approx(a + first, abs=0.2)


def test_the_reference_line_stands_at_its_value():
    _, root = drawn([bar(0, 1.0), bar(1, 2.0)])
    lines = [p.get("d") for p in root.iter(f"{NS}path") if p.get("class") == "plot-expected"]
    (line,) = [d for d in lines if d != "M-6 0H6"]  # the legend's
    assert float(re.match(r"M[\d.]+ ([\d.]+)H", line)[1]) == pytest.approx(rectangles(root)[0][0], abs=0.1)


def test_a_bar_without_height_has_a_mark():
    svg, root = drawn([bar(0, 1.0), bar(1, 0.0)])
    assert svg.count("plot-zero\"") == 1
    assert [t.text for t in root.iter(f"{NS}title")] == ["bar 0", "bar 1"]


def test_hatched_bars_are_outlines_with_lines_that_stay_inside():
    _, root = drawn([bar(0, 1.0), bar(1, 2.0, hatched=True)], [Key("not determined", hatched=True)])
    assert len(rectangles(root)) == 1
    outline = next(r for r in root.iter(f"{NS}rect") if r.get("class") == "plot-hatched")
    left, top, width, height = (float(outline.get(k)) for k in ("x", "y", "width", "height"))
    lines = next(p.get("d") for p in root.iter(f"{NS}path") if p.get("class") == "plot-hatch")
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", lines)[1:]]
    assert len(points) > 20
    assert all(left - 0.2 <= x <= left + width + 0.2 and top - 0.2 <= y <= top + height + 0.2 for x, y in points)


def test_ranges_are_drawn_where_they_show():
    svg, _ = drawn([bar(0, 1.0, low=0.5, high=1.5), bar(1, 1.0, low=1 - 1e-9, high=1 + 1e-9)])
    assert svg.count('class="plot-range"') == 1


def test_many_bars_make_a_wide_chart():
    few, _ = drawn([bar(k, 1.0) for k in range(MANY)])
    many, _ = drawn([bar(k, 1.0) for k in range(MANY + 1)])
    assert 'viewBox="0 0 560 340"' in few
    assert 'viewBox="0 0 1120 340"' in many

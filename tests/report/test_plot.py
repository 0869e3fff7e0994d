"""Plots: points where they belong, round ticks, well-formed and bounded."""

import re
import xml.etree.ElementTree as ET

import pytest

from minigrad.report import formatting
from minigrad.report.plot import Axis, Line, linear_ticks, log_ticks, plot

NS = "{http://www.w3.org/2000/svg}"


def places(svg):
    """Return the points of each line, as they stand in the drawing."""
    lines = [e for e in ET.fromstring(svg).iter(f"{NS}path") if e.get("class") == "plot-line"]
    return [[tuple(map(float, p.split())) for p in e.get("d")[1:].split("L")] for e in lines]


def test_points_on_logarithmic_axes():
    (a, b), _ = places(plot("t", [Line("a", [(1, 1), (10, 10), (100, 100)], 0), Line("b", [(1, 100)], 1)],
                            Axis("n", log=True), Axis("s", log=True)))[0][::2], None
    middle = places(plot("t", [Line("a", [(1, 1), (10, 10), (100, 100)], 0)], Axis("n", log=True),
                         Axis("s", log=True)))[0][1]
    assert middle == pytest.approx(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), abs=0.1)
    assert a[0] < b[0]
    assert a[1] > b[1]  # up is less, in a drawing


def test_points_stay_inside_and_bad_ones_are_left_out():
    svg = plot("a < b & c", [Line("x>y", [(1, 2.0), (2, float("nan")), (3, 0.0), (4, 5.0)], 0)], Axis("n"),
               Axis("s", log=True))
    (points,) = places(svg)
    assert len(points) == 2
    _, _, width, height = map(float, ET.fromstring(svg).get("viewBox").split())
    assert all(0 < x < width and 0 < y < height for x, y in points)
    assert "a &lt; b &amp; c" in svg


def test_a_plot_of_one_point_and_of_none():
    for points in ([(5, 5)], []):
        for log in (False, True):
            ET.fromstring(plot("t", [Line("a", points, 0)], Axis("n", log=log), Axis("s", log=log)))


def test_ticks_are_round_and_within():
    assert linear_ticks(-0.6, 15.6, 8) == [0.0, 5.0, 10.0, 15.0]
    assert linear_ticks(0.08, 1.02, 6) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert log_ticks(0.9, 2000, 4) == [1, 10, 100, 1000]
    assert log_ticks(2e5, 6e6, 6) == pytest.approx([2e5, 5e5, 1e6, 2e6, 5e6])
    assert len(log_ticks(9e3, 1.1e4, 6)) > 1
    assert len(log_ticks(1e-9, 1e9, 6)) <= 7


def test_every_mark_says_its_numbers():
    svg = plot("t", [Line("loop", [(1, 0.0012), (1797, 0.158)], 0)], Axis("n", formatting.count, log=True),
               Axis("s", formatting.seconds, log=True))
    assert re.findall("<title>(.*?)</title>", svg) == ["loop: 1, 1.20 ms", "loop: 1,797, 158 ms"]


@pytest.mark.parametrize(
    ("write", "value", "want"),
    [
        (formatting.seconds, 1.5, "1.50 s"),
        (formatting.seconds, 0.00123456, "1.23 ms"),
        (formatting.seconds, 9.9996e-4, "1.00 ms"),
        (formatting.seconds, 2.5e-8, "25.0 ns"),
        (formatting.memory, 5_290_000, "5.29 MB"),
        (formatting.memory, 12, "12.0 B"),
        (formatting.count, 1797, "1,797"),
        (formatting.count, 492_718_432, "493 M"),
        (formatting.count, 123.4, "123"),
        (formatting.significant, 0.0123456, "0.0123"),
        (formatting.significant, 1234.5, "1,230"),
        (formatting.significant, 0, "0"),
        (formatting.relative, 0.0, "0"),
        (formatting.relative, 2.1234e-7, "2.1e-07"),
    ],
)
def test_numbers_in_words(write, value, want):
    assert write(value) == want


def test_spans_share_their_unit():
    assert formatting.span(0.158, 0.170) == "158 – 170 ms"
    assert formatting.span(959e-6, 0.00204) == "959 µs – 2.04 ms"

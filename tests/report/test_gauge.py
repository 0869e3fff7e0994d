"""Gauges: a number on the right side of its limit."""

import re
import xml.etree.ElementTree as ET

import pytest

from minigrad.report.gauge import gauge


def place(value, limit=1e-12):
    """Return where a value and its limit stand, and the colour of the value."""
    svg = gauge("residual", value, limit, "round-off", "not a combination")
    ET.fromstring(svg)
    at = re.search(r'class="(plot-\d)"><g transform="translate\(([\d.]+) ', svg)
    edge = [float(x) for x in re.findall(r'class="plot-band" x="([\d.]+)"', svg)][1]
    return float(at[2]), edge, at[1]


def test_a_value_stands_below_or_above_its_limit():
    below, edge, colour = place(1e-15)
    above, same, other = place(0.1)
    assert below < edge == same < above
    assert (colour, other) == ("plot-1", "plot-0")
    at, edge, colour = place(1e-12)
    assert at == pytest.approx(edge, abs=0.1)
    assert colour == "plot-1"


@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, 50.0])
def test_all_values_stand_on_the_line(value):
    at, _, _ = place(value)
    assert 0 < at < 560

"""Heat maps: a square per element, darker for larger numbers."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from minigrad.report.heat_map import heat_map


def opacities(values):
    svg = heat_map("t", [f"<{k}" for k in range(len(values))], np.array(values), "{:.0f}".format, "of 100")
    ET.fromstring(svg)
    return svg, [float(x) for x in re.findall('fill-opacity="([\\d.]+)"', svg)]


def test_larger_numbers_are_darker_and_zero_is_without_text():
    svg, (a, b, c, d) = opacities([[0.0, 20.0], [40.0, 80.0]])
    assert a < b < c < d == 1
    assert re.findall(">(\\d+)</text></g>", svg) == ["20", "40", "80"]
    assert "<title>&lt;1 and &lt;0: 40</title>" in svg


def test_a_matrix_of_zeros_is_drawn():
    svg, shades = opacities([[0.0]])
    assert shades == [0.05]
    assert "t: 1 by 1" in svg

"""The common factors of a reshape's axes, and the greatest common divisors of sizes."""

import pytest

from minigrad.axes import AxisRule
from minigrad.ops.common_factors import common_divisor, factorised
from minigrad.symbolic import Dim

B, N = Dim.new("B"), Dim.new("N")


@pytest.mark.parametrize(("before", "after", "rule"), [
    ((2, 3), (6,), "[i, j] -> [(i j)]"),
    ((6,), (2, 3), "[(i j)] -> [i, j]"),
    ((4, 6), (2, 12), "[(i j), k] -> [i, (j k)]"),
    ((2, 3), (3, 2), "[i~, j~] -> [k~, l~]"),
    ((5, 2, 3), (5, 3, 2), "[i, j~, k~] -> [i, l~, m~]"),
    ((4, 3), (6, 2), "[(i j~), k~] -> [(i l~), m~]"),
    ((B, 4), (B * 2, 2), "[i, (j k)] -> [(i j), k]"),
    ((B * 6, 2), (B, 12), "[(i j), k] -> [i, (j k)]"),
    ((B * 2, 3), (B * 3, 2), "[(i j~), k~] -> [(i l~), m~]"),
    ((3, B), (B * 3,), "[i, j] -> [(i j)]"),
    ((1, 5), (5, 1), "[i~, j] -> [j, k~]"),
    ((), (1, 1), "[] -> [i~, j~]"),
    ((0, 3), (0, 7), "[i, j~] -> [i, k~]"),
])
def test_factors_of_a_reshape(before, after, rule):
    left, right = factorised(before, after)
    assert str(AxisRule((left,), (right,))) == rule


def test_common_divisor():
    assert common_divisor(12, 18) == 6
    assert common_divisor(4 * B * N, 6 * B) == 2 * B
    assert common_divisor(B + 1, N) == 1

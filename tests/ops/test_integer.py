"""Shifts, common divisors and the next float against Python's own."""

import math

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from tests import checks

PAIRS = [(12, 3), (7, 2), (100, 5), (1, 0)]


@pytest.mark.parametrize(("name", "function"), [
    ("left_shift", lambda x, y: x << y), ("right_shift", lambda x, y: x >> y), ("gcd", math.gcd), ("lcm", math.lcm)])
@pytest.mark.parametrize("dtype", ["i8", "u4"])
def test_against_python(name, function, dtype):
    x, y = (np.array(v, dtype) for v in zip(*PAIRS, strict=True))
    (have,) = interpreters.evaluate(checks.program(P[name], [x, y], {}), [x, y])
    np.testing.assert_array_equal(have, np.array([function(a, b) for a, b in PAIRS], dtype), strict=True)


def test_derivative_of_nextafter_is_that_of_its_first_operand():
    x, y = np.array([0.5, -2.0]), np.array([3.0, -7.0])
    graph = checks.program(P["nextafter"], [x, y], {})
    (have,) = interpreters.evaluate(graph, [x, y])
    assert have.tolist() == [math.nextafter(a, b) for a, b in zip(x, y, strict=True)]
    by_x, by_y = interpreters.evaluate(checks.reverse(graph), [x, y, np.array([2.0, 3.0])])
    assert by_x.tolist() == [2, 3]
    assert not by_y.any()

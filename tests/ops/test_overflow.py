"""Integers that a dtype cannot hold: values that pass, values that are refused, and the words for them."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import IntegerRangeError
from minigrad.graph import Graph
from minigrad.ops.overflow import held, message, refused_by
from tests import checks


def program(dtype, wide):
    node, value = checks.placeholder((2,), "f8"), checks.placeholder((2,), wide)
    return Graph((node, value), (held(node, value, np.dtype(dtype)),))


@pytest.mark.parametrize(("dtype", "wide", "fits", "other"), [
    ("i1", "i8", [-128, 127], [0, 128]), ("u2", "i8", [0, 65535], [-1, 0]), ("i4", "f8", [-2.0**31, 2.0**31 - 1], [
        2.0**31, 0]), ("i8", "f8", [-2.0**63, 0], [2.0**63, 0]), ("u8", "i8", [0, 2**63 - 1], [0, -1])])
def test_bounds_of_the_dtype(dtype, wide, fits, other):
    graph, x = program(dtype, wide), np.array([1.0, 2.0])
    np.testing.assert_array_equal(interpreters.evaluate(graph, [x, np.array(fits, wide)])[0], x)
    with pytest.raises(IntegerRangeError, match=f"is out of bounds for {np.dtype(dtype).name}"):
        interpreters.evaluate(graph, [x, np.array(other, wide)])


def test_way_out_depends_on_whether_a_wider_integer_exists():
    assert message(300, np.dtype("i1"), "f.py:3: ") == (
        "f.py:3: the integer 300 is out of bounds for int8. Cast the array beside it first, with astype(int).")
    assert message(2**70, np.dtype("i8"), "").endswith("is out of bounds for int64. Use a float.")


def test_check_that_refuses_is_found_from_its_index():
    graph = program("i1", "i8")
    (check,) = [n for n in graph.nodes if n.prim.name == "in_range"]
    assert refused_by(check).prim.name == "overflow"

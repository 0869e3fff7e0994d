"""Positions of true elements, and the sizes that they define."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import Graph
from minigrad.ops.selection import defined_size, flatnonzero, selected
from minigrad.primitive import placeholder


def test_positions_are_those_of_numpy():
    mask = placeholder(mg.bool_[5])
    rows = selected(mask, "kept")
    graph = Graph((mask,), (rows, rows * 2)).check()
    for value in ([0, 1, 1, 0, 1], [0] * 5, [1] * 5):
        have = interpreters.evaluate(graph, [np.array(value, bool)])
        assert [h.tolist() for h in have] == [np.flatnonzero(value).tolist(), (2 * np.flatnonzero(value)).tolist()]
    assert str(rows.type) == "i64[kept]"


def test_operands_are_a_mask_and_a_number():
    mask, numbers = placeholder(mg.f64[5]), placeholder(mg.i64[5])
    with pytest.raises(mg.ShapeError, match="one bool per row"):
        flatnonzero(mask, numbers, size=3)
    with pytest.raises(mg.ShapeError, match="a size is one number"):
        defined_size(numbers, size=mg.Dim.new("n"))

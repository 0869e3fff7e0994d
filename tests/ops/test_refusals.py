"""The first element that an evaluation refuses."""

import numpy as np

from minigrad.ops.refusals import first_where


def test_first_position_in_row_major_order_and_its_elements():
    x = np.array([[5, 6], [7, 8]])
    assert first_where(np, x > 5, x, np.array([10, 20])) == [1, 6, 20]
    assert first_where(np, np.array(True), np.array(3.5)) == [0, 3.5]


def test_none_where_the_mask_holds_nowhere():
    assert first_where(np, np.zeros((2, 0), bool), np.zeros((2, 0))) is None
    assert first_where(np, np.array([False]), np.array([1])) is None

"""The order of the examples of a packed scan, and the places of their rows."""

import numpy as np

from minigrad.ops.packed_steps import Steps
from minigrad.symbolic import Dim

RUNNING, ROWS = Dim.new("running"), Dim.new("rows", rows=True)
LENGTHS, WIDTHS = np.array([1, 0, 3, 1]), np.array([2, 1, 0, 3])


def steps():
    return Steps(((RUNNING, 4, 5), (ROWS, 6, 5)), [LENGTHS, WIDTHS])


def test_longest_example_runs_first():
    own = steps()
    assert own.length == 3
    assert own.order.tolist() == [2, 0, 3, 1]
    assert own.active.tolist() == [3, 1, 1]
    assert own.sizes(3) == {RUNNING.symbol: 3, ROWS.symbol: 5}
    assert own.sizes(1) == {RUNNING.symbol: 1, ROWS.symbol: 0}


def test_rows_of_all_examples():
    own = steps()
    assert own.whole(RUNNING).tolist() == [2, 0, 3, 1]
    assert own.whole(ROWS).tolist() == [0, 1, 3, 4, 5, 2]
    assert own.whole(ROWS + RUNNING).tolist() == [5, 0, 1, 2, 6, 7, 8, 9, 3, 4]


def test_rows_of_all_steps():
    index, first = steps().sliced(RUNNING)
    assert index.tolist() == [1, 0, 4, 2, 3]  # the example of each row is 0, 2, 2, 2, 3
    assert first.tolist() == [0, 3, 4, 5]
    index, first = steps().sliced(ROWS)
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert first.tolist() == [0, 5, 5, 5]


def test_no_step():
    own = Steps(((RUNNING, 2, 0),), [np.array([0, 0])])
    assert own.length == 0
    index, first = own.sliced(RUNNING)
    assert index.tolist() == []
    assert first.tolist() == [0]

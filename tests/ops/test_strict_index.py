"""Places and indices with a null value: results, errors, and the fast test that precedes the masks."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.ops.strict_index import all_below, read
from tests import checks


def run(name, index, size, *null):
    index = np.asarray(index)
    arrays = [index, np.full_like(index, size), *(np.full_like(index, n) for n in null)]
    return interpreters.evaluate(checks.program(P[name], arrays, {}), arrays)[0].tolist()


@pytest.mark.parametrize(("name", "index", "null", "want"), [
    ("place", [0, 3, 1], (), [0, 3, 1]), ("place_or_null", [0, -1, 3], (-1,), [0, 4, 3]),
    ("place_or_null", [0, 2, 3], (2,), [0, 4, 3]), ("row_or_null", [-2, -1, -3, 3], (-1,), [2, 4, 1, 3])])
def test_null_is_the_place_behind_the_last_one(name, index, null, want):
    assert run(name, index, 4, *null) == want


@pytest.mark.parametrize(("name", "index", "null"), [
    ("place", [0, -1], ()), ("place", [0, 4], ()), ("place_or_null", [0, -2], (-1,)), ("row_or_null", [0, -5], (-1,))])
def test_other_indices_are_refused(name, index, null):
    with pytest.raises(IndexError, match=f"index {index[1]} is out of range for an axis of size 4"):
        run(name, index, 4, *null)


@pytest.mark.parametrize("dtype", ["i1", "i8", "u2"])
def test_all_below(dtype):
    assert all_below(np.array([0, 5], dtype), 6)
    assert not all_below(np.array([0, 6], dtype), 6)
    assert all_below(np.array([], dtype), 0)
    if dtype != "u2":
        assert not all_below(np.array([0, -1], dtype), 6)


def test_reading_of_an_index():
    assert read(np.array([0, -1]), 4, ("place_or_null", -1)).tolist() == [0, 3]
    assert read(np.array([2]), 4, ("place",)).tolist() == [2]

"""Segment ids, and work within segments, against a loop over the examples."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError
from minigrad.graph import PRIMITIVES as P
from tests import checks

LENGTHS = np.array([2, 0, 3, 1])
IDS = np.array([0, 0, 2, 2, 2, 3])


def run(name, *arrays, **params):
    return interpreters.evaluate(checks.program(P[name], arrays, params), arrays)[0]


def test_segment_ids_number_the_example_of_each_row():
    np.testing.assert_array_equal(run("segment_ids", LENGTHS, size=6), IDS)


@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sums_restart_in_each_segment(reverse):
    x = np.arange(12.0).reshape(6, 2)
    x[1, 0] = np.nan  # stays in its segment
    have = run("segment_cumsum", x, IDS, reverse=reverse)
    step = -1 if reverse else 1
    want = [np.cumsum(x[k == IDS][::step], axis=0)[::step] for k in np.unique(IDS)]
    np.testing.assert_array_equal(have, np.concatenate(want))


def test_sorting_counts_rows_from_the_begin_of_each_segment():
    x = np.array([2.0, 1.0, 5.0, 3.0, 5.0, 0.0])
    assert run("segment_argsort", x, IDS).tolist() == [1, 0, 1, 0, 2, 0]


def test_negative_indices_count_from_the_end_of_the_example():
    assert run("checked_index", np.array([0, -1, 2]), np.array([2, 2, 3])).tolist() == [0, 1, 2]
    with pytest.raises(IndexError, match="index -3 is out of range for an example with 2 rows"):
        run("checked_index", np.array([0, -3]), np.array([1, 2]))


def test_empty_examples_are_named_by_number():
    with pytest.raises(ValueError, match="example 1 is empty"):
        run("nonempty", LENGTHS, message="example {} is empty")


def test_ids_must_fit_the_rows():
    with pytest.raises(ShapeError, match="do not fit the rows"):
        run("segment_cumsum", np.ones((5, 2)), IDS, reverse=False)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
@pytest.mark.parametrize("longest", [1, 9, 300])
def test_argsort_is_a_stable_sort_of_each_segment(dtype, longest):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(40) * 2, rng.integers(0, longest + 1, 40))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        x = np.round(rng.normal(size=len(ids)) * 3).astype(kind)
        x[::7], x[1::7], x[2::7], x[3::7] = np.nan, -0.0, np.inf, -np.inf
        x[4::14] = -np.nan
    else:
        ends = (0, 2) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
        x = rng.integers(0, 2 if kind.kind == "b" else 5, len(ids)).astype(kind)
        x[::7], x[1::7] = ends
    places = run("segment_argsort", x, ids)
    assert places.dtype == np.int64
    for k in np.unique(ids):
        np.testing.assert_array_equal(places[ids == k], np.argsort(x[ids == k], kind="stable"))

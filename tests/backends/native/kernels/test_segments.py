"""Segment ids, checks and cumulative sums of packed examples, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.backends.native.codegen import step_codegen
from minigrad.graph import PRIMITIVES

from .checks import native, program_of


@pytest.fixture(autouse=True)
def shared_out(monkeypatch):
    monkeypatch.setattr(step_codegen, "SERIAL", 0)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0], [1], [0, 700, 1, 0]])
def test_segment_ids(lengths):
    n = np.array(lengths)
    have = native("segment_ids", [n], size=int(n.sum()))
    np.testing.assert_array_equal(have, np.repeat(np.arange(len(n)), n))


@pytest.mark.parametrize("bad", [[2, 0, 4], [2, 0, 2], [-1, 3, 3], [2**62, 0, 3]])
def test_segment_ids_of_wrong_lengths_are_errors(bad):
    program = program_of("segment_ids", [np.array([2, 0, 3])], size=5)
    with pytest.raises((IndexError, ValueError, MemoryError)):
        program([np.array(bad)], {})
    np.testing.assert_array_equal(program([np.array([2, 0, 3])], {})[0], [0, 0, 2, 2, 2])


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64, 1003])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_positions_of_true_elements(rows, share):
    mask = np.random.default_rng(rows).random(rows) < share
    mask[[0, rows // 2]] = True
    for own in (mask, mask[::-1]):  # the last rows are kept, or dropped
        have = native("flatnonzero", [own, np.array(own.sum())], size=int(own.sum()))
        np.testing.assert_array_equal(have, np.nonzero(own)[0])


def test_positions_stay_within_a_result_of_another_size():
    mask = np.arange(100) % 3 == 0
    for size in (33, 35):
        with pytest.raises(IndexError, match="out of range"):
            program_of("flatnonzero", [mask, np.array(size)], size=size)([mask, np.array(size)], {})


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
@pytest.mark.parametrize("columns", [(), (1,), (7,), (130, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_segment_cumsum_equals_numpy(dtype, columns, reverse):
    rng = np.random.default_rng(1)
    ids = np.repeat([0, 2, 3, 9, 4], [5, 1, 60, 2, 3])
    x = (rng.normal(size=(len(ids), *columns)) * 9).astype(dtype)
    have = native("segment_cumsum", [x, ids], reverse=reverse)
    assert have.tobytes() == PRIMITIVES["segment_cumsum"].eval(np, x, ids, reverse=reverse).tobytes()


def test_segment_cumsum_keeps_nan_in_its_example():
    x = np.array([1.0, np.nan, 2, 3, np.inf, 1])
    have = native("segment_cumsum", [x, np.array([0, 0, 1, 1, 2, 3])], reverse=False)
    np.testing.assert_array_equal(have, [1, np.nan, 2, 5, np.inf, 1])


def test_runtime_checks_of_lengths_and_indices():
    n = np.arange(1, 100_000)
    np.testing.assert_array_equal(native("nonempty", [n], message="{}"), n)
    index = np.where(n % 2, n - 1, -n)
    np.testing.assert_array_equal(native("checked_index", [index, n]), np.where(n % 2, n - 1, 0))
    for bad in (n[-1], -n[-1] - 1):
        with pytest.raises(IndexError, match=f"index {bad} is out of range for an example with {n[-1]} rows"):
            program_of("checked_index", [n, n])([np.append(index[:-1], bad), n], {})
    with pytest.raises(ValueError, match=r"max of nothing: example 2 has no rows"):
        program_of("nonempty", [n[:3]], message="max of nothing: example {} has no rows")([np.array([1, 5, 0])], {})


def test_lengths_of_small_integers_are_not_steps():
    program = program_of("segment_ids", [np.array([2, 1], np.int32)], size=3)
    assert program.why == {0: "segment_ids of lengths or indices that are not int64"}
    np.testing.assert_array_equal(program([np.array([2, 1], np.int32)], {})[0], [0, 0, 1])

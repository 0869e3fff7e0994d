"""The data of a page: arrays in a pool, statistics of large ones, and the runs of held graphs."""

import base64

import numpy as np
import pytest

import minigrad as mg
from minigrad.explorer.record import CORNER, FULL, Arrays, packed, recorded_runs, statistics


def decoded(record):
    numbers = np.frombuffer(base64.b64decode(record["data"]), "<" + record.get("code", "f8"))
    return numbers.reshape(record.get("part", record["shape"]))


def test_equal_arrays_are_held_once():
    pool = Arrays()
    assert [pool.add(x) for x in (np.arange(3.0), np.arange(3.0), np.arange(3), np.arange(3.0)[::-1])] == [0, 0, 1, 2]
    np.testing.assert_array_equal(decoded(pool.records[2]), [2, 1, 0])


def test_small_arrays_are_exact():
    pool = Arrays()
    x = np.array([[0.1, np.nan], [np.inf, -0.0]])
    pool.add(x)
    np.testing.assert_array_equal(decoded(pool.records[0]), x)
    assert "stats" not in pool.records[0]


@pytest.mark.parametrize(("array", "code"), [
    (np.array([0.5, -0.0, np.nan, -np.inf]), "f4"), (np.array([0.1]), "f8"), (np.array([1e300]), "f8"),
    (np.array([True, False]), "i1"), (np.array([-128, 127]), "i1"), (np.array([128]), "i2"), (np.array([40_000]), "i4"),
    (np.array([2**40]), "f8"), (np.zeros((0, 3), int), "i1"), (np.float16([65504, 6e-8]), "f4")])
def test_numbers_are_packed_exactly(array, code):
    small = packed(array)
    assert small.dtype.str[1:] == code
    np.testing.assert_array_equal(small.astype(float), array.astype(float))
    np.testing.assert_array_equal(np.signbit(small.astype(float)), np.signbit(array.astype(float)))


@pytest.mark.parametrize("shape", [(FULL + 1,), (100, 200), (3, 100, 200), (2, 2, 100, 200)])
def test_large_arrays_are_held_in_part(shape):
    pool, x = Arrays(), np.arange(float(np.prod(shape))).reshape(shape)
    pool.add(x)
    (record,) = pool.records
    corner = (slice(0, 1),) * (x.ndim - 2) + (slice(0, CORNER),) * min(x.ndim, 2)
    np.testing.assert_array_equal(decoded(record), x[corner])
    assert record["shape"] == list(shape)
    assert record["stats"] == {"min": 0.0, "max": x.size - 1.0, "mean": (x.size - 1) / 2, "nan": 0, "inf": 0, "zero": 1}


def test_statistics_count_nan_and_inf_apart_from_finite_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 2.0, 4.0])
    assert statistics(x) == {"min": 0.0, "max": 4.0, "mean": 2.0, "nan": 1, "inf": 2, "zero": 1}
    assert statistics(np.full(3, np.nan))["min"] is None
    assert statistics(np.zeros((0, 2)))["mean"] is None


def test_runs_of_a_loop_are_recorded():
    graph = mg.trace(lambda x: mg.fori_loop(0, 4, lambda i, s: 2 * s, x))(1.0)
    with recorded_runs() as runs:
        (result,) = mg.interpreters.evaluate(graph, [np.float64(3.0)])
    assert result == 48
    assert len(runs) > 4
    with recorded_runs() as after:
        pass
    assert after == []

"""Gathers and scatters check their indices: they refuse the same ones, without a statement for the check."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.strict_index import NAMES, all_below
from minigrad.passes.fuse_gather_sum import fuse_gather_sum
from minigrad.passes.fuse_index_checks import fuse_index_checks

X = np.arange(12.0).reshape(6, 2)
PROGRAMS = {
    "segment_sum": (lambda x, i: mg.segment_sum(x, i, 3), [2, 0, 2, 1, 0, 2], [[10, 12], [6, 7], [14, 17]], -1),
    "segment_max": (lambda x, i: mg.segment_max(x, i, 3), [2, 0, 2, 1, 0, 2], [[8, 9], [6, 7], [10, 11]], -1),
    "segment_mean": (lambda x, i: mg.segment_mean(x, i, 3), [2, 0, 2, 1, 0, 2], [[5, 6], [6, 7], [14 / 3, 17 / 3]], -1),
    "null": (lambda x, i: mg.segment_sum(x, i, 3, null=-1), [2, -1, 2, 1, -1, 2], [[0, 0], [6, 7], [14, 17]], -2),
    "gather": (lambda x, i: mg.segment.gather(x, i), [5, -1, -2], [[10, 11], [0, 0], [8, 9]], -7),
    "number": (lambda x, i: mg.segment_sum(x[:, 0], i, 3), [2, 0, 2, 1, 0, 2], [10, 6, 14], 3),
    "batch": (lambda x, i: mg.vmap(lambda x, i: mg.segment_sum(x, i, 2))(x, i), [[1, 0]] * 6,
              [[2 * k + 1, 2 * k] for k in range(6)], 2),
}


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8])
@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_scatters_and_gathers_check_their_indices(name, backend, dtype):
    if backend == "native":
        pytest.importorskip("llvmlite")
    f, index, wanted, bad = PROGRAMS[name]
    f, index = mg.compile(f, backend=backend), np.array(index, dtype)
    np.testing.assert_allclose(f(X, index), wanted, rtol=1e-12)
    assert not re.search(rf"\b({'|'.join(NAMES)})_\d+\(", f.source)
    index.flat[1] = bad
    with pytest.raises(IndexError, match=f"index {bad} is out of range"):
        f(X, index)


def test_sums_of_gathered_rows_check_both_indices():
    f = mg.trace(lambda x, i, j: mg.segment_sum(mg.segment.gather(x, i), j, 3))
    graph = f(X, np.array([0, 5]), np.array([2, 0]))
    (node,) = fuse_index_checks(fuse_gather_sum(graph)).outputs
    assert node.prim.name == "gather_sum"
    assert node.params["read"] == (("row_or_null", -1), ("place",))


def test_checks_of_other_sizes_stay():
    node = mg.axis("node")

    @mg.example
    class Rows:
        x: mg.f64[node]
        to: mg.i64[node]

    graph = mg.trace(mg.vmap(lambda e: mg.segment_sum(e.x, e.to, e.x.shape[0])))(mg.batch(
        [Rows(x=np.ones(2), to=np.array([1, 1])), Rows(x=np.ones(1), to=np.array([0]))]))
    assert fuse_index_checks(graph).count("place") == graph.count("place") == 1


def test_negative_indices_are_large_unsigned_numbers():
    for dtype in (np.int8, np.uint8, np.int64):
        assert all_below(np.array([0, 5, 99], dtype), 100)
        assert all_below(np.array([], dtype), 0)
        assert not all_below(np.array([0, 100], dtype), 100)
    for dtype in (np.int8, np.int16, np.int64):
        for size in (1, 100, 255, 256, 300, 70_000):
            assert not all_below(np.array([0, -1], dtype), size)

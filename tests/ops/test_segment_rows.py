"""Operations within segments, in batches of packed arrays."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import ArrayType
from minigrad.ops.segment_rows import each, fits
from minigrad.ops.segments import segment_cumsum
from minigrad.traced_array import Array


def test_each_segment_by_itself():
    x, ids = np.array([3.0, 1.0, 2.0, 5.0]), np.array([0, 0, 2, 2])
    np.testing.assert_array_equal(each(np, x, ids, lambda part: part - part[0], x.dtype), [0, -2, 0, 3])
    assert each(np, x[:0], ids[:0], np.sort, x.dtype).shape == (0,)


def test_batches_keep_equal_ids_of_neighbours_apart():
    x, ids = np.arange(6.0).reshape(2, 3), np.array([[0, 0, 1], [1, 1, 1]])
    have = mg.vmap(lambda x, i: Array(segment_cumsum(x._node, i._node, reverse=False)))(x, ids)
    np.testing.assert_array_equal(have, [[0, 1, 2], [3, 7, 12]])


@pytest.mark.parametrize("ids", [ArrayType((2,), np.dtype("i8")), ArrayType((3, 1), np.dtype("i8"))])
def test_ids_of_other_rows_are_refused(ids):
    with pytest.raises(mg.ShapeError, match="the ids do not fit the rows"):
        fits("some", ArrayType((3, 4), np.dtype("f8")), ids)

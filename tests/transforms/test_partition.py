"""Cuts of a batch: the batch axis of a shape, sizes of the whole batch, row counts, and stretches of an axis."""

import numpy as np

from minigrad.graph import ArrayType
from minigrad.symbolic import Dim
from minigrad.transforms.partition import NONE, Cut, agree, merged, scaled


def packed():
    """Return a cut of 7 examples with n rows each, 20 in all, and its sizes: examples, n, rows of a part."""
    dim, n, rows = Dim.new("B"), Dim.new("n"), Dim.new("rows")
    cut = Cut(dim, {dim.symbol: 7, rows.symbol: 20})
    cut.add_rows(rows, n)
    return cut, dim, n, rows


def test_batch_axis_of_a_shape():
    """Its length is the number of examples or a multiple of it that does not depend on it."""
    dim, other = Dim.new("B"), Dim.new("C")
    for shape, axis in (((dim,), 0), ((3, dim), 1), ((2 * dim, 3), 0), ((dim * other, 3), 0), ((3,), None),
                        ((dim + 1,), None), ((dim * dim,), None), ((dim, dim), None), ((other,), None)):
        assert Cut(dim, {dim.symbol: 7}).axis_of(ArrayType(shape, np.dtype(float))) == axis


def test_whole_batch_sizes_replace_the_sizes_of_a_part():
    cut, dim, n, rows = packed()
    assert (cut.whole(dim), cut.whole(rows), cut.whole(2 * dim + 1), cut.whole(5)) == (7, 20, 15, 5)
    assert cut.whole(n) == n


def test_rows_per_example():
    cut, dim, n, rows = packed()
    assert (cut.per_example(dim), cut.per_example(3 * dim), cut.per_example(rows)) == (1, 3, n)
    assert cut.per_example(dim + 1) is cut.per_example(dim * dim) is cut.per_example(4) is None


def test_counts_add_up_to_the_rows_of_a_part():
    cut, dim, n, rows = packed()
    cut.add_rows(dim)
    assert cut.counted(dim, n) == rows  # one count of n rows per example
    assert cut.counted(dim, 2 * n) == 2 * rows
    assert cut.counted(dim, 3) == 3 * dim
    assert cut.counted(dim, n * n) is cut.counted(dim, None) is cut.counted(dim + 1, n) is None


def test_layout_and_size_of_the_cut_axis():
    cut, dim, _, rows = packed()
    t = ArrayType((3, rows), np.dtype(float))
    assert (cut.straight(t), cut.size_of_axis(t)) == ({(0, rows)}, rows)
    assert cut.straight(ArrayType((3,), np.dtype(float))) == NONE
    assert cut.crosses((3, 2 * dim))
    assert not cut.crosses((3, Dim.new("other")))


def test_stretches_scale_with_the_axis_and_do_not_split_rows():
    n = Dim.new("n")
    spans = frozenset({(0, 2 * n), (2 * n, 4 * n)})
    assert scaled(spans, 6 * n, 6 * n) == spans
    assert scaled(spans, 6 * n, 3 * n) == {(0, n), (n, 2 * n)}
    assert scaled(spans, 6 * n, 12 * n) == {(0, 4 * n), (4 * n, 8 * n)}
    assert scaled(frozenset({(0, 3)}), 6, 3) is None


def test_stretches_of_one_layout_begin_at_different_rows():
    assert agree(frozenset({(0, 2), (2, 4)}), 6)
    assert not agree(frozenset({(0, 2), (0, 4)}), 6)
    assert not agree(frozenset({(0, 6), (2, 4)}), 6)  # the whole axis and a part of it
    assert merged([frozenset({(0, 2)}), frozenset({(2, 4)}), NONE]) == {(0, 2), (2, 4)}

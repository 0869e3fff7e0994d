"""Rows of packed arrays: their example, position and coordinates, for lengths known in advance."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import Graph, full
from minigrad.ops.constants import const
from minigrad.ragged.rows import Rows, spread_rows
from minigrad.symbolic import Dim, Symbol

NODES, EDGES = [2, 0, 3], [1, 2, 2]  # so that blocks have 2, 0 and 6 elements
NODE, EDGE = Symbol("node", rows=True), Symbol("edge", rows=True)
N, E = Dim.of(NODE), Dim.of(EDGE)


@pytest.fixture
def rows():
    out = Rows(3)
    for symbol, lengths in ((NODE, NODES), (EDGE, EDGES)):
        out.lengths[symbol] = const(value=np.array(lengths))
        out.owners[symbol] = const(value=np.repeat(np.arange(3), lengths))
        out.totals[(symbol,)] = sum(lengths)
    out.totals[tuple(sorted((NODE, EDGE), key=lambda s: s.uid))] = 8
    return out


def value(node):
    return interpreters.evaluate(Graph((), (node,)), [])[0].tolist()


def test_shapes(rows):
    assert rows.domain((4, N, E)) == (N, E)
    assert rows.dense((4, N, E)) == (4,)
    assert rows.packed((4, N, E)) == (8, 4)
    assert rows.packed((4,)) == (3, 4)
    assert rows.total((N + 1,)) == 8
    assert rows.ragged(2 * N)
    assert not rows.ragged(Dim.new("B"))


def test_values_per_example(rows):
    assert value(rows.length((N, E))) == [2, 0, 6]
    assert value(rows.length((2 * N + 1,))) == [5, 1, 7]
    assert value(rows.offset((N,))) == [0, 2, 2]


def test_values_per_row_of_one_axis(rows):
    assert value(rows.owner((N,))) == [0, 0, 2, 2, 2]
    assert value(rows.position((N,))) == [0, 1, 0, 1, 2]
    assert value(rows.of_owner(const(value=np.array([10, 20, 30])), (N,))) == [10, 10, 30, 30, 30]


def test_values_per_element_of_blocks(rows):
    block = (N, E)
    assert value(rows.owner(block)) == [0, 0, 2, 2, 2, 2, 2, 2]
    assert value(rows.coordinate(block, 0)) == [0, 1, 0, 0, 1, 1, 2, 2]
    assert value(rows.coordinate(block, 1)) == [0, 0, 0, 1, 0, 1, 0, 1]
    assert value(rows.within(block, (0,))) == [0, 1, 2, 2, 3, 3, 4, 4]
    assert value(rows.within(block, (1,))) == [0, 0, 3, 4, 3, 4, 3, 4]


def test_nodes_are_cached(rows):
    assert rows.position((N,)) is rows.position((N,))


def test_negative_lengths_raise_when_the_program_runs(rows):
    with pytest.raises(ValueError, match="example 1 has fewer rows than a slice of it leaves out"):
        value(rows.length((N - 1,)))


def test_products_of_axes_that_the_batch_does_not_count_are_sizes_of_their_own(rows):
    total = rows.total((N, N, E))
    assert total == rows.total((N, N, E))
    (symbols,) = rows.definitions
    assert value(rows.definitions[symbols]) == int(np.sum(value(rows.length((N, N, E)))))


def test_spread_rows_repeats_along_trailing_axes():
    assert value(spread_rows(const(value=np.array([1, 2])), (2, 3))) == [[1, 1, 1], [2, 2, 2]]
    assert value(spread_rows(full(5, (2,), np.dtype(int)), (2, 2))) == [[5, 5], [5, 5]]

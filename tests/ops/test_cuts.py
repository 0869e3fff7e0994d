"""Cuts of a batch into passes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.budgets import Budget
from minigrad.ops.cuts import Limit, by_memory, by_number, sizes_of, spans_between
from minigrad.symbolic import Dim

DIM, ROWS = Dim.new("chunk"), Dim.new("rows", rows=True)


def test_passes_by_number():
    assert by_number(7, 3) == [0, 3, 6, 7]
    assert by_number(6, 3) == [0, 3, 6]


@pytest.mark.parametrize("left", [100, 101, 117, 200, 10**6])
def test_passes_over_equal_examples_are_as_long_as_the_memory_allows(left):
    params = {"dim": DIM, "packed": (), "size": Budget(left)}
    edges = by_memory(50, params, (), Limit(left, left, 0), lambda sizes: 20 + 8 * sizes[DIM.symbol], "f")
    length = min((left - 20) // 8, 50)
    assert edges == by_number(50, length)


def test_passes_over_different_examples_end_where_their_rows_fill_the_memory():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 30, 400)
    params = {"dim": DIM, "packed": ((ROWS, int(counts.sum())),), "size": Budget(1000)}

    def cost(sizes):
        return sizes[DIM.symbol] + 4 * sizes[ROWS.symbol]

    edges = by_memory(400, params, (counts,), Limit(1000, 1000, 0), cost, "f")
    costs = [cost(sizes_of(span)) for span in spans_between(edges, params, (counts,))]
    assert max(costs) <= 1000
    assert np.median(costs[:-1]) > 0.85 * 1000  # an example has up to 121 bytes
    assert (edges[0], edges[-1]) == (0, 400)


def test_sums_of_many_passes_take_their_part():
    params = {"dim": DIM, "packed": (), "size": Budget(1000)}
    edges = by_memory(10_000, params, (), Limit(1000, 1000, 100), lambda sizes: 8 * sizes[DIM.symbol], "f")
    assert edges[1] == (1000 - 100) // 8  # 80 passes or more: a chain of 16 additions, and one of such chains


@pytest.mark.parametrize(("counts", "which"), [
    ((), "a pass over one example"), ((np.array([1, 2, 40, 1]),), "a pass over example 2")])
def test_an_example_that_does_not_fit_is_an_error_with_both_numbers(counts, which):
    params = {"dim": DIM, "packed": ((ROWS, 44),) if counts else (), "size": Budget(1_234)}

    def cost(sizes):
        return 2000 if not counts else 100 * sizes[ROWS.symbol]

    left = 1000
    need = 1_234 - left + (2000 if not counts else 4000)
    with pytest.raises(mg.BatchError, match=rf"microbatch\(f\): memory is 1,234 bytes, and {which} needs {need:,} "):
        by_memory(4, params, counts, Limit(1_234, left, 0), cost, "microbatch(f)")

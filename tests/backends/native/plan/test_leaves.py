"""Leaves: constants and numbers are computed once, arrays of one number grow."""

import numpy as np

from minigrad.backends.native.plan.leaves import EARLY, Leaves
from minigrad.graph import PRIMITIVES, full
from minigrad.symbolic import Dim


def test_positions_for_all_sizes_are_the_beginning_of_one_array():
    n = Dim.new("n")
    positions = PRIMITIVES["iota"](size=n)
    leaves = Leaves([])
    leaves.add(positions)
    large, small = (leaves.array(positions, {n.symbol: size}) for size in (9, 4))
    np.testing.assert_array_equal(small, np.arange(4))
    assert np.may_share_memory(large, small)
    np.testing.assert_array_equal(leaves.array(positions, {n.symbol: 30}), np.arange(30))


def test_constants_are_made_once():
    leaves = Leaves(())
    iota = PRIMITIVES["iota"](size=4)
    leaves.add(iota)
    array = leaves.array(iota, {})
    assert array.tolist() == [0, 1, 2, 3]
    assert leaves.array(iota, {}) is array
    assert list(leaves) == [iota]


def test_full_arrays_of_all_sizes_share_memory():
    n = Dim.new("n")
    leaf, leaves = full(2.5, (n, 3), np.dtype("f4")), Leaves(())
    leaves.add(leaf)
    large, small = (leaves.array(leaf, {n.symbol: k}) for k in (8, 5))
    assert (large.shape, small.shape) == ((8, 3), (5, 3))
    assert np.shares_memory(large, small)
    assert (large == 2.5).all()
    assert leaves.array(leaf, {n.symbol: 9}).shape == (9, 3)


def test_numbers_of_sizes_are_kept_for_some_sizes():
    n = Dim.new("n")
    number = PRIMITIVES["div"](full(1.0, (), np.dtype("f8")), PRIMITIVES["size"](
        size=n, dtype=np.dtype("f8")))
    leaves = Leaves([number])
    leaves.add(number)
    for k in range(1, EARLY + 3):
        assert leaves.array(number, {n.symbol: k}) == 1 / k
    assert leaves.array(number, {n.symbol: 4}) is leaves.array(number, {n.symbol: 4})

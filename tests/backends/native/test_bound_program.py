"""Memory of runs, and executables of programs with and without Python's steps."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.backends.native.bound_program import Arena, ArenaPool, BoundProgram, Empty
from minigrad.backends.workspace import ALIGN
from minigrad.graph import Graph
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node


def test_arenas_are_aligned():
    for nbytes in (0, 1, 1000):
        arena = Arena(nbytes)
        assert arena.address % ALIGN == 0
        assert arena.start + nbytes <= arena.memory.nbytes


def test_pools_lend_large_enough_arenas():
    pool = ArenaPool()
    first = pool.borrow(800)
    assert first.size == 800
    pool.give_back(first)
    assert pool.borrow(500) is first
    assert pool.borrow(500) is not first, "the first is lent"
    pool.give_back(first)
    assert pool.borrow(1600).size == 1800, "an eighth larger than needed, since sizes change"


def test_executables_of_several_sizes():
    n = Dim.new("n")
    x = input_(n, 3)
    program = backends.build(Graph((x,), (node("sum", node("exp", x), axes=(0,)),)), "native")
    for k in (1, 4):
        executable = program.bind({n.symbol: k}, 1)
        assert isinstance(executable, BoundProgram)
        assert not executable.mixed
        (total,) = executable.run([np.zeros((k, 3))])
        assert total.tolist() == [k, k, k]


def test_loops_without_turns_run_in_numpy():
    n = Dim.new("n")
    x = input_(n, 3)
    program = backends.build(Graph((x,), (node("exp", x),)), "native")
    empty = program._executable({n.symbol: 0}, 1)
    assert isinstance(empty, Empty)
    assert empty.run([np.zeros((0, 3))])[0].shape == (0, 3)

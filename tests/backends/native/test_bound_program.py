"""Executables of programs with and without Python's steps."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.backends.native.bound_program import BoundProgram, Empty
from minigrad.graph import Graph
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node


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

"""Programs of held graphs: chunks, scans, loops and branches."""

import numpy as np
import pytest

from minigrad import backends, interpreters
from minigrad.backends.subgraph import KINDS
from minigrad.graph import PRIMITIVES, Graph, full
from minigrad.interpreters import backward
from minigrad.ops.branches import switch
from minigrad.ops.control import chunked, parts
from minigrad.ops.loops import scan, while_
from minigrad.symbolic import Dim

from ..passes.programs import F8, arrays_for, input_, node
from ..passes.test_random import close
from .test_numpy import build


def test_chunks_share_the_memory_of_temporaries():
    size, chunk = Dim.new("B"), Dim.new("chunk")
    x, w = input_(chunk, 30), input_(30)
    h = node("tanh", node("einsum", x, node("einsum", w, w, subscripts="i,j->ij"), subscripts="bi,ij->bj"))
    body = Graph((x, w), (node("sum", h, axes=(0, 1)), node("sum", h, axes=(1,))))
    whole = input_(size, 30)
    loop = chunked(whole, w, graph=body, dim=chunk, size=7, total=size, in_axes=(0, None), out_axes=(None, 0),
                   packed=())
    total, rows = parts(loop)
    graph = Graph((whole, w), (total, rows, *backward([total], [full(1, (), F8)], [w]))).check()
    program = build(graph)
    assert program.source.count("on each chunk") == 1  # the value's loop and the gradient's are one
    for b in (3, 7, 50):
        arrays = arrays_for(graph, {size.symbol: b})
        close(program(arrays, {size.symbol: b}), interpreters.evaluate(graph, arrays, {size.symbol: b}))
    assert program.workspace_bytes({size.symbol: 700}) == program.workspace_bytes({size.symbol: 7})


def test_a_scan_runs_its_step_forwards_and_backwards():
    """The carry is a running sum; the stacked results are its values after each step."""
    c, x = input_(), input_()
    after = c + x
    xs, start = input_(4), input_()
    for reverse, want in ((False, [1.0, 3.0, 6.0, 10.0]), (True, [10.0, 9.0, 7.0, 4.0])):
        loop = scan(start, xs, body=Graph((c, x), (after, after)), counts=(0, 1), length=4, reverse=reverse)
        programs = KINDS[scan](loop, backends.build)
        last, stacked = programs.bind({})(np.array(0.0), np.arange(1.0, 5.0))
        assert last == 10.0
        np.testing.assert_array_equal(stacked, want)
        assert [text.splitlines()[0] for text in programs.sources()] == ["# -- at each step: graph"]


def test_a_loop_runs_until_its_test_fails():
    x, y = input_(), input_()
    test = Graph((y,), (PRIMITIVES["lt"](y, full(20.0, (), F8)),))
    loop = while_(input_(), test=test, body=Graph((x,), (x * 3.0,)), count=0)
    assert KINDS[while_](loop, backends.build).bind({})(np.array(1.0)) == (27.0,)


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 9])
def test_a_switch_runs_one_branch(index):
    x = input_()
    graphs = tuple(Graph((x,), (x * k,)) for k in (2.0, 3.0, 5.0))
    node_ = switch(input_(dtype="i8"), input_(), graphs=graphs, rows=(False,), sums=(False,))
    (result,) = KINDS[switch](node_, backends.build).bind({})(np.array(index), np.array(10.0))
    assert result == [20.0, 30.0, 50.0][min(max(index, 0), 2)]


def test_a_switch_of_examples_runs_each_branch_on_its_examples():
    x = input_()
    graphs = tuple(Graph((x,), (x * k,)) for k in (2.0, 3.0))
    node_ = switch(input_(4, dtype="i8"), input_(4), graphs=graphs, rows=(True,), sums=(False,))
    (result,) = KINDS[switch](node_, backends.build).bind({})(np.array([0, 1, 1, 0]), np.arange(1.0, 5.0))
    np.testing.assert_array_equal(result, [2.0, 6.0, 9.0, 8.0])

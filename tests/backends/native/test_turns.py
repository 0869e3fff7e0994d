"""Turns of loops: bodies in one arena, and the arrays that turns read and write."""

import numpy as np

import minigrad as mg
from minigrad.backends.native.plan.launch_plan import ARENA
from minigrad.backends.native.program import Program
from minigrad.backends.native.turns import LoopArrays, Turns

N = mg.Dim.new("n")
(SYMBOL,) = N.symbols


def turns():
    graph = mg.trace(lambda x: np.cumsum(np.cumsum(np.tanh(x), axis=0), axis=0))(mg.f64[N, 2])
    return Turns(Program(graph, own_outputs=True)), graph


def test_bodies_of_all_sizes_share_an_arena():
    own, _ = turns()
    small, large, again = own.bodies([{SYMBOL: n} for n in (2, 300, 2)])
    assert small is again
    assert small.layout.total == large.layout.total
    assert small.bases[ARENA] == large.bases[ARENA]
    assert own.bodies([{SYMBOL: 300}]) == [large]
    (larger,) = own.bodies([{SYMBOL: 3000}])
    assert larger.layout.total > large.layout.total
    assert own.empty({SYMBOL: 0})
    assert not own.empty({SYMBOL: 1})


def test_turns_read_and_write_rows_of_arrays():
    own, graph = turns()
    x, y = np.random.default_rng(0).normal(size=(7, 2)), np.zeros((7, 2))
    index, sizes = np.array([6, 1, 2, 0, 4]), [2, 3]
    arrays = LoopArrays(own.program.launch_plan, {})
    arrays.place("rows", index, np.array([0, 2, 5]))
    arrays.read(0, graph.inputs[0], x, "rows")
    arrays.write(0, graph.outputs[0], y, "rows")
    assert own.run(own.bodies([{SYMBOL: n} for n in sizes]), [0, 1], arrays)
    for rows in (index[:2], index[2:]):
        np.testing.assert_allclose(y[rows], np.cumsum(np.cumsum(np.tanh(x[rows]), axis=0), axis=0), rtol=1e-12)
    assert not y[[3, 5]].any()

"""Independent loops over the same chunks, fused without any other change."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.ops.chunk_loops import fused_chunk_loops


def loops(graph):
    return [n for n in graph.nodes if n.prim.name == "chunked"]


def test_value_and_gradient_run_in_one_loop():
    x = np.arange(1.0, 6.0)
    graph = mg.trace(mg.value_and_grad(mg.microbatch(mg.mean_loss(lambda w, x: np.sin(w * x), (None, 0)), 2)))(0.3, x)
    fused = fused_chunk_loops(graph)
    assert (len(loops(graph)), len(loops(fused))) == (2, 1)
    sizes = dict.fromkeys(graph.symbols, 5)
    value, slope = interpreters.evaluate(fused, [np.float64(0.3), x], sizes)
    np.testing.assert_allclose([value, slope], [np.mean(np.sin(0.3 * x)), np.mean(x * np.cos(0.3 * x))], rtol=1e-13)


def test_a_loop_that_reads_the_sums_of_another_stays_apart():
    f = mg.microbatch(mg.mean_loss(lambda w, x: w * x, (None, 0)), 2)
    graph = mg.trace(lambda w, x: f(f(w, x), x))(0.3, np.arange(1.0, 6.0))
    assert fused_chunk_loops(graph) is graph

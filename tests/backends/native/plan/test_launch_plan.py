"""Memory of programs whose sizes change."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends, interpreters
from minigrad.backends.native.plan import launch_plan
from minigrad.backends.native.program import Program
from minigrad.graph import Graph
from minigrad.passes import run
from tests.backends.test_numpy import softmax_loss
from tests.passes.programs import arrays_for, random_graph
from tests.passes.test_random import close


def build(graph: Graph) -> Program:
    return backends.build(run(graph.check())[0], "native")


@pytest.fixture
def finely_cut(monkeypatch):
    """Cut everything into blocks of few rows, and hand all of them to the pool."""
    monkeypatch.setattr(launch_plan, "BLOCK", 40)
    monkeypatch.setattr(launch_plan, "SERIAL", 0)


@pytest.mark.usefixtures("finely_cut")
@pytest.mark.parametrize("seed", range(6))
def test_changing_sizes_share_layouts(seed):
    graph, size = random_graph(700 + seed, gradient=True)
    after, _ = run(graph.check())
    program = backends.build(after, "native")
    for b in (100, 104, 90, 111, 1, 112, 97, 400, 104, 390, 3):
        sizes = {size.symbol: b}
        arrays = arrays_for(graph, sizes, seed)
        close(program(arrays, sizes), interpreters.evaluate(after, arrays, sizes))
    layouts = program.launch_plan._layouts
    assert 2 <= len(layouts) <= launch_plan.KNOWN or not layouts[0].total
    assert all(known.total <= program.workspace_bytes({size.symbol: 480}) for known in layouts)


def test_shared_layouts_are_little_larger():
    graph, size = softmax_loss("f4")
    program = build(graph)
    for b in (1000, 1010, 1090, 5, 960):
        sizes = {size.symbol: b}
        program(arrays_for(graph, sizes), sizes)
        used = program.launch_plan._layouts
        assert min(known.total for known in used) <= program.workspace_bytes(sizes) * 1.3 + 4096
    assert len(used) == 3, "one for 1,000, one for 1,010 to 1,090, one for 5"


@pytest.mark.usefixtures("finely_cut")
def test_equal_kernels_share_a_plan_at_places_of_their_own():
    def columns(xs):  # each needs scratch memory, parts of its blocks, and an output
        return [np.sum(np.exp(x - np.max(x, axis=1, keepdims=True)), axis=0) for x in xs]

    xs = list(np.random.default_rng(0).normal(size=(4, 90, 5)))
    step = mg.compile(columns, backend="native")
    for have, x in zip(step(xs), xs, strict=True):
        np.testing.assert_allclose(have, np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=0), rtol=1e-12)
    kernels = [k for k in step.entries[0].program.kernels if k]
    assert len(kernels) == 4 * len({id(k) for k in kernels})

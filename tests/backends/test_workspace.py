"""Workspaces: layouts that similar sizes share, and their memory."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.backends import arena, workspace
from minigrad.graph import Graph
from minigrad.symbolic import Dim

from ..passes.programs import input_, node
from ..passes.test_random import close
from .test_numpy import build


def test_similar_sizes_share_layouts_and_memory(monkeypatch):
    monkeypatch.setattr(workspace, "BLOCK_BYTES", 1 << 14)  # so that the larger ones run in blocks
    rows, size = Dim.new("rows"), Dim.new("B")
    x, w, i = input_(rows, 5), input_(5, 3), input_(size, dtype=np.dtype(np.int64))
    h = node("tanh", node("einsum", x, w, subscripts="bi,ij->bj")) * 2.0
    total = node("sum", node("sin", h) * h, axes=(0,))
    graph = Graph((x, w, i), (total, node("gather", h, i), node("sum", h, axes=(1,)))).check()
    program = build(graph)
    made = []
    plain = workspace.Layout
    monkeypatch.setattr(workspace, "Layout", lambda *args: made.append(1) or plain(*args))
    rng = np.random.default_rng(0)
    results = []
    for n, b in [*rng.integers(500, 1000, (200, 2)), (1000, 1000), (1, 1), (1000, 0)]:
        sizes = {rows.symbol: int(n), size.symbol: int(b)}
        arrays = [rng.normal(size=(n, 5)), rng.normal(size=(5, 3)), rng.integers(0, n, b)]
        wanted = interpreters.evaluate(graph, arrays, sizes)
        results.append((program(arrays, sizes), wanted))
    for got, wanted in results:  # the caller's own: later runs have not touched them
        close(got, wanted)
    assert len(made) < 120
    (arena,) = program._arenas
    latest = dict(sizes)
    for _ in range(3):  # sizes that come again have items of their own
        close(program(arrays, latest), wanted)
    assert tuple(latest[s] for s in program._symbols) in arena.spaces
    assert [*program._arenas] == [arena], "all sizes share its memory"


@pytest.mark.parametrize("n", [*range(70), 1000, 12345, 2**40 + 1])
def test_rounded_sizes_are_at_most_an_eighth_larger(n):
    s = Dim.new("n").symbol
    assert n <= workspace.rounded({s: n})[s] <= n * 9 / 8


def test_sizes_that_are_differences_are_not_rounded():
    a, b = Dim.new("a"), Dim.new("b")
    x = input_(a - b, 3)
    program = build(Graph((x, input_(a), input_(b)), (node("sum", node("sin", x), axes=(0,)),)))
    assert not program._grows
    for n in range(1, 40):
        sizes = {a.symbol: 2 * n, b.symbol: n}
        arrays = [np.ones((n, 3)), np.ones(2 * n), np.ones(n)]
        close(program(arrays, sizes), [np.full(3, n * np.sin(1))])


def test_workspaces_of_fused_statements_do_not_grow_with_the_batch():
    size = Dim.new("B")
    x = input_(size, 4)
    y = x
    for _ in range(40):
        y = node("sin", y) * node("cos", y)
    program = build(Graph((x,), (node("sum", y, axes=(0,)),)))
    small, large = (program.workspace_bytes({size.symbol: b}) for b in (100_000, 1_000_000))
    assert small <= 2 * workspace.BLOCK_BYTES
    assert large <= 2 * workspace.BLOCK_BYTES


def test_results_share_no_memory_of_the_arena():
    """An evaluation that returns an operand, a view of one, or an array of its own."""
    x = np.zeros(100, np.uint8)[16:64].view(np.float64)
    for evaluate in (lambda x: x, lambda x: x[::2], lambda x: (x, x[1:])):
        results = arena.owning(evaluate)(x)
        for result in results if isinstance(results, tuple) else (results,):
            assert not np.may_share_memory(result, x)
    own = np.ones(3)
    assert arena.owning(lambda x: own)(x) is own

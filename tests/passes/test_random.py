"""Random programs keep their values through all passes, and their groups form no cycle."""


import numpy as np
import pytest

from minigrad import interpreters
from minigrad.passes import run
from minigrad.passes.fuse import Roles, fuse

from .programs import arrays_for, random_graph


def close(have, want):
    for a, b in zip(have, want, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        finite = np.abs(b[np.isfinite(b)]) if np.ndim(b) else np.abs(b)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * max(1.0, np.max(finite, initial=0)))


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_keep_their_values(seed, gradient):
    graph, size = random_graph(seed, gradient=gradient)
    after, stages = run(graph.check())
    for stage in stages:
        stage.after.check()
        assert stage.name in str(stage)
    for b in (1, 2, 7):
        sizes = {size.symbol: b}
        arrays = arrays_for(graph, sizes, seed)
        close(interpreters.evaluate(after, arrays, sizes), interpreters.evaluate(graph, arrays, sizes))


@pytest.mark.parametrize("seed", range(12))
def test_groups_are_convex_and_share_their_rows(seed):
    graph, _ = random_graph(100 + seed, steps=60, gradient=True)
    graph = run(graph)[0]
    roles = Roles.of(graph)
    groups = fuse(graph, roles)
    group_of = {n: k for k, g in enumerate(groups) for n in g.nodes}
    assert set(group_of) == {n for n in graph.nodes if roles.is_statement(n)}
    waits = {k: {group_of[d] for n in g.nodes for d in roles.behind[n]} - {k} for k, g in enumerate(groups)}
    done: set[int] = set()
    while len(done) < len(groups):
        ready = {k for k, w in waits.items() if k not in done and w <= done}
        assert ready, "groups wait for each other"
        done |= ready

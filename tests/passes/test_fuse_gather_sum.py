"""Sums of gathered rows read the rows in place."""

import numpy as np
import pytest

import minigrad as mg


def message(x, source, to):
    return mg.segment_sum(x[source], to, 5)


def test_a_gather_and_its_scatter_become_one_node():
    rng = np.random.default_rng(0)
    x, source, to = rng.normal(size=(4, 3)), rng.integers(0, 4, 7), rng.integers(0, 5, 7)
    run = mg.compile(message)
    np.testing.assert_array_equal(run(x, source, to), message(x, source, to))
    last = [s.after for s in run.stages if s.name == "fuse_gather_sum"][-1]
    assert last.count("gather_sum") == 1
    assert last.count("gather", "scatter_add") == 0
    step = mg.compile(mg.grad(lambda x, s, t: np.sum(message(x, s, t) ** 2)))
    want = np.zeros_like(x)
    np.add.at(want, source, 2 * message(x, source, to)[to])
    np.testing.assert_allclose(step(x, source, to), want)


@pytest.mark.parametrize("f", [
    lambda x, s, t: (message(x, s, t), x[s]),  # the rows are wanted for themselves
    lambda x, s, t: mg.segment_sum(x[s] * 2, t, 5),
    lambda x, s, t: mg.segment_sum(x[:, 0][s], t, 5),
])
def test_gathers_with_other_readers_stay(f):
    rng = np.random.default_rng(0)
    args = rng.normal(size=(4, 3)), rng.integers(0, 4, 7), rng.integers(0, 5, 7)
    run = mg.compile(f)
    for have, want in zip(np.ravel(run(*args)[0]), np.ravel(f(*args)[0]), strict=True):
        np.testing.assert_allclose(have, want)
    assert not any(s.name == "fuse_gather_sum" for s in run.stages)

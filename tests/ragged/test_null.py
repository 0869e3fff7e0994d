"""Indices that may point nowhere: -1 stays -1, and is refused where NumPy would take the last row."""

import numpy as np
import pytest

import minigrad as mg

from .cases import close, unbatched

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Tree:
    x: mg.f64[node, 2]
    parent: mg.index(node, null=-1)[node]
    to: mg.index(node, null=-1)[edge]


def trees():
    rng = np.random.default_rng(0)
    return [Tree(rng.normal(size=(n, 2)), rng.integers(-1, n, n), rng.integers(-1, n, e) if n else np.full(e, -1))
            for n, e in ((3, 4), (0, 2), (1, 0), (4, 6), (0, 0))]


def test_null_indices_are_not_shifted():
    examples = trees()
    batch = mg.batch(examples)
    want = np.concatenate([np.where(t.parent < 0, -1, t.parent + k)
                           for t, k in zip(examples, batch.offsets[node], strict=False)])
    np.testing.assert_array_equal(batch.parent, want)
    for have, t in zip(batch[[4, 3, 0]].unbatch(), [examples[i] for i in (4, 3, 0)], strict=True):
        np.testing.assert_array_equal(have.parent, t.parent)
        np.testing.assert_array_equal(have.to, t.to)


PROGRAMS = {
    "gather": lambda t: mg.gather(t.x, t.parent),
    "sum": lambda t: mg.segment_sum(mg.gather(t.x, t.to), t.to, t.x.shape[0], null=-1),
    "mean": lambda t: mg.segment_mean(t.x, t.parent, t.x.shape[0], null=-1),
    "max": lambda t: mg.segment_max(t.x, t.parent, t.x.shape[0], null=-1, initial=-5.0),
    "min": lambda t: mg.segment_min(t.x, t.parent, t.x.shape[0], null=-1, initial=5.0),
    "softmax": lambda t: mg.segment_softmax(t.x, t.parent, t.x.shape[0], null=-1),
    "as a number": lambda t: t.parent * 1.0,
    "is null": lambda t: t.parent == -1,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_equals_the_loop(name):
    f, examples = PROGRAMS[name], trees()
    for run in (mg.vmap(f), mg.compile(mg.vmap(f))):
        for have, t in zip(unbatched(run(mg.batch(examples))), examples, strict=True):
            close(have, f(t))


def test_gather_of_null_is_zero_without_gradient():
    t = Tree(np.ones((3, 2)), [-1, 0, -1], [])
    at = np.flatnonzero(t.parent < 0)
    np.testing.assert_array_equal(mg.gather(t.x, t.parent)[at], 0)
    assert mg.grad(lambda x: np.sum(mg.gather(x, np.array([-1, -1]))))(t.x).sum() == 0


def test_packed_fields_index_as_numpy_does_and_gather_reads_zeros():
    batch = mg.batch([Tree([[1.0, 2.0], [3.0, 4.0]], [-1, 0], []), Tree([[5.0, 6.0], [7.0, 8.0]], [1, -1], [])])
    for run in (lambda f: f, mg.compile):
        np.testing.assert_array_equal(run(lambda b: b.x[b.parent])(batch), [[7, 8], [1, 2], [7, 8], [7, 8]])
        np.testing.assert_array_equal(run(lambda b: mg.gather(b.x, b.parent))(batch), [[0, 0], [1, 2], [7, 8], [0, 0]])
        total = run(lambda b: mg.segment_sum(b.x, b.parent, b.x.shape[0], null=-1))(batch)
        np.testing.assert_array_equal(total, [[3, 4], [0, 0], [0, 0], [5, 6]])


def test_microbatch_refuses_plain_indexing_of_packed_fields():
    with pytest.raises(mg.BatchError, match="mixes examples"):
        mg.microbatch(lambda b: np.sum(b.x[b.parent]), 2)(mg.batch(trees()))


@pytest.mark.parametrize("f", [lambda t: t.x[t.parent], lambda t: t.x[t.parent.reshape(-1)],
                               lambda t: mg.segment_sum(t.x, t.parent, t.x.shape[0])])
def test_plain_indexing_is_refused(f):
    with pytest.raises(mg.BatchError, match="null=-1"):
        mg.vmap(f)(mg.batch(trees()))


def test_null_of_plain_arrays_must_be_declared():
    t = Tree(np.ones((3, 2)), [-1, 0, -1], [])
    with pytest.raises(mg.BatchError, match="say null=-1"):
        mg.segment_sum(t.x, t.parent, 3)


def test_null_must_be_declared():
    @mg.example
    class Graph:
        x: mg.f64[node]
        src: mg.index(node)[edge]

    with pytest.raises(mg.BatchError, match=r"src\[1\] is -1.*declare mg.index\(node, null=-1\)"):
        Graph(np.ones(2), [0, -1])
    with pytest.raises(mg.BatchError, match="the null index is -1"):
        mg.index(node, null=-2)


@pytest.mark.parametrize("null", [-1, 3, 7])
def test_softmax_ignores_null_rows(null):
    x, index = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0, 1, null, 1])
    want = [1, 1 / (1 + np.exp(3.0)), 0, 1 / (1 + np.exp(-3.0))]
    np.testing.assert_allclose(mg.segment_softmax(x, index, 3, null=null), want)
    np.testing.assert_allclose(mg.compile(lambda x: mg.segment_softmax(x, index, 3, null=null))(x), want)

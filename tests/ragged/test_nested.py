"""A batch of batches: laid end to end, taken apart again, and mapped over twice."""

import numpy as np
import pytest

import minigrad as mg

from .cases import Molecule, close, molecules

node = mg.axis("node")
W = np.random.default_rng(2).normal(size=(4, 3))
GROUPS = [[(3, 4), (0, 0), (2, 2)], [(1, 0)], [(0, 0), (4, 6)], [(2, 1), (2, 3), (1, 1), (0, 0)]]


def groups():
    return [mg.batch(molecules(sizes, seed=k)) for k, sizes in enumerate(GROUPS)]


def same(a, b):
    for name in Molecule.__schema__.fields:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)


def test_unbatch_is_the_inverse():
    batches = groups()
    nested = mg.batch(batches)
    assert len(nested) == 4
    for have, want in zip(nested.unbatch(), batches, strict=True):
        assert len(have) == len(want)
        same(have, want)
        for h, w in zip(have, want, strict=True):
            same(h, w)
    same(nested[2][1], batches[2][1])
    same(nested[[3, 0]][1], batches[0])
    assert nested.x.shape[0] == sum(n for g in GROUPS for n, _ in g)
    assert nested.src.max() < nested.x.shape[0]


def loss(w, g):
    h = np.tanh(g.x @ w)
    m = mg.segment_sum(h[g.src] * g.w[:, None], g.dst, g.x.shape[0])
    return np.sum((np.sum(m, axis=0) - g.y) ** 2)


PROGRAMS = {
    "loss": loss,
    "mean row": lambda w, g: np.sum(np.sum(g.x, axis=0) / (1 + g.x.shape[0]) * w[:, 0]),
    "largest": lambda w, g: np.max(g.x @ w, initial=-1.0),
    "cumsum": lambda w, g: np.sum(np.cumsum(g.x @ w, axis=0) ** 2),
    "sort": lambda w, g: np.sum(np.sort(g.w) * np.cumsum(np.ones_like(g.w))),
    "attention": lambda w, g: np.sum(np.tanh((g.x @ w) @ (g.x @ w).T) @ g.x),
    "gram": lambda w, g: np.sum(np.tanh(g.x.T @ g.x) @ w),
    "pairs": lambda w, g: np.sum(np.abs(g.x[:, 0][:, None] - g.x[:, 1])),
    "joined": lambda w, g: np.sum(np.concatenate([g.x, g.x[g.src]])[::-1] @ w),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_mapped_twice(name):
    f = PROGRAMS[name]
    batches = groups()
    nested = mg.batch(batches)
    mean = mg.mean_loss(f, (None, 0))
    want = [np.mean([f(W, g) for g in b]) for b in batches]
    for run in (mg.vmap(mean, (None, 0)), mg.compile(mg.vmap(mean, (None, 0)))):
        close(run(W, nested), want)
    each = mg.compile(mg.per_example_grad(mean, in_axes=(None, 0)))(W, nested)
    close(each, [mg.grad(mean)(W, b) for b in batches])
    total = mg.compile(mg.grad(mg.mean_loss(mean, (None, 0))))(W, nested)
    close(total, np.mean(each, axis=0))


def test_each_example_of_each_batch():
    batches = groups()
    out = mg.vmap(lambda b: mg.vmap(lambda g: np.sum(g.x))(b))(mg.batch(batches))
    for have, b in zip(out.unbatch(), batches, strict=True):
        close(have, [np.sum(g.x) for g in b])


def test_only_batches_of_one_kind():
    with pytest.raises(mg.BatchError, match="example 0 is a batch of Molecule, example 1 is not"):
        mg.batch([groups()[0], mg.batch([np.ones(3)], mg.f64[node])])


def test_batches_nested_three_deep():
    word = mg.axis("word")
    sizes = [[[2, 3], [1]], [[4, 0, 2]]]
    examples = [[[np.arange(1.0 * n) for n in inner] for inner in middle] for middle in sizes]
    batch = mg.batch([mg.batch([mg.batch(inner, mg.f64[word]) for inner in middle]) for middle in examples])
    back = [[[x.tolist() for x in inner] for inner in middle] for middle in batch]
    assert back == [[[x.tolist() for x in inner] for inner in middle] for middle in examples]

    def squares(middle):
        return np.sum(mg.vmap(lambda inner: np.sum(mg.vmap(lambda x: np.sum(x ** 2))(inner)))(middle))

    close(mg.vmap(squares)(batch), [6.0, 15.0])
    close(mg.compile(mg.vmap(squares))(batch), [6.0, 15.0])

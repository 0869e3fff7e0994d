"""Some examples at a time: the same mean and gradient, for every way to cut the batch."""

import functools

import numpy as np
import pytest

import minigrad as mg

from .cases import SIZES, close, molecules

node = mg.axis("node")
W = np.random.default_rng(2).normal(size=(4, 3))


def loss(w, g):
    h = np.tanh(g.x @ w)
    m = mg.segment_sum(h[g.src] * g.w[:, None], g.dst, g.x.shape[0])
    return np.sum((np.sum(m, axis=0) - g.y) ** 2) + 0.1 * np.sum(w**2)


def per_node(w, g):
    return np.sum(np.tanh(g.x @ w), axis=1)


AXES = (None, 0)
FUNCTIONS = {
    "mean": mg.mean_loss(loss, AXES),
    "gradient": mg.grad(mg.mean_loss(loss, AXES)),
    "both": mg.value_and_grad(mg.mean_loss(loss, AXES)),
    "each": mg.vmap(loss, AXES),
    "each gradient": mg.per_example_grad(loss, in_axes=AXES),
    "over nodes": mg.value_and_grad(mg.mean_loss(per_node, AXES, over=node)),
    "sum": lambda w, b: np.sum(mg.vmap(loss, AXES)(w, b)),
    "rows": mg.vmap(lambda w, g: g.x @ w, AXES),
    "a regulariser outside": mg.grad(lambda w, b: mg.mean_loss(loss, AXES)(w, b) + np.sum(w**4)),
    "attention": mg.grad(mg.mean_loss(lambda w, g: np.sum(np.tanh((g.x @ w) @ (g.x @ w).T)), AXES)),
}


def leaves(x):
    if isinstance(x, mg.Batch):
        return x.unbatch()
    return [v for part in x for v in leaves(part)] if isinstance(x, tuple) else [x]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_whole_batch(name, size):
    f = FUNCTIONS[name]
    for sizes in ("empty middle", "mixed", "one example"):
        batch = mg.batch(molecules(SIZES[sizes]))
        for g in (f, mg.compile(f)):
            have, want = leaves(mg.microbatch(g, size, AXES)(W, batch)), leaves(f(W, batch))
            assert len(have) == len(want)
            for h, w in zip(have, want, strict=True):
                close(h, w)


def test_dense_arguments_are_cut_too():
    batch, s = mg.batch(molecules(SIZES["empty middle"])), np.arange(4.0)
    f = mg.mean_loss(lambda w, g, s: s * loss(w, g), (None, 0, 0))
    close(mg.microbatch(f, 3)(W, batch, s), f(W, batch, s))


def test_a_shared_batch_is_not_cut():
    batch, shared = mg.batch(molecules(SIZES["mixed"])), mg.batch(molecules([(2, 3)], seed=3))
    f = mg.vmap(lambda s, g: np.sum(g.x), (None, 0))
    close(mg.microbatch(f, 3, (None, 0))(shared, batch), f(shared, batch))


def _with_number(f, b):
    return mg.vmap(functools.partial(f, b.y.shape[0]))(b)


@pytest.mark.parametrize(("f", "words"), [
    (lambda w, b: np.sqrt(mg.mean_loss(loss, AXES)(w, b)), "not linear in the number of examples"),
    (lambda w, b: mg.mean_loss(loss, AXES)(w, b) ** 2, "another way than linearly"),
    (lambda w, b: np.max(mg.vmap(loss, AXES)(w, b)), "other than a sum or a mean"),
    (lambda w, b: np.sum(mg.vmap(loss, AXES)(w, b) - mg.mean_loss(loss, AXES)(w, b)), "a batch statistic"),
    (lambda w, b: np.sum(mg.vmap(loss, AXES)(w, b)) + np.sum(w), "neither a sum nor a mean"),
    (lambda w, b: np.cumsum(mg.vmap(loss, AXES)(w, b)), "keep examples apart"),
    (lambda w, b: mg.vmap(loss, AXES)(w, b) / b.y.shape[0], "depends on how many there are"),
    (lambda w, b: _with_number(lambda n, g: g.src + n, b), "depends on how many there are"),
    (lambda w, b: _with_number(lambda n, g: g.src * 0.5 + n, b), "a sum and a mean"),
    (lambda w, b: _with_number(lambda n, g: (g.src + n) / (g.dst + n + 1), b), "depends on how many there are"),
    (lambda w, b: _with_number(lambda n, g: np.sin(1.0 * (g.src + n)), b), "not linear in the number of examples"),
    (lambda w, b: _with_number(lambda n, g: g.src + n < 5, b), "not linear in the number of examples"),
    (lambda w, b: _with_number(lambda n, g: np.where((g.src - n).astype(bool), 1.0, 2.0), b), "not linear"),
    (lambda w, b: _with_number(lambda n, g: g.x[(g.src + n) % 2], b), "its index depends on the number of examples"),
    (lambda w, b: _with_number(lambda n, g: g.y[(g.src + n) % 3], b), "its index depends on the number of examples"),
    (lambda w, b: np.sum(_with_number(lambda n, g: np.sum(g.src + n), b)), "neither a sum nor a mean"),
])
def test_what_mixes_examples_is_refused(f, words):
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(mg.BatchError, match=words):
        mg.microbatch(f, 2, AXES)(W, batch)


def test_it_takes_arrays():
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(mg.BatchError, match="put grad and compile inside"):
        mg.grad(mg.microbatch(mg.mean_loss(loss, AXES), 2))(W, batch)
    with pytest.raises(mg.BatchError, match="its entry in in_axes is 0 or None"):
        mg.microbatch(mg.mean_loss(loss, AXES), 2, (None, 1))(W, batch)


LOOPS = {
    "scan that ignores its rows": lambda w, g: mg.scan(lambda c, v: (c + 1.0, c), 0.0, g.y)[0] + w.sum(),
    "scan with a shared carry": lambda w, g: mg.scan(
        lambda c, v: ((c[0] + 1.0, c[1] + v * c[0]), c[0]), (0.0, w[0, 0]), g.y)[0][1] * np.sum(g.x @ w),
    "means within the example": lambda w, g: np.var(g.y) * np.mean(g.x @ w) + np.mean(g.y),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_and_means_within_the_example(name):
    f, batch = LOOPS[name], mg.batch(molecules(SIZES["mixed"]))
    for whole in (mg.vmap(f, AXES), mg.mean_loss(f, AXES), mg.per_example_grad(f, in_axes=AXES)):
        for size in (1, 2, 7):
            for h, w in zip(leaves(mg.microbatch(whole, size, AXES)(W, batch)), leaves(whole(W, batch)), strict=True):
                close(h, w)


def first_column(g):
    return g.x[:, 0]


# A row of an example counts from the start of its own parts, wherever they stand in the batch.
MERGED = {
    "itself": lambda g: np.concatenate([first_column(g), 2 * first_column(g)]),
    "another axis": lambda g: np.concatenate([first_column(g), g.w]),
    "three parts": lambda g: np.concatenate([g.w, first_column(g), g.w]),
    "a row before": lambda g: np.concatenate([np.ones((1, 4)), g.x]),
    "rows after": lambda g: np.concatenate([first_column(g), g.y]),
    "a part of a part": lambda g: np.concatenate([g.w, np.concatenate([np.ones(1), first_column(g)])]),
    "numbers of rows": lambda g: mg.numpy.arange(g.x.shape[0]) * 2.0,
    "one more number": lambda g: mg.numpy.arange(g.x.shape[0] + 1),
    "numbers of two axes": lambda g: 0.5 * np.concatenate(
        [mg.numpy.arange(x.shape[0]) for x in (g.x, g.w)]),
    "sums so far": lambda g: np.cumsum(np.concatenate([g.w, g.w])),
    "backwards": lambda g: np.flip(np.concatenate([g.w, np.ones(2)])),
    "in order": lambda g: np.sort(np.concatenate([g.w, np.ones(1)])),
    "order": lambda g: np.argsort(np.concatenate([g.w, np.ones(1)]), kind="stable"),
    "first": lambda g: np.concatenate([g.y, g.w])[0],
    "last": lambda g: np.concatenate([g.w, g.y])[-1],
    "largest": lambda g: np.max(np.concatenate([g.w, first_column(g)]), initial=-9.0),
    "mean": lambda g: np.mean(np.concatenate([np.ones((1, 4)), g.x]), axis=0),
    "pairs": lambda g: np.sum(np.outer(g.w, np.concatenate([g.w, g.w]))),
}


@pytest.mark.parametrize("name", MERGED)
def test_merged_axes(name):
    f, examples = MERGED[name], molecules(SIZES["empty middle"])
    batch = mg.batch(examples)

    def of_example(c, g):
        return np.sum(np.tanh(c * f(g)))

    with_parameter = mg.grad(mg.mean_loss(of_example, AXES)), mg.per_example_grad(of_example, in_axes=AXES)
    slopes = [np.sum(f(g) / np.cosh(1.5 * f(g)) ** 2) for g in examples]
    for size in (1, 2, 3, 7):
        rows = mg.microbatch(mg.vmap(f), size)(batch)
        rows = rows.unbatch() if isinstance(rows, mg.Batch) else rows
        for h, g in zip(rows, examples, strict=True):
            close(h, f(g))
            assert h.dtype == f(g).dtype
        close(mg.microbatch(with_parameter[0], size, AXES)(1.5, batch), np.mean(slopes))
        close(mg.microbatch(with_parameter[1], size, AXES)(1.5, batch), slopes)

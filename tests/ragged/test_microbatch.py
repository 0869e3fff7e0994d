"""Some examples at a time: the same mean and gradient, for every way to cut the batch."""

import functools

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

from .cases import SIZES, close, edge, molecules, unbatched
from .programs import draw_batch, draw_program, run
from .test_random import Drawn

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
def test_parts_sum_to_the_whole_batch(name, size):
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


def test_two_batches_are_cut_together():
    left, right = molecules(SIZES["empty middle"]), molecules(SIZES["mixed"], seed=4)
    both = mg.batch(left), mg.batch(right)

    def distance(w, g, h):
        return np.sum((np.sum(np.tanh(g.x @ w), axis=0) - np.sum(h.x[h.src] @ w, axis=0)) ** 2) + loss(w, h)

    value = np.mean([distance(W, g, h) for g, h in zip(left, right, strict=True)])
    gradient = np.mean([mg.grad(distance)(W, g, h) for g, h in zip(left, right, strict=True)], axis=0)
    for size in (1, 3, 7):
        part = mg.microbatch(mg.mean_loss(distance, (None, 0, 0)), size)
        for how in (lambda f: f, mg.compile):
            v, g = how(mg.value_and_grad(part))(W, *both)
            close(v, value)
            close(g, gradient)


def test_a_shared_batch_is_not_cut():
    batch, shared = mg.batch(molecules(SIZES["mixed"])), mg.batch(molecules([(2, 3)], seed=3))
    f = mg.vmap(lambda s, g: np.sum(g.x), (None, 0))
    close(mg.microbatch(f, 3, (None, 0))(shared, batch), f(shared, batch))


def _with_number(f, b):
    return mg.vmap(functools.partial(f, b.y.shape[0]))(b)


def of_sums(f):
    return lambda w, b: f(np.mean(mg.vmap(loss, AXES)(w, b)), np.sum(w))


ON_BATCHES = {  # programs of a batch: sums in any use, numbers of examples and of rows, packed arrays themselves
    "root of a mean": of_sums(lambda m, r: np.sqrt(m)),
    "square of a mean": of_sums(lambda m, r: m ** 2),
    "a sum and a constant": of_sums(lambda m, r: m + r),
    "ratio of means": lambda w, b: mg.mean_loss(loss, AXES)(w, b) / mg.mean_loss(per_node, AXES, over=node)(w, b),
    "rows by the number of examples": lambda w, b: mg.vmap(loss, AXES)(w, b) / b.y.shape[0],
    "index and number": lambda w, b: _with_number(lambda n, g: g.src + n, b),
    "quotient of such": lambda w, b: _with_number(lambda n, g: (g.src * 0.5 + n) / (g.dst + n + 1), b),
    "choice by such": lambda w, b: _with_number(lambda n, g: np.where(g.src + n < 5, 1.0, np.sin(1.0 * n)), b),
    "rows by such": lambda w, b: _with_number(lambda n, g: g.x[(g.src + n) % g.x.shape[0]], b),
    "columns by such": lambda w, b: _with_number(lambda n, g: g.y[(g.src + n) % 3], b),
    "sum of such": lambda w, b: np.sum(_with_number(lambda n, g: np.sum(g.src + n), b)),
    "packed rows": lambda w, b: np.sum(np.tanh(b.x @ w)) / b.x.shape[0] + np.mean(b.w) * np.sum(b.y),
    "packed rows by index": lambda w, b: np.sum(np.tanh(b.x[b.src] @ w) * b.w[:, None]),
    "packed sums": lambda w, b: mg.segment_sum(b.w[:, None] * (b.x[b.src] @ w), b.dst, b.x.shape[0]),
    "extremes": lambda w, b: (np.max(mg.vmap(loss, AXES)(w, b)) - np.min(b.x, axis=0), np.max(b.w)),
    "packed indices": lambda w, b: (b.src, 2 * b.x, b.lengths[node]),
}


@pytest.mark.parametrize("name", ON_BATCHES)
def test_programs_of_a_batch(name):
    f = ON_BATCHES[name]
    for sizes in ("mixed", "one example"):
        batch = mg.batch(molecules(SIZES[sizes]))
        want = leaves(f(W, batch))
        for size in (1, 2, 3, 7):
            for g in (mg.microbatch(f, size, AXES), mg.compile(mg.microbatch(f, size, AXES))):
                for h, w in zip(leaves(g(W, batch)), want, strict=True):
                    close(h, w)


def test_identity_returns_the_batch():
    batch = mg.batch(molecules(SIZES["empty middle"]))
    for size in (1, 2, 7):
        same = mg.microbatch(lambda b: b, size)(batch)
        for have, want in zip(optree.tree_leaves(same), optree.tree_leaves(batch), strict=True):
            np.testing.assert_array_equal(have, want, strict=True)


@pytest.mark.parametrize(("f", "words"), [
    (lambda w, b: np.max(b.x), r"max\(.*other than a sum or a mean"),
    (lambda w, b: np.sum(np.ones_like(b.w)[b.src] * b.w), "gather.*its index points at rows of another axis"),
    (lambda w, b: np.max(b.src), r"max\(i64\[edge\]\).*positions of rows"),
    (lambda w, b: np.sum(mg.vmap(loss, AXES)(w, b) - mg.mean_loss(loss, AXES)(w, b)), "a batch statistic"),
    (lambda w, b: b.x - np.mean(b.x, axis=0), "a batch statistic"),
    (lambda w, b: np.cumsum(mg.vmap(loss, AXES)(w, b)), "cumsum.*works along the batch axis"),
    (lambda w, b: np.cumsum(b.x, axis=0), "cumsum.*works along the batch axis"),
    (lambda w, b: mg.grad(lambda x: np.sum(np.cumsum(x, axis=0) * b.x))(b.x), "flip.*works along the batch axis"),
    (lambda w, b: np.flip(b.x, axis=0), "flip.*works along the batch axis"),
    (lambda w, b: np.sum(b.src * 1.0), r"mul\(f64\[edge\].*positions of rows, and the rows of a part are counted"),
    (lambda w, b: np.sum(b.x[b.src - 1]), "sub.*positions of rows"),
    (lambda w, b: np.sum(b.x[np.where(b.w > 0, b.src, 0)]), "where.*positions of rows"),
    (lambda w, b: np.sum(b.x[b.x[:, 0].astype(int)]), "gather.*picks examples by an index"),
    (lambda w, b: mg.numpy.arange(b.x.shape[0]) * 1.0, "positions of rows"),
    (lambda w, b: mg.numpy.arange(b.y.shape[0]) * 1.0, "counts the examples"),
    (lambda w, b: np.concatenate([b.x, b.x]), r"concatenate.*f64\[2\*node, 4\].*moves elements across"),
    (lambda w, b: np.concatenate([b.x, w.T]), "concatenate.*merged with another"),
    (lambda w, b: b.x @ b.x.T, "einsum.*twice"),
    (lambda w, b: mg.microbatch(mg.mean_loss(loss, AXES), 1)(w, b), "passes already"),
])
def test_programs_that_mix_examples_are_refused(f, words):
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(mg.BatchError, match=words) as error:
        mg.microbatch(f, 2, AXES)(W, batch)
    if "loss" not in words and not f.__code__.co_names.count("vmap"):
        assert f"test_microbatch.py:{f.__code__.co_firstlineno}: microbatch(lambda_): " in str(error.value)


def test_in_axes_of_a_batch():
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(mg.BatchError, match=r"microbatch\(loss\).*its entry in in_axes is 0, not 1 \(None where"):
        mg.microbatch(mg.mean_loss(loss, AXES), 2, (None, 1))(W, batch)


def mean_of_loop(f, examples):
    return np.mean([f(W, g) for g in examples], axis=0)


@pytest.mark.parametrize("sizes", ["mixed", "empty first", "empty middle", "empty last", "no edges", "one example"])
def test_derivatives_of_microbatch(sizes):
    """Each is the mean of the examples' own, whatever the size of a part."""
    examples = molecules(SIZES[sizes])
    batch, slope = mg.batch(examples), np.cos(W)
    value, gradient = mean_of_loop(loss, examples), mean_of_loop(mg.grad(loss), examples)
    product = mean_of_loop(lambda w, g: mg.hvp(lambda w: loss(w, g), (w,), (slope,)), examples)
    curvature = mean_of_loop(mg.hessian(loss), examples)
    for size in range(1, len(examples) + 2):
        part = mg.microbatch(mg.mean_loss(loss, AXES), size)
        close(part(W, batch), value)
        close(mg.grad(part)(W, batch), gradient)
        for how in (lambda f: f, mg.compile, functools.partial(mg.compile, backend="numpy")):
            v, g = how(mg.value_and_grad(part))(W, batch)
            close(v, value)
            close(g, gradient)
        close(mg.hvp(lambda w, part=part: part(w, batch), (W,), (slope,)), product)
        close(mg.hessian(part)(W, batch), curvature)
        close(mg.vmap(part, (0, None))(np.stack([W, 2 * W]), batch),
              [value, np.mean([loss(2 * W, g) for g in examples])])


@mg.example
class Rooted:
    x: mg.f64[node]
    parent: mg.index(node, null=-1)[node]
    edges: mg.index(node)[edge]
    root: mg.index(node, null=-1)[()]


READ = {"rows": lambda t: t.edges, "null rows": lambda t: t.parent, "one row": lambda t: t.root}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", READ)
def test_hessians_of_gathers_with_null_rows(name, size):
    trees = [Rooted([0.4, -1.0], [-1, 0], [1, 1, 0], 1), Rooted([2.0], [-1], [], -1),
             Rooted([0.1, 0.7, -0.3], [2, -1, 1], [2, 0], 0), Rooted([1.5, -0.8], [1, 1], [0], -1)]
    w, batch = np.array([0.7, -0.4, 1.3]), mg.batch(trees)

    def energy(w, t):
        return w[2] * np.sum(mg.gather(np.tanh(w[0] * t.x + w[1]), READ[name](t)) ** 2)

    hessian = mg.microbatch(mg.hessian(mg.mean_loss(energy, AXES)), size, AXES)
    expected = np.mean([mg.hessian(energy)(w, t) for t in trees], axis=0)
    close(hessian(w, batch), expected)
    close(mg.compile(hessian)(w, batch), expected)


def test_one_compiled_program_for_all_batches_and_parts():
    step = mg.compile(mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, AXES), 2)))
    for sizes in SIZES.values():
        examples = molecules(sizes)
        value, gradient = step(W, mg.batch(examples))
        close(value, mean_of_loop(loss, examples))
        close(gradient, mean_of_loop(mg.grad(loss), examples))
    assert len(step.entries) == 1


def test_statistics_of_gradients():
    examples = molecules(SIZES["mixed"])
    batch = mg.batch(examples)
    norms = [np.sum(mg.grad(loss)(W, g) ** 2) for g in examples]

    def square_norms(w, b):
        return np.sum(mg.per_example_grad(loss, in_axes=AXES)(w, b) ** 2, axis=(1, 2))

    def mean_clipped(w, b):
        each = mg.per_example_grad(loss, in_axes=AXES)(w, b)
        return np.mean(each / (1 + square_norms(w, b))[:, None, None], axis=0)

    clipped = np.mean([mg.grad(loss)(W, g) / (1 + n) for g, n in zip(examples, norms, strict=True)], axis=0)
    for size in (1, 3, 7):
        for how in (lambda f: f, mg.compile):
            close(how(mg.microbatch(square_norms, size, AXES))(W, batch), norms)
            close(how(mg.microbatch(mean_clipped, size, AXES))(W, batch), clipped)


def test_gradients_of_dense_arguments():
    examples, s = molecules(SIZES["empty middle"]), np.arange(1.0, 5)
    batch, values = mg.batch(examples), np.array([loss(W, g) for g in examples])
    for size in (1, 3, 7):
        part = mg.microbatch(mg.mean_loss(lambda w, g, s: s ** 2 * loss(w, g), (None, 0, 0)), size)
        for how in (lambda f: f, mg.compile):
            close(how(mg.grad(part, 2))(W, batch, s), 2 * s * values / 4)


NESTED = [[(3, 4), (0, 0), (2, 2)], [(1, 0)], [(0, 0), (4, 6)], [(2, 1), (2, 3), (1, 1), (0, 0)]]
WITHIN = {
    "loss": loss,
    "cumsum": lambda w, g: np.sum(np.cumsum(g.x @ w, axis=0) ** 2),
    "sort": lambda w, g: np.sum(np.sort(g.w) * np.cumsum(np.ones_like(g.w))),
    "attention": lambda w, g: np.sum(np.tanh((g.x @ w) @ (g.x @ w).T) @ g.x),
    "pairs": lambda w, g: np.sum(np.abs(g.x[:, 0][:, None] - g.x[:, 1])),
    "joined": lambda w, g: np.sum(np.concatenate([g.x, g.x[g.src]])[::-1] @ w),
}


@pytest.mark.parametrize("name", WITHIN)
def test_batches_of_batches(name):
    f = WITHIN[name]
    batches = [mg.batch(molecules(sizes, seed=k)) for k, sizes in enumerate(NESTED)]
    nested, mean = mg.batch(batches), mg.mean_loss(f, AXES)
    values = [np.mean([f(W, g) for g in b]) for b in batches]
    slopes = [np.mean([mg.grad(f)(W, g) for g in b], axis=0) for b in batches]
    for size in (1, 3):
        close(mg.microbatch(mg.vmap(mean, AXES), size)(W, nested), values)
        close(mg.microbatch(mg.per_example_grad(mean, in_axes=AXES), size)(W, nested), slopes)
        value, slope = mg.compile(mg.value_and_grad(mg.microbatch(mg.mean_loss(mean, AXES), size)))(W, nested)
        close(value, np.mean(values))
        close(slope, np.mean(slopes, axis=0))
        within = mg.microbatch(mean, size)  # within each of the batches
        close(mg.vmap(within, AXES)(W, nested), values)
        close(mg.grad(mg.mean_loss(within, AXES))(W, nested), np.mean(slopes, axis=0))


@mg.custom_vjp(lambda g, out, x: (np.ones_like(x) * g * 3 / x.shape[0],))
def middle(x):
    return np.sum(x, axis=0) / x.shape[0]


@mg.custom_jvp(lambda d, out, w, x: 3 * (x @ d[0]) + 2 * (d[1] @ w))
def product(w, x):
    return x @ w


@mg.custom_vjp(lambda g, out, x, i: (mg.segment_sum(g * 2, i, x.shape[0]), None))
def picked(x, i):
    return x[i]


OWN = {"a mean of rows": lambda w, g: middle(g.x @ w), "forward": lambda w, g: product(w, g.x),
       "an index": lambda w, g: picked(g.x @ w, g.src), "checkpoint": lambda w, g: mg.checkpoint(
           lambda w, x, i: np.tanh(x @ w)[i])(w, g.x, g.src)}


@pytest.mark.parametrize("name", OWN)
def test_functions_that_hold_graphs(name):
    """Their rules differ from what differentiation would find, so that it shows that they are asked."""
    def own(w, g):
        return np.sum(np.sin(OWN[name](w, g)))

    examples = molecules(SIZES["mixed"])
    batch, gradient = mg.batch(examples), mean_of_loop(mg.grad(own), examples)
    for size in (1, 3):
        part = mg.microbatch(mg.mean_loss(own, AXES), size)
        for how in (lambda f: f, mg.compile):
            close(how(mg.grad(part))(W, batch), gradient)
            close(how(mg.microbatch(mg.grad(mg.mean_loss(own, AXES)), size, AXES))(W, batch), gradient)


@mg.example
class Tree:
    x: mg.f64[node, 2]
    parent: mg.index(node, null=-1)[node]
    root: mg.index(node, null=-1)[()]


NULL = {"gather": lambda t: mg.gather(t.x, t.parent), "root": lambda t: mg.gather(t.x, t.root),
        "sum": lambda t: mg.segment_sum(t.x, t.parent, t.x.shape[0], null=-1),
        "softmax": lambda t: mg.segment_softmax(t.x, t.parent, t.x.shape[0], null=-1),
        "as a number": lambda t: t.parent * 1.0 + t.root}


@pytest.mark.parametrize("name", NULL)
def test_nullable_indices(name):
    f, rng = NULL[name], np.random.default_rng(0)
    trees = [Tree(rng.normal(size=(n, 2)), rng.integers(-1, n, n), k % 2 - 1) for k, n in enumerate((3, 4, 1, 5))]
    batch = mg.batch(trees)

    def g(c, t):
        return np.sum(np.sin(c * f(t)))

    for size in (1, 2, 3, 7):
        for have, t in zip(unbatched(mg.microbatch(mg.vmap(f), size)(batch)), trees, strict=True):
            close(have, f(t))
        close(mg.compile(mg.grad(mg.microbatch(mg.mean_loss(g, AXES), size)))(0.7, batch),
              np.mean([mg.grad(g)(0.7, t) for t in trees]))
        same = mg.microbatch(lambda b: b, size)(batch)
        np.testing.assert_array_equal(same.parent, batch.parent)
        np.testing.assert_array_equal(same.root, batch.root)


@pytest.mark.parametrize("how", ["as it is", "numpy", "native"])
def test_an_index_is_checked_within_its_example(how):
    f = mg.vmap(lambda g: g.x[g.src + 1])
    part = mg.microbatch(f, 2)
    part = part if how == "as it is" else mg.compile(part, backend=how)
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(IndexError, match="out of range for an example with"):
        part(batch)


@given(st.data())
def test_random_programs_and_parts(data):
    cls, examples = draw_batch(Drawn(data))
    steps, _ = draw_program(Drawn(data), cls)
    batch, size = mg.batch(examples), data.draw(st.integers(1, len(examples) + 1))

    def one(g):
        return run(steps, cls, g)

    def value(c, g):
        return np.sum(np.sin(run(steps, cls, g, c)))

    for have, g in zip(unbatched(mg.microbatch(mg.vmap(one), size)(batch)), examples, strict=True):
        close(have, one(g))
    slopes = [mg.grad(value)(0.7, g) for g in examples]
    close(mg.microbatch(mg.per_example_grad(value, in_axes=AXES), size, AXES)(0.7, batch), slopes)
    have = mg.compile(mg.value_and_grad(mg.microbatch(mg.mean_loss(value, AXES), size)))(0.7, batch)
    close(have[0], np.mean([value(0.7, g) for g in examples]))
    close(have[1], np.mean(slopes))


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


# -- positions in the whole batch -----------------------------------------------------------------------------


def pointing():
    """Return a batch whose indices count from the first row of all: an index per edge, and one that may be null."""
    @mg.example
    class Pointing:
        x: mg.f64[node]
        src: mg.index(node)[edge]
        par: mg.index(node, null=-1)[node]

    return mg.batch([
        Pointing(x=np.array([1.0, 2, 3]), src=np.array([2, 0]), par=np.array([-1, 0, 1])),
        Pointing(x=np.array([4.0, 5]), src=np.array([1]), par=np.array([-1, 0]))])


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("f", [
    lambda b: b.src + b.x.shape[0] - b.x.shape[0], lambda b: np.cumsum(np.zeros_like(b.src)),
    lambda b: b.x[b.src], lambda b: mg.vmap(lambda s: b.x[s])(b.src), lambda b: b.par == -1, lambda b: b.src > -2,
    lambda b: b.par.astype(np.float32)])
def test_microbatch_keeps_positions_in_whole_batch(f, size):
    b = pointing()
    np.testing.assert_array_equal(mg.microbatch(f, size)(b), mg.compile(f, backend="numpy")(b))


@pytest.mark.parametrize("f", [
    lambda b: mg.vmap(lambda s: b.x[s - 1])(b.src), lambda b: mg.mean_loss(lambda s: b.x[s - 1] ** 2)(b.src),
    lambda b: mg.vmap(lambda k: b.x[b.src - k], out_axes=1)(np.array([0, 1])),
    lambda b: mg.vmap(lambda s: mg.grad(lambda q: q**2 * b.x[s - 1])(1.0))(b.src),
    lambda b: mg.vmap(lambda s: (s - 3) < -1)(b.src), lambda b: b.x[b.src - 1],
    lambda b: b.x[b.par], lambda b: b.par[b.par], lambda b: mg.vmap(lambda s: b.x[s])(b.par),
    lambda b: mg.checkpoint(lambda x, s: x[s])(b.x, b.par), lambda b: -b.par, lambda b: -b.par.astype(np.float32),
    lambda b: b.par + b.par, lambda b: -b.src < -1, lambda b: -b.src == -1,
    lambda b: (b.src - b.x.shape[0] < -3) * np.sum(b.x), lambda b: b.par.astype(np.uint8),
    lambda b: b.src.astype(bool)])
def test_positions_that_a_part_cannot_know_are_refused(f):
    """An index less one may be a row of the part before, and -1 is the last row of all."""
    with pytest.raises(mg.BatchError, match=r"test_microbatch.*mixes examples"):
        mg.microbatch(f, 1)(pointing())


@pytest.mark.parametrize("rows", [lambda e: e.x[::2], lambda e: e.x[::-3], lambda e: e.x[e.x[:, 0] > 0],
                                  lambda e: np.repeat(e.x, 2, axis=0)[::3],
                                  lambda e: np.concatenate([e.x[e.x.shape[0] // 2:], 2 * e.x[:e.x.shape[0] // 2]])])
@pytest.mark.parametrize("lengths", [(3, 1, 4), (0, 0, 1, 2), (5, 0)])
def test_passes_of_gradients_along_axes_whose_lengths_each_example_defines(rows, lengths):
    p = mg.axis("p")

    @mg.example
    class Points:
        x: mg.f64[p, 2]

    rng = np.random.default_rng(0)
    examples = [Points(x=rng.normal(size=(n, 2))) for n in lengths]

    def loss(w, e):
        return np.tanh(np.cumsum(rows(e), axis=0) @ w).sum() + rows(e).sum() * w[0]

    w, batch = np.array([0.5, -1.0]), mg.batch(examples)
    mean = mg.grad(mg.mean_loss(loss, in_axes=(None, 0)))
    rows_too = mg.grad(mg.mean_loss(lambda c, e: np.sin(rows(Points(x=c * e.x))).sum(), in_axes=(None, 0)))
    want = np.mean([mg.grad(loss)(w, e) for e in examples], axis=0)
    for size in (1, 2, 3):
        np.testing.assert_allclose(mg.microbatch(mean, size, in_axes=(None, 0))(w, batch), want, atol=1e-13)
        np.testing.assert_allclose(mg.microbatch(rows_too, size, in_axes=(None, 0))(0.7, batch), rows_too(0.7, batch),
                                   atol=1e-13)

"""Functions of two batches: axes of one name have a size each, or one where the program combines rows one by one."""

import numpy as np
import pytest

import minigrad as mg

word, edge = mg.axis("word"), mg.axis("edge")
rng = np.random.default_rng(0)
P = rng.normal(size=(3, 3))
SIZES, OTHERS = (2, 0, 4, 1), (3, 5, 0, 1)


@mg.example
class Sentence:
    x: mg.f64[word, 3]
    y: mg.f64[()]


@mg.example
class Links:
    z: mg.f64[word]
    to: mg.index(word)[edge]


def sentences(sizes=SIZES):
    return [Sentence(rng.normal(size=(n, 3)), rng.normal()) for n in sizes]


def links(sizes=SIZES):
    return [Links(rng.normal(size=n), rng.integers(0, n, 2 * n)) for n in sizes]


def scanned(p, s, t):
    return np.sum(mg.scan(lambda h, r: (np.tanh(h + r[0] @ p * r[1]), None), s.y * np.ones(3), (s.x, t.x))[0])


def attention(p, s, t):
    """Attend from each word of `s` to those of `t`, which must have some."""
    return np.sum(mg.special.softmax(s.x @ p @ t.x.T, axis=1) @ t.x) + t.y


def aligned(p, s, t):
    """Fill the table of an alignment, a row for each word of `s`."""
    scores = np.tanh(s.x @ p @ t.x.T)

    def row(above, r):
        def cell(here, near):
            diagonal, up, own = near
            best = np.logaddexp(np.logaddexp(diagonal + own, up), here)
            return best, best

        _, others = mg.scan(cell, above[0], (above[:-1], above[1:], r))
        return np.concatenate([above[:1], others]), None

    return mg.scan(row, mg.numpy.zeros(t.x.shape[0] + 1), scores)[0][-1]


ROW_BY_ROW = {
    "sum": lambda p, s, t: np.sum(np.tanh(s.x @ p + t.x) ** 2),
    "product": lambda p, s, t: np.sum(np.sin(s.x.T @ t.x @ p)),
    "einsum": lambda p, s, t: np.einsum("ni,ij,nj->", s.x, p, t.x),
    "scan": scanned,
    "slices": lambda p, s, t: np.sum(s.x[::-1] @ p * t.x[::-1] * t.x[::2].sum(axis=0)),
    "mask": lambda p, s, t: np.sum((s.x @ p)[t.x[:, 0] > 0] ** 2),
    "where": lambda p, s, t: np.sum(np.where(t.x > 0, s.x @ p, 0.0)),
    "block": lambda p, s, t: np.sum(np.tanh(s.x @ p @ s.x.T * (t.x @ t.x.T))),
    "concatenation": lambda p, s, t: np.sum(np.tanh(np.concatenate([s.x, t.x], axis=1) @ np.concatenate([p, p]))),
    "segments": lambda p, s, t: np.sum(np.cumsum(s.x @ p, axis=0) * np.sort(t.x, axis=0)),
}
OF_PAIRS = {
    "attention": attention,
    "distances": lambda p, s, t: np.sum(np.exp(-np.sum(((s.x @ p)[:, None] - t.x[None]) ** 2, axis=-1))),
    "transpose": lambda p, s, t: np.sum(np.tanh((s.x @ p @ t.x.T).T @ s.x)),
    "sort": lambda p, s, t: np.sum(np.sort(s.x @ p @ t.x.T, axis=1) * np.argsort(s.x @ t.x.T, axis=0)),
    "select": lambda p, s, t: np.sum((s.x @ p)[np.nonzero(s.x @ t.x.T > 0)[0]] ** 2),
    "alignment": aligned,
}
HOW = {"eager": lambda f: f, "numpy": lambda f: mg.compile(f, backend="numpy"),
       "native": lambda f: mg.compile(f, backend="native")}


def equal_the_loop(f, first, second, how):
    mean = mg.mean_loss(f, in_axes=(None, 0, 0))
    each = [mg.value_and_grad(f)(P, s, t) for s, t in zip(first, second, strict=True)]
    pair = mg.batch(first), mg.batch(second)
    want = np.mean([v for v, _ in each]), np.mean([g for _, g in each], axis=0)
    for g in (mean, mg.microbatch(mean, 3)):
        step = how(mg.value_and_grad(g))
        for _ in range(2):
            value, gradient = step(P, *pair)
            np.testing.assert_allclose(value, want[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(gradient, want[1], rtol=1e-9, atol=1e-12)
        if hasattr(step, "entries"):
            half = mg.batch(first[:2]), mg.batch(second[:2])
            np.testing.assert_allclose(step(P, *half)[0], np.mean([v for v, _ in each[:2]]), rtol=1e-9, atol=1e-12)
            assert len(step.entries) == 1
    rows = how(mg.vmap(mg.grad(f), in_axes=(None, 0, 0)))(P, *pair)
    np.testing.assert_allclose(rows, [g for _, g in each], rtol=1e-9, atol=1e-12)
    v = np.ones_like(P)
    bend = mg.hvp(lambda p: mean(p, *pair), (P,), (v,))
    loop = np.mean([mg.hvp(lambda p, s=s, t=t: f(p, s, t), (P,), (v,))
                    for s, t in zip(first, second, strict=True)], axis=0)
    np.testing.assert_allclose(bend, loop, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("f", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_rows_of_two_batches_are_combined_one_by_one(f, how):
    equal_the_loop(f, sentences(), sentences(), how)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("f", OF_PAIRS.values(), ids=OF_PAIRS)
def test_pairs_of_rows_of_two_batches(f, how):
    others = [n or 1 for n in OTHERS] if f is attention else OTHERS
    equal_the_loop(f, sentences(), sentences(others), how)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_indices_into_an_axis_of_another_batch(how):
    def f(p, s, t):
        return np.sum((s.x @ p)[t.to] ** 2) + np.sum(mg.segment_sum(t.z[t.to], t.to, s.x.shape[0]) * s.x[:, 0])

    equal_the_loop(f, sentences(), links(), how)


def test_an_index_beyond_the_rows_of_another_batch_is_refused():
    with pytest.raises(IndexError, match="out of range"):
        mg.vmap(lambda s, t: s.x[t.to])(mg.batch(sentences((2, 1))), mg.batch(links((2, 3))))


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_three_batches(how):
    f = how(mg.vmap(lambda s, t, u: np.sum(s.x * t.x * u.x)))
    batches = [sentences() for _ in range(3)]
    want = [np.sum(s.x * t.x * u.x) for s, t, u in zip(*batches, strict=True)]
    np.testing.assert_allclose(f(*map(mg.batch, batches)), want)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: mg.microbatch(f, 2)], ids=["whole", "microbatch"])
def test_lengths_that_differ_are_refused(how, wrap):
    f = how(wrap(mg.vmap(lambda s, t: s.x + t.x)))
    f(mg.batch(sentences((1, 2, 3))), mg.batch(sentences((1, 2, 3))))
    with pytest.raises(ValueError, match="example 1: its lengths of word differ between two batches"):
        f(mg.batch(sentences((1, 2, 3))), mg.batch(sentences((1, 3, 2))))
    with pytest.raises(mg.BatchError, match=r"test_common_axes.py:\d+: .*6 and 7 rows"):
        f(mg.batch(sentences((1, 2, 3))), mg.batch(sentences((1, 2, 4))))


def test_sizes_that_are_compared_stay_apart():
    f = mg.vmap(lambda s, t: np.where(s.x.shape[0] == t.x.shape[0], 1.0, 0.0))
    have = f(mg.batch(sentences((1, 2))), mg.batch(sentences((1, 3))))
    np.testing.assert_array_equal(have, [1.0, 0.0])


def test_three_axes_of_one_batch():
    def f(s):
        a, b, c = s.x.T
        return np.sum(np.tanh(a[:, None, None] * b[None, :, None] + c))

    examples = sentences()
    np.testing.assert_allclose(mg.vmap(f)(mg.batch(examples)), [f(s) for s in examples])
    np.testing.assert_allclose(mg.compile(mg.vmap(f))(mg.batch(examples)), [f(s) for s in examples])


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_sizes_that_the_data_determine_of_axes_that_become_one(how):
    # numbers of elements of slices that a trace defined before it took the two axes for one
    def f(s, t):
        return np.sum(s.x[::2], axis=0) * np.sum(t.x[::2], axis=0) * (s.x * t.x)

    first, second = sentences(), sentences()
    have = how(mg.vmap(f))(mg.batch(first), mg.batch(second))
    for h, s, t in zip(have, first, second, strict=True):
        np.testing.assert_allclose(h, s.x[::2].sum(axis=0) * t.x[::2].sum(axis=0) * s.x * t.x)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("others", [SIZES, OTHERS], ids=["equal lengths", "other lengths"])
def test_blocks_over_an_axis_of_each_batch_are_results(how, others):
    first, second = sentences(), sentences(others)
    have = how(mg.vmap(lambda s, t: s.x @ t.x.T))(mg.batch(first), mg.batch(second))
    assert [a.name for a in have.schema.axes] == ["word", "word'"]
    for h, s, t in zip(have, first, second, strict=True):
        np.testing.assert_allclose(h, s.x @ t.x.T)
    rows = how(mg.vmap(lambda h: np.sum(h, axis=1)))(have)
    for r, s, t in zip(rows, first, second, strict=True):
        np.testing.assert_allclose(r, (s.x @ t.x.T).sum(axis=1), atol=1e-12)
    sliced = how(mg.vmap(lambda s, t: s.x[::-1] @ np.concatenate([t.x, t.x]).T))(mg.batch(first), mg.batch(second))
    for h, s, t in zip(sliced, first, second, strict=True):
        np.testing.assert_allclose(h, s.x[::-1] @ np.concatenate([t.x, t.x]).T)

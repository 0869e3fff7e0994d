"""Loops over ragged axes and beside ragged values, against the loop over the examples."""

from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from tests.ragged.cases import close

word, letter = mg.axis("word"), mg.axis("letter")


@mg.example
class Sentence:
    x: mg.f64[word, 3]
    key: mg.f64[letter]
    y: mg.f64[3]


SIZES = {"mixed": [(3, 4), (1, 2), (5, 3), (2, 0)],
         "empty first": [(0, 2), (3, 1), (2, 5)],
         "empty middle": [(3, 4), (0, 0), (0, 1), (2, 3)],
         "empty last": [(3, 4), (2, 5), (0, 2)],
         "all empty": [(0, 2), (0, 1)],
         "one word": [(1, 1), (1, 3), (1, 2)],
         "one example": [(4, 3)],
         "equal lengths": [(3, 3), (3, 3), (3, 3)]}
W = np.random.default_rng(3).normal(size=(3, 3))


def sentences(sizes):
    rng = np.random.default_rng(0)
    return [Sentence(rng.normal(size=(n, 3)), rng.normal(size=m), rng.normal(size=3)) for n, m in sizes]


def recurrent(w, x, reverse=False):
    def step(h, row):
        h = np.tanh(w @ h + row)
        return h, h

    return mg.scan(step, np.zeros(3), x, reverse=reverse)


def gated(w, s):
    """An LSTM cell with one matrix."""
    def step(state, row):
        h, c = state
        gate = 1 / (1 + np.exp(-(w @ h + row)))
        c = gate * c + (1 - gate) * np.tanh(row)
        return (gate * np.tanh(c), c), None

    (h, c), _ = mg.scan(step, (np.zeros(3), s.y), s.x)
    return np.sum(h * s.y) + np.sum(c)


def attention(w, s):
    """Each step attends to all words of its sentence."""
    def step(h, row):
        scores = np.exp(s.x @ h)
        return np.tanh(w @ row + (scores[:, None] * s.x).sum(axis=0) / scores.sum()), None

    return mg.scan(step, s.y, s.x)[0].sum()


def crf(w, s):
    """The logarithm of the sum over all paths of labels."""
    if_any = np.concatenate([s.x, s.y[None]])  # the recursion begins at a first word
    def step(alpha, row):
        return np.log(np.exp(alpha[:, None] + w).sum(axis=0)) + row, None

    return np.log(np.exp(mg.scan(step, if_any[0], if_any[1:])[0]).sum())


def edit_distance(w, s):
    """The soft distance between the words and the letters: a row of the table is a state of ragged size."""
    cost = w[0, 0] * (s.x[:, :1] - s.key) ** 2

    def row(above, costs):
        def cell(left, near):
            diagonal, up, c = near
            here = -np.log(np.exp(-diagonal - c) + np.exp(-up - 1) + np.exp(-left - 1))
            return here, here

        first = above[0] + 1
        _, others = mg.scan(cell, first, (above[:-1], above[1:], costs))
        return np.concatenate([first[None], others]), None

    return mg.scan(row, 1.0 * mg.numpy.arange(s.key.shape[0] + 1), cost)[0][-1]


PROGRAMS = {
    "last state": lambda w, s: (recurrent(w, s.x)[0] * s.y).sum(),
    "all states": lambda w, s: (recurrent(w, s.x)[1] * s.x).sum(),
    "reverse": lambda w, s: (recurrent(w, s.x, reverse=True)[1] * s.x).sum(),
    "both ways": lambda w, s: np.sum(recurrent(w, s.x)[1] * recurrent(w.T, s.x, reverse=True)[1]),
    "two layers": lambda w, s: recurrent(w, recurrent(w, s.x)[1])[0].sum(),
    "gated": gated,
    "attention": attention,
    "edit distance": edit_distance,
    "crf": crf,
    "two slices": lambda w, s: mg.scan(lambda c, xs: (c * 0.5 + w @ xs[0] * xs[1], c.sum()), s.y,
                                       (s.x, s.x[:, 1]))[1].sum(),
    "positions": lambda w, s: mg.scan(lambda c, i: (np.tanh(c * 0.5 + w[0] * i), None), s.y,
                                      mg.numpy.arange(s.x.shape[0]))[0].sum(),
    "index in steps": lambda w, s: mg.scan(lambda c, i: (np.tanh(c + w @ mg.numpy.take(s.x, i, axis=0)), None), s.y,
                                           mg.numpy.arange(s.x.shape[0]))[0].sum(),
    "number of rows": lambda w, s: mg.fori_loop(0, s.x.shape[0], lambda i, c: np.tanh(w @ c + i), s.y).sum(),
    "rows but two": lambda w, s: mg.fori_loop(1, s.x.shape[0] + 2, lambda i, c: np.tanh(w @ c + i), s.y).sum(),
    "checkpoint": lambda w, s: mg.scan(mg.checkpoint(lambda c, r: (np.tanh(w @ c + r), None)), s.y, s.x)[0].sum(),
    "no carry": lambda w, s: mg.scan(lambda c, r: (None, np.tanh(w @ r)), None, s.x)[1].sum(),
    "unused state": lambda w, s: mg.scan(lambda c, r: (c + 1.0, w @ r), 0.0, s.x)[1].sum(),
    "words in words": lambda w, s: mg.scan(lambda c, r: (mg.scan(
        lambda d, q: (np.tanh(w @ d + q * r), None), c, s.x)[0], None), s.y, s.x)[0].sum(),
    "fixed steps in ragged ones": lambda w, s: mg.scan(
        lambda c, r: (mg.fori_loop(0, 3, lambda i, c: np.tanh(w @ c + r), c), None), s.y, s.x)[0].sum(),
}


# Loops along fixed axes, whose steps use ragged values.
BESIDE = {
    "closure": lambda w, s: mg.scan(lambda c, r: (np.tanh(c + np.sum(s.x @ (w @ r))), c), 0.5, w)[0],
    "ragged state": lambda w, s: mg.scan(lambda c, r: (np.tanh(c * r[0] + s.x @ r), np.sum(c)), s.x[:, 0], w)[0].sum(),
    "ragged stack": lambda w, s: mg.scan(lambda c, r: (c, np.tanh(c * s.x[:, 0] * r[0])), s.y[0], w)[1].sum(),
    "ragged slices": lambda w, s: mg.scan(lambda c, r: (c + np.sum(np.tanh(r) * w[0, 0]), r * c), 0.1, s.x.T)[1].sum(),
    "index": lambda w, s: mg.fori_loop(0, 4, lambda i, h: np.tanh(h @ w) + i * s.x, s.x).sum(),
    "branch": lambda w, s: mg.cond(s.y[0] > 0, lambda x: np.sqrt(np.abs(x)) @ w, lambda x: x * w[0], s.x).sum(),
    "branch of a ragged size": lambda w, s: mg.cond(s.y[0] > 0, lambda: np.sum(s.x @ w),
                                                    lambda: np.sum(s.key) * w[0, 0]),
    "one of three": lambda w, s: mg.switch((s.y[1] * 2).astype(int), [
        lambda x: x @ w, lambda x: np.tanh(x @ w), lambda x: x * np.sum(s.key)], s.x).sum() * w[0, 0],
    "the same branch": lambda w, s: mg.cond(w[0, 0] > 0, lambda x: x @ w, lambda x: x * w[1], s.x).sum(),
    "loop in a branch": lambda w, s: mg.cond(s.y[0] > 0, lambda x: recurrent(w, x)[0], lambda x: w[0], s.x).sum(),
    "a size in a branch": lambda w, s: mg.cond(s.y[0] > 0, lambda: w[0] * s.x.shape[0], lambda: w[1])[0],
    "a size in steps": lambda w, s: mg.scan(
        lambda c, r: (c * w[0, 0] + s.x.shape[0] * mg.numpy.arange(s.x.shape[0]).sum(), None), 0.0, w)[0],
    "a branch by a size": lambda w, s: mg.switch(s.x.shape[0], [
        lambda: w[0, 0], lambda: w[1, 1] * s.x.shape[0], lambda: w[2, 2] * np.sum(s.x)]),
    "any rows": lambda w, s: mg.cond(s.x.shape[0], lambda: np.max(s.x) * w[0, 0], lambda: w[1, 1]),
    "mapped by steps": lambda w, s: mg.scan(lambda c, r: (c * w[0, 0] + np.sum(s.key), None), 0.0, w)[0],
}


def over(programs):
    return pytest.mark.parametrize(("name", "f"), programs.items(), ids=list(programs))


def check(f, examples):
    """Value, gradient, gradient of each example, and Hessian-vector product are those of the loop."""
    batch, axes = mg.batch(examples), (None, 0)
    loss = mg.mean_loss(f, in_axes=axes)
    rows = [mg.value_and_grad(f)(W, e) for e in examples]
    value, gradient = np.mean([v for v, _ in rows]), np.mean([g for _, g in rows], axis=0)
    close(loss(W, batch), value, "value")
    close(mg.grad(loss)(W, batch), gradient, "gradient")
    close(mg.per_example_grad(f, in_axes=axes)(W, batch), np.stack([g for _, g in rows]), "per-example gradients")
    direction = W[::-1]
    product = [mg.hvp(lambda w, e=e: f(w, e), (W,), (direction,)) for e in examples]
    close(mg.hvp(lambda w: loss(w, batch), (W,), (direction,)), np.mean(product, axis=0), "hvp")
    return value, gradient


def halved(s):
    """Halve the words of a sentence, twice or more where they are large."""
    def shorter(state):
        x, turns = state
        return x / 2, turns + 1

    return mg.while_loop(lambda state: np.sum(state[0] ** 2) > 1.0, shorter, (s.x, 0))


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
def test_while_loops_over_ragged_states(sizes, backend):
    examples = sentences(sizes)
    f = mg.vmap(halved)
    x, turns = (f if backend is None else mg.compile(f, backend=backend))(mg.batch(examples))
    for have, count, e in zip(x.unbatch(), turns, examples, strict=True):
        want, n = halved(e)
        close(have, want)
        assert count == n
    parts = mg.microbatch(f, 2)(mg.batch(examples))
    close(parts[0].values, x.values)
    close(parts[1], turns)


def test_forward_mode_through_while_loops():
    examples = sentences(SIZES["empty middle"])
    batch = mg.batch(examples)

    def loss(c, s):
        return mg.while_loop(lambda x: np.sum(x ** 2) > 1.0, lambda x: x * c, s.x).sum()

    have = mg.jvp(lambda c: mg.mean_loss(loss, in_axes=(None, 0))(c, batch), (0.5,), (1.0,))
    close(have[1], np.mean([mg.jvp(lambda c, e=e: loss(c, e), (0.5,), (1.0,))[1] for e in examples]))


def test_branches_run_on_their_examples_alone():
    """A branch that divides by zero does not run on the examples that take another one."""
    def safe(s):
        return mg.cond(np.sum(s.x) == 0, lambda x: np.sum(x), lambda x: np.sum(x / np.sum(x)), s.x)

    examples = sentences(SIZES["mixed"])
    examples.append(Sentence(np.zeros((2, 3)), np.zeros(1), np.zeros(3)))
    for have, e in zip(mg.vmap(mg.grad(safe))(mg.batch(examples)).x.unbatch(), examples, strict=True):
        close(have, mg.grad(safe)(e).x)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
@over(PROGRAMS | BESIDE)
def test_scans_over_ragged_axes_equal_the_loop(name, f, sizes):
    check(f, sentences(sizes))


@pytest.mark.parametrize("backend", ["numpy", "native"])
@over(PROGRAMS | BESIDE)
def test_one_program_for_all_batches(name, f, backend):
    step = mg.compile(mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0))), backend=backend)
    for sizes in SIZES.values():
        examples = sentences(sizes)
        value, gradient = step(W, mg.batch(examples))
        rows = [mg.value_and_grad(f)(W, e) for e in examples]
        close(value, np.mean([v for v, _ in rows]), "value")
        close(gradient, np.mean([g for _, g in rows], axis=0), "gradient")
    assert len(step.entries) == 1


@over(PROGRAMS)
def test_hessian_equals_the_loop(name, f):
    examples = sentences(SIZES["mixed"])
    have = mg.hessian(mg.mean_loss(f, in_axes=(None, 0)))(W, mg.batch(examples))
    close(have, np.mean([mg.hessian(f)(W, e) for e in examples], axis=0))


@over(PROGRAMS | BESIDE)
def test_microbatches_equal_the_whole_batch(name, f):
    examples, axes = sentences(SIZES["empty middle"] + SIZES["mixed"]), (None, 0)
    batch = mg.batch(examples)
    for whole in (mg.mean_loss(f, axes), mg.per_example_grad(f, in_axes=axes), mg.grad(mg.mean_loss(f, axes))):
        for size in (3,):
            close(mg.microbatch(whole, size, axes)(W, batch), whole(W, batch))
            close(mg.compile(mg.microbatch(whole, size, axes))(W, batch), whole(W, batch))


def test_ragged_states_are_a_batch():
    examples = sentences(SIZES["empty middle"])
    states = mg.vmap(lambda s: recurrent(W, s.x)[1])(mg.batch(examples))
    for have, e in zip(states.unbatch(), examples, strict=True):
        close(have, recurrent(W, e.x)[1])


def test_products_of_all_words_are_one_product():
    """The product of the words with a matrix comes before the loop, and the gradients of matrices after it."""
    v = W[::-1]

    def loss(w, s):
        return mg.scan(lambda h, x: (np.tanh(w["w"] @ h + w["v"] @ x), None), s.y, s.x)[0].sum()

    step = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))))
    examples = sentences(SIZES["empty middle"])
    have = step({"w": W, "v": v}, mg.batch(examples))
    for name in have:
        close(have[name], np.mean([mg.grad(loss)({"w": W, "v": v}, e)[name] for e in examples], axis=0))
    notes = " ".join(stage.note for stage in step.stages)
    assert "1 product over all steps before it" in notes
    assert "2 sums after it" in notes


@pytest.mark.parametrize(("f", "words"), [
    (lambda s: mg.scan(lambda c, r: (c[1:], None), s.key, s.x),
     r"the state goes in as f64\[letter\] and comes out as f64\[letter - 1\]"),
    (lambda s: mg.scan(lambda c, r: (c, None), 0.0, (s.x, s.key)), "lengths differ: word, letter"),
    (lambda s: mg.scan(lambda c, r: (c + s.key, None), s.x[:, 0], s.x), "sizes differ"),
    (lambda s: mg.scan(lambda c, r: (c, s.x * s.x[:, :1, None]), 0.0, s.x),
     "the number of rows of all steps along word_word"),
])
def test_loops_without_meaning_are_refused(f, words):
    with pytest.raises(mg.MinigradError, match=words) as caught:
        mg.vmap(f)(mg.batch(sentences(SIZES["equal lengths"])))
    assert "test_loops.py" in str(caught.value)


def test_a_state_and_a_sequence_of_different_length_name_the_fields():
    @mg.example
    class Tracked:
        x: mg.f64[word, 3]
        state: mg.f64[word]

    with pytest.raises(mg.ShapeError, match=r"test_loops.py:\d+: Tracked.state: word is 3 here, but 2 in Tracked.x"):
        Tracked(np.ones((2, 3)), np.ones(3))


@pytest.mark.parametrize(("f", "words"), [
    (lambda s, t: mg.scan(lambda h, r: (h + r[0] * r[1], None), s.y, (s.x, t.x))[0],
     "scan: lengths differ: word, word"),
    (lambda s, t: s.x + t.x, r"np.add: .*: sizes differ \(word, word\) at axis -2"),
    (lambda s, t: s.x.T @ t.x, r"matmul .*: inner sizes differ \(word, word\)"),
], ids=["scan", "sum", "product"])
def test_sequences_of_a_batch_within_an_example_are_refused(f, words):
    """Nothing says that the examples of a batch are as long as the example of another batch around it."""
    first, second = (mg.batch(sentences(SIZES["mixed"])) for _ in range(2))
    with pytest.raises(mg.ShapeError, match=rf"test_loops.py:\d+: .*{words}\. Sizes of one name .* one example"):
        mg.vmap(lambda s: mg.vmap(lambda t: f(s, t))(second))(first)


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_loops_over_two_batches_in_each_other(backend):
    first, second = (sentences(SIZES[k]) for k in ("empty middle", "mixed"))

    def f(s, t):
        def row(c, x):
            return mg.scan(lambda d, y: (np.tanh(d + np.sum(x * y)), None), c, t.x)[0], None

        return mg.scan(row, 0.0, s.x)[0]

    batched = mg.vmap(f) if backend is None else mg.compile(mg.vmap(f), backend=backend)
    close(batched(mg.batch(first), mg.batch(second)), [f(s, t) for s, t in zip(first, second, strict=True)])


@pytest.mark.parametrize("f", [gated, edit_distance], ids=["gated", "edit distance"])
def test_the_explorer_shows_steps_of_different_size(f, tmp_path):
    exploration = mg.explore(f, W, mg.batch(sentences(SIZES["mixed"])))
    assert "packed_scan" in Path(exploration.save(tmp_path / "page.html")).read_text()


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
def test_states_that_change_places(run):
    """A step's results may be views of the state that the next one overwrites."""
    def f(x):
        def step(state, row):
            a, b = state
            return (b, a), (a, b)

        (a, b), (before, after) = mg.scan(step, (np.zeros(2), np.ones(2)), x)
        return 3 * a + b, before, after, np.sum(before * x)

    examples = [np.arange(2.0 * n).reshape(n, 2) + n for n in (3, 0, 5, 1)]
    found = run(mg.vmap(f))(mg.batch(examples, mg.f64[word, 2]))
    for have, want in zip(found, zip(*map(f, examples), strict=True), strict=True):
        for h, w in zip(have.unbatch() if isinstance(have, mg.Batch) else have, want, strict=True):
            np.testing.assert_array_equal(h, w)

SIZES_AS_STATES = {  # a program of one example, and the same in plain Python
    "while": (lambda x: mg.while_loop(lambda n: n > 1, lambda n: n // 2, x.shape[0] + 5), lambda x: 1),
    "scan": (lambda x: mg.scan(lambda c, v: (c + v, None), x.shape[0], x)[0], lambda x: len(x) + np.sum(x)),
    "fori": (lambda x: mg.fori_loop(0, 3, lambda i, s: {"n": s["n"] + i}, {"n": x.shape[0]})["n"],
             lambda x: len(x) + 3)}


@pytest.mark.parametrize("name", SIZES_AS_STATES)
def test_sizes_begin_the_states_of_loops(name):
    f, plain = SIZES_AS_STATES[name]
    rows = [np.arange(float(n)) for n in (0, 3, 1, 0)]
    batch = mg.batch(rows, mg.f64[mg.axis("item")])
    for run in (mg.vmap(f), *(mg.compile(mg.vmap(f), backend=b) for b in ("numpy", "native"))):
        np.testing.assert_array_equal(run(batch), [plain(x) for x in rows])

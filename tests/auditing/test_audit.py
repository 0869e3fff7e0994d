"""`audit` of steps with known weights: the faults people make, wrong inputs, and steps drawn at random."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from benchmarks import audit as drawn
from minigrad.errors import BatchError, GradError, MinigradError
from minigrad.ragged.axes import axis

from .steps import PARTS, N, W, X, Y, clip, loss, mean, run, singles, weighted

OF_PARTS = np.concatenate([np.full(len(m), 1 / (3 * len(m))) for m in PARTS])
FIRST_TEN = np.where(np.arange(N) < 10, 1.0, 0.0)
FAULTS = {  # the weights, and a part of the verdict
    "mean": (np.full(N, 1 / 12), "returns the mean over 12 examples."),
    "sum": (np.ones(N), "the sum over the examples, not divided by 12"),
    "micro-batch means": (OF_PARTS, "the mean of the means of 3 micro-batches of 5, 5, 2 examples."),
    "1/K forgotten": (3 * OF_PARTS, "times 3: the division by the 3 micro-batches is missing"),
    "1/K forgotten, equal": (np.full(N, 1 / 4), "times 3: the division by 3 is missing"),
    "dropped": (FIRST_TEN / 10, "the mean over 10 examples; examples 10, 11 have weight 0."),
    "missing": (FIRST_TEN / 12, "the mean over 12 examples; examples 10, 11 have weight 0."),
    "twice": (np.where(np.arange(N) < 2, 2, 1) / 14, "the mean over 14 examples; examples 0, 1 count twice."),
    "thrice": (np.where(np.arange(N) == 4, 3, 1) / 14, "the mean over 14 examples; example 4 counts 3 times."),
    "loss scale": (np.full(N, 2.0**16 / 12), "times 65536: a loss scale of 2^16 left in"),
    "divided twice": (np.full(N, 1 / 144), "divided by 12 twice"),
    "update": (np.full(N, -0.1 / 12), "an update, against the gradient, with the rate 0.1")}


@pytest.mark.parametrize("name", FAULTS)
def test_weights_and_verdicts_of_common_faults(name):
    weights, words = FAULTS[name]
    report = run(weighted(weights))
    np.testing.assert_allclose(report.weights, weights, rtol=1e-11, atol=1e-14)
    assert words in report.verdict
    assert report.residual < 1e-13
    assert report.right == (name == "mean")


def test_micro_batches_of_equal_sums_are_told_apart_or_both_named():
    """Sizes 4, 4, 2: the last two examples have twice the weight, as if they were counted twice in a mean of 12."""
    weights = np.concatenate([np.full(8, 1 / 12), np.full(2, 1 / 6)])
    report = run(weighted(weights), loss, W, (X[:10], Y[:10]))
    assert [r.name for r in report.readings] == ["micro-batch means", "multiples"]
    assert [len(m) for m in report.microbatches] == [4, 4, 2]


@pytest.mark.parametrize("dead", [0, 4, 5, 10, 11])
def test_examples_without_a_gradient_belong_to_micro_batches(dead):
    """Of sizes 5, 5, 2: their means divide by all examples."""
    x = X.copy()
    x[dead] = 0
    report = run(weighted(OF_PARTS), loss, W, (x, Y))
    assert [len(m) for m in report.microbatches] == [5, 5, 2]
    assert f"xample {dead} has no gradient" in report.verdict


def test_shuffled_micro_batches_are_named_beside_repeated_examples():
    """Sizes 8, 8, 8, 4 of shuffled examples: four have twice the weight of the others, as if counted twice in 32."""
    rng = np.random.default_rng(4)
    x, y, order = rng.normal(size=(28, 40)), rng.normal(size=28), rng.permutation(28)
    parts = np.split(order, [8, 16, 24])
    report = run(lambda w, x, y: np.mean([mean(w, x[m], y[m]) for m in parts], axis=0), loss, W, (x, y))
    assert [r.name for r in report.readings] == ["multiples", "micro-batch means"]
    assert sorted(map(len, report.microbatches)) == [4, 8, 8, 8]
    assert sorted(parts[3].tolist()) in [m.tolist() for m in report.microbatches]


def test_clipping_one_by_one():
    bound = float(np.median(np.linalg.norm(singles(W, X, Y), axis=1)))
    report = run(lambda w, x, y: np.mean([clip(g, bound) for g in singles(w, x, y)], axis=0))
    assert report.readings[0].name == "clipped"
    assert report.readings[0].bound == pytest.approx(bound)
    assert "6 of 12 are clipped" in report.verdict


def test_clipping_of_micro_batches_and_of_the_batch():
    def step(w, x, y, bound=10.0):
        return np.mean([clip(mean(w, x[m], y[m]), bound) for m in PARTS], axis=0)

    report = run(step)
    assert report.readings[0].name == "clipped micro-batches"
    assert report.readings[0].bound == pytest.approx(10)
    assert [m.tolist() for m in report.microbatches] == [m.tolist() for m in PARTS]
    whole = run(lambda w, x, y: clip(mean(w, x, y), 0.5))
    assert whole.verdict == "The step returns the mean, clipped to the norm 0.5."
    assert not whole.right


@pytest.mark.parametrize("added", [0, 1e-6])
def test_clipping_by_the_norm_that_pytorch_increases(added):
    def factor(g):
        return min(1.0, 5 / (np.linalg.norm(g) + added))

    one_by_one = run(lambda w, x, y: np.mean([factor(g) * g for g in singles(w, x, y)], axis=0))
    assert (one_by_one.readings[0].name, one_by_one.readings[0].bound) == ("clipped", pytest.approx(5, rel=1e-9))

    def step(w, x, y):
        return np.mean([factor(g) * g for g in (mean(w, x[m], y[m]) for m in PARTS)], axis=0)

    parts = run(step).readings[0]
    assert (parts.name, parts.bound) == ("clipped micro-batches", pytest.approx(5, rel=1e-9))


def test_weights_without_a_name_are_shown():
    weights = np.random.default_rng(1).uniform(0.1, 1, N)
    report = run(weighted(weights))
    np.testing.assert_allclose(report.weights, weights, rtol=1e-11)
    assert "match no known pattern" in report.verdict
    report.check(weights)


def test_a_regulariser_has_a_factor_of_its_own():
    report = run(lambda w, x, y: mean(w, x, y) + 3 * w, extra={"l2": lambda w: w})
    assert report.extra["l2"] == pytest.approx(3)
    assert "13 of 13 gradients are independent" in str(report)
    assert "l2 counts 3 times" in report.verdict
    assert not report.right
    assert run(lambda w, x, y: mean(w, x, y) + w, extra={"l2": lambda w: w}).right
    assert "l2 is missing" in run(mean, extra={"l2": lambda w: w}).verdict


def test_equal_examples_are_named_and_their_total_is_known():
    x, y = X.copy(), Y.copy()
    x[3], y[3] = x[7], y[7]
    report = run(mean, loss, W, (x, y))
    assert [u.tolist() for u in report.undetermined] == [[3, 7]]
    assert report.right
    once = run(weighted(np.where(np.arange(N) == 3, 0, 1) / 11), loss, W, (x, y))
    assert "the mean over 11 examples; examples 3, 7 together count once" in once.verdict


def test_fewer_parameters_than_examples_take_more_points():
    w, x, y = W[:3], X[:, :3], Y
    report = run(weighted(OF_PARTS), loss, w, (x, y))
    assert report.points > 3
    assert not report.undetermined
    np.testing.assert_allclose(report.weights, OF_PARTS, rtol=1e-9)


def test_gradients_dependent_at_all_points_are_a_set():
    """The gradients of a linear regression with three parameters span ten dimensions, wherever they are taken."""
    def square(w, x, y):
        return (x @ w - y) ** 2

    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    report = run(lambda w, x, y: np.mean(2 * (x @ w - y)[:, None] * x, axis=0), square, W[:3], (x, y))
    assert report.rank == 9
    assert report.right  # the mean explains the gradient
    assert "cannot be told apart: 0–19" in report.verdict


# -- tokens ------------------------------------------------------------------------------------------------

rng = np.random.default_rng(3)
LENGTHS = rng.integers(2, 9, N)
T, L = rng.normal(size=(N, 9, 6)), rng.normal(size=(N, 9))
MASK = (np.arange(9) < LENGTHS[:, None]).astype(float)
P = {"a": rng.normal(size=(6, 16)), "b": rng.normal(size=16)}


def rows(p, x, y, mask):
    return mask * (np.tanh(x @ p["a"]) @ p["b"] - y) ** 2


def tokens(p, x, y, mask):
    return np.sum(rows(p, x, y, mask))


TOTAL = mg.compile(mg.grad(lambda p, *more: np.sum(mg.vmap(tokens, in_axes=(None, 0, 0, 0))(p, *more))))


def scaled(tree, factor):
    return {k: v * factor for k, v in tree.items()}


def token_mean(p, *more):
    return scaled(TOTAL(p, *more), 1 / more[2].sum())


def mean_of_token_means(p, *more):
    each = [token_mean(p, *(a[m] for a in more)) for m in PARTS]
    return {k: sum(e[k] for e in each) / 3 for k in p}


TOKENS = {"lengths": {"token": LENGTHS}, "expected": "mean over token"}


def test_means_over_tokens():
    of_parts = [LENGTHS[m].sum() for m in PARTS]
    assert run(token_mean, tokens, P, (T, L, MASK), **TOKENS).right
    report = run(mean_of_token_means, tokens, P, (T, L, MASK), **TOKENS)
    np.testing.assert_allclose(report.weights, np.repeat(1 / (3 * np.array(of_parts)), [5, 5, 2]), rtol=1e-9)
    assert f"3 micro-batches of {', '.join(map(str, of_parts))} tokens" in report.verdict
    padded = run(lambda p, *more: scaled(TOTAL(p, *more), 1 / more[2].size), tokens, P, (T, L, MASK), **TOKENS)
    assert f"padding counts in the denominator (108 instead of {LENGTHS.sum()})" in padded.verdict


def test_mean_of_the_means_of_single_examples():
    def step(p, *more):
        each = [token_mean(p, *(a[k:k + 1] for a in more)) for k in range(N)]
        return {k: sum(e[k] for e in each) / N for k in p}

    report = run(step, tokens, P, (T, L, MASK), **TOKENS)
    assert report.verdict == "The step returns the mean over 12 token means."
    assert not report.right
    np.testing.assert_allclose(report.weights, 1 / (N * LENGTHS), rtol=1e-9)
    assert report.check("mean of token means") is report


def test_a_loss_that_averages_its_rows():
    def average(p, x, y, mask):
        return tokens(p, x, y, mask) / np.sum(mask)

    report = run(token_mean, average, P, (T, L, MASK), reduction="mean", **TOKENS)
    assert report.right
    np.testing.assert_allclose(report.weights, LENGTHS / LENGTHS.sum(), rtol=1e-9)


def test_a_weight_per_row():
    report = run(token_mean, rows, P, (T, L, MASK), per="token", lengths=TOKENS["lengths"])
    assert len(report.weights) == LENGTHS.sum()
    assert report.right
    assert report.examples.tolist() == np.repeat(np.arange(N), LENGTHS).tolist()
    wrong = run(mean_of_token_means, rows, P, (T, L, MASK), per="token", lengths=TOKENS["lengths"])
    assert [len(m) for m in wrong.microbatches] == [LENGTHS[m].sum() for m in PARTS]


token = axis("token")


@mg.example
class Sentence:
    x: mg.f64[token, 6]
    y: mg.f64[token]


SENTENCES = [Sentence(x=T[k, :n], y=L[k, :n]) for k, n in enumerate(LENGTHS)]


def ragged_rows(p, s):
    return (np.tanh(s.x @ p["a"]) @ p["b"] - s.y) ** 2


def test_rows_of_examples_without_any():
    lengths = LENGTHS.copy()
    lengths[3] = 0
    mask = (np.arange(9) < lengths[:, None]).astype(float)
    report = run(token_mean, rows, P, (T, L, mask), per="token", lengths={"token": lengths.astype(float)})
    assert report.right
    assert 3 not in report.examples
    assert len(report.weights) == lengths.sum()


def test_ragged_examples_bring_their_lengths():
    def step(p, b):
        return mg.grad(mg.mean_loss(ragged_rows, over=token, in_axes=(None, 0)))(p, b)

    def of_list(p, sentences):
        return step(p, mg.batch(sentences))

    def sum_of_rows(p, s):
        return np.sum(ragged_rows(p, s))

    batch = mg.batch(SENTENCES)
    assert run(step, sum_of_rows, P, batch, expected="mean over token").right
    assert run(of_list, sum_of_rows, P, SENTENCES, expected="mean over token").right
    report = run(step, ragged_rows, P, batch, per=token)
    assert report.right
    assert len(report.weights) == LENGTHS.sum()


def test_padding_of_a_list_counts_in_the_denominator():
    def step(p, sentences):
        padded = len(sentences) * max(len(s.y) for s in sentences)
        rows = mg.grad(mg.mean_loss(ragged_rows, over=token, in_axes=(None, 0)))(p, mg.batch(sentences))
        return scaled(rows, sum(len(s.y) for s in sentences) / padded)

    report = run(step, lambda p, s: np.sum(ragged_rows(p, s)), P, SENTENCES, expected="mean over token")
    assert f"padding counts in the denominator ({N * LENGTHS.max()} instead of {LENGTHS.sum()})" in report.verdict


def test_gradients_of_a_black_box():
    report = run(weighted(OF_PARTS), None, W, (X, Y), gradients=lambda w, x, y: singles(w, x[None], y[None])[0])
    np.testing.assert_allclose(report.weights, OF_PARTS, rtol=1e-11)


def test_value_and_gradient_and_axes():
    report = run(lambda w, x, y: (0.0, mean(w, x.T, y)), loss, W, (X.T, Y), in_axes=(None, 1, 0))
    assert report.right


# -- refusals ----------------------------------------------------------------------------------------------

def writes_to_parameters(w, x, y):
    w -= 0.1 * mean(w, x, y)
    return w


def writes_to_examples(w, x, y):
    """Standardise the examples once and for all: the next calls see no difference."""
    x -= x.mean(axis=0)
    return mean(w, x, y)


RANDOM = np.random.default_rng(0)
NAN = X.copy()
NAN[5, 0] = np.nan
REFUSED = {
    "structure": (GradError, "structure", lambda: run(lambda w, x, y: {"a": w})),
    "shape": (GradError, r"shape (3,) at its only leaf, where params has shape (40,)",
              lambda: run(lambda w, x, y: w[:3])),
    "leaf": (GradError, "shape (2,) at ['a'], where params['a'] has shape (6, 16)",
             lambda: run(lambda p, *more: {"a": np.zeros(2), "b": p["b"]}, tokens, P, (T, L, MASK))),
    "nan in the step": (GradError, "the gradient of lambda_ is not finite", lambda: run(lambda w, x, y: w * np.nan)),
    "nan in an example": (GradError, "the gradient of example 5 is not finite", lambda: run(
        lambda w, x, y: w, loss, W, (NAN, Y))),
    "nan of a black box": (GradError, "the gradient of example 5 is not finite", lambda: run(
        lambda w, x, y: w, None, W, (NAN, Y), gradients=lambda w, x, y: singles(w, x[None], y[None])[0])),
    "random": (GradError, "draws random numbers", lambda: run(
        lambda w, x, y: RANDOM.random() * mean(w, x, y))),
    "parameters in place": (GradError, "the step writes to the arrays of its parameters",
                            lambda: run(writes_to_parameters, loss, W.copy(), (X, Y))),
    "examples in place": (GradError, "the step writes to the arrays of its examples",
                          lambda: run(writes_to_examples, loss, W, (X.copy(), Y))),
    "empty": (BatchError, "no examples", lambda: run(mean, loss, W, (X[:0], Y[:0]))),
    "sizes": (BatchError, "different numbers of examples: 12, 5", lambda: run(mean, loss, W, (X, Y[:5]))),
    "in_axes": (BatchError, "in_axes has 2 entries", lambda: run(mean, loss, W, (X, Y), in_axes=(None, 0))),
    "no loss": (MinigradError, "one of the two", lambda: run(mean, None, W, (X, Y))),
    "expected": (MinigradError, "expected='median'; there are mean, sum", lambda: run(mean, expected="median")),
    "weights": (MinigradError, "(3,) weights are expected", lambda: run(mean, expected=np.ones(3))),
    "reduction": (MinigradError, "reduction is 'sum' or 'mean'", lambda: run(mean, reduction="max")),
    "lengths": (BatchError, "lengths['token'] has shape (3,)", lambda: run(mean, lengths={"token": np.ones(3, int)})),
    "negative lengths": (BatchError, "whole, not negative", lambda: run(mean, lengths={"token": np.arange(N) - 1})),
    "no rows": (BatchError, "not all zero", lambda: run(mean, lengths={"token": np.zeros(N)})),
    "long lengths": (GradError, f"example {np.argmax(LENGTHS == 8)} has 9 rows, but lengths= has 10", lambda: run(
        token_mean, rows, P, (T, L, MASK), per="token", lengths={"token": LENGTHS + 2})),
    "rows": (GradError, "one number per row", lambda: run(mean, per="token")),
    "no parameters": (GradError, "no parameters", lambda: run(mean, loss, {}, (X, Y)))}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_inputs_are_refused(name):
    error, words, call = REFUSED[name]
    with pytest.raises(error, match=re.escape(words)):
        call()


# -- steps drawn at random ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["f4", "f8"]), st.integers(1, 20))
def test_any_weights_come_back(seed, dtype, n):
    """To round-off times the condition, which the report states."""
    rng = np.random.default_rng(seed)
    w, x, y = (a.astype(dtype) for a in (rng.normal(size=30), rng.normal(size=(n, 30)), rng.normal(size=n)))
    weights = rng.choice([0.0, 1 / n, rng.normal()], n)

    def step(w, x, y):
        return weights.astype(dtype) @ singles(w, x, y)

    report = run(step, loss, w, (x, y))
    room = 64 * np.finfo(dtype).eps * report.condition * max(np.abs(weights).max(), 1e-3) * np.sqrt(n)
    scale = report.norms / report.norms.max()
    assert (np.abs(report.weights - weights) * scale <= room).all()


@pytest.mark.parametrize("right", [False, True])
def test_drawn_faults_are_named_and_right_steps_pass(right):
    found = drawn.count(25, right)
    assert all(good == total for good, total in found.values()), found


def test_weights_are_derivatives_of_the_gradient():
    """A step with a weight per example: its gradient moves by g_i when weight i does."""
    report = run(weighted(OF_PARTS))
    for k in (0, 7):
        up, down = OF_PARTS.copy(), OF_PARTS.copy()
        up[k] += 0.5
        down[k] -= 0.5
        slope = weighted(up)(W, X, Y) - weighted(down)(W, X, Y)
        moved = run(weighted(up)).weights - report.weights
        np.testing.assert_allclose(slope, singles(W, X, Y)[k], rtol=1e-9)
        np.testing.assert_allclose(moved, 0.5 * np.eye(N)[k], atol=1e-12)

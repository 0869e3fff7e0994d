"""Examples that mix: batch normalisation, contrastive losses, packed attention, padding; and steps that do not mix."""

import numpy as np
import pytest

import minigrad as mg

from .steps import PARTS, N, W, X, Y, loss, mean, run, singles


def normalised(w, x, y):
    def of(w):
        centred = (x - x.mean(axis=0)) / x.std(axis=0)
        return np.mean((np.tanh(centred * w).sum(axis=1) - y) ** 2)

    return mg.grad(of)(w)


def test_batch_normalisation_mixes_all():
    report = run(normalised)
    assert report.verdict.startswith("Examples mix")
    assert "of the 12 examples tried all interact" in report.verdict
    assert report.mixing.groups[0].tolist() == list(range(N))
    assert (report.mixing.interactions > 0).sum() == N * (N - 1)
    assert not report.right


def test_batch_normalisation_within_micro_batches_mixes_these():
    report = run(lambda w, x, y: sum(normalised(w, x[m], y[m]) for m in (PARTS[0], PARTS[1])) / 2)
    assert [g.tolist() for g in report.mixing.groups] == [PARTS[0].tolist(), PARTS[1].tolist()]
    assert "these interact: 0–4; 5–9" in report.verdict


def test_halves_that_do_not_mix():
    """Micro-batches of six, each normalised: the halves of the batch are those."""
    def step(w, x, y):
        parts = [slice(k, k + 6) for k in range(0, len(x), 6)]
        return sum(normalised(w, x[m], y[m]) for m in parts) / len(parts)

    assert run(step).mixing.split < 1e-12
    assert run(normalised).mixing.split > 1e-3
    assert "the split into batches matters" in run(normalised).verdict.lower()


def test_packed_neighbours_mix():
    """Each example sees the one before it, as attention does across packed sequences without a mask."""
    def step(w, x, y):
        return mg.grad(lambda w: np.mean((np.tanh((x + 0.1 * np.roll(x, 1, axis=0)) * w).sum(axis=1) - y) ** 2))(w)

    report = run(step)
    assert report.mixing.mixes
    pairs = {tuple(sorted(p)) for p in np.argwhere(report.mixing.interactions > 1e-6).tolist()}
    assert pairs == {tuple(sorted((k, (k + 1) % N))) for k in range(N)}
    assert "the order of the examples matters" in report.verdict


def test_a_divisor_that_counts_rows_is_not_mixing():
    """Replacing an example by one of another length would change the divisor of all."""
    rng = np.random.default_rng(0)
    lengths = np.array([5, 3, 3, 4, 5, 2, 4, 4])
    mask = (np.arange(5) < lengths[:, None]) * 1.0
    w, x = rng.normal(size=20), rng.normal(size=(8, 5, 20))

    def tokens(w, x, m):
        return np.sum(m * np.tanh(x @ w) ** 2)

    def packed(w, x, m):
        seen = x + 0.3 * np.repeat(x.reshape(2, 4, 5, 20).mean(axis=(1, 2)), 4, axis=0)[:, None]
        return mg.grad(lambda w: np.sum(m * np.tanh(seen @ w) ** 2) / np.sum(m))(w)

    report = mg.audit(packed, tokens, w, (x, mask), lengths={"token": lengths}, progress=False)
    assert report.mixing.tried.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert [g.tolist() for g in report.mixing.groups] == [[0, 1, 2, 3], [4, 6, 7]]
    other = mg.audit(lambda w, x, m: mg.grad(lambda w: np.sum(m * np.tanh(x @ w)) / np.sum(m))(w), tokens, w,
                     (x, mask), lengths={"token": lengths}, progress=False)
    assert other.verdict.startswith("This is not the gradient of this loss")


def test_another_loss_does_not_mix():
    report = run(lambda w, x, y: mg.grad(lambda w: np.mean(np.abs(np.tanh(x * w).sum(axis=1) - y) ** 3))(w) + w)
    assert report.verdict.startswith("This is not the gradient of this loss")
    assert not report.mixing.mixes
    assert report.mixing.alone < 0.999
    assert 0 < report.mixing.cosine < 1


def test_many_examples_are_tried_in_runs():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(100, 300)) / 9, rng.normal(size=100), rng.normal(size=300)
    report = run(normalised, loss, w, (x, y))
    assert report.mixing.tried.tolist() == [0, 1, 2, 32, 33, 34, 64, 65, 66, 97, 98, 99]


def test_numbers_in_the_padding():
    """The mean is taken over the padded rows, before the mask."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 8, N)
    x = rng.normal(size=(N, 8, 60)) / 5
    mask = (np.arange(8) < lengths[:, None]).astype(float)
    w = rng.normal(size=60)

    def own(w, x, mask):
        return np.sum(mask * (np.tanh(x @ w) - 1) ** 2)

    def step(w, x, mask):
        centred = x - x.mean(axis=(0, 1))
        return mg.grad(lambda w: np.sum(mask * (np.tanh(centred @ w) - 1) ** 2))(w)

    report = run(step, own, w, (x, mask), lengths={"token": lengths})
    assert report.mixing.padding > 1e-3
    assert "numbers in the padding matter" in report.verdict


def test_codes_in_the_padding():
    """The step scores the padding too; a mask that the loss reads is left alone."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 8, N)
    codes = rng.integers(0, 200, (N, 8))
    mask = (np.arange(8) < lengths[:, None]).astype(float)
    w = rng.normal(size=(200, 4))

    def own(w, codes, mask):
        return np.sum(mask[:, None] * np.tanh(w[codes]) ** 2)

    def step(w, codes, mask):
        return mg.grad(lambda w: np.sum(np.tanh(w[codes]) ** 2))(w)

    report = run(step, own, w, (codes, mask), lengths={"token": lengths})
    assert report.mixing.padding > 1e-3
    assert report.verdict.endswith("The numbers in the padding matter.")
    masked = run(lambda w, codes, mask: mg.grad(lambda w: np.sum(mask[..., None] * np.sin(w[codes])))(w), own, w,
                 (codes, mask), lengths={"token": lengths})
    assert masked.mixing.padding == 0
    assert "padding" not in masked.verdict


def test_single_precision_is_no_leak():
    report = run(lambda w, x, y: mean(*(a.astype(np.float32) for a in (w, x, y))).astype(np.float64))
    assert report.verdict.startswith("The step returns the mean over 12 examples. It computes in single precision")
    assert report.right
    assert run(lambda w, x, y: mean(*(a.astype(np.float32) for a in (w, x, y)))).right


def half(array):
    return array.astype(np.float16)


def in_half_precision(w, x, y):
    """Return the single gradients in float16, as float32."""
    t = np.tanh(half(x) * half(w))
    return (2 * (t.sum(axis=1) - half(y))[:, None] * (1 - t**2) * half(x)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_half_precision_is_no_leak(dtype):
    def right(w, x, y):
        return in_half_precision(w, x, y).mean(axis=0).astype(dtype)

    def of_parts(w, x, y):
        return np.mean([in_half_precision(w, x[m], y[m]).mean(axis=0) for m in PARTS], axis=0).astype(dtype)

    report = run(right)
    assert report.verdict.startswith("The step returns the mean over 12 examples.")
    assert ("It computes in low precision" in report.verdict) == (dtype != np.float16)
    assert report.check("mean").residual > 1e-4
    wrong = run(of_parts)
    assert "3 micro-batches of 5, 5, 2 examples" in wrong.verdict
    assert not wrong.right


def test_a_regulariser_in_half_precision():
    def step(w, x, y, rate):
        return in_half_precision(w, x, y).mean(axis=0) + np.float32(rate) * w.astype(np.float32)

    def audited(counted, rate):
        return run(lambda w, x, y: step(w, x, y, counted * rate), extra={"l2": lambda w: rate * w})

    assert audited(1, 0.05).right
    assert "l2 counts 3" in audited(3, 0.05).verdict
    assert "l2 is missing" in audited(0, 0.05).verdict
    assert "l2 is too small beside the round-off" in audited(1, 1e-6).verdict


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_leaks_in_half_precision_are_found_and_their_groups(dtype):
    def step(w, x, y):
        parts = [in_half_precision(w, x[m] + 0.3 * x[m].mean(axis=0), y[m]) for m in PARTS]
        return np.concatenate(parts).mean(axis=0).astype(dtype)

    report = run(step)
    assert not report.right
    assert [g.tolist() for g in report.mixing.groups] == [m.tolist() for m in PARTS]


def test_a_leak_as_small_as_round_off_is_found():
    report = run(lambda w, x, y: singles(w, x + 0.003 * x.mean(axis=0), y).mean(axis=0))
    assert report.residual < 2.0**-5
    assert report.verdict.startswith("Examples mix")


def test_a_step_that_refuses_one_example():
    def step(w, x, y):
        if len(x) != N:
            raise ValueError("a fixed batch size")
        return normalised(w, x, y)

    assert run(step).mixing.alone is None


def test_examples_are_taken_by_indices_with_a_positive_stride():
    """PyTorch refuses others."""
    class Rows:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, rows):
            index = rows[0] if isinstance(rows, tuple) else rows
            if np.ndim(index) and np.asarray(index).strides[0] < 0:
                raise ValueError("negative strides")
            return self.array[rows]

        def __array__(self, dtype=None, copy=None):
            return self.array

    def step(w, x, y):
        return normalised(w, np.asarray(x), np.asarray(y))

    def gradient(w, x, y):
        return singles(w, x[None], np.reshape(y, 1))[0]

    report = run(step, None, W, (Rows(X), Rows(Y)), gradients=gradient)
    assert report.mixing.order < 1e-12

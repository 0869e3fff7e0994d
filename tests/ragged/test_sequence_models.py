"""Models of sequences of all lengths: an LSTM, a Kalman filter, a CRF, edit distances, against plain NumPy.

The references are written in another way than the programs: a Kalman filter's likelihood is that of one joint normal
distribution, and a CRF's a sum over all labellings. Their gradients are exact, by complex steps.
"""

import itertools

import numpy as np
import pytest

import minigrad as mg
from tests.ragged.cases import close

row, letter = mg.axis("row"), mg.axis("letter")
UNITS, LABELS = 3, 3


@mg.example
class Sequence:
    x: mg.f64[row, 3]
    label: mg.i64[row]
    a: mg.i64[row]
    b: mg.i64[letter]


SIZES = {"mixed": [(3, 2), (1, 4), (4, 1), (2, 3)], "empty first": [(0, 2), (3, 0), (1, 1)],
         "empty middle": [(2, 1), (0, 0), (0, 3), (4, 2)], "empty last": [(1, 3), (3, 2), (0, 1)],
         "one row": [(1, 1), (1, 1)], "no rows": [(0, 0), (0, 0)]}


def sequences(sizes):
    rng = np.random.default_rng(0)
    return [Sequence(rng.normal(size=(n, 3)), rng.integers(0, LABELS, n), rng.integers(0, 3, n), rng.integers(0, 3, m))
            for n, m in sizes]


# -- a Kalman filter ---------------------------------------------------------------------------------------------


def kalman(w, s):
    """Return the log-likelihood of positions, of a state of position and velocity that decays by w[0]."""
    F = np.stack([np.stack([1.0 + 0 * w[0], 1.0 + 0 * w[0]]), np.stack([0 * w[0], w[0]])])
    noise, error = np.exp(w[1]), np.exp(w[2])

    def step(state, y):
        mean, cov, total = state
        variance = cov[0, 0] + error
        residual = y[0] - mean[0]
        total = total - 0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)
        gain = cov[:, 0] / variance
        mean, cov = mean + gain * residual, cov - np.outer(gain, cov[0])
        return (F @ mean, F @ cov @ F.T + noise * np.eye(2), total), None

    return mg.scan(step, (np.zeros(2), np.eye(2), 0.0), s.x)[0][2]


def joint_normal(w, s):
    """Return the same from the covariance of all positions."""
    F, n = np.array([[1, 1], [0, w[0]]]), len(s.x)
    if not n:
        return 0.0 * w[0]
    powers = [np.linalg.matrix_power(F, k) for k in range(n)]
    cov = np.array([[sum((powers[t - r] @ powers[u - r].T)[0, 0] * (np.exp(w[1]) if r else 1) for r in
                         range(min(t, u) + 1)) for u in range(n)] for t in range(n)]) + np.exp(w[2]) * np.eye(n)
    y = s.x[:, 0]
    return -0.5 * (n * np.log(2 * np.pi) + np.log(np.linalg.det(cov)) + y @ np.linalg.solve(cov, y))


# -- a conditional random field ----------------------------------------------------------------------------------


def crf(w, s):
    """Return the log-probability of the labels, by the forward algorithm; the label before the first is 0."""
    w = w.reshape(LABELS, LABELS)

    def step(state, now):
        alpha, before, score = state
        x, label = now
        alpha = mg.special.logsumexp(alpha[:, None] + w, axis=0) + x
        return (alpha, label, score + w[before, label] + x[label]), None

    start = np.where(np.arange(LABELS) == 0, 0.0, -np.inf)
    (alpha, _, score), _ = mg.scan(step, (start, 0, 0.0), (s.x, s.label))
    return score - mg.special.logsumexp(alpha)


def by_all_labellings(w, s):
    w, n = w.reshape(LABELS, LABELS), len(s.x)

    def score(labels):
        return sum(w[a, b] + s.x[t, b] for t, (a, b) in enumerate(itertools.pairwise((0, *labels))))

    return score(s.label) - np.log(sum(np.exp(score(y)) for y in itertools.product(range(LABELS), repeat=n)))


# -- edit distances ----------------------------------------------------------------------------------------------


def edits(w, s):
    """Return the soft minimum over all alignments: a scan over the letters of the one in a scan over the other's."""
    change, insert, delete = w

    def line(above, a):
        def cell(here, near):
            diagonal, up, b = near
            costs = np.stack([diagonal + change * (a != b), up + delete, here + insert])
            here = -mg.special.logsumexp(-costs)
            return here, here

        first = above[:1] + delete
        _, others = mg.scan(cell, first[0], (above[:-1], above[1:], s.b))
        return np.concatenate([first, others]), None

    return mg.scan(line, insert * mg.numpy.arange(s.b.shape[0] + 1), s.a)[0][-1]


def by_recursion(w, s):
    def cost(i, j):
        if not i or not j:
            return w[1] * j + w[2] * i
        return -np.log(np.exp(-cost(i - 1, j - 1) - w[0] * (s.a[i - 1] != s.b[j - 1])) + np.exp(-cost(i - 1, j) - w[2])
                       + np.exp(-cost(i, j - 1) - w[1]))

    return cost(len(s.a), len(s.b))


# -- an LSTM -----------------------------------------------------------------------------------------------------

SHAPES = {"ih": (4 * UNITS, 3), "hh": (4 * UNITS, UNITS), "bias": (4 * UNITS,)}


def matrices(w):
    ends = np.cumsum([0, *map(np.prod, SHAPES.values())])
    return [w[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], SHAPES.values(), strict=False)]


def cell(w, state, x):
    """Return the next state; the gates come in PyTorch's order."""
    (h, c), (ih, hh, bias) = state, w
    gates = ih @ x + hh @ h + bias
    write, keep, new, show = (gates[k * UNITS:(k + 1) * UNITS] for k in range(4))
    c = c / (1 + np.exp(-keep)) + np.tanh(new) / (1 + np.exp(-write))
    return np.tanh(c) / (1 + np.exp(-show)), c


def lstm(w, s):
    w, start = matrices(w), (np.zeros(UNITS), np.zeros(UNITS))
    (h, c), hs = mg.scan(lambda state, x: ((new := cell(w, state, x)), new[0]), start, s.x)
    return np.sum(h) + np.sum(c**2) + np.sum(hs * s.x)


def lstm_step_by_step(w, s):
    w, state, total = matrices(w), (np.zeros(UNITS), np.zeros(UNITS)), 0.0
    for x in s.x:
        state = cell(w, state, x)
        total = total + np.sum(state[0] * x)
    return total + np.sum(state[0]) + np.sum(state[1] ** 2)


MODELS = {"Kalman filter": (kalman, joint_normal, np.array([0.7, -0.5, 0.2])),
          "CRF": (crf, by_all_labellings, np.random.default_rng(1).normal(size=LABELS**2)),
          "edit distance": (edits, by_recursion, np.array([1.3, 0.8, 0.6])),
          "LSTM": (lstm, lstm_step_by_step, np.random.default_rng(2).normal(size=4 * UNITS * (3 + UNITS + 1)))}
models = pytest.mark.parametrize("model", MODELS)


def gradient(reference, w, s):
    """Return the gradient of an analytic function by complex steps."""
    return np.array([np.imag(reference(w + 1e-30j * e, s)) * 1e30 for e in np.eye(len(w))])


def answers(model, sizes):
    """Return the values, gradients and Hessian-vector products of the reference, one by one, and a direction."""
    _, reference, w = MODELS[model]
    examples, direction, h = sequences(SIZES[sizes]), np.cos(np.arange(len(w))), 1e-5
    values = np.array([reference(w, s) for s in examples])
    gradients = np.array([gradient(reference, w, s) for s in examples])
    ahead, behind = ([gradient(reference, w + k * direction, s) for s in examples] for k in (h, -h))
    products = (np.array(ahead) - np.array(behind)) / (2 * h)
    return values, gradients, products, direction


def derivatives(f, direction):
    """Return a function of the value, the gradient, that of each example, and the Hessian-vector product."""
    loss, each = mg.mean_loss(f, in_axes=(None, 0)), mg.per_example_grad(f, in_axes=(None, 0))

    def all_of_them(w, batch):
        return (*mg.value_and_grad(loss)(w, batch), each(w, batch),
                mg.hvp(lambda w: loss(w, batch), (w,), (direction,)))

    return all_of_them


def compare(have, values, gradients, products):
    close(have[0], values.mean(), "value")
    close(have[1], gradients.mean(axis=0), "gradient")
    close(have[2], gradients, "per-example gradients")
    np.testing.assert_allclose(have[3], products.mean(axis=0), rtol=1e-6, atol=1e-7)


@models
@pytest.mark.parametrize("sizes", SIZES)
def test_models_equal_their_references(model, sizes):
    f, _, w = MODELS[model]
    *expected, direction = answers(model, sizes)
    compare(derivatives(f, direction)(w, mg.batch(sequences(SIZES[sizes]))), *expected)


@models
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_one_program_for_all_lengths(model, backend):
    f, _, w = MODELS[model]
    step = mg.compile(derivatives(f, answers(model, "mixed")[-1]), backend=backend)
    for sizes in SIZES:
        compare(step(w, mg.batch(sequences(SIZES[sizes]))), *answers(model, sizes)[:-1])
    assert len(step.entries) == 1


@models
@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_microbatches(model, backend):
    f, _, w = MODELS[model]
    part = mg.value_and_grad(mg.microbatch(mg.mean_loss(f, in_axes=(None, 0)), 2))
    part = part if backend is None else mg.compile(part, backend=backend)
    for sizes in SIZES:
        values, gradients, *_ = answers(model, sizes)
        have = part(w, mg.batch(sequences(SIZES[sizes])))
        close(have[0], values.mean(), "value")
        close(have[1], gradients.mean(axis=0), "gradient")


@pytest.mark.parametrize("sizes", SIZES)
def test_the_lstm_is_that_of_pytorch_on_packed_sequences(sizes):
    torch = pytest.importorskip("torch")
    examples, w = sequences(SIZES[sizes]), MODELS["LSTM"][2]
    net = torch.nn.LSTM(3, UNITS, dtype=torch.float64)
    with torch.no_grad():
        for own, value in zip((net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0), matrices(w), strict=True):
            own.copy_(torch.from_numpy(np.array(value)))
        net.bias_hh_l0.zero_()
    pairs = [(s, torch.from_numpy(s.x)) for s in examples if len(s.x)]  # PyTorch packs no empty sequence
    total = torch.zeros((), dtype=torch.float64)
    if pairs:
        packed = torch.nn.utils.rnn.pack_sequence([x for _, x in pairs], enforce_sorted=False)
        hs, (h, c) = net(packed)
        total = (hs.data * packed.data).sum() + h.sum() + (c**2).sum() + 0.0 * sum(p.sum() for p in net.parameters())
        total.backward()
    value, slope = mg.value_and_grad(mg.mean_loss(lstm, in_axes=(None, 0)))(w, mg.batch(examples))
    close(value, total.item() / len(examples))
    wanted = [np.zeros(SHAPES[k]) if p.grad is None else p.grad.numpy() for k, p in zip(
        SHAPES, (net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0), strict=True)]
    for have, want in zip(matrices(slope), wanted, strict=True):
        close(have, want / len(examples))

"""Differentially private SGD on handwritten digits, written as its definition.

Each digit's gradient is scaled down to a norm of at most 1, the scaled gradients are averaged, and noise is
added. Nothing is hooked into layers. The compiled step never forms a per-example gradient: its norms come from
the activations and cotangents, and the clipping factors enter the one backward pass.
"""

import time

import numpy as np
from sklearn.datasets import load_digits

import minigrad as mg

BOUND, NOISE, BATCH, EPOCHS = 1.0, 0.7, 128, 15


def logits(p, x):
    return np.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]


def loss(p, x, label):
    z = logits(p, x)
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


axes = (None, 0, 0)


def private_gradient(p, X, labels, key):
    clipped = mg.per_example.clipped_mean(loss, BOUND, in_axes=axes)(p, X, labels)
    keys = dict(zip(clipped, mg.random.split(key, len(clipped)), strict=True))
    # The sum of clipped gradients moves by at most BOUND with one example; the noise is in proportion to that.
    return {k: g + NOISE * BOUND / X.shape[0] * mg.random.normal(keys[k], g.shape, g.dtype) for k, g in clipped.items()}


def plain_gradient(p, X, labels, key):
    return mg.grad(mg.mean_loss(loss, in_axes=axes))(p, X, labels)


digits = load_digits()
X, labels = (digits.data / 16).astype(np.float32), digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(X))
train, held_out = order[:1437], order[1437:]


def train_with(gradient):
    weights = np.random.default_rng(1)
    p = {"W1": weights.normal(0, 0.15, (64, 96)).astype(np.float32), "b1": np.zeros(96, np.float32),
         "W2": weights.normal(0, 0.1, (96, 10)).astype(np.float32), "b2": np.zeros(10, np.float32)}
    init, update = mg.optim.momentum(0.5, 0.9)
    step = mg.compile(lambda p, state, x, label, key: update(gradient(p, x, label, key), state, p))
    state, key, shuffle = init(p), mg.random.key(0), np.random.default_rng(2)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in np.array_split(shuffle.permutation(train), len(train) // BATCH):
            key, now = mg.random.split(key)
            p, state = step(p, state, X[batch], labels[batch], now)
    seconds = time.perf_counter() - start
    predicted = mg.vmap(logits, in_axes=(None, 0))(p, X[held_out]).argmax(1)
    return np.mean(predicted == labels[held_out]), seconds, step


accuracy, seconds, _ = train_with(plain_gradient)
private, private_seconds, step = train_with(private_gradient)
print(f"not private: {accuracy:.1%} of held-out digits right, {seconds:.2f} s")
print(f"    private: {private:.1%} with clipping at {BOUND} and noise of {NOISE}, {private_seconds:.2f} s")
for stage in step.stages:
    if stage.name == "factorize":
        print("   ", stage.note.replace("; ", "\n    "))
assert accuracy > 0.95
assert private > 0.80

# Against the definition, executed literally: a loop over the examples.
weights = {"W1": rng.normal(size=(64, 96)) * 0.1, "b1": np.zeros(96), "W2": rng.normal(size=(96, 10)) * 0.1,
           "b2": np.zeros(10)}
batch = train[:20]
gradients = [mg.grad(loss)(weights, X[i].astype(float), labels[i]) for i in batch]
norms = [np.sqrt(sum((v**2).sum() for v in g.values())) for g in gradients]
clip = mg.compile(mg.per_example.clipped_mean(loss, BOUND, in_axes=axes))
clipped = clip(weights, X[batch].astype(float), labels[batch])
for k in weights:
    by_hand = np.mean([g[k] * min(1, BOUND / n) for g, n in zip(gradients, norms, strict=True)], axis=0)
    np.testing.assert_allclose(clipped[k], by_hand, rtol=1e-9, atol=1e-12)
print(f"equal to the loop; {sum(n > BOUND for n in norms)} of {len(norms)} gradients were clipped")

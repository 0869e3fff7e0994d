"""Dropout, written for one digit with one random key: the mask belongs to the example, not to the batch.

So the same digits and keys give the same numbers in a batch, in microbatches of any size, and in a loop.
"""

import numpy as np
from sklearn.datasets import load_digits

import minigrad as mg


def logits(p, x, key=None):
    h = np.maximum(x @ p["W1"] + p["b1"], 0)
    if key is not None:  # in training, half of the units are off, and the others count twice
        h = h * mg.random.bernoulli(key, 0.5, h.shape) * 2
    return h @ p["W2"]


def loss(p, x, label, key):
    z = logits(p, x, key)
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


digits = load_digits()
X, labels = (digits.data / 16).astype(np.float32), digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(X))
train, held_out = order[:1437], order[1437:]
params = {"W1": (rng.normal(size=(64, 256)) * 0.18).astype(np.float32), "b1": np.zeros(256, np.float32),
          "W2": (rng.normal(size=(256, 10)) * 0.09).astype(np.float32)}

mean = mg.mean_loss(loss, in_axes=(None, 0, 0, 0))
init, update = mg.optim.adam(3e-3)


@mg.compile
def step(params, state, x, label, key):
    value, gradient = mg.value_and_grad(mean)(params, x, label, key)
    return value, *update(gradient, state, params)


predict = mg.compile(mg.vmap(logits, in_axes=(None, 0)))
state, key = init(params), mg.random.key(0)

keys = mg.random.split(key, 100)
at_once = step(params, state, X[:100], labels[:100], keys)[0]
in_passes = mg.microbatch(mean, 7)(params, X[:100], labels[:100], keys)
loop = np.mean([loss(params, x, y, k) for x, y, k in zip(X[:100], labels[:100], keys, strict=True)])
print(f"at once {at_once:.7f}, in passes of 7 {in_passes:.7f}, in a loop {loop:.7f}")
np.testing.assert_allclose([at_once, in_passes], loop, rtol=1e-5)

for epoch in range(12):
    shuffled = rng.permutation(train)
    for start in range(0, len(train), 64):
        batch = shuffled[start:start + 64]
        key, now = mg.random.split(key)
        value, params, state = step(params, state, X[batch], labels[batch], mg.random.split(now, len(batch)))
    accuracy = np.mean(predict(params, X[held_out]).argmax(1) == labels[held_out])
    print(f"epoch {epoch + 1:2d}: held-out accuracy {accuracy:.1%}")
assert accuracy > 0.95

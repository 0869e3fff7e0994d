"""Train a network on 1,797 handwritten digits: its loss is written for one digit, in plain NumPy."""

import numpy as np
from sklearn.datasets import load_digits

import minigrad as mg


def logits(params, x):
    h = np.maximum(x @ params["W1"] + params["b1"], 0)
    return h @ params["W2"] + params["b2"]


def loss(params, x, label):
    z = logits(params, x)
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


digits = load_digits()
X, labels = (digits.data / 16).astype(np.float32), digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(X))
train, held_out = order[:1437], order[1437:]
params = {"W1": rng.normal(0, 0.18, (64, 128)).astype(np.float32), "b1": np.zeros(128, np.float32),
          "W2": rng.normal(0, 0.12, (128, 10)).astype(np.float32), "b2": np.zeros(10, np.float32)}

init, update = mg.optim.adam(3e-3)


@mg.compile
def step(params, state, x, label):  # the gradient and the update are one program
    value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0)))(params, x, label)
    return value, *update(gradient, state, params)


predict = mg.compile(mg.vmap(logits, in_axes=(None, 0)))
state = init(params)
for epoch in range(15):
    shuffled = rng.permutation(train)
    losses = []
    for start in range(0, len(train), 32):  # the last batch is shorter: the same program serves it
        batch = shuffled[start:start + 32]
        value, params, state = step(params, state, X[batch], labels[batch])
        losses.append(value)
    accuracy = np.mean(predict(params, X[held_out]).argmax(1) == labels[held_out])
    print(f"epoch {epoch + 1:2d}: loss {np.mean(losses):.4f}, held-out accuracy {accuracy:.1%}")
assert len(step.entries) == 1
assert accuracy > 0.95

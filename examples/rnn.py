"""A recurrent network reads each handwritten digit row by row: `scan`, written for one digit.

Under the batch axis the scan stays one scan: 8 steps for any number of digits, forwards and backwards.
"""

import numpy as np
from sklearn.datasets import load_digits

import minigrad as mg


def logits(p, image):
    def read(state, row):
        state = np.tanh(row @ p["U"] + state @ p["W"] + p["b"])
        return state, None

    state, _ = mg.scan(read, np.zeros(64, np.float32), image)
    return state @ p["V"]


def loss(p, image, label):
    z = logits(p, image)
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


digits = load_digits()
X, labels = (digits.images / 16).astype(np.float32), digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(X))
train, held_out = order[:1437], order[1437:]


def weights(*shape, scale):
    return (rng.normal(size=shape) * scale).astype(np.float32)


params = {"U": weights(8, 64, scale=0.35), "W": weights(64, 64, scale=0.12), "b": np.zeros(64, np.float32),
          "V": weights(64, 10, scale=0.12)}

batch_loss = mg.mean_loss(loss, in_axes=(None, 0, 0))
print(mg.trace(batch_loss)(params, X[:32], labels[:32]), "\n")

init, update = mg.optim.adam(4e-3)


@mg.compile
def step(params, state, image, label):
    value, gradient = mg.value_and_grad(batch_loss)(params, image, label)
    return value, *update(gradient, state, params)


predict = mg.compile(mg.vmap(logits, in_axes=(None, 0)))
state = init(params)
for epoch in range(12):
    shuffled = rng.permutation(train)
    for start in range(0, len(train), 64):
        batch = shuffled[start:start + 64]
        value, params, state = step(params, state, X[batch], labels[batch])
    accuracy = np.mean(predict(params, X[held_out]).argmax(1) == labels[held_out])
    print(f"epoch {epoch + 1:2d}: last loss {value:.4f}, held-out accuracy {accuracy:.1%}")
assert accuracy > 0.93

# The scan is the loop.
one = mg.value_and_grad(loss)(params, X[0], labels[0])


def unrolled(p, image, label):
    state = np.zeros(64, np.float32)
    for t in range(8):
        state = np.tanh(image[t] @ p["U"] + state @ p["W"] + p["b"])
    z = state @ p["V"]
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


other = mg.value_and_grad(unrolled)(params, X[0], labels[0])
print("scan and loop differ by", max(abs(one[1][k] - other[1][k]).max() for k in params))
np.testing.assert_allclose(one[1]["W"], other[1]["W"], rtol=1e-4, atol=1e-6)

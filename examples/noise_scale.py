"""The gradient noise scale, measured while a network learns digits: how large a batch pays.

tr(Σ) / ‖G‖² says how many examples it takes until their noise is as small as the gradient itself: far below
it, a batch of twice the size makes twice the progress, far above it hardly any more. It grows as the loss falls.
"""

import numpy as np
from sklearn.datasets import load_digits

import minigrad as mg


def logits(p, x):
    return np.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]


def loss(p, x, label):
    z = logits(p, x)
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


digits = load_digits()
X, labels = digits.data / 16, digits.target
rng = np.random.default_rng(0)
params = {"W1": rng.normal(0, 0.15, (64, 64)), "b1": np.zeros(64), "W2": rng.normal(0, 0.1, (64, 10)),
          "b2": np.zeros(10)}
axes = (None, 0, 0)

scale = mg.compile(mg.per_example.noise_scale(loss, in_axes=axes))
mean_loss = mg.mean_loss(loss, in_axes=axes)
init, update = mg.optim.sgd(0.2)
step = mg.compile(lambda p, state, x, label: update(mg.grad(mean_loss)(p, x, label), state, p))
state, measured = init(params), []
for epoch in range(7):
    if epoch % 2 == 0:
        value = mean_loss(params, X, labels)
        measured.append(scale(params, X, labels))
        print(f"epoch {epoch:2d}: loss {value:.3f}, noise scale {measured[-1]:7.1f} examples")
    for batch in np.array_split(rng.permutation(len(X)), 30):
        params, state = step(params, state, X[batch], labels[batch])
print("a batch that grows from", round(measured[0]), "to", round(measured[-1]), "examples would suit this training")
assert measured[-1] > measured[0]

# Against the definition: the gradients one by one, their mean and the trace of their covariance.
rows = slice(0, 200)
each = mg.per_example_grad(loss, in_axes=axes)(params, X[rows], labels[rows])
flat = np.concatenate([g.reshape(200, -1) for g in each.values()], axis=1)
trace = flat.var(axis=0, ddof=1).sum()
by_hand = trace / ((flat.mean(axis=0) ** 2).sum() - trace / 200)
np.testing.assert_allclose(scale(params, X[rows], labels[rows]), by_hand, rtol=1e-8)

# And by its meaning: the error of a batch's gradient falls like tr(Σ) / batch size.
mean = flat.mean(axis=0)
for size in (10, 40):
    error = np.mean([((flat[rng.choice(200, size)].mean(axis=0) - mean) ** 2).sum() for _ in range(300)])
    print(f"batches of {size}: squared error {error:.4f}, tr(Σ)/{size} = {trace / size:.4f}")
    np.testing.assert_allclose(error, trace / size, rtol=0.2)

import autograd.numpy as np
from autograd import grad

rng = np.random.RandomState(6)
X = rng.normal(size=(100, 4))
targets = X @ np.array([1.0, -2.0, 0.5, 0.0]) > 0


def loss(w):
    predictions = 0.5 * (np.tanh(X @ w / 2) + 1)
    probabilities = predictions * targets + (1 - predictions) * (1 - targets)
    return -np.mean(np.log(probabilities))


gradient = grad(loss)
w = np.zeros(4)
for _ in range(100):
    w = w - 0.5 * gradient(w)
result = loss(w)

"""Averaging and differentiating commute: grad(mean(vmap f)) = mean(vmap(grad f)).

The two graphs show why: every node of the backward pass is linear in its cotangent, so the 1/B that the
first one puts in at the top is the mean that the second one takes at the bottom.
"""

import numpy as np
from sklearn.datasets import load_diabetes

import minigrad as mg


def loss(w, x, y):
    return (np.tanh(x @ w) - y) ** 2


data = load_diabetes()
X, y = data.data, (data.target - data.target.mean()) / (2 * data.target.std())
w = np.linspace(-1, 1, X.shape[1])
axes = (None, 0, 0)

grad_of_mean = mg.grad(mg.mean_loss(loss, in_axes=axes))


def mean_of_grads(w, X, y):
    return mg.per_example_grad(loss, in_axes=axes)(w, X, y).mean(axis=0)


print("grad(mean(vmap f)): the mean's 1/B enters first\n", mg.trace(grad_of_mean)(w, X, y), "\n", sep="")
print("mean(vmap(grad f)): one gradient per example, averaged last\n", mg.trace(mean_of_grads)(w, X, y), "\n", sep="")

a, b = grad_of_mean(w, X, y), mean_of_grads(w, X, y)
loop = np.mean([mg.grad(loss)(w, *example) for example in zip(X, y, strict=True)], axis=0)
print("largest difference between the two:", abs(a - b).max(), " from the loop:", abs(a - loop).max())
np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
np.testing.assert_allclose(a, loop, rtol=1e-10, atol=1e-14)

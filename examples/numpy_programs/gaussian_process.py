"""Negative log marginal likelihood of a Gaussian process with a squared-exponential kernel."""

import numpy as np


def kernel(a, b, length, variance):
    K = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            K[i, j] = variance * np.exp(-0.5 * (a[i] - b[j]) ** 2 / length**2)
    return K


def loss(params, x, y):
    length, variance, noise = np.exp(params)
    K = kernel(x, x, length, variance)
    K[np.diag_indices(len(x))] += noise
    L = np.linalg.cholesky(K)
    alpha = np.linalg.solve(L.T, np.linalg.solve(L, y))
    return 0.5 * y @ alpha + np.log(np.diag(L)).sum() + 0.5 * len(x) * np.log(2 * np.pi)


params = np.log([0.8, 1.5, 0.2])
rng = np.random.default_rng(2)
examples = (np.sort(rng.uniform(0, 5, size=(4, 6)), axis=1), rng.normal(size=(4, 6)))

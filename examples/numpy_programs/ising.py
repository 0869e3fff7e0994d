"""Mean field of spins on a ring with next-nearest neighbours: free energy after sweeps in order."""

import numpy as np

N = 6
neighbours = np.array([[(i - 1) % N, (i + 1) % N, (i + 2) % N] for i in range(N)])


def sweep(m, J, h, beta):
    for i in range(N):
        field = h[i]
        for k, j in enumerate(neighbours[i]):
            field += J[k] * m[j]
        m[i] = np.tanh(beta * field)
    return m


def entropy(m):
    p = (1 + m) / 2
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def loss(params, h):
    J, beta = params[:3], np.exp(params[3])
    m = np.zeros(N)
    for _ in range(4):
        sweep(m, J, h, beta)
    coupling = sum(J[k] * m * m[neighbours[:, k]] for k in range(3))
    return np.sum(-0.5 * coupling - h * m - entropy(m) / beta) / N


params = np.array([0.3, 0.2, -0.1, 0.1])
examples = np.random.default_rng(17).normal(size=(5, N))

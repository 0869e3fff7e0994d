"""Forward algorithm of a hidden Markov model, scaled at each step."""

import numpy as np


def softmax(a):
    e = np.exp(a - np.max(a, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def loss(params, obs):
    pi, A, B = softmax(params["pi"]), softmax(params["A"]), softmax(params["B"])
    T, K = len(obs), len(pi)
    alpha = np.zeros((T, K))
    scale = np.zeros(T)
    alpha[0, :] = pi * B[:, obs[0]]
    scale[0] = alpha[0].sum()
    alpha[0] /= scale[0]
    for t in range(1, T):
        for j in range(K):
            alpha[t, j] = (alpha[t - 1] @ A[:, j]) * B[j, obs[t]]
        scale[t] = alpha[t].sum()
        alpha[t] /= scale[t]
    return -np.sum(np.log(scale))


rng = np.random.default_rng(3)
params = {"pi": rng.normal(size=3), "A": rng.normal(size=(3, 3)), "B": rng.normal(size=(3, 4))}
examples = rng.integers(4, size=(5, 7))

"""Concentrations of a reversible reaction chain, by implicit Euler steps with Newton's method."""

import numpy as np

STOICHIOMETRY = np.array([[-1, 0], [1, -1], [0, 1]])


def rates(c, k):
    return np.array([k[0] * c[0] - k[1] * c[1] ** 2, k[2] * c[1] - k[3] * c[2]])


def jacobian(c, k):
    J = np.zeros((2, 3))
    J[0, 0] = k[0]
    J[0, 1] = -2 * k[1] * c[1]
    J[1, 1] = k[2]
    J[1, 2] = -k[3]
    return J


def step(c, k, h):
    new = c.copy()
    for _ in range(4):
        residual = new - c - h * STOICHIOMETRY @ rates(new, k)
        new -= np.linalg.solve(np.eye(3) - h * STOICHIOMETRY @ jacobian(new, k), residual)
    return new


def loss(params, initial, measured):
    k = np.exp(params)
    c = np.asarray(initial, dtype=float)
    history = []
    for _ in range(5):
        c = step(c, k, 0.2)
        history.append(c[2])
    return np.mean((np.array(history) - measured) ** 2)


params = np.array([0.5, -1.0, 0.2, -0.7])
rng = np.random.default_rng(15)
examples = (rng.uniform(0.2, 1.0, size=(4, 3)), rng.uniform(0, 1, size=(4, 5)))

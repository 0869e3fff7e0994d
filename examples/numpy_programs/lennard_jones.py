"""Energy and largest force of a Lennard-Jones cluster of two species."""

import numpy as np

SIGMA = np.array([[1.0, 0.9], [0.9, 0.8]])
EPSILON = np.array([[1.0, 1.2], [1.2, 0.7]])


def pair(r2, sigma, epsilon):
    s6 = (sigma**2 / r2) ** 3
    return 4 * epsilon * (s6**2 - s6), 24 * epsilon * (2 * s6**2 - s6) / r2


def loss(params, positions, species):
    x = positions * (1 + params["strain"])
    n = len(x)
    energy = 0.0
    forces = np.zeros_like(x)
    for i in range(n):
        for j in range(i + 1, n):
            d = x[i] - x[j]
            a, b = species[i], species[j]
            e, f = pair(np.sum(d**2), params["size"] * SIGMA[a, b], EPSILON[a, b])
            energy += e
            forces[i] += f * d
            forces[j] -= f * d
    return energy / n + 0.01 * np.sqrt((forces**2).sum(axis=1)).max()


params = {"strain": np.array([0.02, -0.01, 0.0]), "size": 0.95}
grid = np.stack(np.meshgrid([0.0, 1.1], [0.0, 1.2], [0.0]), axis=-1).reshape(-1, 3)
rng = np.random.default_rng(12)
examples = (grid + 0.1 * rng.normal(size=(4, *grid.shape)), rng.integers(2, size=(4, len(grid))))

"""End point of a pendulum on a spring, by the velocity Verlet method."""

import numpy as np

G = np.array([0.0, -9.81])


def acceleration(x, k, rest, m):
    r = np.sqrt(x[0] ** 2 + x[1] ** 2)
    return G - k / m * (r - rest) * x / r


def simulate(x, v, k, rest, m, dt=0.02, steps=20):
    x, v = x.copy(), v.copy()
    a = acceleration(x, k, rest, m)
    energy = []
    for _ in range(steps):
        v += 0.5 * dt * a
        x += dt * v
        a[:] = acceleration(x, k, rest, m)
        v += 0.5 * dt * a
        energy.append(0.5 * m * np.dot(v, v) - m * np.dot(G, x))
    return x, np.array(energy)


def loss(params, start, target):
    k, rest, m = np.exp(params)
    end, energy = simulate(start, np.zeros(2), k, rest, m)
    return np.sum((end - target) ** 2) + 1e-3 * np.std(energy)


params = np.log([40.0, 1.0, 0.5])
rng = np.random.default_rng(13)
examples = (np.array([0.3, -1.0]) + 0.1 * rng.normal(size=(4, 2)), rng.normal(size=(4, 2)))

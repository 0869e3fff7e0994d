"""Angle between the observed and the computed direction of a planet, from its orbital elements."""

import math

import numpy as np


def eccentric_anomaly(M, e):
    E = M
    for _ in range(8):
        E = E - (E - e * math.sin(E) - M) / (1 - e * math.cos(E))
    return E


def position(a, e, inc, node, peri, M):
    E = eccentric_anomaly(M, e)
    nu = 2 * math.atan2(math.sqrt(1 + e) * math.sin(E / 2), math.sqrt(1 - e) * math.cos(E / 2))
    r = a * (1 - e * math.cos(E))
    x = np.zeros(3)
    x[0] = r * (math.cos(node) * math.cos(peri + nu) - math.sin(node) * math.sin(peri + nu) * math.cos(inc))
    x[1] = r * (math.sin(node) * math.cos(peri + nu) + math.cos(node) * math.sin(peri + nu) * math.cos(inc))
    x[2] = r * math.sin(peri + nu) * math.sin(inc)
    return x


def loss(params, t, direction):
    a, e, inc, node, peri, M0 = params
    x = position(a, e, inc, node, peri, M0 + 2 * math.pi * t / a**1.5)
    x = x - np.array([math.cos(2 * math.pi * t), math.sin(2 * math.pi * t), 0.0])
    x /= np.linalg.norm(x)
    return 1 - np.dot(x, direction)


params = np.array([1.52, 0.09, 0.03, 0.86, 5.0, 0.3])
rng = np.random.default_rng(16)
directions = rng.normal(size=(5, 3))
examples = (rng.uniform(0, 2, 5), directions / np.linalg.norm(directions, axis=1, keepdims=True))

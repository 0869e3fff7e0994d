"""A small regression, its single gradients by NumPy, and steps that weigh them."""

import numpy as np

import minigrad as mg

rng = np.random.default_rng(0)
N = 12
W, X, Y = rng.normal(size=40), rng.normal(size=(N, 40)), rng.normal(size=N)
PARTS = [np.arange(0, 5), np.arange(5, 10), np.arange(10, 12)]


def loss(w, x, y):
    return (np.sum(np.tanh(x * w)) - y) ** 2


def singles(w, x, y):
    """Return the gradients by the derivative worked out by hand."""
    t = np.tanh(x * w)
    return 2 * (t.sum(1) - y)[:, None] * (1 - t**2) * x


def weighted(weights):
    """Return the step of constant weights."""
    return lambda w, x, y: np.asarray(weights) @ singles(w, x, y)


def mean(w, x, y):
    return singles(w, x, y).mean(axis=0)


def clip(g, bound):
    return g * min(1, bound / np.linalg.norm(g))


def run(step, *args, **options):
    """Audit a step on the regression, without a bar."""
    return mg.audit(step, *(args or (loss, W, (X, Y))), progress=False, **options)

"""The program that `minigrad explore` shows without arguments: s = g(f(x, w), f(x, w), x)."""

from __future__ import annotations

import numpy as np

__user_code__ = True  # its lines stand on the page

# Sepal and petal sizes of six irises in cm, two of each species (Fisher, 1936).
examples = (np.array([[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4],
                      [6.4, 3.2, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5], [5.8, 2.7, 5.1, 1.9]]),)
params = np.array([0.1, -0.2, 0.3, 0.4, -1.0])


def f(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return a score of an example; the scale depends on w alone."""
    scale = np.exp(w[-1])
    score: np.ndarray = np.tanh(x @ w[:-1]) * scale
    return score


def g(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the loss of two scores."""
    loss: np.ndarray = (a - 0.5) ** 2 + a * b * x.mean()
    return loss


def s(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the loss of one example, in which f occurs twice."""
    return g(f(x, w), f(x, w), x)

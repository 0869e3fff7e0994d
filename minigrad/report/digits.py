"""The model that `minigrad compare` runs without arguments: handwritten digits, and the loss of one of them.

The functions of one example are plain NumPy; their lines count as the user's own.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from ..errors import MinigradError

__user_code__ = True

SIZES = (64, 256, 128, 10)


class Digits(NamedTuple):
    """Images as rows of 64 grey values in [0, 1], float32, and the digit that each shows."""

    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]

    @property
    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all images and all labels."""
        return tuple(np.concatenate(pair) for pair in zip(self.train, self.held_out, strict=True))


def load(seed: int = 0, held_out: float = 0.2) -> Digits:
    """Return scikit-learn's 1,797 handwritten digits, a random part of them held out.

    Raises
    ------
    MinigradError
        If scikit-learn, which brings the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MinigradError("the handwritten digits come with scikit-learn, which is not installed: "
                            "pip install 'minigrad[examples]'") from None
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) - round(held_out * len(images))
    train, rest = order[:cut], order[cut:]
    return Digits((images[train], labels[train]), (images[rest], labels[rest]))


def init(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the weights and biases of the network, float32."""
    rng = np.random.default_rng(seed)
    params = {}
    for i, (n, m) in enumerate(itertools.pairwise(SIZES), 1):
        params[f"W{i}"] = rng.normal(0, np.sqrt(2 / n), (n, m)).astype(np.float32)
        params[f"b{i}"] = np.zeros(m, np.float32)
    return params


def scores(params, image):
    """Return a score for each of the ten digits, given one image."""
    h = np.maximum(image @ params["W1"] + params["b1"], 0)
    h = np.maximum(h @ params["W2"] + params["b2"], 0)
    return h @ params["W3"] + params["b3"]


def loss(params, image, label):
    """Return the cross-entropy of one image."""
    z = scores(params, image)
    z = z - np.max(z)
    return np.log(np.sum(np.exp(z))) - z[label]

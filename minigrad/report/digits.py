"""The default model of `minigrad compare`: handwritten digits, and the loss of one of them.

The functions of one example are plain NumPy; their lines count as the user's own.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.random import default_rng

from ..errors import MinigradError
from ..locks import importing

__user_code__ = True

SIZES = (64, 256, 128, 10)


class Digits(NamedTuple):
    """Images, as rows of 64 grey values in [0, 1] (float32), and their digits."""

    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]

    @property
    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all images and all labels."""
        images, labels = (np.concatenate(pair) for pair in zip(self.train, self.held_out, strict=True))
        return images, labels


def load(seed: int = 0, held_out: float = 0.2) -> Digits:
    """Return scikit-learn's 1,797 handwritten digits, a random part of them held out.

    Raises
    ------
    MinigradError
        If scikit-learn, which contains the images, is not installed.
    """
    try:
        with importing:
            from sklearn.datasets import load_digits
    except ImportError:
        raise MinigradError("the handwritten digits come with scikit-learn, which is not installed: "
                            "pip install 'minigrad[examples]'") from None
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    order = default_rng(seed).permutation(len(images))
    cut = len(images) - round(held_out * len(images))
    train, test = order[:cut], order[cut:]
    return Digits((images[train], labels[train]), (images[test], labels[test]))


def init(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the weights and biases of the network, float32."""
    rng = default_rng(seed)
    params = {}
    for i, (n, m) in enumerate(itertools.pairwise(SIZES), 1):
        params[f"W{i}"] = rng.normal(0, np.sqrt(2 / n), (n, m)).astype(np.float32)
        params[f"b{i}"] = np.zeros(m, np.float32)
    return params


def scores(params: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Return a score for each of the ten digits, given one image."""
    h = np.maximum(image @ params["W1"] + params["b1"], 0)
    h = np.maximum(h @ params["W2"] + params["b2"], 0)
    out: np.ndarray = h @ params["W3"] + params["b3"]
    return out


def loss(params: dict[str, np.ndarray], image: np.ndarray, label: int) -> np.floating:
    """Return the cross-entropy of one image."""
    z = scores(params, image)
    z = z - np.max(z)
    cross_entropy: np.floating = np.log(np.sum(np.exp(z))) - z[label]
    return cross_entropy

"""The default step of `minigrad audit`: accumulated gradients of digits, with a common fault."""

from __future__ import annotations

import numpy as np
import optree

from ..compiler import compile
from ..graph import PyTree
from ..report import digits
from ..transforms.grad import grad
from ..transforms.mean import mean_loss

__user_code__ = True

EXAMPLES = 100
_MICROBATCH = 32

_mean_gradient = compile(grad(mean_loss(digits.loss, in_axes=(None, 0, 0))))


def mean_of_means(params: PyTree, images: np.ndarray, labels: np.ndarray) -> PyTree:
    """Return the mean of the micro-batches' mean gradients: not the mean gradient, since the last one is smaller."""
    starts = range(0, len(images), _MICROBATCH)
    means = [_mean_gradient(params, images[k:k + _MICROBATCH], labels[k:k + _MICROBATCH]) for k in starts]
    return optree.tree_map(lambda *leaves: sum(leaves) / len(leaves), *means)

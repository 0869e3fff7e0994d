"""Error of an image filter that is written as loops, after a ReLU and a mean pool."""

import numpy as np


def conv2d(image, kernel):
    H, W = image.shape
    kh, kw = kernel.shape
    out = np.zeros((H - kh + 1, W - kw + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = np.sum(image[i:i + kh, j:j + kw] * kernel)
    return out


def pool(x):
    h, w = x.shape[0] // 2, x.shape[1] // 2
    return x[:2 * h, :2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3))


def loss(params, image, target):
    hidden = conv2d(np.pad(image, 1), params["kernel"])
    hidden += params["bias"]
    hidden[hidden < 0] = 0.0
    score = params["readout"] @ pool(hidden).flatten()
    return (score - target) ** 2


rng = np.random.default_rng(18)
params = {"kernel": rng.normal(size=(3, 3)), "bias": 0.1, "readout": rng.normal(size=4)}
examples = (rng.normal(size=(4, 4, 4)), rng.normal(size=4))

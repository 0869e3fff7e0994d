"""Dynamic graphs on point clouds: handwritten digits as their inked pixels, joined to their nearest in each layer.

An EdgeConv layer (Wang et al., "Dynamic graph CNN for learning on point clouds", 2019) joins each point to its K
nearest ones in the space of the layer before, and keeps the largest message. The network is written for one cloud;
clouds of all sizes are one batch without padding, and the neighbours are an `argsort` of each cloud's distances.
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import minigrad as mg

K, WIDTH, EPOCHS, RATE = 8, 32, 8, 1e-2
point = mg.axis("point")


@mg.example
class Cloud:
    x: mg.f32[point, 3]  # row, column and ink
    digit: mg.i64[()]


def nearest(x):
    """Return the K nearest points of each point, itself included."""
    squares = np.sum(x * x, axis=1)
    return np.argsort(squares[:, None] - 2 * (x @ x.T) + squares, axis=1)[:, :K]


def edge_conv(p, x):
    neighbours = x[nearest(x)]
    centre = np.broadcast_to(x[:, None], neighbours.shape)
    messages = np.concatenate([centre, neighbours - centre], axis=2) @ p["w"] + p["b"]
    return np.max(np.maximum(messages, 0.2 * messages), axis=1)


def logits(p, c):
    h1 = edge_conv(p["first"], c.x)
    h2 = edge_conv(p["second"], h1)
    h = np.concatenate([h1, h2], axis=1)
    pooled = np.concatenate([np.max(h, axis=0), np.mean(h, axis=0)])
    return pooled @ p["out"] + p["bias"]


def loss(p, c):
    z = logits(p, c)
    return mg.special.logsumexp(z) - z[c.digit]


images, digits = load_digits(return_X_y=True)
clouds = []
for image, digit in zip(images.reshape(-1, 8, 8), digits, strict=True):
    inked = np.argwhere(image > 3)
    ink = image[tuple(inked.T)][:, None]
    clouds.append(Cloud(np.concatenate([inked / 4 - 1, ink / 16], axis=1).astype(np.float32), int(digit)))

rng = np.random.default_rng(0)


def weights(*shape):
    return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


def layer(n):
    return {"w": weights(2 * n, WIDTH), "b": np.zeros(WIDTH, np.float32)}


params = {"first": layer(3), "second": layer(WIDTH), "out": weights(4 * WIDTH, 10), "bias": np.zeros(10, np.float32)}

train, test = mg.batch(clouds[:1500]), mg.batch(clouds[1500:])
sizes = train.lengths[point]
print(f"{len(clouds)} digits of {sizes.min()} to {sizes.max()} points, each joined to its {K} nearest")

# The neighbours in a batch are those of scikit-learn's search, cloud by cloud; equal distances may stand in any order.
found = mg.compile(mg.vmap(lambda c: np.take_along_axis(
    np.sqrt(np.sum((c.x[:, None] - c.x[None]) ** 2, axis=2)), nearest(c.x), axis=1)))(test)
for c, distances in zip(test.unbatch(), found.unbatch(), strict=True):
    expected, _ = NearestNeighbors(n_neighbors=K).fit(c.x).kneighbors(c.x)
    np.testing.assert_allclose(distances, expected, atol=2e-3)

init, update = mg.optim.adam(RATE)
step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
predict = mg.compile(mg.vmap(lambda p, c: np.argmax(logits(p, c)), in_axes=(None, 0)))
state = init(params)
for epoch in range(EPOCHS):
    begin = time.perf_counter()
    order = rng.permutation(len(train))
    losses = []
    for k in range(0, len(order), 30):
        value, gradient = step(params, train[order[k:k + 30]])
        params, state = update(gradient, state, params)
        losses.append(value)
    right = np.mean(predict(params, test) == test.digit)
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, {right:.1%} of the test digits right, "
          f"{time.perf_counter() - begin:.1f} s")
assert right > 0.8
assert len(step.entries) == 1  # one program for batches of all sizes

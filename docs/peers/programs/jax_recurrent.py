import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(2)
params = {"W": rng.normal(size=(6, 6)) / 3, "U": rng.normal(size=(2, 6))}
X, y = rng.normal(size=(16, 20, 2)), rng.normal(size=16)  # 16 sequences of 20 steps


def loss(params, x, y):
    def cell(h, x):
        return jnp.tanh(h @ params["W"] + x @ params["U"]), None

    h, _ = jax.lax.scan(cell, jnp.zeros(6), x)
    return (jnp.sum(h) - y) ** 2


def mean(params, X, y):
    return jnp.mean(jax.vmap(loss, in_axes=(None, 0, 0))(params, X, y))


gradient = jax.jit(jax.grad(mean))(params, X, y)
result = jnp.sum(gradient["W"] ** 2)

import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(3)
w, X, y = rng.normal(size=8), rng.normal(size=(32, 8)), rng.normal(size=32)


def loss(w, key, x, y):
    kept = jax.random.bernoulli(key, 0.8, x.shape)  # dropout
    return (jnp.sum(jnp.where(kept, x / 0.8, 0) * w) - y) ** 2


@jax.jit
def gradient(w, key):
    keys = jax.random.split(key, len(X))  # one key per example
    return jax.grad(lambda w: jnp.mean(jax.vmap(loss, in_axes=(None, 0, 0, 0))(w, keys, X, y)))(w)


key, total = jax.random.key(0), 0.0
for _ in range(4000):
    key, now = jax.random.split(key)
    total = total + gradient(w, now)
result = jnp.linalg.norm(total / 4000)

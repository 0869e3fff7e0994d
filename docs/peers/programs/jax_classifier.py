import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 8)).astype(np.float32)
labels = (X[:, 0] * X[:, 1] > 0).astype(int)
params = {"W1": rng.normal(size=(8, 16)).astype(np.float32) / 3,
          "W2": rng.normal(size=(16, 2)).astype(np.float32) / 4}


def loss(params, X, labels):
    z = jnp.tanh(X @ params["W1"]) @ params["W2"]
    return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(len(X)), labels])


@jax.jit
def step(params, X, labels):
    value, gradient = jax.value_and_grad(loss)(params, X, labels)
    return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)


for _ in range(100):
    value, params = step(params, X, labels)
result = value

import jax
import jax.numpy as jnp
import numpy as np


def kepler(M, e=0.3):
    """Solve E - e sin E = M by Newton's method."""
    def going(state):
        _, change = state
        return jnp.abs(change) > 1e-5

    def newton(state):
        E, _ = state
        change = (E - e * jnp.sin(E) - M) / (1 - e * jnp.cos(E))
        return E - change, change

    return jax.lax.while_loop(going, newton, (M, jnp.ones_like(M)))[0]


result = jax.jit(jax.vmap(kepler))(np.linspace(0, 3, 50)).sum()

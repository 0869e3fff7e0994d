"""An optimizer batch of 50 in 10 passes of 5, or in 8 passes of 7: the same value, the same gradient.

The optimizer never sees a batch size and the batch never sees an optimizer, so either can be changed
alone; SciPy's optimizers work too.
"""

import tracemalloc

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits

import minigrad as mg


def loss(params, x, label):
    h = np.tanh(x @ params["W1"] + params["b1"])
    z = h @ params["W2"] + params["b2"]
    z = z - z.max()
    return np.log(np.exp(z).sum()) - z[label]


digits = load_digits()
X, labels = digits.data / 16.0, digits.target
rng = np.random.default_rng(0)
params = {"W1": rng.normal(0, 0.1, (64, 32)), "b1": np.zeros(32), "W2": rng.normal(0, 0.1, (32, 10)),
          "b2": np.zeros(10)}
mean = mg.mean_loss(loss, in_axes=(None, 0, 0))

full = mg.value_and_grad(mean)(params, X[:50], labels[:50])
for size in (5, 7):
    value, gradient = mg.value_and_grad(mg.microbatch(mean, size))(params, X[:50], labels[:50])
    worst = max(abs(gradient[k] - full[1][k]).max() for k in params)
    print(f"50 examples in {-(-50 // size)} passes of {size}: loss differs by {abs(value - full[0]):.1e}, gradient by "
          f"{worst:.1e}")
    assert abs(value - full[0]) < 1e-14 and worst < 1e-14

# The use: one chunk's intermediates in memory at a time, in the gradient too.
for name, f in [("at once", mean), ("in passes of 64", mg.microbatch(mean, 64))]:
    step = mg.compile(mg.value_and_grad(f))
    step(params, X[:8], labels[:8])  # traced, so that the next call allocates the run's memory alone
    tracemalloc.start()
    step(params, X, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{len(X)} examples {name}: {peak / 1e6:.2f} MB")

# Any optimizer, none of which knows a batch: here Adam on microbatches, then SciPy's L-BFGS.
step = mg.compile(mg.value_and_grad(mg.microbatch(mean, 100)))
init, update = mg.optim.adam(0.01)


@mg.compile
def descend(params, state):  # the gradient and the update are one program
    value, gradient = step(params, X, labels)
    return value, *update(gradient, state, params)


state, fitted = init(params), params
for _ in range(60):
    value, fitted, state = descend(fitted, state)
print(f"Adam, 60 steps: loss {value:.3f}")

vector, unravel = mg.optim.ravel(params)


def objective(v):
    value, gradient = step(unravel(v), X, labels)
    return float(value), mg.optim.ravel(gradient)[0]


result = minimize(objective, vector, jac=True, method="L-BFGS-B", options={"maxiter": 60})
print(f"L-BFGS, {result.nit} steps: loss {result.fun:.3f}")
assert result.fun < 0.1 < full[0]

"""Trace once, run for any batch size; read the program that runs."""

import numpy as np
from sklearn.datasets import load_diabetes

import minigrad as mg

traces = 0


def loss(w, x, y):
    global traces
    traces += 1
    return np.log(np.cosh(x @ w - y))


data = load_diabetes()
X, y = data.data.astype(np.float32), (data.target / data.target.std()).astype(np.float32)
w = np.zeros(X.shape[1], np.float32)

step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))
for size in (442, 100, 7, 1):
    value, gradient = step(w, X[:size], y[:size])
    print(f"batch of {size:3d}: loss {value:.6f}, |gradient| {np.linalg.norm(gradient):.6f}, "
          f"{len(step.entries)} program")
    np.testing.assert_allclose(value, np.mean(np.log(np.cosh(X[:size] @ w - y[:size]))), rtol=1e-5)
assert len(step.entries) == 1
before = traces
step(w, X[:33], y[:33])
assert traces == before, "a new batch size must not trace again"

print("\nWhat was done:")
for stage in step.stages:
    print(f"  {stage.name}: {stage.note}")
print("\nThe program:\n")
print(step.source)

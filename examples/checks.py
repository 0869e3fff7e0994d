"""See that it is right: gradients against finite differences, the batch against the loop."""

import numpy as np
from sklearn.datasets import load_diabetes

import minigrad as mg


def loss(w, x, y):
    return np.sqrt(1 + (x @ w - y) ** 2) - 1


data = load_diabetes()
X, y = data.data, data.target / data.target.std()
w = np.linspace(-1, 1, X.shape[1])

mg.check_grads(loss, (w, X[0], y[0]), order=2)
print("derivatives agree with finite differences, forward with reverse mode, to second order")
mg.check_batching(loss, (w, X[:8], y[:8]), in_axes=(None, 0, 0))
print("the batch agrees with the loop, and no example leaks into another")

# A NaN is traced to the operation and the line that made it.
with mg.debug_nans():
    try:
        mg.vmap(lambda x: np.log(x - x.max()) * 0.0 + np.sqrt(x))(X)
    except FloatingPointError as error:
        print("found:", error)
    else:
        raise AssertionError("the NaN went unnoticed")

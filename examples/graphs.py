"""Everything can be looked at: a graph as text, as a drawing, as JSON, and as the program that would run."""

import numpy as np
from sklearn.datasets import load_diabetes

import minigrad as mg


def loss(w, x, y):
    residual = x @ w - y
    return np.where(np.abs(residual) < 1, 0.5 * residual**2, np.abs(residual) - 0.5)


data = load_diabetes()
X, y = data.data, data.target / data.target.std()
w = np.zeros(X.shape[1])

one = mg.trace(loss)(w, X[0], y[0])  # the same from types alone: mg.trace(loss)(mg.f64[10], mg.f64[10], mg.f64[()])
print(one, "\n")
for node in one.nodes:
    print(f"{node.prim.name:>8} {node.type!s:<10} made at {node.where}")

step = mg.trace(mg.grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))(w, X, y)
print(f"\nThe gradient of a batch, of any size:\n{step}\n")
print("drawn into", step.show("huber_gradient.svg"))

text = step.to_json()
again = mg.Graph.from_json(text)
assert str(again) == str(step) and again.to_json() == text
print(f"\n{len(text)} characters of JSON, read back exactly; nothing in it is executed.\n")
print(step.source("numpy"))

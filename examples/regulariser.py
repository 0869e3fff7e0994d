"""A regulariser written inside the per-example loss is computed once, not once per example."""

import numpy as np
from sklearn.datasets import load_breast_cancer

import minigrad as mg


def loss(w, x, y):
    return np.logaddexp(0, -y * (x @ w)) + 0.01 * np.sum(w**2)  # the second term knows no example


data = load_breast_cancer()
X = (data.data - data.data.mean(0)) / data.data.std(0)
y = np.where(data.target == 1, 1.0, -1.0)
w = np.full(X.shape[1], 0.1)

mean = mg.mean_loss(loss, in_axes=(None, 0, 0))
graph = mg.trace(mean)(w, X, y)
print(graph, "\n")

# The squares of w: one node, with no batch axis, added after the mean.
squares = [n for n in graph.nodes if n.prim.name == "square"]
assert [n.shape for n in squares] == [w.shape]
assert graph.outputs[0].prim.name == "add" and any(i.prim.name == "mean" for i in graph.outputs[0].inputs)

by_hand = np.mean(np.logaddexp(0, -y * (X @ w))) + 0.01 * np.sum(w**2)
print(f"mean loss {mean(w, X, y):.15f}, written out by hand {by_hand:.15f}")
np.testing.assert_allclose(mean(w, X, y), by_hand, rtol=1e-14)

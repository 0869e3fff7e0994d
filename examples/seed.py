"""Mini-batches of a computational graph: s = g(f(x, w), f(x, w), x).

The mini-batch of two examples is first drawn as people imagine it: two copies of the graph, and a node
that averages. Then it is drawn as minigrad computes it: the same graph once, with a batch axis. Both give
the same numbers, and neither repeats the nodes that depend on w alone.
"""

import numpy as np
from sklearn.datasets import load_iris

import minigrad as mg


def f(x, w):
    scale = np.exp(w[-1])  # depends on w alone: shared by all examples
    return np.tanh(x @ w[:-1]) * scale


def g(a, b, x):
    return (a - 0.5) ** 2 + a * b * x.mean()


def s(w, x):
    return g(f(x, w), f(x, w), x)


X = load_iris().data[:2]
w = np.array([0.1, -0.2, 0.3, 0.4, -1.0])
params, examples = w, (X,)  # for ``minigrad explore examples/seed.py:s``

if __name__ == "__main__":
    example = mg.trace(s)(w, X[0])
    copies = mg.trace(mg.unroll(s, 2, in_axes=(None, 0)))(w, X)
    batch = mg.trace(mg.mean_loss(s, in_axes=(None, 0)))(w, X)
    for title, graph in [("one example", example), ("two copies and a mean", copies), ("one batch axis", batch)]:
        print(f"--- {title}: {graph.count()} nodes, {graph.count('exp')} of them exp\n{graph}\n")

    # Three ways to the same loss and the same gradient.
    loop = np.mean([s(w, x) for x in X])
    unrolled, unrolled_grad = mg.value_and_grad(mg.unroll(s, 2, in_axes=(None, 0)))(w, X)
    batched, batched_grad = mg.value_and_grad(mg.mean_loss(s, in_axes=(None, 0)))(w, X)
    loop_grad = np.mean([mg.grad(s)(w, x) for x in X], axis=0)
    print(f"loss      loop {loop:.12f}   two copies {unrolled:.12f}   batch axis {batched:.12f}")
    print(f"gradient  largest difference from the loop: {abs(unrolled_grad - loop_grad).max():.1e} (copies), "
          f"{abs(batched_grad - loop_grad).max():.1e} (batch axis)")

    np.testing.assert_allclose([unrolled, batched], loop, rtol=1e-12)
    np.testing.assert_allclose([unrolled_grad, batched_grad], [loop_grad] * 2, rtol=1e-12)
    # f occurs twice in s, so exp(w) does too; a hundred examples would not change that.
    assert copies.count("exp") == batch.count("exp") == example.count("exp")

    for name, graph in [("example", example), ("copies", copies), ("batch", batch)]:
        print("drawn:", graph.show(f"seed_{name}.svg"))
